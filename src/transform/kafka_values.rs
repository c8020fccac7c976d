//! Kafka's transforms of values and their types: `Flatten`, `Cast`, `TimestampConverter`.

use std::sync::Arc;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// `Flatten`: nested structs to one level.
pub(super) struct Flatten {
    key: bool,
    delimiter: String,
    schemas: Derived<Arc<Schema>>,
}

impl Flatten {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Self {
        Self { key, delimiter: own.text("delimiter", "."), schemas: Derived::new() }
    }

    fn fields(schema: &Schema, prefix: &str, delimiter: &str, optional: bool, out: &mut Vec<Field>) {
        for f in schema.fields() {
            let name =
                if prefix.is_empty() { f.name.clone() } else { format!("{prefix}{delimiter}{}", f.name) };
            if matches!(f.schema.kind, Kind::Struct(_)) {
                Self::fields(&f.schema, &name, delimiter, optional || f.schema.optional, out);
            } else {
                let mut schema = (*f.schema).clone();
                schema.optional = schema.optional || optional;
                out.push(edit::field(name, schema));
            }
        }
    }

    fn values<'a>(schema: &Schema, value: Datum<'a>, out: &mut Vec<Datum<'a>>) {
        let mut values = match value {
            Datum::Struct(values) => values.into_iter(),
            _ => Vec::new().into_iter(),
        };
        for f in schema.fields() {
            let v = values.next().unwrap_or(Datum::Null);
            if matches!(f.schema.kind, Kind::Struct(_)) {
                Self::values(&f.schema, v, out);
            } else {
                out.push(v);
            }
        }
    }
}

impl Transform for Flatten {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema.filter(|s| matches!(s.kind, Kind::Struct(_))) else {
            return Ok(Some(record));
        };
        if value.is_null() {
            edit::set_side(&mut record, self.key, Some(schema), value);
            return Ok(Some(record));
        }
        let delimiter = &self.delimiter;
        let flat = self.schemas.get(&schema, "", |schema| {
            let mut fields = Vec::new();
            Self::fields(schema, "", delimiter, schema.optional, &mut fields);
            Arc::new(edit::with_fields(schema, fields))
        });
        let mut values = Vec::new();
        Self::values(&schema, value, &mut values);
        edit::set_side(&mut record, self.key, Some(flat), Datum::Struct(values));
        Ok(Some(record))
    }
}

/// `Cast`: fields, or the whole value, to another type.
pub(super) struct Cast {
    key: bool,
    fields: Vec<(String, Kind)>,
    whole: Option<Kind>,
    schemas: Derived<Arc<Schema>>,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name {
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float32" => Kind::Float32,
        "float64" => Kind::Float64,
        "boolean" => Kind::Boolean,
        "string" => Kind::String,
        _ => return None,
    })
}

impl Cast {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("spec")?;
        let expected =
            "field:type, … or one type of int8, int16, int32, int64, float32, float64, boolean, string";
        let (mut fields, mut whole) = (Vec::new(), None);
        for entry in own.list("spec") {
            match entry.rsplit_once(':') {
                Some((field, to)) => {
                    let to = kind(to.trim()).ok_or_else(|| own.error("spec", expected))?;
                    fields.push((field.trim().to_owned(), to));
                }
                None => whole = Some(kind(&entry).ok_or_else(|| own.error("spec", expected))?),
            }
        }
        Ok(Self { key, fields, whole, schemas: Derived::new() })
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "Java's casts, which Cast applies"
)]
fn cast(datum: &Datum<'_>, from: &Schema, to: &Kind) -> Result<Datum<'static>, String> {
    let wrong = || format!("a value cannot be cast to {to:?}").to_lowercase();
    let float = |d: &Datum<'_>| match d {
        Datum::Int(n) => Some(*n as f64),
        Datum::F32(n) => Some(f64::from(*n)),
        Datum::F64(n) => Some(*n),
        Datum::Bool(b) => Some(f64::from(u8::from(*b))),
        d => d.as_str().and_then(|t| t.trim().parse().ok()),
    };
    let decimal = || {
        let bytes = datum.to_bytes()?;
        let scale = from.get_parameter("scale")?.parse().ok()?;
        Some(crate::event::convert::decimal::to_java_string(&bytes, scale))
    };
    Ok(match (to, datum) {
        (_, Datum::Null) => Datum::Null,
        (Kind::Boolean, Datum::Bool(b)) => Datum::Bool(*b),
        (Kind::Boolean, d) => match d.as_str() {
            Some(t) => Datum::Bool(t.eq_ignore_ascii_case("true")),
            None => Datum::Bool(float(d).ok_or_else(wrong)? != 0.0),
        },
        (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, d) => {
            let n = match d {
                Datum::Int(n) => *n,
                d => match d.as_str() {
                    Some(t) => t.trim().parse().map_err(|_| wrong())?,
                    None => match decimal() {
                        Some(text) => text.parse::<f64>().map_err(|_| wrong())? as i64,
                        None => float(d).ok_or_else(wrong)? as i64,
                    },
                },
            };
            Datum::Int(match to {
                Kind::Int8 => i64::from(n as i8),
                Kind::Int16 => i64::from(n as i16),
                Kind::Int32 => i64::from(n as i32),
                _ => n,
            })
        }
        (Kind::Float32 | Kind::Float64, d) => {
            let n = match decimal() {
                Some(text) => text.parse().map_err(|_| wrong())?,
                None => float(d).ok_or_else(wrong)?,
            };
            if *to == Kind::Float32 { Datum::F32(n as f32) } else { Datum::F64(n) }
        }
        (Kind::String, d) => {
            if let Some(text) = d.as_str() {
                return Ok(Datum::string(text));
            }
            if let Some(text) = decimal() {
                return Ok(Datum::string(text));
            }
            let mut out = Vec::new();
            crate::event::simple::schemaless(&mut out, d);
            Datum::string(String::from_utf8(out).map_err(|_| wrong())?)
        }
        _ => return Err(wrong()),
    })
}

impl Transform for Cast {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema else { return Ok(Some(record)) };
        if value.is_null() {
            edit::set_side(&mut record, self.key, Some(schema), value);
            return Ok(Some(record));
        }
        let retyped = |schema: &Schema, to: &Kind| Schema {
            kind: to.clone(),
            name: None,
            version: None,
            parameters: Vec::new(),
            default: schema.default.as_ref().and_then(|d| cast(d, schema, to).ok()),
            ..schema.clone()
        };
        if let Some(to) = &self.whole {
            let datum = cast(&value, &schema, to)?;
            let new = self.schemas.get(&schema, "", |s| Arc::new(retyped(s, to)));
            edit::set_side(&mut record, self.key, Some(new), datum);
            return Ok(Some(record));
        }
        let wanted = &self.fields;
        let new = self.schemas.get(&schema, "", |s| {
            let fields = s.fields().iter().map(|f| match wanted.iter().find(|(n, _)| *n == f.name) {
                Some((_, to)) => edit::field(f.name.as_str(), retyped(&f.schema, to)),
                None => f.clone(),
            });
            Arc::new(edit::with_fields(s, fields.collect()))
        });
        let Datum::Struct(mut values) = value else { return Err("the value is not a struct".into()) };
        for (f, v) in schema.fields().iter().zip(&mut values) {
            if let Some((_, to)) = wanted.iter().find(|(n, _)| *n == f.name) {
                *v = cast(v, &f.schema, to)?;
            }
        }
        edit::set_side(&mut record, self.key, Some(new), Datum::Struct(values));
        Ok(Some(record))
    }
}

/// A `SimpleDateFormat` pattern as chrono's.
pub(super) fn chrono_format(java: &str) -> String {
    let mut out = String::new();
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\'' {
            // quoted text; two quotes are one
            if chars.peek() == Some(&'\'') {
                chars.next();
                out.push('\'');
                continue;
            }
            for q in chars.by_ref() {
                if q == '\'' {
                    break;
                }
                out.push(q);
            }
            continue;
        }
        let mut count = 1;
        while chars.peek() == Some(&c) {
            chars.next();
            count += 1;
        }
        out.push_str(match (c, count) {
            ('y', 2) => "%y",
            ('y', _) => "%Y",
            ('M', 1) => "%-m",
            ('M', 2) => "%m",
            ('M', 3) => "%b",
            ('M', _) => "%B",
            ('d', 1) => "%-d",
            ('d', _) => "%d",
            ('H', 1) => "%-H",
            ('H', _) => "%H",
            ('h', _) => "%I",
            ('m', _) => "%M",
            ('s', _) => "%S",
            ('S', _) => "%3f",
            ('a', _) => "%p",
            ('E', 4..) => "%A",
            ('E', _) => "%a",
            ('D', _) => "%j",
            ('Z', _) => "%z",
            ('X', 1) => "%#z",
            ('X', _) => "%:z",
            ('z', _) => "UTC",
            _ => {
                for _ in 0..count {
                    out.push(c);
                }
                continue;
            }
        });
    }
    out
}

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
    format: String,
    /// Units of a second in unix times.
    precision: i64,
    schemas: Derived<Arc<Schema>>,
}

impl TimestampConverter {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("target.type")?;
        let target = own.choice(
            "target.type",
            Target::Text,
            &[
                ("string", Target::Text),
                ("unix", Target::Unix),
                ("Date", Target::Date),
                ("Time", Target::Time),
                ("Timestamp", Target::Timestamp),
            ],
        )?;
        let format = own.text("format", "");
        if target == Target::Text && format.trim().is_empty() {
            return Err(own.error("format", "a SimpleDateFormat pattern, since target.type is string"));
        }
        Ok(Self {
            key,
            field: own.get("field").filter(|f| !f.is_empty()).map(str::to_owned),
            target,
            format: chrono_format(&format),
            precision: own.choice(
                "unix.precision",
                1000,
                &[
                    ("seconds", 1),
                    ("milliseconds", 1000),
                    ("microseconds", 1_000_000),
                    ("nanoseconds", 1_000_000_000),
                ],
            )?,
            schemas: Derived::new(),
        })
    }

    fn schema(&self, from: &Schema) -> Schema {
        let schema = match self.target {
            Target::Text => Schema::new(Kind::String),
            Target::Unix => Schema::new(Kind::Int64),
            Target::Date => Schema::new(Kind::Int32).named("org.apache.kafka.connect.data.Date", 1),
            Target::Time => Schema::new(Kind::Int32).named("org.apache.kafka.connect.data.Time", 1),
            Target::Timestamp => Schema::new(Kind::Int64).named("org.apache.kafka.connect.data.Timestamp", 1),
        };
        schema.with_optional(from.optional)
    }

    /// Milliseconds since 1970 of a source value.
    fn millis(&self, schema: &Schema, datum: &Datum<'_>) -> Result<i64, String> {
        match (schema.name.as_deref(), datum) {
            (Some("org.apache.kafka.connect.data.Date"), Datum::Int(n)) => Ok(n * 86_400_000),
            (
                Some("org.apache.kafka.connect.data.Time" | "org.apache.kafka.connect.data.Timestamp"),
                Datum::Int(n),
            ) => Ok(*n),
            (_, Datum::Int(n)) => Ok(match self.precision {
                1 => n.saturating_mul(1000),
                p => n.div_euclid(p / 1000),
            }),
            (_, d) => {
                let text = d.as_str().ok_or("the field holds no timestamp")?;
                if let Ok(t) = DateTime::parse_from_str(text, &self.format) {
                    return Ok(t.timestamp_millis());
                }
                if let Ok(t) = NaiveDateTime::parse_from_str(text, &self.format) {
                    return Ok(t.and_utc().timestamp_millis());
                }
                chrono::NaiveDate::parse_from_str(text, &self.format)
                    .ok()
                    .and_then(|d| d.and_hms_opt(0, 0, 0))
                    .map(|t| t.and_utc().timestamp_millis())
                    .ok_or_else(|| "the text does not have the format".to_owned())
            }
        }
    }

    fn convert(&self, schema: &Schema, datum: &Datum<'_>) -> Result<Datum<'static>, String> {
        if datum.is_null() {
            return Ok(Datum::Null);
        }
        let ms = self.millis(schema, datum)?;
        Ok(match self.target {
            Target::Unix => Datum::Int(match self.precision {
                1 => ms.div_euclid(1000),
                p => ms.saturating_mul(p / 1000),
            }),
            Target::Date => Datum::Int(ms.div_euclid(86_400_000)),
            Target::Time => Datum::Int(ms.rem_euclid(86_400_000)),
            Target::Timestamp => Datum::Int(ms),
            Target::Text => {
                let at = DateTime::<Utc>::from_timestamp_millis(ms).ok_or("the timestamp is out of range")?;
                Datum::string(at.format(&self.format).to_string())
            }
        })
    }
}

impl Transform for TimestampConverter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema else { return Ok(Some(record)) };
        let mut schemas = std::mem::replace(&mut self.schemas, Derived::new());
        let result = match &self.field {
            None => {
                let new = schemas.get(&schema, "", |s| Arc::new(self.schema(s)));
                self.convert(&schema, &value).map(|v| (new, v))
            }
            Some(_) if value.is_null() => Ok((Arc::clone(&schema), Datum::Null)),
            Some(name) => {
                let new = schemas.get(&schema, "", |s| {
                    let fields = s.fields().iter().map(|f| {
                        if f.name == *name {
                            edit::field(name.as_str(), self.schema(&f.schema))
                        } else {
                            f.clone()
                        }
                    });
                    Arc::new(edit::with_fields(s, fields.collect()))
                });
                match value {
                    Datum::Struct(mut values) => {
                        let mut failed = None;
                        for (f, v) in schema.fields().iter().zip(&mut values) {
                            if f.name == *name {
                                match self.convert(&f.schema, v) {
                                    Ok(converted) => *v = converted,
                                    Err(e) => failed = Some(e),
                                }
                            }
                        }
                        match failed {
                            Some(e) => Err(e),
                            None => Ok((new, Datum::Struct(values))),
                        }
                    }
                    _ => Err("the value is not a struct".into()),
                }
            }
        };
        self.schemas = schemas;
        let (schema, value) = result?;
        edit::set_side(&mut record, self.key, Some(schema), value);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_date_formats() {
        assert_eq!(chrono_format("yyyy-MM-dd'T'HH:mm:ss.SSS"), "%Y-%m-%dT%H:%M:%S.%3f");
        assert_eq!(chrono_format("yyyyMMdd"), "%Y%m%d");
    }

    #[test]
    fn casts() {
        let text = Schema::new(Kind::String);
        assert_eq!(cast(&Datum::str("12"), &text, &Kind::Int32), Ok(Datum::Int(12)));
        assert_eq!(cast(&Datum::Int(300), &Schema::new(Kind::Int32), &Kind::Int8), Ok(Datum::Int(44)));
        assert_eq!(
            cast(&Datum::F64(1.5), &Schema::new(Kind::Float64), &Kind::String),
            Ok(Datum::string("1.5"))
        );
        assert!(cast(&Datum::str("x"), &text, &Kind::Int64).is_err());
    }
}
