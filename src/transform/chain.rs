//! The chain of a connector: transforms with their predicates, then the converters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::config::Options;
use super::converter::{Converter, HeaderConverter};
use super::predicate::Predicate;
use super::{
    Headers, Transform, Transformed, cast, changed, decode_message, edit, flatten, header_to_value,
    kafka_fields, kafka_keys, kafka_records, logical_table, outbox, partition, registry, timestamp, timezone,
    unwrap,
};
use crate::config::AddressMap;
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::flat::Shortcut;
use crate::event::json::JsonOptions;
use crate::event::record::{self, Header, Pipeline, Record};
use crate::log::Batch;
use crate::log::batch::{BatchRecord, RecordBuilder};

struct Link {
    name: String,
    transform: Box<dyn Transform>,
    /// The predicate and whether it is negated.
    predicate: Option<(Predicate, bool)>,
}

/// Transforms in order, then the converters.
pub struct Chain {
    links: Vec<Link>,
    key: Converter,
    value: Converter,
    header: HeaderConverter,
    /// Whether a transform adds to headers in place.
    adds_headers: bool,
    /// What a delete left in the headers that its tombstone shares, with its topic.
    left_by_delete: Option<(String, Vec<Header<'static>>)>,
    /// The topic of the record under work, for errors.
    topic: String,
    /// Memory for the topic of a record that is written already.
    spare: String,
    /// `errors.tolerance=all`: records that cannot be done are left out.
    tolerant: bool,
    /// `errors.log.enable`.
    logged: bool,
    /// Records left out.
    skipped: Arc<AtomicU64>,
}

/// Whether a record is a delete's event.
fn is_delete(record: &Record<'_>) -> bool {
    let Some(schema) = record.value_schema.as_ref().filter(|s| edit::is_envelope(s)) else { return false };
    edit::get(schema, &record.value, "op").is_some_and(|(_, op)| op.as_str() == Some("d"))
}

impl Chain {
    /// Reads `transforms`, `predicates` and the converters of a connector's properties. `addresses` are other addresses
    /// for schema registries.
    ///
    /// # Errors
    /// With the property that is wrong.
    pub fn new(all: &[(&str, &str)], addresses: &AddressMap) -> Result<Self, EventError> {
        let top = Options::new("", all);
        let mut predicates = Vec::new();
        for name in top.list("predicates") {
            let prefix = format!("predicates.{name}.");
            let predicate = Predicate::new(&Options::new(&prefix, all))?;
            predicates.push((name, predicate));
        }
        let mut links = Vec::new();
        for name in top.list("transforms") {
            let prefix = format!("transforms.{name}.");
            let own = Options::new(&prefix, all);
            let predicate = match own.get("predicate") {
                None | Some("") => None,
                Some(wanted) => {
                    let found = predicates.iter().find(|(n, _)| n == wanted);
                    let (_, predicate) =
                        found.ok_or_else(|| own.error("predicate", "the name of one of predicates"))?;
                    Some((predicate.clone(), own.flag("negate", false)?))
                }
            };
            let transform = make(&own)?;
            links.push(Link { name, transform, predicate });
        }
        let adds = |l: &Link| matches!(l.transform.headers(), Headers::Added | Headers::AddedThenCopied);
        Ok(Self {
            adds_headers: links.iter().any(adds),
            left_by_delete: None,
            topic: String::new(),
            spare: String::new(),
            links,
            key: Converter::new("key.converter", true, all, addresses)?,
            value: Converter::new("value.converter", false, all, addresses)?,
            header: HeaderConverter::new(all, addresses)?,
            tolerant: top.get("errors.tolerance").is_some_and(|t| t.trim() == "all"),
            logged: top.flag("errors.log.enable", false)?,
            skipped: Arc::default(),
        })
    }

    /// Runs the transforms from this one on; `None` where one drops the record.
    fn transform<'a>(
        &mut self,
        first: usize,
        mut record: Record<'a>,
    ) -> Result<Option<Record<'a>>, EventError> {
        let tombstone = record.value.is_null() && record.value_schema.is_none();
        if let Some((topic, headers)) = self.left_by_delete.take()
            && tombstone
            && topic == record.topic
        {
            record.headers.extend(headers);
        }
        // whether the list of headers is still the one that a tombstone shares
        let mut shared = self.adds_headers && is_delete(&record);
        let origin = if shared { record.topic.clone() } else { String::new() };
        let mut left = Vec::new();
        for link in self.links.iter_mut().skip(first) {
            if link.predicate.as_ref().is_some_and(|(p, negate)| p.test(&record) == *negate) {
                continue;
            }
            record.topic.as_str().clone_into(&mut self.topic);
            let before = record.headers.len();
            match link.transform.apply(record) {
                Ok(Some(next)) => record = next,
                Ok(None) => return Ok(None),
                Err(cause) => {
                    let (transform, topic) = (link.name.clone(), self.topic.clone());
                    return Err(EventError::Transform { transform, topic, cause });
                }
            }
            let use_ = link.transform.headers();
            if shared && matches!(use_, Headers::Added | Headers::AddedThenCopied) {
                left.extend(record.headers.iter().skip(before).map(Header::to_owned));
            }
            shared &= matches!(use_, Headers::Kept | Headers::Added);
        }
        if !left.is_empty() {
            self.left_by_delete = Some((origin, left));
        }
        Ok(Some(record))
    }

    /// What the encoder can do in place of building whole records, with a JSON converter of these settings: all
    /// transforms leave key and value alone, or only the first does not and the encoder can do that one's work.
    pub(super) fn shortcut(&self, value: &JsonOptions) -> Option<Shortcut> {
        let (flattening, rest) = match self.links.split_first() {
            Some((Link { transform, predicate: None, .. }, rest)) if transform.looks_inside() => {
                (Some(transform.flattening(value)?), rest)
            }
            _ => (None, self.links.as_slice()),
        };
        // a tombstone shows what is added in place to its delete's headers: that takes both as whole records
        let outside = |l: &Link| {
            !l.transform.looks_inside() && matches!(l.transform.headers(), Headers::Copied | Headers::Kept)
        };
        rest.iter().all(outside).then_some(Shortcut { flattening, forwards: !rest.is_empty() })
    }

    /// Whether there are no transforms.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// A transform by its Java class name; `$Key` and `$Value` may follow it.
fn make(own: &Options<'_>) -> Result<Box<dyn Transform>, EventError> {
    let class = own.required("type")?;
    let (base, side) = match class.split_once('$') {
        Some((base, side)) => (base, Some(side)),
        None => (class, None),
    };
    let key = match side {
        Some("Key") => true,
        Some("Value") | None => false,
        Some(_) => return Err(own.error("type", "a class that ends in $Key or $Value")),
    };
    let kafka = base.strip_prefix("org.apache.kafka.connect.transforms.");
    Ok(match base {
        "io.debezium.transforms.ExtractNewRecordState" => Box::new(unwrap::Unwrap::new(own)?),
        "io.debezium.transforms.outbox.EventRouter" => Box::new(outbox::EventRouter::new(own)?),
        "io.debezium.transforms.ByLogicalTableRouter" => {
            Box::new(logical_table::LogicalTableRouter::new(own)?)
        }
        "io.debezium.transforms.ExtractChangedRecordState" => Box::new(changed::ChangedRecordState::new(own)),
        "io.debezium.transforms.TimezoneConverter" => Box::new(timezone::TimezoneConverter::new(own)?),
        "io.debezium.transforms.partitions.PartitionRouting" => {
            Box::new(partition::PartitionRouting::new(own)?)
        }
        "io.debezium.transforms.HeaderToValue" => Box::new(header_to_value::HeaderToValue::new(own)?),
        "io.debezium.transforms.SchemaChangeEventFilter" => Box::new(SchemaChanges::new(own)?),
        "io.debezium.connector.postgresql.transforms.DecodeLogicalDecodingMessageContent" => {
            Box::new(decode_message::DecodeMessage::new(own)?)
        }
        "io.debezium.transforms.Filter" | "io.debezium.transforms.ContentBasedRouter" => {
            return Err(own.error(
                "type",
                "another transform: scripts (Groovy, JavaScript, WASM) are not run here; \
                 org.apache.kafka.connect.transforms.Filter with a predicate, table filters or a row filter of the \
                 publication may do",
            ));
        }
        _ => match kafka {
            Some("RegexRouter") => Box::new(kafka_records::RegexRouter::new(own)?),
            Some("TimestampRouter") => Box::new(kafka_records::TimestampRouter::new(own)?),
            Some("InsertHeader") => Box::new(kafka_records::InsertHeader::new(own)?),
            Some("DropHeaders") => Box::new(kafka_records::DropHeaders::new(own)?),
            Some("HeaderFrom") => Box::new(kafka_records::HeaderFrom::new(own, key)?),
            Some("Filter") => Box::new(kafka_records::Filter),
            Some("SetSchemaMetadata") => Box::new(kafka_records::SetSchemaMetadata::new(own, key)?),
            Some("ReplaceField") => Box::new(kafka_fields::ReplaceField::new(own, key)?),
            Some("InsertField") => Box::new(kafka_fields::InsertField::new(own, key)?),
            Some("MaskField") => Box::new(kafka_fields::MaskField::new(own, key)?),
            Some("HoistField") => Box::new(kafka_keys::HoistField::new(own, key)?),
            Some("ExtractField") => Box::new(kafka_keys::ExtractField::new(own, key)?),
            Some("ValueToKey") => Box::new(kafka_keys::ValueToKey::new(own)?),
            Some("Flatten") => Box::new(flatten::Flatten::new(own, key)),
            Some("Cast") => Box::new(cast::Cast::new(own, key)?),
            Some("TimestampConverter") => Box::new(timestamp::TimestampConverter::new(own, key)?),
            _ => {
                return Err(own.error(
                    "type",
                    "the class of a transform Millstream has: Debezium's ExtractNewRecordState, outbox.EventRouter, \
                     ByLogicalTableRouter, ExtractChangedRecordState, TimezoneConverter, partitions.PartitionRouting, \
                     HeaderToValue, DecodeLogicalDecodingMessageContent, SchemaChangeEventFilter, or Kafka's own",
                ));
            }
        },
    })
}

/// `SchemaChangeEventFilter`: PostgreSQL has no schema change events, so nothing is filtered.
struct SchemaChanges;

impl SchemaChanges {
    fn new(own: &Options<'_>) -> Result<Self, EventError> {
        const NAME: &str = "schema.change.event.exclude.list";
        own.required(NAME)?;
        let known = ["CREATE", "ALTER", "DROP", "TRUNCATE", "DATABASE"];
        match own.names(NAME).iter().find(|n| !known.contains(&n.as_str())) {
            Some(_) => Err(own.error(NAME, known.join(", "))),
            None => Ok(Self),
        }
    }
}

impl Transform for SchemaChanges {
    fn headers(&self) -> super::Headers {
        super::Headers::Kept
    }

    fn looks_inside(&self) -> bool {
        false
    }

    fn apply<'a>(&mut self, record: Record<'a>) -> Transformed<'a> {
        Ok(Some(record))
    }
}

impl Pipeline for Chain {
    fn ready(&self) -> Result<(), EventError> {
        self.key.ready()?;
        self.value.ready()?;
        match &self.header {
            HeaderConverter::Simple => Ok(()),
            HeaderConverter::Other(converter) => converter.ready(),
        }
    }

    fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        let result = self.write(record, batch);
        self.tolerate(result)
    }

    fn forward(&mut self, record: &BatchRecord<'_>, null: bool, batch: &mut Batch) -> Result<(), EventError> {
        let result = self.write_on(record, null, batch);
        self.tolerate(result)
    }

    fn count_skipped(&mut self, counter: Arc<AtomicU64>) {
        self.skipped = counter;
    }
}

impl Chain {
    /// Counts a record that cannot be done, where such are left out.
    fn tolerate(&mut self, result: Result<(), EventError>) -> Result<(), EventError> {
        match result {
            // A registry that is away comes back: what waits for it is not lost.
            Err(error) if self.tolerant && !matches!(error, EventError::Converter { may_heal: true, .. }) => {
                self.skipped.fetch_add(1, Ordering::Relaxed);
                if self.logged {
                    tracing::error!(%error, "a record is left out (errors.tolerance=all)");
                }
                Ok(())
            }
            result => result,
        }
    }

    /// Runs transforms that leave key and value alone on a record that is written, see [`Chain::shortcut`]. They see
    /// a value that stands for the written one.
    fn write_on(
        &mut self,
        written: &BatchRecord<'_>,
        null: bool,
        batch: &mut Batch,
    ) -> Result<(), EventError> {
        // the encoder has done the first one's work where that one does look
        let first = usize::from(self.links.first().is_some_and(|l| l.transform.looks_inside()));
        let mut topic = std::mem::take(&mut self.spare);
        written.topic.clone_into(&mut topic);
        let mut headers = Vec::with_capacity(written.headers().len());
        for (name, value) in written.headers() {
            // names are text: the encoder's own, or of the connector's properties
            headers.push(Header::written(std::str::from_utf8(name).unwrap_or_default(), value));
        }
        let record = Record {
            topic,
            partition: written.partition,
            timestamp: written.timestamp,
            key_schema: None,
            key: Datum::Null,
            value_schema: None,
            value: if null { Datum::Null } else { Datum::Struct(Vec::new()) },
            headers,
        };
        let Some(record) = self.transform(first, record)? else { return Ok(()) };
        let topic = batch.topic(&record.topic);
        let mut out = batch.record(topic);
        record::copy_content(written, &mut out);
        write_headers(&mut self.header, &record, &mut out)?;
        finish(&record, out);
        self.spare = record.topic;
        Ok(())
    }

    fn write(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        let Some(record) = self.transform(0, record)? else { return Ok(()) };
        let Self { key, value, header, .. } = self;
        let topic = batch.topic(&record.topic);
        let mut out = batch.record(topic);
        for (converter, schema, datum, is_key) in [
            (key, &record.key_schema, &record.key, true),
            (value, &record.value_schema, &record.value, false),
        ] {
            let result = if converter.present(schema.as_deref(), datum, &record.headers) {
                let write = |to: &mut Vec<u8>| {
                    converter.write(to, &record.topic, schema.as_ref(), datum, &record.headers)
                };
                if is_key { out.key(write) } else { out.value(write) }
            } else {
                converter.check_null(schema.as_deref())
            };
            result.map_err(|e| failed(&record, converter, e))?;
        }
        write_headers(header, &record, &mut out)?;
        finish(&record, out);
        Ok(())
    }
}

/// A converter refused a part of a record.
fn failed(record: &Record<'_>, converter: &Converter, cause: String) -> EventError {
    EventError::Converter {
        converter: converter.name().into(),
        topic: record.topic.clone(),
        may_heal: registry::unavailable(&cause),
        cause,
    }
}

/// Writes headers through their converter.
fn write_headers(
    converter: &mut HeaderConverter,
    record: &Record<'_>,
    out: &mut RecordBuilder<'_>,
) -> Result<(), EventError> {
    let HeaderConverter::Other(converter) = converter else {
        record::write_headers(record, None, out);
        return Ok(());
    };
    let mut bytes = Vec::new();
    for h in &record.headers {
        if let Some(written) = h.as_written() {
            out.header(h.name.as_bytes(), Some(written));
            continue;
        }
        bytes.clear();
        let schema = h.schema.as_ref();
        if converter.present(schema.map(AsRef::as_ref), &h.value, &[]) {
            converter
                .write(&mut bytes, &record.topic, schema, &h.value, &[])
                .map_err(|e| failed(record, converter, format!("header {}: {e}", h.name)))?;
            out.header(h.name.as_bytes(), Some(&bytes));
        } else {
            out.header(h.name.as_bytes(), None);
        }
    }
    Ok(())
}

/// Sets what the transforms chose, and ends the record.
fn finish(record: &Record<'_>, mut out: RecordBuilder<'_>) {
    if let Some(partition) = record.partition {
        out.partition(partition);
    }
    if let Some(timestamp) = record.timestamp {
        out.timestamp(timestamp);
    }
    out.finish();
}

#[cfg(test)]
mod tests;
