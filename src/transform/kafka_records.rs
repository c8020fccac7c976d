//! Kafka's transforms of topics, headers and schema names.

use std::collections::HashMap;
use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};

use super::literal;
use super::regex::JavaRegex;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::{Header, Record};
use crate::event::schema::{Field, Schema};
use crate::java::simple_date::SimpleDateFormat;

/// `RegexRouter`: the topic by a regular expression.
pub(super) struct RegexRouter {
    regex: JavaRegex,
    replacement: String,
    /// What became of topics; `None` for those that stay.
    known: HashMap<String, Option<String>>,
}

impl RegexRouter {
    /// Topics are few; a router before this one that makes many must not fill memory.
    const KNOWN: usize = 1024;

    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let replacement =
            own.get("replacement").ok_or_else(|| own.error("replacement", "a value"))?.to_owned();
        Ok(Self { regex: own.regex("regex")?, replacement, known: HashMap::new() })
    }
}

impl Transform for RegexRouter {
    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let routed = match self.known.get(&record.topic) {
            Some(routed) => routed,
            None => {
                let routed = self.regex.replace(&record.topic, &self.replacement)?;
                if self.known.len() >= Self::KNOWN {
                    self.known.clear();
                }
                self.known.entry(record.topic.clone()).or_insert(routed)
            }
        };
        if let Some(routed) = routed {
            routed.as_str().clone_into(&mut record.topic);
        }
        Ok(Some(record))
    }
}

/// `TimestampRouter`: the topic by the record's timestamp.
pub(super) struct TimestampRouter {
    topic: String,
    format: SimpleDateFormat,
}

impl TimestampRouter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let format = SimpleDateFormat::new(&own.text("timestamp.format", "yyyyMMdd"))
            .map_err(|why| own.error("timestamp.format", format!("a SimpleDateFormat pattern ({why})")))?;
        Ok(Self { topic: own.text("topic.format", "${topic}-${timestamp}"), format })
    }
}

impl Transform for TimestampRouter {
    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let ms = record.timestamp.ok_or("the record has no timestamp")?;
        let time = self.format.format_utc(ms).ok_or("the timestamp is out of range")?;
        record.topic = self.topic.replace("${topic}", &record.topic).replace("${timestamp}", &time);
        Ok(Some(record))
    }
}

/// `InsertHeader`: a literal header.
pub(super) struct InsertHeader {
    name: String,
    schema: Option<Arc<Schema>>,
    value: Datum<'static>,
}

impl InsertHeader {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let text = own.get("value.literal").ok_or_else(|| own.error("value.literal", "a value"))?;
        let (schema, value) = literal::parse(text);
        let name = own.get("header").ok_or_else(|| own.error("header", "a name"))?.to_owned();
        Ok(Self { name, schema: schema.map(Arc::new), value })
    }
}

impl Transform for InsertHeader {
    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        record.headers.push(Header {
            name: self.name.clone().into(),
            schema: self.schema.clone(),
            value: self.value.clone(),
        });
        Ok(Some(record))
    }
}

/// `DropHeaders`.
pub(super) struct DropHeaders {
    names: Vec<String>,
}

impl DropHeaders {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("headers")?;
        Ok(Self { names: own.distinct("headers")? })
    }
}

impl Transform for DropHeaders {
    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        record.headers.retain(|h| !self.names.iter().any(|name| *name == h.name));
        Ok(Some(record))
    }
}

/// `HeaderFrom`: fields to headers.
pub(super) struct HeaderFrom {
    key: bool,
    pairs: Vec<(String, String)>,
    remove: bool,
    replace_nulls: bool,
    schemas: Derived<Arc<Schema>>,
}

impl HeaderFrom {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("fields")?;
        own.required("headers")?;
        let (fields, headers) = (own.names("fields"), own.names("headers"));
        if fields.len() != headers.len() {
            return Err(own.error("headers", "as many headers as fields"));
        }
        let remove = match own.required("operation")? {
            "move" => true,
            "copy" => false,
            _ => return Err(own.error("operation", "move or copy")),
        };
        Ok(Self {
            key,
            pairs: fields.into_iter().zip(headers).collect(),
            remove,
            replace_nulls: own.flag("replace.null.with.default", true)?,
            schemas: Derived::new(),
        })
    }
}

impl Transform for HeaderFrom {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, mut values) = edit::take_struct(&mut record, self.key)?;
        for (field, header) in &self.pairs {
            let at = schema.position(field).ok_or_else(|| format!("field does not exist: {field}"))?;
            let (Some(f), Some(v)) = (schema.fields().get(at), values.get(at)) else { continue };
            let value = if self.replace_nulls { edit::or_default(&f.schema, v.clone()) } else { v.clone() };
            let name = header.clone().into();
            record.headers.push(Header { name, schema: Some(Arc::clone(&f.schema)), value });
        }
        if !self.remove {
            edit::set_side(&mut record, self.key, Some(schema), Datum::Struct(values));
            return Ok(Some(record));
        }
        let moved = |f: &Field| self.pairs.iter().any(|(name, _)| *name == f.name);
        let left = self.schemas.get(&schema, "", |schema| {
            let fields = schema.fields().iter().filter(|f| !moved(f)).cloned().collect();
            Arc::new(Schema { optional: false, default: None, ..edit::with_fields(schema, fields) })
        });
        edit::defaults(&schema, &mut values, self.replace_nulls);
        let values = schema.fields().iter().zip(values).filter(|(f, _)| !moved(f)).map(|(_, v)| v).collect();
        edit::set_side(&mut record, self.key, Some(left), Datum::Struct(values));
        Ok(Some(record))
    }
}

/// `Filter`: drops whatever its predicate lets in.
pub(super) struct Filter;

impl Transform for Filter {
    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, _record: Record<'a>) -> Transformed<'a> {
        Ok(None)
    }
}

/// `SetSchemaMetadata`.
pub(super) struct SetSchemaMetadata {
    key: bool,
    name: Option<String>,
    version: Option<i32>,
    replace_nulls: bool,
    schemas: Derived<Arc<Schema>>,
}

impl SetSchemaMetadata {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let version = match own.get("schema.version") {
            Some(_) => Some(own.number("schema.version")?),
            None => None,
        };
        let name = own.get("schema.name").map(str::to_owned);
        if name.is_none() && version.is_none() {
            return Err(own.error("schema.name", "a name, or schema.version"));
        }
        let replace_nulls = own.flag("replace.null.with.default", true)?;
        Ok(Self { key, name, version, replace_nulls, schemas: Derived::new() })
    }
}

impl Transform for SetSchemaMetadata {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, mut value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema else {
            if value.is_null() {
                return Ok(Some(record));
            }
            return Err("a value without a schema has no schema metadata".into());
        };
        let (name, version) = (&self.name, self.version);
        let renamed = self.schemas.get(&schema, "", |schema| {
            let mut schema = schema.clone();
            if name.is_some() {
                schema.name.clone_from(name);
            }
            if version.is_some() {
                schema.version = version;
            }
            Arc::new(schema)
        });
        if let Datum::Struct(values) = &mut value {
            edit::defaults(&schema, values, self.replace_nulls);
        }
        edit::set_side(&mut record, self.key, Some(renamed), value);
        Ok(Some(record))
    }
}
