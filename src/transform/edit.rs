//! What transforms share: derived schemas, looked up by the schema they come from, and a record's two sides.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// Schemas derived from other schemas. Kept by the address of the source schema, which the entry keeps alive.
#[derive(Default)]
pub(super) struct Derived<T> {
    entries: HashMap<usize, Vec<Entry<T>>>,
    len: usize,
}

struct Entry<T> {
    words: String,
    /// Keeps the address taken.
    _from: Arc<Schema>,
    derived: T,
}

impl<T: Clone> Derived<T> {
    /// Schema versions are few; a source that makes a new one for every record must not fill memory.
    const LIMIT: usize = 1024;

    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), len: 0 }
    }

    /// What was derived from this schema (and these words) before.
    pub(super) fn find(&self, from: &Arc<Schema>, words: &str) -> Option<T> {
        let entries = self.entries.get(&(Arc::as_ptr(from) as usize))?;
        entries.iter().find(|e| e.words == words).map(|e| e.derived.clone())
    }

    /// Keeps what was derived from this schema (and these words).
    pub(super) fn keep(&mut self, from: &Arc<Schema>, words: &str, derived: T) {
        if self.len >= Self::LIMIT {
            self.entries.clear();
            self.len = 0;
        }
        self.len += 1;
        let entry = Entry { words: words.to_owned(), _from: Arc::clone(from), derived };
        self.entries.entry(Arc::as_ptr(from) as usize).or_default().push(entry);
    }

    /// What was derived from this schema (and these words), or derives it now.
    pub(super) fn get(&mut self, from: &Arc<Schema>, words: &str, make: impl FnOnce(&Schema) -> T) -> T {
        if let Some(derived) = self.find(from, words) {
            return derived;
        }
        let derived = make(from);
        self.keep(from, words, derived.clone());
        derived
    }

    /// As [`Derived::get`] where deriving may fail; failures are not kept.
    pub(super) fn try_get(
        &mut self,
        from: &Arc<Schema>,
        words: &str,
        make: impl FnOnce(&Schema) -> Result<T, String>,
    ) -> Result<T, String> {
        if let Some(derived) = self.find(from, words) {
            return Ok(derived);
        }
        let derived = make(from)?;
        self.keep(from, words, derived.clone());
        Ok(derived)
    }
}

/// A struct schema like this one, with other fields.
pub(super) fn with_fields(schema: &Schema, fields: Vec<Field>) -> Schema {
    Schema { kind: Kind::Struct(fields), ..schema.clone() }
}

/// What Kafka Connect's `SchemaUtil.copySchemaBasics` makes of a struct with these fields: name, version, doc and
/// parameters stay, optionality and default do not.
///
/// # Errors
/// Two fields of one name.
pub(super) fn copied(schema: &Schema, fields: Vec<Field>) -> Result<Schema, String> {
    for (i, f) in fields.iter().enumerate() {
        if fields.iter().take(i).any(|g| g.name == f.name) {
            return Err(format!("cannot create field because of field name duplication {}", f.name));
        }
    }
    Ok(Schema { optional: false, default: None, ..with_fields(schema, fields) })
}

/// What Kafka Connect's `Struct.get` gives: the default where the value is null.
pub(super) fn or_default<'a>(schema: &Schema, value: Datum<'a>) -> Datum<'a> {
    match (&value, &schema.default) {
        (Datum::Null, Some(default)) => default.clone(),
        _ => value,
    }
}

/// [`or_default`] for all fields of a struct, where `replace.null.with.default` is on.
pub(super) fn defaults(schema: &Schema, values: &mut [Datum<'_>], replace: bool) {
    if replace {
        for (field, value) in schema.fields().iter().zip(values) {
            if let (Datum::Null, Some(default)) = (&*value, &field.schema.default) {
                *value = default.clone();
            }
        }
    }
}

/// Key or value that must be a struct, taken out of the record.
///
/// # Errors
/// Where it is something else, or null.
pub(super) fn take_struct<'a>(
    record: &mut Record<'a>,
    key: bool,
) -> Result<(Arc<Schema>, Vec<Datum<'a>>), String> {
    match take_side(record, key) {
        (Some(schema), Datum::Struct(values)) => Ok((schema, values)),
        (_, found) => {
            let side = if key { "key" } else { "value" };
            let found = if found.is_null() { "null" } else { "another type" };
            Err(format!("the {side} must be a struct, found {found}"))
        }
    }
}

/// Whether key or value is null.
pub(super) fn is_null(record: &Record<'_>, key: bool) -> bool {
    if key { record.key.is_null() } else { record.value.is_null() }
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

/// Whether a value's schema is Debezium's envelope: its name says so.
pub(super) fn is_envelope(schema: &Schema) -> bool {
    schema.name.as_deref().is_some_and(|n| n.ends_with(".Envelope"))
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
