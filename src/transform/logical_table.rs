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
        let key_regex = match own.get("key.field.regex").map(str::trim) {
            None | Some("") => None,
            Some(_) => {
                Some((own.regex("key.field.regex")?, own.required("key.field.replacement")?.to_owned()))
            }
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
        let topic = match self.regex.replace(&record.topic, &self.replacement)? {
            Some(topic) if !topic.is_empty() => topic,
            _ => return Ok(Some(record)),
        };
        let adjustment = self.adjustment;
        let title = |suffix: &str| names::adjust_schema(&format!("{topic}.{suffix}"), adjustment);
        if !record.key.is_null() {
            let (schema, mut values) = edit::take_struct(&mut record, true)?;
            let (unique, field) = (self.unique, &self.key_field);
            let schema = self.keys.try_get(&schema, &topic, |schema| {
                let mut fields = schema.fields().to_vec();
                if unique {
                    fields.push(edit::field(field.as_str(), Schema::new(Kind::String)));
                }
                let optional = schema.optional;
                Ok(Arc::new(edit::copied(schema, fields)?.with_optional(optional).titled(title("Key"))))
            })?;
            if self.unique {
                let physical = match &self.key_regex {
                    Some((regex, to)) => regex.replace(&record.topic, to)?,
                    None => None,
                };
                values.push(Datum::string(physical.unwrap_or_else(|| record.topic.clone())));
            }
            edit::set_side(&mut record, true, Some(schema), Datum::Struct(values));
        } else {
            record.key_schema = None;
        }
        let envelope =
            record.value_schema.clone().filter(|s| edit::is_envelope(s) && !record.value.is_null());
        if let Some(schema) = envelope {
            record.value_schema = Some(self.values.get(&schema, &topic, |schema| {
                let row = title("Value");
                let rename = |f: &Field| match f.name.as_str() {
                    "before" | "after" => {
                        let row = Schema { default: None, ..f.schema.as_ref().clone() }.titled(row.as_str());
                        Field { name: f.name.clone(), schema: Arc::new(row) }
                    }
                    _ => f.clone(),
                };
                let fields = schema.fields().iter().map(rename).collect();
                Arc::new(edit::with_fields(schema, fields).titled(title("Envelope")))
            }));
        }
        record.topic = topic;
        Ok(Some(record))
    }
}
