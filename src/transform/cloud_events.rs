//! Debezium's `CloudEventsConverter`: change events as CloudEvents 1.0, in JSON or Avro.

use std::sync::Arc;

use super::avro_converter::Avro;
use super::check::check;
use super::config::Options;
use super::edit::{self, Derived};

use crate::config::AddressMap;
use crate::event::datum::Datum;
use crate::event::json::JsonOptions;
use crate::event::options::Adjustment;
use crate::event::record::Header;
use crate::event::schema::{Field, Kind, Schema};
use crate::event::{EventError, names, record};
use crate::java::simple_date::SimpleDateFormat;

/// `CloudEventsConverter`.
pub(super) struct CloudEvents {
    /// Whether events are Avro; otherwise JSON.
    avro_event: bool,
    /// The converter of data in Avro, and of events; `None` for JSON.
    avro: Option<Avro>,
    /// Where a reader finds schemas.
    schemas_at: String,
    json: JsonOptions,
    extensions: bool,
    tracing: bool,
    adjustment: Adjustment,
    name: Option<String>,
    /// Whether `source`, `op` and `transaction` are headers; otherwise they are in the value.
    from_headers: bool,
    id_header: bool,
    type_header: bool,
    trace_header: bool,
    data_name_header: bool,
    time: SimpleDateFormat,
    data_schemas: Derived<Arc<Schema>>,
    event_schemas: Derived<Arc<Schema>>,
}

/// What an event is made of.
struct Parts<'r, 'a> {
    source_schema: Arc<Schema>,
    source: &'r Datum<'a>,
    op: String,
    transaction: Option<&'r Datum<'a>>,
}

impl Parts<'_, '_> {
    fn source(&self, name: &str) -> String {
        match edit::get(&self.source_schema, self.source, name).map(|(_, v)| v) {
            Some(Datum::Int(n)) => n.to_string(),
            Some(d) if !d.is_null() => d.as_str().unwrap_or("").to_owned(),
            _ => "null".into(),
        }
    }
}

/// A name as a CloudEvents extension attribute: letters and digits only.
fn attribute(prefix: &str, name: &str) -> String {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    format!("iodebezium{prefix}").chars().chain(letters).collect()
}

const TRANSACTION: [(&str, Kind); 3] =
    [("id", Kind::String), ("total_order", Kind::Int64), ("data_collection_order", Kind::Int64)];

fn header<'h, 'a>(headers: &'h [Header<'a>], name: &str) -> Option<&'h Header<'a>> {
    headers.iter().rev().find(|h| h.name == name)
}

fn header_text(headers: &[Header<'_>], name: &str) -> Result<String, String> {
    let found = header(headers, name).ok_or_else(|| format!("header {name} was not provided"))?;
    found.value.as_str().map(str::to_owned).ok_or_else(|| format!("header {name} holds no text"))
}

impl CloudEvents {
    pub(super) fn new(
        own: &Options<'_>,
        prefix: &str,
        all: &[(&str, &str)],
        addresses: &AddressMap,
    ) -> Result<Self, EventError> {
        let formats = [("json", false), ("avro", true)];
        let avro_event = own.choice("serializer.type", false, &formats)?;
        let avro_data = own.choice("data.serializer.type", false, &formats)?;
        if avro_event && !avro_data {
            return Err(own.error("data.serializer.type", "avro, since serializer.type is avro"));
        }
        let tracing = own.flag("opentelemetry.tracing.attributes.enable", false)?;
        let data_names = own.flag("schema.data.name.source.header.enable", false)?;
        let name = "metadata.source";
        let default = "value,id:generate,type:generate,traceparent:header,dataSchemaName:generate";
        let wrong = || own.error(name, format!("value or header, then field:header|generate, as {default}"));
        let text = own.text(name, default);
        let mut parts = text.split(',').map(str::trim);
        let from_headers = match parts.next().map(str::to_ascii_lowercase).as_deref() {
            Some("value") => false,
            Some("header") => true,
            _ => return Err(wrong()),
        };
        let (mut id, mut kind, mut trace, mut data) =
            (from_headers, from_headers, from_headers, from_headers);
        for part in parts {
            let (field, source) = part.split_once(':').ok_or_else(wrong)?;
            let source = match source.trim().to_ascii_lowercase().as_str() {
                "header" => true,
                "generate" => false,
                _ => return Err(wrong()),
            };
            match field {
                "id" => id = source,
                "type" => kind = source,
                "traceparent" => trace = source,
                "dataSchemaName" => data = source,
                _ => return Err(wrong()),
            }
        }
        let inner = format!("{prefix}avro.");
        let avro_own = Options::new(&inner, all);
        let avro = if avro_data { Some(Avro::new(&avro_own, false, addresses)?) } else { None };
        Ok(Self {
            avro_event,
            avro,
            schemas_at: avro_own.names("schema.registry.url").join(","),
            json: JsonOptions {
                schemas: own.flag("json.schemas.enable", true)?,
                numeric_decimals: own.choice(
                    "json.decimal.format",
                    false,
                    &[("BASE64", false), ("NUMERIC", true)],
                )?,
                replace_null_with_default: own.flag("json.replace.null.with.default", true)?,
            },
            extensions: own.flag("extension.attributes.enable", true)?,
            tracing,
            adjustment: own.choice(
                "schema.name.adjustment.mode",
                Adjustment::Avro,
                &[
                    ("none", Adjustment::None),
                    ("avro", Adjustment::Avro),
                    ("avro_unicode", Adjustment::AvroUnicode),
                ],
            )?,
            name: own.get("schema.cloudevents.name").map(str::to_owned),
            from_headers,
            id_header: id,
            type_header: kind,
            trace_header: trace && tracing,
            data_name_header: data && data_names,
            time: SimpleDateFormat::new("yyyy-MM-dd'T'HH:mm:ss.SSSXXX").map_err(|e| own.error(name, e))?,
            data_schemas: Derived::new(),
            event_schemas: Derived::new(),
        })
    }

    pub(super) fn ready(&self) -> Result<(), EventError> {
        self.avro.as_ref().map_or(Ok(()), Avro::ready)
    }

    /// Whether a record becomes an event; everything else becomes a null.
    pub(super) fn present(&self, schema: Option<&Schema>, datum: &Datum<'_>, headers: &[Header<'_>]) -> bool {
        let Some(schema) = schema.filter(|_| !datum.is_null()) else { return false };
        if self.from_headers {
            header(headers, "source").is_some() && header(headers, "op").is_some()
        } else {
            edit::is_envelope(schema)
        }
    }

    fn parts<'r, 'a>(
        &self,
        schema: &'r Schema,
        datum: &'r Datum<'a>,
        headers: &'r [Header<'a>],
    ) -> Result<Parts<'r, 'a>, String> {
        if self.from_headers {
            let missing = |name: &str| format!("header {name} was not provided");
            let source = header(headers, "source").ok_or_else(|| missing("source"))?;
            return Ok(Parts {
                source_schema: source.schema.clone().ok_or("header source has no schema")?,
                source: &source.value,
                op: header_text(headers, "op")?,
                transaction: header(headers, "transaction").map(|h| &h.value).filter(|v| !v.is_null()),
            });
        }
        let (source_schema, source) =
            edit::get(schema, datum, "source").ok_or("the event has no field source")?;
        let op = edit::get(schema, datum, "op").and_then(|(_, v)| v.as_str()).unwrap_or("").to_owned();
        let transaction = edit::get(schema, datum, "transaction").map(|(_, v)| v).filter(|v| !v.is_null());
        Ok(Parts { source_schema: Arc::clone(source_schema), source, op, transaction })
    }

    /// The rows (or the whole value, where the rest is in headers) under a schema of their own.
    fn data<'a>(
        &mut self,
        schema: &Arc<Schema>,
        datum: &Datum<'a>,
        headers: &[Header<'_>],
    ) -> Result<(Arc<Schema>, Datum<'a>), String> {
        let name = if self.data_name_header {
            header_text(headers, "dataSchemaName")?
        } else {
            "io.debezium.connector.postgresql.Data".into()
        };
        let whole = self.from_headers;
        let wanted = |f: &&Field| whole || matches!(f.name.as_str(), "before" | "after");
        let data_schema = self.data_schemas.get(schema, &name, |schema| {
            let fields = schema.fields().iter().filter(wanted).cloned().collect();
            Arc::new(Schema::new(Kind::Struct(fields)).titled(name.as_str()))
        });
        let Datum::Struct(values) = datum else { return Err("the value is no struct".into()) };
        let fields = schema.fields().iter().zip(values).filter(|(f, _)| wanted(f));
        let values = fields.map(|(f, v)| edit::or_default(&f.schema, v.clone())).collect();
        Ok((data_schema, Datum::Struct(values)))
    }

    fn event_schema(
        &mut self,
        source: &Arc<Schema>,
        title: String,
        data: &Arc<Schema>,
        uri: bool,
    ) -> Result<Arc<Schema>, String> {
        let (extensions, tracing) = (self.extensions, self.tracing);
        let words = format!("{title} {}", data.name.as_deref().unwrap_or(""));
        self.event_schemas.try_get(source, &words, |source| {
            let text = || Schema::new(Kind::String);
            let mut fields = Vec::new();
            for name in ["id", "source", "specversion", "type", "time", "datacontenttype"] {
                fields.push(edit::field(name, text()));
            }
            if uri {
                fields.push(edit::field("dataschema", text()));
            }
            if tracing {
                fields.push(edit::field("traceparent", text()));
            }
            if extensions {
                fields.push(edit::field(attribute("", "op"), text()));
                for f in source.fields() {
                    let kind = match f.schema.kind {
                        Kind::Boolean => Kind::Boolean,
                        Kind::Int8 | Kind::Int16 | Kind::Int32 => Kind::Int32,
                        Kind::String | Kind::Int64 => Kind::String,
                        _ => return Err(format!("source field {} cannot be an attribute", f.name)),
                    };
                    let schema = Schema::new(kind).with_optional(f.schema.optional);
                    fields.push(edit::field(attribute("", &f.name), schema));
                }
                for (name, _) in TRANSACTION {
                    fields.push(edit::field(attribute("tx", name), text().optional()));
                }
            }
            // data comes behind; its schema changes with the table
            Ok(Arc::new(Schema::new(Kind::Struct(fields)).titled(title)))
        })
    }

    /// Appends the event.
    ///
    /// # Errors
    /// With the cause alone.
    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
        headers: &[Header<'_>],
    ) -> Result<(), String> {
        let schema = schema.ok_or("a value without a schema is no change event")?;
        let parts = self.parts(schema, datum, headers)?;
        let (data_schema, data) = self.data(schema, datum, headers)?;
        let title = match &self.name {
            Some(name) => name.clone(),
            None => format!("{}.{}.CloudEvents.Envelope", parts.source("name"), parts.source("db")),
        };
        let title = names::adjust_schema(&title, self.adjustment);
        let mut uri = None;
        let (data_schema, data) = match &mut self.avro {
            None => (data_schema, data),
            Some(avro) => {
                let mut bytes = Vec::new();
                let of_data = if self.avro_event { format!("{topic}-data") } else { topic.to_owned() };
                avro.write(&mut bytes, &of_data, Some(&data_schema), &data)?;
                let id = bytes.get(1..5).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
                uri = Some(format!("{}/schemas/ids/{id}", self.schemas_at));
                (Arc::new(Schema::new(Kind::Bytes)), Datum::Bytes(bytes.into()))
            }
        };
        let event_schema = self.event_schema(&parts.source_schema, title, &data_schema, uri.is_some())?;
        let mut values = self.attributes(&parts, headers, uri)?;
        if !self.avro_event {
            for (f, v) in event_schema.fields().iter().zip(&values) {
                check(&f.schema, v, true).map_err(|e| format!("attribute {}: {e}", f.name))?;
            }
            check(&data_schema, &data, self.json.replace_null_with_default)?;
            let plain = JsonOptions { schemas: false, ..self.json };
            record::write_envelope(out, Some(&event_schema), &Datum::Struct(values), &plain);
            out.pop();
            out.extend_from_slice(b",\"data\":");
            let options = if self.avro.is_some() { plain } else { self.json };
            record::write_envelope(out, Some(&data_schema), &data, &options);
            out.push(b'}');
            return Ok(());
        }
        let whole = self.data_schemas.get(&event_schema, "event", |schema| {
            let mut fields = schema.fields().to_vec();
            fields.push(edit::field("data", Schema::new(Kind::Bytes)));
            Arc::new(edit::with_fields(schema, fields))
        });
        values.push(data);
        let avro = self.avro.as_mut().ok_or("no Avro converter")?;
        avro.write(out, topic, Some(&whole), &Datum::Struct(values))
    }

    fn attributes<'a>(
        &self,
        parts: &Parts<'_, 'a>,
        headers: &[Header<'_>],
        uri: Option<String>,
    ) -> Result<Vec<Datum<'a>>, String> {
        let source = |name: &str| parts.source(name);
        let id = if self.id_header {
            header_text(headers, "id")?
        } else {
            let (lsn, tx, sequence) = (source("lsn"), source("txId"), source("sequence"));
            format!("name:{};lsn:{lsn};txId:{tx};sequence:{sequence}", source("name"))
        };
        let kind = if self.type_header {
            header_text(headers, "type")?
        } else {
            "io.debezium.connector.postgresql.DataChangeEvent".into()
        };
        let ms = edit::get(&parts.source_schema, parts.source, "ts_ms").and_then(|(_, v)| v.as_int());
        let time = ms.and_then(|ms| self.time.format_utc(ms)).ok_or("the source has no time")?;
        let content = if self.avro.is_some() { "application/avro" } else { "application/json" };
        let from = format!("/debezium/{}/{}", source("connector"), source("name"));
        let mut values: Vec<Datum<'a>> =
            [id, from, "1.0".into(), kind, time, content.into()].into_iter().map(Datum::string).collect();
        values.extend(uri.map(Datum::string));
        if self.tracing {
            if !self.trace_header {
                return Err("traceparent can only be taken from a header".into());
            }
            let trace = header(headers, "traceparent").and_then(|h| h.value.as_str().map(str::to_owned));
            values.push(trace.map_or(Datum::Null, Datum::string));
        }
        if !self.extensions {
            return Ok(values);
        }
        values.push(Datum::string(parts.op.as_str()));
        let as_attribute = |value: Datum<'a>, kind: &Kind| match value {
            Datum::Int(n) if *kind == Kind::Int64 => Datum::string(n.to_string()),
            value => value,
        };
        let Datum::Struct(fields) = parts.source else { return Err("the source is no struct".into()) };
        for (f, v) in parts.source_schema.fields().iter().zip(fields) {
            values.push(as_attribute(edit::or_default(&f.schema, v.clone()), &f.schema.kind));
        }
        let transaction = parts.transaction.and_then(Datum::as_struct).unwrap_or_default();
        for (at, (_, kind)) in TRANSACTION.iter().enumerate() {
            let value = transaction.get(at).cloned().unwrap_or(Datum::Null);
            values.push(as_attribute(value, kind));
        }
        Ok(values)
    }
}
