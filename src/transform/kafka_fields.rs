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
            let list = own.list(new);
            if list.is_empty() { own.list(old) } else { list }
        };
        let mut renames = Vec::new();
        for pair in own.list("renames") {
            let (from, to) = pair.split_once(':').ok_or_else(|| own.error("renames", "old:new, …"))?;
            renames.push((from.trim().to_owned(), to.trim().to_owned()));
        }
        Ok(Self {
            key,
            include: either("include", "whitelist"),
            exclude: either("exclude", "blacklist"),
            renames,
            replace_nulls: own.flag("replace.null.with.default", true)?,
            schemas: Derived::new(),
        })
    }
}

impl Transform for ReplaceField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let (Some(schema), Datum::Struct(values)) = (&schema, &value) else {
            edit::set_side(&mut record, self.key, schema, value);
            return Ok(Some(record));
        };
        let (include, exclude, renames) = (&self.include, &self.exclude, &self.renames);
        let (new_schema, kept) = self.schemas.get(schema, "", |schema| {
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
            (Arc::new(edit::with_fields(schema, fields)), Arc::new(kept))
        });
        let mut out = Vec::with_capacity(kept.len());
        for (at, f) in kept.iter().zip(new_schema.fields()) {
            let v = values.get(*at).cloned().unwrap_or(Datum::Null);
            out.push(match &f.schema.default {
                Some(default) if v.is_null() && self.replace_nulls => default.clone(),
                _ => v,
            });
        }
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
    schemas: Derived<Arc<Schema>>,
}

impl InsertField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let field = |name: &str| own.get(name).filter(|f| !f.is_empty()).map(Inserted::parse);
        if field("offset.field").is_some() {
            return Err(own.error("offset.field", "nothing: a source connector's records have no offset yet"));
        }
        let literal = match field("static.field") {
            Some(f) => Some((f, own.required("static.value")?.to_owned())),
            None => None,
        };
        let new = Self {
            key,
            topic: field("topic.field"),
            partition: field("partition.field"),
            timestamp: field("timestamp.field"),
            literal,
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
        let (schema, value) = edit::take_side(&mut record, self.key);
        let (Some(schema), Datum::Struct(mut values)) = (schema.clone(), value.clone()) else {
            edit::set_side(&mut record, self.key, schema, value);
            return Ok(Some(record));
        };
        let (topic, partition, timestamp, literal) =
            (&self.topic, &self.partition, &self.timestamp, &self.literal);
        let new_schema = self.schemas.get(&schema, "", |schema| {
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
            Arc::new(edit::with_fields(schema, fields))
        });
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
}

impl MaskField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("fields")?;
        let replacement = own.get("replacement").filter(|r| !r.is_empty()).map(str::to_owned);
        Ok(Self { key, fields: own.list("fields"), replacement })
    }

    fn masked(&self, schema: &Schema) -> Result<Datum<'static>, String> {
        let invalid = || "replacement cannot be read as the field's type".to_owned();
        Ok(match (&schema.kind, &self.replacement) {
            (Kind::Boolean, _) => Datum::Bool(false),
            (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, Some(r)) => {
                Datum::Int(r.parse().map_err(|_| invalid())?)
            }
            (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, None) => Datum::Int(0),
            (Kind::Float32, r) => Datum::F32(r.as_deref().unwrap_or("0").parse().map_err(|_| invalid())?),
            (Kind::Float64, r) => Datum::F64(r.as_deref().unwrap_or("0").parse().map_err(|_| invalid())?),
            (Kind::String, r) => Datum::string(r.as_deref().unwrap_or("")),
            (Kind::Bytes, _) => Datum::Short(crate::event::datum::Inline::from_slice(&[0])),
            (Kind::Array(_), _) => Datum::Array(Vec::new()),
            (Kind::Map(..), _) => Datum::Map(Vec::new()),
            (Kind::Struct(_), _) => return Err("a struct cannot be masked".into()),
        })
    }
}

impl Transform for MaskField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (Some(schema), mut value) = edit::take_side(&mut record, self.key) else {
            return Ok(Some(record));
        };
        if let Datum::Struct(values) = &mut value {
            for (f, v) in schema.fields().iter().zip(values) {
                if self.fields.contains(&f.name) && !v.is_null() {
                    *v = self.masked(&f.schema)?;
                }
            }
        }
        edit::set_side(&mut record, self.key, Some(schema), value);
        Ok(Some(record))
    }
}
