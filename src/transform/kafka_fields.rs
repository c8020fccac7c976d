//! Kafka's transforms of a struct's fields: `ReplaceField`, `InsertField`, `MaskField`.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// `ReplaceField`: keeps, drops and renames fields.
pub(super) struct ReplaceField {
    key: bool,
    include: Vec<String>,
    exclude: Vec<String>,
    renames: Vec<(String, String)>,
    replace_nulls: bool,
    schemas: Derived<(Arc<Schema>, Arc<Vec<usize>>)>,
}

impl ReplaceField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let either = |new: &str, old: &str| {
            let list = own.distinct(new)?;
            if list.is_empty() { own.distinct(old) } else { Ok(list) }
        };
        let mut renames = Vec::new();
        for pair in own.names("renames") {
            match pair.split(':').collect::<Vec<_>>()[..] {
                [from, to] if !to.is_empty() => renames.push((from.to_owned(), to.to_owned())),
                _ => return Err(own.error("renames", "old:new, several by comma")),
            }
        }
        Ok(Self {
            key,
            include: either("include", "whitelist")?,
            exclude: either("exclude", "blacklist")?,
            renames,
            replace_nulls: own.flag("replace.null.with.default", true)?,
            schemas: Derived::new(),
        })
    }
}

impl Transform for ReplaceField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if edit::is_null(&record, self.key) {
            return Ok(Some(record));
        }
        let (schema, mut values) = edit::take_struct(&mut record, self.key)?;
        let (include, exclude, renames) = (&self.include, &self.exclude, &self.renames);
        let (new_schema, kept) = self.schemas.try_get(&schema, "", |schema| {
            let mut fields = Vec::new();
            let mut kept = Vec::new();
            for (at, f) in schema.fields().iter().enumerate() {
                if exclude.contains(&f.name) || (!include.is_empty() && !include.contains(&f.name)) {
                    continue;
                }
                let name = renames.iter().find(|(from, _)| *from == f.name).map_or(&f.name, |(_, to)| to);
                fields.push(Field { name: name.clone(), schema: Arc::clone(&f.schema) });
                kept.push(at);
            }
            Ok((Arc::new(edit::copied(schema, fields)?), Arc::new(kept)))
        })?;
        edit::defaults(&schema, &mut values, self.replace_nulls);
        let mut take =
            |at: &usize| values.get_mut(*at).map_or(Datum::Null, |v| std::mem::replace(v, Datum::Null));
        let out = kept.iter().map(&mut take).collect();
        edit::set_side(&mut record, self.key, Some(new_schema), Datum::Struct(out));
        Ok(Some(record))
    }
}

/// One field that `InsertField` adds.
#[derive(Clone, Debug)]
struct Inserted {
    name: String,
    optional: bool,
}

impl Inserted {
    /// `name`, `name!` (required) or `name?` (optional, the default).
    fn parse(text: &str) -> Self {
        match (text.strip_suffix('!'), text.strip_suffix('?')) {
            (Some(name), _) => Self { name: name.to_owned(), optional: false },
            (None, Some(name)) => Self { name: name.to_owned(), optional: true },
            _ => Self { name: text.to_owned(), optional: true },
        }
    }
}

/// `InsertField`: topic, partition, timestamp or a literal as fields.
pub(super) struct InsertField {
    key: bool,
    topic: Option<Inserted>,
    partition: Option<Inserted>,
    timestamp: Option<Inserted>,
    literal: Option<(Inserted, String)>,
    replace_nulls: bool,
    schemas: Derived<Arc<Schema>>,
}

impl InsertField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let field = |name: &str| own.get(name).map(Inserted::parse);
        if field("offset.field").is_some() {
            return Err(own.error("offset.field", "nothing: a source connector's records have no offset yet"));
        }
        let literal = match (field("static.field"), own.get("static.value")) {
            (Some(f), Some(value)) => Some((f, value.to_owned())),
            (Some(_), None) => return Err(own.error("static.value", "a value for static.field")),
            (None, _) => None,
        };
        let new = Self {
            key,
            topic: field("topic.field"),
            partition: field("partition.field"),
            timestamp: field("timestamp.field"),
            literal,
            replace_nulls: own.flag("replace.null.with.default", true)?,
            schemas: Derived::new(),
        };
        if new.topic.is_none() && new.partition.is_none() && new.timestamp.is_none() && new.literal.is_none()
        {
            return Err(own.error("topic.field", "at least one field to insert"));
        }
        Ok(new)
    }
}

impl Transform for InsertField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if edit::is_null(&record, self.key) {
            return Ok(Some(record));
        }
        let (schema, mut values) = edit::take_struct(&mut record, self.key)?;
        let (topic, partition, timestamp, literal) =
            (&self.topic, &self.partition, &self.timestamp, &self.literal);
        let new_schema = self.schemas.try_get(&schema, "", |schema| {
            let mut fields = schema.fields().to_vec();
            let mut push = |f: &Inserted, kind: Schema| {
                fields.push(edit::field(f.name.as_str(), kind.with_optional(f.optional)));
            };
            if let Some(f) = topic {
                push(f, Schema::new(Kind::String));
            }
            if let Some(f) = partition {
                push(f, Schema::new(Kind::Int32));
            }
            if let Some(f) = timestamp {
                push(f, Schema::new(Kind::Int64).named("org.apache.kafka.connect.data.Timestamp", 1));
            }
            if let Some((f, _)) = literal {
                push(f, Schema::new(Kind::String));
            }
            Ok(Arc::new(edit::copied(schema, fields)?))
        })?;
        edit::defaults(&schema, &mut values, self.replace_nulls);
        if topic.is_some() {
            values.push(Datum::string(record.topic.as_str()));
        }
        if partition.is_some() {
            values.push(record.partition.map_or(Datum::Null, |p| Datum::Int(i64::from(p))));
        }
        if timestamp.is_some() {
            values.push(record.timestamp.map_or(Datum::Null, Datum::Int));
        }
        if let Some((_, text)) = literal {
            values.push(Datum::string(text.as_str()));
        }
        edit::set_side(&mut record, self.key, Some(new_schema), Datum::Struct(values));
        Ok(Some(record))
    }
}

/// `MaskField`: zero values, or a replacement.
pub(super) struct MaskField {
    key: bool,
    fields: Vec<String>,
    replacement: Option<String>,
    replace_nulls: bool,
}

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

impl MaskField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("fields")?;
        let replacement = own.get("replacement").map(str::to_owned);
        if replacement.as_deref() == Some("") {
            return Err(own.error("replacement", "a text that is not empty"));
        }
        let replace_nulls = own.flag("replace.null.with.default", true)?;
        Ok(Self { key, fields: own.distinct("fields")?, replacement, replace_nulls })
    }

    fn masked(&self, schema: &Schema) -> Result<Datum<'static>, String> {
        let date = schema.name.as_deref().is_some_and(|n| n.starts_with("org.apache.kafka.connect.data."));
        let Some(text) = &self.replacement else {
            return Ok(match &schema.kind {
                Kind::Boolean => Datum::Bool(false),
                Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 => Datum::Int(0),
                Kind::Float32 => Datum::F32(0.0),
                Kind::Float64 => Datum::F64(0.0),
                Kind::String => Datum::str(""),
                Kind::Bytes if schema.name.as_deref() == Some(DECIMAL) => zero(schema)?,
                Kind::Array(_) => Datum::Array(Vec::new()),
                Kind::Map(..) => Datum::Map(Vec::new()),
                Kind::Bytes | Kind::Struct(_) => return Err("bytes and structs cannot be masked".into()),
            });
        };
        let wrong = || "replacement cannot be read as the type of a field to mask".to_owned();
        let whole = || -> Result<i64, String> {
            let number: f64 = text.trim().parse().map_err(|_| wrong())?;
            // BigDecimal.longValue: the fraction is cut off
            text.trim()
                .parse()
                .or_else(|_| number.is_finite().then_some(super::cast::to_long(number)).ok_or_else(wrong))
        };
        Ok(match &schema.kind {
            Kind::String => Datum::string(text.as_str()),
            _ if schema.name.as_deref() == Some(DECIMAL) => decimal(text, schema)?,
            _ if date => return Err("a date or time cannot be masked with a replacement".into()),
            Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 => {
                Datum::Int(super::cast::narrow(whole()?, &schema.kind))
            }
            Kind::Float32 => Datum::F32(text.trim().parse().map_err(|_| wrong())?),
            Kind::Float64 => Datum::F64(text.trim().parse().map_err(|_| wrong())?),
            _ => return Err("only numbers and text can be masked with a replacement".into()),
        })
    }
}

/// A replacement as a decimal: of the column's scale, exactly.
fn decimal(text: &str, schema: &Schema) -> Result<Datum<'static>, String> {
    let wrong = || "replacement is no number of the column's scale".to_owned();
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let scale = schema.get_parameter("scale").and_then(|s| s.parse().ok()).unwrap_or(0);
    if fraction.len() != scale || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let unscaled: num_bigint::BigInt = format!("{whole}{fraction}").parse().map_err(|_| wrong())?;
    Ok(Datum::Short(crate::event::datum::Inline::from_vec(unscaled.to_signed_bytes_be())))
}

/// Zero as a decimal. Connect's has scale 0, which fits no other column.
fn zero(schema: &Schema) -> Result<Datum<'static>, String> {
    match schema.get_parameter("scale") {
        Some("0") | None => Ok(Datum::Short(crate::event::datum::Inline::from_slice(&[0]))),
        Some(scale) => Err(format!("a decimal of scale {scale} cannot be masked: the mask has scale 0")),
    }
}

impl Transform for MaskField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, mut values) = edit::take_struct(&mut record, self.key)?;
        edit::defaults(&schema, &mut values, self.replace_nulls);
        for (f, v) in schema.fields().iter().zip(&mut values) {
            if self.fields.contains(&f.name) && !v.is_null() {
                *v = self.masked(&f.schema).map_err(|e| format!("field {}: {e}", f.name))?;
            }
        }
        edit::set_side(&mut record, self.key, Some(schema), Datum::Struct(values));
        Ok(Some(record))
    }
}
