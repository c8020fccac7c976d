//! `io.debezium.transforms.outbox.EventRouter`: rows of an outbox table to messages of their own topics.

use std::sync::Arc;

use serde_json::Value;

use super::config::Options;
use super::edit;
use super::regex::JavaRegex;
use super::{Transform, Transformed, outbox_json};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::{Header, Record};
use crate::event::schema::{Field, Schema};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Envelope,
    Partition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvalidOp {
    Warn,
    Fail,
}

pub(super) struct EventRouter {
    id: String,
    key: String,
    payload: String,
    timestamp: Option<String>,
    version: Option<String>,
    placement: Vec<(String, Place, String)>,
    missing_is_error: bool,
    route_field: String,
    route_regex: JavaRegex,
    route_replacement: String,
    tombstone_on_empty: bool,
    expand: bool,
    keep_nulls: bool,
    invalid: InvalidOp,
}

impl EventRouter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let mut placement = Vec::new();
        for entry in own.list("table.fields.additional.placement") {
            let mut parts = entry.split(':').map(str::trim);
            let field = parts.next().unwrap_or("").to_owned();
            let place = match parts.next() {
                Some("header") => Place::Header,
                Some("envelope") => Place::Envelope,
                Some("partition") => Place::Partition,
                _ => {
                    return Err(own.error(
                        "table.fields.additional.placement",
                        "column:header|envelope|partition[:alias], …",
                    ));
                }
            };
            let alias = parts.next().unwrap_or(&field).to_owned();
            placement.push((field, place, alias));
        }
        let pattern = own.text("route.topic.regex", "(?<routedByValue>.*)");
        let optional = |name: &str| own.get(name).filter(|v| !v.is_empty()).map(str::to_owned);
        Ok(Self {
            id: own.text("table.field.event.id", "id"),
            key: own.text("table.field.event.key", "aggregateid"),
            payload: own.text("table.field.event.payload", "payload"),
            timestamp: optional("table.field.event.timestamp"),
            version: optional("table.field.event.schema.version"),
            placement,
            missing_is_error: own.choice(
                "table.fields.additional.error.on.missing",
                own.choice("table.field.additional.missing", true, &[("error", true), ("ignore", false)])?,
                &[("true", true), ("false", false)],
            )?,
            route_field: own.text("route.by.field", "aggregatetype"),
            route_regex: JavaRegex::new(&pattern).map_err(|e| own.error("route.topic.regex", e))?,
            route_replacement: own.text("route.topic.replacement", "outbox.event.${routedByValue}"),
            tombstone_on_empty: own.flag("route.tombstone.on.empty.payload", false)?,
            expand: own.flag("table.expand.json.payload", false)?,
            keep_nulls: own.choice(
                "table.json.payload.null.behavior",
                false,
                &[("ignore", false), ("optional_bytes", true)],
            )?,
            invalid: own.choice(
                "table.op.invalid.behavior",
                InvalidOp::Warn,
                &[("warn", InvalidOp::Warn), ("error", InvalidOp::Warn), ("fatal", InvalidOp::Fail)],
            )?,
        })
    }

    /// Milliseconds of the configured column.
    fn column_timestamp(schema: &Schema, value: &Datum<'_>) -> Result<Option<i64>, String> {
        let Some(n) = value.as_int() else {
            return if value.is_null() {
                Ok(None)
            } else {
                Err("the timestamp column is not an INT64".into())
            };
        };
        Ok(Some(match schema.name.as_deref() {
            Some("io.debezium.time.MicroTimestamp") => n.div_euclid(1000),
            Some("io.debezium.time.NanoTimestamp") => n.div_euclid(1_000_000),
            _ => n,
        }))
    }

    /// The payload as struct where it is JSON and that is asked for.
    fn expanded(&self, schema: &Arc<Schema>, payload: Datum<'_>) -> (Arc<Schema>, Datum<'static>) {
        let structured = || {
            let text = payload.as_str().filter(|t| self.expand && t.trim_start().starts_with(['{', '[']))?;
            let json: Value = serde_json::from_str(text).ok()?;
            let schema = outbox_json::schema(&json, Some("payload"), self.keep_nulls)?;
            let value = outbox_json::value(&json, &schema);
            Some((Arc::new(schema), value))
        };
        match structured() {
            Some(expanded) => expanded,
            None => (Arc::clone(schema), payload.into_owned()),
        }
    }
}

impl Transform for EventRouter {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(envelope) = record.value_schema.clone() else { return Ok(None) };
        if !edit::is_envelope(&envelope) {
            return Ok(Some(record));
        }
        let value = std::mem::replace(&mut record.value, Datum::Null);
        match edit::get(&envelope, &value, "op").and_then(|(_, op)| op.as_str()) {
            Some("d") => return Ok(None),
            Some("u" | "t") => {
                return match self.invalid {
                    InvalidOp::Warn => Ok(None),
                    InvalidOp::Fail => Err("the outbox table was updated; only inserts are events".into()),
                };
            }
            _ => {}
        }
        let (row_schema, row) = edit::get(&envelope, &value, "after").ok_or("the event has no row")?;
        let column = |name: &str| edit::get(row_schema, row, name);
        let needed =
            |name: &str| column(name).ok_or_else(|| format!("the outbox table has no column {name}"));

        let (id_schema, id) = needed(&self.id)?;
        let (payload_schema, payload) = needed(&self.payload)?;
        let (_, route) = needed(&self.route_field)?;
        let route =
            route.as_str().ok_or_else(|| format!("column {} holds no text", self.route_field))?.to_owned();
        record.timestamp = match &self.timestamp {
            Some(name) => {
                let (s, v) = needed(name)?;
                Self::column_timestamp(s, v)?
            }
            None => edit::get(&envelope, &value, "ts_ms").and_then(|(_, v)| v.as_int()),
        };
        if let Some((s, v)) = column(&self.key) {
            (record.key_schema, record.key) = (Some(Arc::clone(s)), v.clone());
        }
        record.headers.push(Header {
            name: "id".into(),
            schema: Some(Arc::clone(id_schema)),
            value: id.clone(),
        });

        let empty = payload.is_null() || payload.as_str().is_some_and(|t| t.trim().is_empty());
        let (payload_schema, payload) = self.expanded(payload_schema, payload.clone());
        let mut fields = vec![Field { name: self.payload.clone(), schema: Arc::clone(&payload_schema) }];
        let mut values = vec![payload.clone()];
        for (name, place, alias) in &self.placement {
            let Some((s, v)) = column(name) else {
                if self.missing_is_error {
                    return Err(format!("the outbox table has no column {name}"));
                }
                continue;
            };
            match place {
                Place::Header => record.headers.push(Header {
                    name: alias.clone(),
                    schema: Some(Arc::clone(s)),
                    value: v.clone(),
                }),
                Place::Envelope => {
                    fields.push(Field { name: alias.clone(), schema: Arc::clone(s) });
                    values.push(v.clone().into_owned());
                }
                Place::Partition => {
                    record.partition = v.as_int().and_then(|n| i32::try_from(n).ok());
                }
            }
        }
        if let Some(topic) = self.route_regex.replace(&route, &self.route_replacement) {
            record.topic = topic;
        }
        if empty && self.tombstone_on_empty {
            (record.value_schema, record.value) = (None, Datum::Null);
        } else if fields.len() == 1 {
            (record.value_schema, record.value) = (Some(payload_schema), payload);
        } else {
            let base = envelope.name.as_deref().unwrap_or("").trim_end_matches(".Envelope");
            let mut schema = Schema::new(crate::event::schema::Kind::Struct(fields))
                .titled(format!("{base}.{route}.Value"));
            if let Some((_, version)) = self.version.as_deref().and_then(column) {
                schema.version = version.as_int().and_then(|n| i32::try_from(n).ok());
            }
            (record.value_schema, record.value) = (Some(Arc::new(schema)), Datum::Struct(values));
        }
        Ok(Some(record))
    }
}
