//! `AvroConverter`: Avro with Confluent's wire format.

use std::sync::Arc;

use super::config::Options;
use super::edit::Derived;
use super::registry::{Registry, Subject};
use crate::config::AddressMap;
use crate::event::datum::Datum;
use crate::event::schema::Schema;
use crate::event::{EventError, avro};

/// Avro: schema ids by subject and schema.
pub(super) struct Avro {
    registry: Registry,
    subject: Subject,
    ids: Derived<u32>,
}

impl Avro {
    pub(super) fn new(own: &Options<'_>, key: bool, addresses: &AddressMap) -> Result<Self, EventError> {
        Ok(Self {
            registry: Registry::new(own, addresses)?,
            subject: Subject::new(own, key)?,
            ids: Derived::new(),
        })
    }

    pub(super) fn write(
        &mut self,
        out: &mut Vec<u8>,
        topic: &str,
        schema: Option<&Arc<Schema>>,
        datum: &Datum<'_>,
    ) -> Result<(), String> {
        let schema = schema.ok_or("a value without a schema cannot be Avro")?;
        let known = self.ids.find(schema, topic);
        // the top of a record is never a union
        let required = (schema.optional || known.is_none()).then(|| Schema {
            optional: false,
            default: None,
            ..(**schema).clone()
        });
        let id = match known {
            Some(id) => id,
            None => {
                let required = required.as_ref().unwrap_or(schema);
                let record = required.name.as_deref().unwrap_or("io.confluent.connect.avro.ConnectDefault");
                let subject = self.subject.of(topic, record);
                let id = self.registry.id(&subject, &avro::schema_json(required), None)?;
                self.ids.keep(schema, topic, id);
                id
            }
        };
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        avro::write(out, required.as_ref().unwrap_or(schema), datum).map_err(|e| e.to_string())
    }
}
