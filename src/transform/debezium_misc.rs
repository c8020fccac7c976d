//! Debezium's smaller transforms: partition routing, headers into the value.

use std::sync::Arc;

use super::config::Options;
use super::edit;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Schema};
use crate::log::partition::murmur2;

/// `SchemaChangeEventFilter`: PostgreSQL has no schema change events, so nothing is filtered.
pub(super) struct PassThrough;

impl Transform for PassThrough {
    fn apply<'a>(&mut self, record: Record<'a>) -> Transformed<'a> {
        Ok(Some(record))
    }
}

/// `io.debezium.transforms.partitions.PartitionRouting`.
pub(super) struct PartitionRouting {
    fields: Vec<String>,
    partitions: i32,
    murmur: bool,
}

impl PartitionRouting {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let fields = own.list("partition.payload.fields");
        if fields.is_empty() {
            return Err(own.error("partition.payload.fields", "at least one field"));
        }
        let partitions: i32 = own.number("partition.topic.num")?;
        if partitions <= 0 {
            return Err(own.error("partition.topic.num", "a number above 0"));
        }
        let murmur = own.choice("partition.hash.function", false, &[("java", false), ("murmur", true)])?;
        Ok(Self { fields, partitions, murmur })
    }
}

/// Java's `hashCode`.
fn java_hash(datum: &Datum<'_>, schema: &Schema) -> i32 {
    use crate::event::schema::Kind;
    let fold = |bits: i64| -> i32 {
        let bits = bits.cast_unsigned();
        let folded = (bits ^ (bits >> 32)) & 0xFFFF_FFFF;
        u32::try_from(folded).unwrap_or(0).cast_signed()
    };
    match datum {
        Datum::Bool(true) => 1231,
        Datum::Bool(false) => 1237,
        Datum::Int(n) if schema.kind == Kind::Int64 => fold(*n),
        Datum::Int(n) => i32::try_from(*n).unwrap_or(0),
        Datum::F32(n) => n.to_bits().cast_signed(),
        Datum::F64(n) => fold(n.to_bits().cast_signed()),
        other => match other.as_str() {
            Some(text) => {
                text.encode_utf16().fold(0i32, |h, unit| h.wrapping_mul(31).wrapping_add(i32::from(unit)))
            }
            None => other.to_bytes().map_or(0, |b| {
                b.iter().fold(1i32, |h, b| h.wrapping_mul(31).wrapping_add(i32::from(b.cast_signed())))
            }),
        },
    }
}

impl Transform for PartitionRouting {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone() else { return Ok(Some(record)) };
        if !edit::is_envelope(&schema) {
            return Ok(Some(record));
        }
        let op = edit::get(&schema, &record.value, "op").and_then(|(_, op)| op.as_str());
        let change = if op == Some("d") { "before" } else { "after" };
        let mut hash = 0i32;
        let mut bytes = Vec::new();
        let mut found = false;
        for path in &self.fields {
            let mut at: Option<(&Arc<Schema>, &Datum<'_>)> = Some((&schema, &record.value));
            for part in path.split('.') {
                let part = if part == "change" { change } else { part };
                at = at.and_then(|(s, v)| edit::get(s, v, part));
            }
            let Some((s, v)) = at.filter(|(_, v)| !v.is_null()) else { continue };
            found = true;
            hash = hash.wrapping_mul(31).wrapping_add(java_hash(v, s));
            crate::event::simple::schemaless(&mut bytes, v);
        }
        if !found {
            return Ok(Some(record));
        }
        let hash = if self.murmur { murmur2(&bytes) } else { hash };
        record.partition = Some((hash % self.partitions).abs());
        Ok(Some(record))
    }
}

/// `io.debezium.transforms.HeaderToValue`.
pub(super) struct HeaderToValue {
    pairs: Vec<(String, String)>,
    remove: bool,
}

impl HeaderToValue {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let (headers, fields) = (own.list("headers"), own.list("fields"));
        if headers.is_empty() || headers.len() != fields.len() {
            return Err(own.error("fields", "as many fields as headers"));
        }
        let Some(_) = own.get("operation") else { return Err(own.error("operation", "move or copy")) };
        let remove = own.choice("operation", false, &[("move", true), ("copy", false)])?;
        Ok(Self { pairs: headers.into_iter().zip(fields).collect(), remove })
    }
}

/// Adds a field at a dotted path; structs on the way must be there.
fn insert<'a>(
    schema: &Schema,
    datum: Datum<'a>,
    path: &[&str],
    field: (&Arc<Schema>, Datum<'a>),
) -> (Schema, Datum<'a>) {
    let Datum::Struct(mut values) = datum else { return (schema.clone(), datum) };
    let mut fields = schema.fields().to_vec();
    match path {
        [name] => {
            fields.push(Field { name: (*name).to_owned(), schema: Arc::clone(field.0) });
            values.push(field.1);
        }
        [first, rest @ ..] => {
            let at = schema.position(first).unwrap_or(usize::MAX);
            if let (Some(f), Some(v)) = (fields.get_mut(at), values.get_mut(at)) {
                let inner = std::mem::replace(v, Datum::Null);
                let (s, d) = insert(&f.schema, inner, rest, field);
                f.schema = Arc::new(s);
                *v = d;
            }
        }
        [] => {}
    }
    (edit::with_fields(schema, fields), Datum::Struct(values))
}

impl Transform for HeaderToValue {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if record.value.is_null() {
            return Ok(Some(record));
        }
        for (header, path) in &self.pairs {
            let Some(at) = record.headers.iter().position(|h| h.name == *header) else { continue };
            let found = if self.remove { record.headers.remove(at) } else { record.headers[at].clone() };
            let Some(field_schema) = found.schema else { continue };
            let (Some(schema), value) = edit::take_side(&mut record, false) else { continue };
            let path: Vec<&str> = path.split('.').collect();
            let (s, v) = insert(&schema, value, &path, (&field_schema, found.value));
            edit::set_side(&mut record, false, Some(Arc::new(s)), v);
        }
        Ok(Some(record))
    }
}
