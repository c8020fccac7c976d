//! `io.debezium.transforms.outbox.EventRouter`: rows of an outbox table to messages of their own topics.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::config::Options;
use super::edit::{self, Derived};
use super::outbox_json::{self, Inference};
use super::regex::JavaRegex;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::options::Adjustment;
use crate::event::record::{Header, Record};
use crate::event::schema::{Field, Kind, Schema};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Envelope,
    Partition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InvalidOp {
    Warn,
    Error,
    Fail,
}

/// Schemas that are kept: a table that makes a new one for every row must not fill memory.
const LIMIT: usize = 1024;

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
    expand: Option<Inference>,
    invalid: InvalidOp,
    /// Schemas of the value by the payload's, or by their version.
    values: Derived<Arc<Schema>>,
    /// Schemas of expanded payloads, by what they say: equal ones are one, so that what is derived of it is kept.
    expanded: HashMap<Vec<u8>, Arc<Schema>>,
    versions: HashMap<Option<i32>, Arc<Schema>>,
}

/// Column, place and name of what `table.fields.additional.placement` adds.
fn placement(own: &Options<'_>) -> Result<Vec<(String, Place, String)>, EventError> {
    let name = "table.fields.additional.placement";
    let wrong = || own.error(name, "column:header|envelope|partition[:alias], several by comma");
    let mut all = Vec::new();
    for entry in own.names(name) {
        let parts: Vec<&str> = entry.split(':').map(str::trim).collect();
        let (column, place, alias) = match parts[..] {
            [column, place] => (column, place, column),
            [column, place, alias] => (column, place, alias),
            _ => return Err(wrong()),
        };
        let place = match place.to_ascii_lowercase().as_str() {
            "header" => Place::Header,
            "envelope" => Place::Envelope,
            "partition" => Place::Partition,
            _ => return Err(wrong()),
        };
        all.push((column.to_owned(), place, alias.to_owned()));
    }
    Ok(all)
}

impl EventRouter {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let pattern = own.text("route.topic.regex", "(?<routedByValue>.*)");
        let optional = |name: &str| own.get(name).filter(|v| !v.is_empty()).map(str::to_owned);
        let keep_nulls = own.choice(
            "table.json.payload.null.behavior",
            false,
            &[("ignore", false), ("optional_bytes", true)],
        )?;
        let adjustment = own.choice(
            "field.name.adjustment.mode",
            Adjustment::None,
            &[
                ("none", Adjustment::None),
                ("avro", Adjustment::Avro),
                ("avro_unicode", Adjustment::AvroUnicode),
            ],
        )?;
        let expand = own.flag("table.expand.json.payload", false)?;
        Ok(Self {
            id: own.text("table.field.event.id", "id"),
            key: own.text("table.field.event.key", "aggregateid"),
            payload: own.text("table.field.event.payload", "payload"),
            timestamp: optional("table.field.event.timestamp"),
            version: optional("table.field.event.schema.version"),
            placement: placement(own)?,
            missing_is_error: own.choice(
                "table.field.additional.missing",
                true,
                &[("error", true), ("ignore", false)],
            )?,
            route_field: own.text("route.by.field", "aggregatetype"),
            route_regex: JavaRegex::new(&pattern).map_err(|e| own.error("route.topic.regex", e))?,
            route_replacement: own.text("route.topic.replacement", "outbox.event.${routedByValue}"),
            tombstone_on_empty: own.flag("route.tombstone.on.empty.payload", false)?,
            expand: expand.then_some(Inference { keep_nulls, adjustment }),
            invalid: own.choice(
                "table.op.invalid.behavior",
                InvalidOp::Warn,
                &[("warn", InvalidOp::Warn), ("error", InvalidOp::Error), ("fatal", InvalidOp::Fail)],
            )?,
            values: Derived::new(),
            expanded: HashMap::new(),
            versions: HashMap::new(),
        })
    }

    /// The record's time: that of the configured column, or when the change was captured.
    fn timestamp<'a>(&self, row: &Row<'_, 'a>, captured: Option<i64>) -> Result<Option<i64>, String> {
        let Some(name) = &self.timestamp else { return Ok(captured) };
        let (schema, value) = row.column(name)?;
        if schema.kind != Kind::Int64 {
            return Err(format!("column {name} is not of type INT64, as a timestamp must be"));
        }
        let Some(n) = value.as_int() else { return Ok(captured) };
        match schema.name.as_deref() {
            Some("io.debezium.time.Timestamp") => Ok(Some(n)),
            Some("io.debezium.time.MicroTimestamp") => Ok(Some(n / 1000)),
            Some("io.debezium.time.NanoTimestamp") => Ok(Some(n / 1_000_000)),
            _ => Err(format!(
                "column {name} is no timestamp (time.precision.mode must not be connect or isostring)"
            )),
        }
    }

    /// The payload as struct where it is JSON and that is asked for. As in Debezium, a payload whose elements do not
    /// fit the schema that was inferred from it keeps its text under that schema, which converters refuse.
    fn expanded<'a>(&mut self, schema: &Arc<Schema>, payload: Datum<'a>) -> (Arc<Schema>, Datum<'a>) {
        let (Some(inference), Some(text)) = (self.expand, payload.as_str()) else {
            return (Arc::clone(schema), payload);
        };
        let json: Option<Value> =
            Some(text).filter(|t| t.starts_with(['{', '['])).and_then(|t| serde_json::from_str(t).ok());
        let inferred = json.as_ref().map(|json| inference.schema(json, Some(&self.payload)));
        let Some(Ok(Some(inferred))) = inferred else {
            tracing::warn!("JSON expansion failed: an outbox payload is not a JSON object");
            return (Arc::clone(schema), payload);
        };
        let value = match (&inferred.kind, &json) {
            (Kind::Struct(_), Some(json)) => outbox_json::value(json, &inferred),
            _ => None,
        };
        let mut key = Vec::new();
        inferred.write_json(&mut key, None, &crate::event::json::JsonOptions::default());
        if self.expanded.len() >= LIMIT {
            self.expanded.clear();
        }
        let schema = self.expanded.entry(key).or_insert_with(|| Arc::new(inferred));
        (Arc::clone(schema), value.unwrap_or(payload))
    }

    fn envelope_schema(
        &self,
        row: &Row<'_, '_>,
        payload: &Arc<Schema>,
        route: &str,
    ) -> Result<Schema, String> {
        let mut fields = vec![Field { name: "payload".into(), schema: Arc::clone(payload) }];
        for (column, _, alias) in self.placement.iter().filter(|(_, place, _)| *place == Place::Envelope) {
            if let Some((schema, _)) = self.additional(row, column)? {
                fields.push(Field { name: alias.clone(), schema });
            }
        }
        let name = match row.schema.name.as_deref().map(|n| n.rsplit_once('.').ok_or(n)) {
            Some(Ok((before, last))) => format!("{before}.{route}.{last}"),
            Some(Err(name)) => format!("{route}.{name}"),
            None => route.to_owned(),
        };
        edit::copied(&Schema::new(Kind::Struct(Vec::new())).titled(name), fields)
    }

    /// The value's schema. Debezium keeps it by version, or else by the payload's schema: the route it was first
    /// needed for stays in its name.
    fn value_schema(
        &mut self,
        row: &Row<'_, '_>,
        payload: &Arc<Schema>,
        route: &str,
    ) -> Result<Arc<Schema>, String> {
        if let Some(column) = self.version.clone() {
            let (schema, version) = row.column(&column)?;
            if schema.kind != Kind::Int32 {
                return Err(format!("column {column} is not of type INT32, as a schema version must be"));
            }
            let version = version.as_int().and_then(|n| i32::try_from(n).ok());
            let known = match self.versions.get(&version) {
                Some(known) => Arc::clone(known),
                None => {
                    if self.versions.len() >= LIMIT {
                        self.versions.clear();
                    }
                    let made = Schema { version, ..self.envelope_schema(row, payload, route)? };
                    Arc::clone(self.versions.entry(version).or_insert(Arc::new(made)))
                }
            };
            return match known.field("payload") {
                Some(first) if first == payload => Ok(known),
                _ => Err(format!("the payload does not have the schema of version {version:?}")),
            };
        }
        if let Some(known) = self.values.find(payload, "") {
            return Ok(known);
        }
        let made = Arc::new(self.envelope_schema(row, payload, route)?);
        self.values.keep(payload, "", Arc::clone(&made));
        Ok(made)
    }

    /// A column that is placed somewhere; `None` where it is missing and that may be.
    fn additional<'a>(
        &self,
        row: &Row<'_, 'a>,
        column: &str,
    ) -> Result<Option<(Arc<Schema>, Datum<'a>)>, String> {
        match row.column(column) {
            Ok(found) => Ok(Some(found)),
            Err(_) if !self.missing_is_error => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Sets partition and headers, and gives the values that go beside the payload.
    fn place<'a>(&self, row: &Row<'_, 'a>, record: &mut Record<'a>) -> Result<Vec<Datum<'a>>, String> {
        let mut beside = Vec::new();
        for (column, place, alias) in &self.placement {
            let Some((schema, value)) = self.additional(row, column)? else { continue };
            match place {
                Place::Header => {
                    record.headers.push(Header { name: alias.clone().into(), schema: Some(schema), value });
                }
                Place::Envelope => beside.push(value),
                Place::Partition if schema.kind != Kind::Int32 => {
                    return Err(format!("column {column} is not of type INT32, as a partition must be"));
                }
                Place::Partition => {
                    record.partition = value.as_int().and_then(|n| i32::try_from(n).ok());
                }
            }
        }
        Ok(beside)
    }
}

/// The outbox table's row.
struct Row<'r, 'a> {
    schema: &'r Schema,
    value: &'r Datum<'a>,
}

impl<'a> Row<'_, 'a> {
    fn column(&self, name: &str) -> Result<(Arc<Schema>, Datum<'a>), String> {
        let (schema, value) = edit::get(self.schema, self.value, name)
            .ok_or_else(|| format!("the outbox table has no column {name}"))?;
        Ok((Arc::clone(schema), edit::or_default(schema, value.clone())))
    }
}

impl Transform for EventRouter {
    fn headers(&self) -> super::Headers {
        super::Headers::AddedThenCopied
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if record.value.is_null() {
            return Ok(None);
        }
        let Some(envelope) = record.value_schema.clone().filter(|s| edit::is_envelope(s)) else {
            return Ok(Some(record));
        };
        let value = std::mem::replace(&mut record.value, Datum::Null);
        match edit::get(&envelope, &value, "op").and_then(|(_, op)| op.as_str()) {
            Some("d") => return Ok(None),
            Some("u") => {
                const UPDATED: &str = "a row of the outbox table was updated; only inserts are events";
                match self.invalid {
                    InvalidOp::Warn => tracing::warn!("{UPDATED}"),
                    InvalidOp::Error => tracing::error!("{UPDATED}"),
                    InvalidOp::Fail => return Err(UPDATED.into()),
                }
                return Ok(None);
            }
            _ => {}
        }
        let (schema, row) = edit::get(&envelope, &value, "after").ok_or("the event has no row")?;
        if row.is_null() {
            return Err("the event has no row".into());
        }
        let row = Row { schema, value: row };
        let (payload_schema, payload) = row.column(&self.payload)?;
        let captured = edit::get(&envelope, &value, "ts_ms").and_then(|(_, v)| v.as_int());
        record.timestamp = self.timestamp(&row, captured)?;
        let (id_schema, id) = row.column(&self.id)?;
        record.headers.push(Header { name: "id".into(), schema: Some(id_schema), value: id });
        let (route_schema, route) = row.column(&self.route_field)?;
        if route_schema.kind != Kind::String {
            return Err(format!("column {} is not of type STRING, as a route must be", self.route_field));
        }
        let route = route.as_str().ok_or_else(|| format!("column {} is null", self.route_field))?;

        let (payload_schema, payload) = self.expanded(&payload_schema, payload);
        let enveloped = self.placement.iter().any(|(_, place, _)| *place == Place::Envelope);
        let value_schema =
            if enveloped { Some(self.value_schema(&row, &payload_schema, route)?) } else { None };
        record.partition = None;
        let beside = self.place(&row, &mut record)?;
        let empty = payload.is_null() || payload.as_str().is_some_and(|t| t.trim().is_empty());
        let (key_schema, key) = row.column(&self.key)?;
        (record.key_schema, record.key) = (Some(key_schema), key);
        record.topic =
            self.route_regex.replace(route, &self.route_replacement)?.unwrap_or_else(|| route.to_owned());
        (record.value_schema, record.value) = if empty && self.tombstone_on_empty {
            (None, Datum::Null)
        } else if let Some(schema) = value_schema {
            let mut values = vec![payload];
            values.extend(beside);
            (Some(schema), Datum::Struct(values))
        } else {
            (Some(payload_schema), payload)
        };
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_payloads_share_their_schema() {
        let mut router =
            EventRouter::new(&Options::new("t.", &[("t.table.expand.json.payload", "true")])).unwrap();
        let text = Arc::new(Schema::new(Kind::String));
        let mut schema = |payload: &'static str| router.expanded(&text, Datum::Str(payload.into())).0;
        let first = schema(r#"{"a":1}"#);
        // what a converter keeps by a schema's address it finds again
        assert!(Arc::ptr_eq(&first, &schema(r#"{"a":2}"#)));
        assert!(!Arc::ptr_eq(&first, &schema(r#"{"a":"x"}"#)));
    }
}
