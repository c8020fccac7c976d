//! The chain of a connector: transforms with their predicates, then the converters.

use super::config::Options;
use super::converter::Converter;
use super::predicate::Predicate;
use super::{
    Transform, Transformed, cast, changed, decode_message, flatten, header_to_value, kafka_fields, kafka_keys, kafka_records,
    logical_table, outbox, partition, timestamp, timezone, unwrap,
};
use crate::event::json::JsonOptions;
use crate::event::record::{self, Pipeline, Record};
use crate::event::{EventError, EventOptions};
use crate::log::Batch;

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
    header: Option<JsonOptions>,
}

impl Chain {
    /// Reads `transforms`, `predicates` and the converters of a connector's properties.
    ///
    /// # Errors
    /// With the property that is wrong.
    pub fn new(options: &EventOptions, all: &[(&str, &str)]) -> Result<Self, EventError> {
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
        Ok(Self {
            links,
            key: Converter::new(&options.key_converter, true, all)?,
            value: Converter::new(&options.value_converter, false, all)?,
            header: options.header_json,
        })
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
        "io.debezium.transforms.TimezoneConverter" => {
            Box::new(timezone::TimezoneConverter::new(own)?)
        }
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
    fn apply<'a>(&mut self, record: Record<'a>) -> Transformed<'a> {
        Ok(Some(record))
    }
}

impl Pipeline for Chain {
    fn process(&mut self, record: Record<'_>, batch: &mut Batch) -> Result<(), EventError> {
        let mut record = record;
        for link in &mut self.links {
            let applies = link.predicate.as_ref().is_none_or(|(p, negate)| p.test(&record) != *negate);
            if !applies {
                continue;
            }
            let topic = record.topic.clone();
            match link.transform.apply(record) {
                Ok(Some(next)) => record = next,
                Ok(None) => return Ok(()),
                Err(cause) => {
                    return Err(EventError::Transform { transform: link.name.clone(), topic, cause });
                }
            }
        }
        let failed = |converter: &Converter, cause: String| EventError::Converter {
            converter: converter.name().into(),
            topic: record.topic.clone(),
            cause,
        };
        let key = self
            .key
            .write(&record.topic, record.key_schema.as_ref(), &record.key)
            .map_err(|e| failed(&self.key, e))?;
        let value = self
            .value
            .write(&record.topic, record.value_schema.as_ref(), &record.value)
            .map_err(|e| failed(&self.value, e))?;
        let topic = batch.topic(&record.topic);
        let mut out = batch.record(topic);
        if let Some(bytes) = key {
            out.key(|key| key.extend_from_slice(&bytes));
        }
        if let Some(bytes) = value {
            out.value(|value| value.extend_from_slice(&bytes));
        }
        record::write_headers(&record, self.header.as_ref(), &mut out);
        if let Some(partition) = record.partition {
            out.partition(partition);
        }
        if let Some(timestamp) = record.timestamp {
            out.timestamp(timestamp);
        }
        out.finish();
        Ok(())
    }
}
