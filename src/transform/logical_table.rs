//! `io.debezium.transforms.ByLogicalTableRouter`: several tables' topics into one.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::regex::JavaRegex;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::names;
use crate::event::options::Adjustment;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

pub(super) struct LogicalTableRouter {
    regex: JavaRegex,
    replacement: String,
    unique: bool,
    key_field: String,
    key_regex: Option<(JavaRegex, String)>,
    adjustment: Adjustment,
    keys: Derived<Arc<Schema>>,
    values: Derived<Arc<Schema>>,
}

impl LogicalTableRouter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let key_regex = match own.get("key.field.regex") {
            Some(_) => {
                Some((own.regex("key.field.regex")?, own.required("key.field.replacement")?.to_owned()))
            }
            None => None,
        };
        Ok(Self {
            regex: own.regex("topic.regex")?,
            replacement: own.required("topic.replacement")?.to_owned(),
            unique: own.flag("key.enforce.uniqueness", true)?,
            key_field: own.text("key.field.name", "__dbz__physicalTableIdentifier"),
            key_regex,
            adjustment: own.choice(
                "schema.name.adjustment.mode",
                Adjustment::None,
                &[
                    ("none", Adjustment::None),
                    ("avro", Adjustment::Avro),
                    ("avro_unicode", Adjustment::AvroUnicode),
                ],
            )?,
            keys: Derived::new(),
            values: Derived::new(),
        })
    }
}

impl Transform for LogicalTableRouter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(topic) = self.regex.replace(&record.topic, &self.replacement) else {
            return Ok(Some(record));
        };
        if topic.is_empty() {
            return Ok(Some(record));
        }
        let old_topic = std::mem::replace(&mut record.topic, topic.clone());
        let title = |suffix: &str| names::adjust_schema(&format!("{topic}.{suffix}"), self.adjustment);
        if let Some(schema) = record.key_schema.take() {
            let (name, unique, field) = (title("Key"), self.unique, &self.key_field);
            record.key_schema = Some(self.keys.get(&schema, &topic, |schema| {
                let mut fields = schema.fields().to_vec();
                if unique {
                    fields.push(edit::field(field.as_str(), Schema::new(Kind::String)));
                }
                Arc::new(edit::with_fields(schema, fields).titled(name))
            }));
            if let (Datum::Struct(values), true) = (&mut record.key, self.unique) {
                let physical = self.key_regex.as_ref().and_then(|(r, to)| r.replace(&old_topic, to));
                values.push(Datum::string(physical.unwrap_or(old_topic)));
            }
        }
        if let Some(schema) = record.value_schema.take() {
            let (row, envelope) = (title("Value"), title("Envelope"));
            record.value_schema = Some(self.values.get(&schema, &topic, |schema| {
                if !edit::is_envelope(schema) {
                    return Arc::new(schema.clone().titled(row));
                }
                let rename = |f: &Field| match f.name.as_str() {
                    "before" | "after" => Field {
                        name: f.name.clone(),
                        schema: Arc::new(f.schema.as_ref().clone().titled(row.as_str())),
                    },
                    _ => f.clone(),
                };
                let fields = schema.fields().iter().map(rename).collect();
                Arc::new(edit::with_fields(schema, fields).titled(envelope))
            }));
        }
        Ok(Some(record))
    }
}
