//! `ProtobufConverter`: Protobuf with Confluent's wire format.

use std::sync::Arc;

use super::config::Options;
use super::edit::Derived;
use super::registry::{Registry, Subject};
use crate::config::AddressMap;
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::protobuf::{self, Plan};
use crate::event::schema::Schema;

/// Protobuf: plans by schema, schema ids by subject.
pub(super) struct Protobuf {
    registry: Registry,
    subject: Subject,
    options: protobuf::Options,
    plans: Derived<Arc<(Plan, u32)>>,
}

impl Protobuf {
    pub(super) fn new(own: &Options<'_>, key: bool, addresses: &AddressMap) -> Result<Self, EventError> {
        if !own.flag("skip.known.types", true)? {
            let always =
                "true: schemas of google.protobuf, google.type and confluent.type are known to every reader";
            return Err(own.error("skip.known.types", always));
        }
        own.flag("enhanced.protobuf.schema.support", false)?;
        Ok(Self {
            registry: Registry::new(own, addresses)?,
            subject: Subject::new(own, key)?,
            options: protobuf::Options {
                optional: own.flag("optional.for.nullables", false)?,
                wrapper: own.flag("wrapper.for.nullables", false)?,
                scrub: own.flag("scrub.invalid.names", false)?,
            },
            plans: Derived::new(),
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
        let schema = schema.ok_or("a value without a schema cannot be Protobuf")?;
        let Self { registry, subject, options, plans } = self;
        let planned = plans.try_get(schema, topic, |schema| {
            let plan = Plan::new(schema, *options).map_err(|e| e.to_string())?;
            let id = registry.id(&subject.of(topic, Some(&plan.name))?, &plan.text, Some("PROTOBUF"))?;
            Ok(Arc::new((plan, id)))
        })?;
        let (plan, id) = planned.as_ref();
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        plan.write(out, datum).map_err(|e| e.to_string())
    }
}
