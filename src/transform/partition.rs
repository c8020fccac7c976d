//! `io.debezium.transforms.partitions.PartitionRouting`: the partition by the hash of fields.

use super::config::Options;
use super::edit;
use super::java_hash;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Kind, Schema};

pub(super) struct PartitionRouting {
    fields: Vec<Vec<String>>,
    partitions: u32,
    murmur: bool,
}

impl PartitionRouting {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("partition.payload.fields")?;
        let fields = own.names("partition.payload.fields");
        if fields.iter().any(String::is_empty) {
            return Err(own.error("partition.payload.fields", "fields, none of them empty"));
        }
        let partitions: u32 = own.number("partition.topic.num")?;
        if partitions == 0 || i32::try_from(partitions).is_err() {
            return Err(own.error("partition.topic.num", "a number above 0"));
        }
        // as Debezium: another word means java
        let murmur =
            own.get("partition.hash.function").is_some_and(|h| h.trim().eq_ignore_ascii_case("murmur"));
        let path = |f: &String| f.split('.').map(|p| p.trim().to_owned()).collect();
        Ok(Self { fields: fields.iter().map(path).collect(), partitions, murmur })
    }

    fn hash(&self, schema: &Schema, value: &Datum<'_>, change: &str) -> Result<Option<u32>, String> {
        let mut sum = None;
        for path in &self.fields {
            let Some((last, way)) = path.split_last() else { continue };
            let mut at = Some((schema, value));
            for step in way {
                let step = if step == "change" { change } else { step.as_str() };
                at = at.and_then(|(s, v)| edit::get(s, v, step)).map(|(s, v)| (s.as_ref(), v));
                match at {
                    Some((s, _)) if !matches!(s.kind, Kind::Struct(_)) => at = None,
                    Some((_, Datum::Null)) => {
                        return Err(format!("{step} is null, so {} is not there", path.join(".")));
                    }
                    _ => {}
                }
            }
            let Some((field, value)) = at.and_then(|(s, v)| edit::get(s, v, last)) else { continue };
            let value = match (value, &field.default) {
                (Datum::Null, Some(default)) => default,
                _ => value,
            };
            if value.is_null() {
                continue;
            }
            let hash =
                if self.murmur { java_hash::murmur3(field, value)? } else { java_hash::java(field, value)? };
            sum = Some(sum.unwrap_or(0u32).wrapping_add(hash));
        }
        Ok(sum)
    }
}

impl Transform for PartitionRouting {
    fn headers(&self) -> super::Headers {
        super::Headers::Kept
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone().filter(|s| edit::is_envelope(s)) else {
            return Ok(Some(record));
        };
        if record.value.is_null() {
            return Ok(Some(record));
        }
        let change = match edit::get(&schema, &record.value, "op").and_then(|(_, op)| op.as_str()) {
            Some("t" | "m") => return Ok(Some(record)),
            Some("d") => "before",
            _ => "after",
        };
        if let Some(hash) = self.hash(&schema, &record.value, change)? {
            const MOST: u32 = i32::MAX as u32;
            let hash = match hash & MOST {
                MOST => 0,
                hash => hash,
            };
            record.partition = i32::try_from(hash % self.partitions).ok();
        }
        Ok(Some(record))
    }
}
