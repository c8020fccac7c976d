//! Kafka's `TimestampConverter`.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};

use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Kind, Schema};
use crate::java::simple_date::SimpleDateFormat;

const DATE: &str = "org.apache.kafka.connect.data.Date";
const TIME: &str = "org.apache.kafka.connect.data.Time";
const TIMESTAMP: &str = "org.apache.kafka.connect.data.Timestamp";
const DAY: i64 = 86_400_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Text,
    Unix,
    Date,
    Time,
    Timestamp,
}

/// `TimestampConverter`.
pub(super) struct TimestampConverter {
    key: bool,
    field: Option<String>,
    target: Target,
    format: Option<SimpleDateFormat>,
    /// Units of a second in unix times.
    precision: i64,
    replace_nulls: bool,
    schemas: Derived<Arc<Schema>>,
}

impl TimestampConverter {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let target = match own.required("target.type")? {
            "string" => Target::Text,
            "unix" => Target::Unix,
            "Date" => Target::Date,
            "Time" => Target::Time,
            "Timestamp" => Target::Timestamp,
            _ => return Err(own.error("target.type", "string, unix, Date, Time or Timestamp")),
        };
        let format = match own.get("format").filter(|f| !f.trim().is_empty()) {
            Some(format) => Some(
                SimpleDateFormat::new(format)
                    .map_err(|why| own.error("format", format!("a SimpleDateFormat pattern ({why})")))?,
            ),
            None if target == Target::Text => {
                return Err(own.error("format", "a SimpleDateFormat pattern, since target.type is string"));
            }
            None => None,
        };
        let precision = match own.get("unix.precision").unwrap_or("milliseconds") {
            "seconds" => 1,
            "milliseconds" => 1000,
            "microseconds" => 1_000_000,
            "nanoseconds" => 1_000_000_000,
            _ => {
                let words = "seconds, milliseconds, microseconds or nanoseconds";
                return Err(own.error("unix.precision", words));
            }
        };
        Ok(Self {
            key,
            field: own.get("field").filter(|f| !f.is_empty()).map(str::to_owned),
            target,
            format,
            precision,
            replace_nulls: own.flag("replace.null.with.default", true)?,
            schemas: Derived::new(),
        })
    }

    fn schema(&self, optional: bool) -> Schema {
        let schema = match self.target {
            Target::Text => Schema::new(Kind::String),
            Target::Unix => Schema::new(Kind::Int64),
            Target::Date => Schema::new(Kind::Int32).named(DATE, 1),
            Target::Time => Schema::new(Kind::Int32).named(TIME, 1),
            Target::Timestamp => Schema::new(Kind::Int64).named(TIMESTAMP, 1),
        };
        schema.with_optional(optional)
    }

    /// Milliseconds since 1970 of a source value.
    fn millis(&self, schema: &Schema, datum: &Datum<'_>) -> Result<i64, String> {
        match (schema.name.as_deref(), &schema.kind, datum) {
            (Some(DATE), _, Datum::Int(n)) => Ok(n.saturating_mul(DAY)),
            (Some(TIME | TIMESTAMP), _, Datum::Int(n)) => Ok(*n),
            (_, Kind::Int64, Datum::Int(n)) => Ok(match self.precision {
                1 => n.saturating_mul(1000),
                p => n / (p / 1000),
            }),
            (_, Kind::String, d) => {
                let format = self.format.as_ref().ok_or("a text cannot be read without the option format")?;
                let parsed = d.as_str().and_then(|text| format.parse_utc(text));
                parsed.ok_or_else(|| "the text does not have the format of the option format".to_owned())
            }
            _ => Err("the schema is none of a timestamp".into()),
        }
    }

    fn convert(&self, schema: &Schema, datum: &Datum<'_>) -> Result<Datum<'static>, String> {
        let ms = match datum {
            Datum::Null => return Ok(Datum::Null),
            datum => self.millis(schema, datum)?,
        };
        Ok(match self.target {
            Target::Unix => Datum::Int(match self.precision {
                1 => ms / 1000,
                p => ms.saturating_mul(p / 1000),
            }),
            Target::Date => Datum::Int(ms.div_euclid(DAY)),
            Target::Time => Datum::Int(ms.rem_euclid(DAY)),
            Target::Timestamp => Datum::Int(ms),
            Target::Text => {
                let text = self.format.as_ref().and_then(|f| f.format_utc(ms));
                Datum::string(text.ok_or("the timestamp is out of range")?)
            }
        })
    }

    /// Fails for a schema that is none of a timestamp, even where the value is null.
    fn check(&self, schema: &Schema) -> Result<(), String> {
        match (schema.name.as_deref(), &schema.kind) {
            (Some(DATE | TIME | TIMESTAMP), _) | (_, Kind::String | Kind::Int64) => Ok(()),
            _ => Err("the schema does not correspond to a known timestamp type format".into()),
        }
    }
}

impl Transform for TimestampConverter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema else {
            if value.is_null() {
                return Ok(Some(record));
            }
            return Err("a value without a schema has no timestamps".into());
        };
        let mut schemas = std::mem::replace(&mut self.schemas, Derived::new());
        let new = schemas.get(&schema, "", |s| {
            let Some(name) = &self.field else { return Arc::new(self.schema(s.optional)) };
            let fields = s.fields().iter().map(|f| {
                if f.name == *name {
                    edit::field(name.as_str(), self.schema(f.schema.optional))
                } else {
                    f.clone()
                }
            });
            Arc::new(Schema { default: None, ..edit::with_fields(s, fields.collect()) })
        });
        self.schemas = schemas;
        let Some(name) = &self.field else {
            self.check(&schema)?;
            let value = self.convert(&schema, &value)?;
            edit::set_side(&mut record, self.key, Some(new), value);
            return Ok(Some(record));
        };
        let value = match value {
            Datum::Null => Datum::Null,
            Datum::Struct(mut values) => {
                edit::defaults(&schema, &mut values, self.replace_nulls);
                if let Some((f, v)) = schema.fields().iter().zip(&mut values).find(|(f, _)| f.name == *name) {
                    let converted = self.check(&f.schema).and_then(|()| self.convert(&f.schema, v));
                    *v = converted.map_err(|e| format!("field {name}: {e}"))?;
                }
                Datum::Struct(values)
            }
            _ => return Err("the value is not a struct".into()),
        };
        edit::set_side(&mut record, self.key, Some(new), value);
        Ok(Some(record))
    }
}
