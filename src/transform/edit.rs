//! What transforms share: derived schemas, looked up by the schema they come from, and a record's two sides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// Schemas derived from other schemas. Kept by the address of the source schema, which the entry keeps alive.
#[derive(Default)]
pub(super) struct Derived<T> {
    entries: HashMap<(usize, String), (Arc<Schema>, T)>,
}

impl<T: Clone> Derived<T> {
    /// Schema versions are few; a source that makes a new one for every record must not fill memory.
    const LIMIT: usize = 1024;

    pub(super) fn new() -> Self {
        Self { entries: HashMap::new() }
    }

    /// What was derived from this schema (and these words) before.
    pub(super) fn find(&self, from: &Arc<Schema>, words: &str) -> Option<T> {
        let key = (Arc::as_ptr(from) as usize, words.to_owned());
        self.entries.get(&key).map(|(_, derived)| derived.clone())
    }

    /// What was derived from this schema (and these words), or derives it now.
    pub(super) fn get(&mut self, from: &Arc<Schema>, words: &str, make: impl FnOnce(&Schema) -> T) -> T {
        let key = (Arc::as_ptr(from) as usize, words.to_owned());
        if let Some((_, derived)) = self.entries.get(&key) {
            return derived.clone();
        }
        if self.entries.len() >= Self::LIMIT {
            self.entries.clear();
        }
        let derived = make(from);
        self.entries.insert(key, (Arc::clone(from), derived.clone()));
        derived
    }
}

/// A struct schema like this one, with other fields.
pub(super) fn with_fields(schema: &Schema, fields: Vec<Field>) -> Schema {
    Schema { kind: Kind::Struct(fields), ..schema.clone() }
}

/// A field.
pub(super) fn field(name: impl Into<String>, schema: Schema) -> Field {
    Field { name: name.into(), schema: Arc::new(schema) }
}

/// Sets key or value of a record.
pub(super) fn set_side<'a>(
    record: &mut Record<'a>,
    key: bool,
    schema: Option<Arc<Schema>>,
    datum: Datum<'a>,
) {
    if key {
        (record.key_schema, record.key) = (schema, datum);
    } else {
        (record.value_schema, record.value) = (schema, datum);
    }
}

/// Takes key or value out of a record.
pub(super) fn take_side<'a>(record: &mut Record<'a>, key: bool) -> (Option<Arc<Schema>>, Datum<'a>) {
    if key {
        (record.key_schema.take(), std::mem::replace(&mut record.key, Datum::Null))
    } else {
        (record.value_schema.take(), std::mem::replace(&mut record.value, Datum::Null))
    }
}

/// Whether a value's schema is Debezium's envelope.
pub(super) fn is_envelope(schema: &Schema) -> bool {
    schema.name.as_deref().is_some_and(|n| n.ends_with("Envelope"))
        && schema.field("op").is_some()
        && schema.field("source").is_some()
}

/// A field of a struct value, with its schema.
pub(super) fn get<'r, 'a>(
    schema: &'r Schema,
    datum: &'r Datum<'a>,
    name: &str,
) -> Option<(&'r Arc<Schema>, &'r Datum<'a>)> {
    let at = schema.position(name)?;
    let field = schema.fields().get(at)?;
    Some((&field.schema, datum.as_struct()?.get(at)?))
}
