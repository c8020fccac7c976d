//! `AvroConverter`: Avro with Confluent's wire format.

use std::sync::Arc;

use super::config::Options;
use super::edit::Derived;
use super::registry::{Registry, Subject};
use crate::config::AddressMap;
use crate::event::datum::Datum;
use crate::event::schema::{Kind, Schema};
use crate::event::{EventError, avro};

/// Avro: schema ids by subject and schema.
pub(super) struct Avro {
    registry: Registry,
    subject: Subject,
    options: avro::Options,
    ids: Derived<u32>,
}

impl Avro {
    pub(super) fn new(own: &Options<'_>, key: bool, addresses: &AddressMap) -> Result<Self, EventError> {
        // changes enumerations alone, which no column of PostgreSQL's is in Connect
        own.flag("enhanced.avro.schema.support", false)?;
        Ok(Self {
            registry: Registry::new(own, addresses)?,
            subject: Subject::new(own, key)?,
            options: avro::Options {
                connect_meta: own.flag("connect.meta.data", true)?,
                scrub: own.flag("scrub.invalid.names", false)?,
                optional_map_keys: own.flag("allow.optional.map.keys", false)?,
                field_docs: own.flag("discard.type.doc.default", false)?,
            },
            ids: Derived::new(),
        })
    }

    pub(super) fn ready(&self) -> Result<(), EventError> {
        self.registry.ready()
    }

    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
    ) -> Result<(), String> {
        let schema = schema.ok_or("a value without a schema cannot be Avro")?;
        let id = match self.ids.find(schema, topic) {
            Some(id) => id,
            None => {
                let record = schema.name.as_deref().unwrap_or("io.confluent.connect.avro.ConnectDefault");
                let record = matches!(schema.kind, Kind::Struct(_)).then_some(record);
                let text = avro::schema_json(schema, self.options).map_err(|e| e.to_string())?;
                let id = self.registry.id(&self.subject.of(topic, record)?, &text, None)?;
                self.ids.keep(schema, topic, id);
                id
            }
        };
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        avro::write(out, schema, datum).map_err(|e| e.to_string())
    }
}
