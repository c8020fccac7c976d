//! The row without its envelope, as Debezium's `ExtractNewRecordState` makes it, written straight from the row's
//! bytes. What this cannot do (routes by a field, fields dropped by a header, whole blocks as fields) is left to the
//! transform, which works on a [`super::record::Record`].

use std::sync::Arc;

use super::datum::Datum;
use super::envelope;
use super::json::{self, JsonOptions};
use super::plan::{TablePlan, open};
use super::record;
use super::schema::{Field, Kind, Schema};
use super::source::TransactionOrder;
use super::writer::{Change, Writer};
use crate::log::batch::RecordBuilder;

/// `delete.tombstone.handling.mode`: what becomes of deletes and their tombstones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletes {
    /// Both are dropped.
    Drop,
    /// The delete becomes a null with the row's schema, the tombstone is dropped.
    Tombstone,
    /// The delete becomes its old row with `__deleted`, the tombstone is dropped.
    Rewrite,
    /// As `Rewrite`, and the tombstone is kept.
    RewriteWithTombstone,
    /// The delete becomes a tombstone, its own is dropped.
    DeleteToTombstone,
}

impl Deletes {
    /// Whether rows have a field `__deleted`.
    pub fn rewrites(self) -> bool {
        matches!(self, Deletes::Rewrite | Deletes::RewriteWithTombstone)
    }
}

/// A field of the envelope that is added to the row or the headers.
#[derive(Clone, Debug)]
pub struct Added {
    /// `source`, `transaction`, or none for the envelope itself.
    pub block: Option<String>,
    /// Its name there.
    pub field: String,
    /// Its name in the row or the headers.
    pub name: String,
}

impl Added {
    /// `field`, `struct.field`, either with `:name`; `None` for more than one colon.
    pub fn parse(text: &str, prefix: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let path = parts.next().unwrap_or("");
        let rename = parts.next().filter(|r| !r.is_empty());
        if parts.next().is_some() {
            return None;
        }
        let mut steps = path.split('.').filter(|s| !s.is_empty());
        let first = steps.next().unwrap_or("");
        let (block, field, shown) = match steps.next() {
            Some(field) => (Some(first.to_owned()), field, format!("{first}_{field}")),
            None => {
                let block = match first {
                    "id" | "total_order" | "data_collection_order" => Some("transaction".to_owned()),
                    "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
                    _ => Some("source".to_owned()),
                };
                (block, first, first.to_owned())
            }
        };
        let name = format!("{prefix}{}", rename.unwrap_or(&shown));
        Some(Self { block, field: field.to_owned(), name })
    }

    /// The field's schema, made optional and without default. In its block, or else in the envelope itself; `None`
    /// where neither has it.
    ///
    /// # Errors
    /// Where the envelope has no such block.
    pub fn schema(&self, envelope: &Schema) -> Result<Option<Schema>, String> {
        let holder = match &self.block {
            None => envelope,
            Some(block) => envelope.field(block).ok_or_else(|| format!("the event has no field {block}"))?,
        };
        let found = holder.field(&self.field).or_else(|| envelope.field(&self.field));
        Ok(found.map(|field| {
            let mut schema = field.as_ref().clone().optional();
            schema.default = None;
            if matches!(schema.kind, Kind::Struct(_)) {
                // only a struct's name is taken over
                schema.kind = Kind::Struct(Vec::new());
            }
            schema
        }))
    }

    /// Where its value comes from; `None` for a whole block or a row's field.
    fn place(&self, envelope: &Schema) -> Option<Place> {
        let inner = |block: &str| envelope.field(block).and_then(|b| b.position(&self.field));
        match self.block.as_deref() {
            Some("source") => inner("source").map(Place::Source),
            Some("transaction") => inner("transaction").map(Place::Transaction),
            Some(_) => None,
            None => match self.field.as_str() {
                "op" => Some(Place::Op),
                "ts_ms" => Some(Place::Time(1_000_000)),
                "ts_us" => Some(Place::Time(1000)),
                "ts_ns" => Some(Place::Time(1)),
                _ => None,
            },
        }
    }
}

/// What the transform is to do. Made by the transform where its options need no record as a whole.
#[derive(Clone, Debug)]
pub struct Flattening {
    /// What becomes of deletes.
    pub deletes: Deletes,
    /// Fields added to rows.
    pub fields: Vec<Added>,
    /// Fields added to headers.
    pub headers: Vec<Added>,
}

/// What the encoder does in place of a pipeline where both converters are JSON: records are written straight from the
/// row's bytes.
#[derive(Clone, Debug)]
pub struct Shortcut {
    /// Rows are flat, where the table's plan can be.
    pub flattening: Option<Flattening>,
    /// What is written goes through [`record::Pipeline::forward`], for its topic and its headers.
    pub forwards: bool,
}

impl Flattening {
    /// What does not depend on the row; `None` where the table's records must be made as a whole.
    pub(super) fn plan(&self, plan: &TablePlan, json: &JsonOptions) -> Option<FlatPlan> {
        let envelope = &plan.envelope;
        let row = envelope.field("after")?;
        let mut fields = row.fields().to_vec();
        let rewrites = self.deletes.rewrites();
        if rewrites {
            let schema = Arc::new(Schema::new(Kind::String).optional());
            fields.push(Field { name: "__deleted".into(), schema });
        }
        let extras =
            |list: &[Added]| list.iter().map(|a| Extra::new(a, envelope)).collect::<Option<Vec<_>>>();
        let (mut added, headers) = (extras(&self.fields)?, extras(&self.headers)?);
        let first = plan.columns.is_empty() && !rewrites;
        for (i, extra) in added.iter_mut().enumerate() {
            extra.lead = lead(&extra.name, first && i == 0);
            fields.push(Field { name: extra.name.clone(), schema: Arc::clone(&extra.schema) });
        }
        let twice = |(i, f): (usize, &Field)| fields.iter().take(i).any(|g| g.name == f.name);
        if fields.iter().enumerate().any(twice) {
            return None;
        }
        let gone = (self.deletes == Deletes::Tombstone).then(|| {
            let mut out = Vec::new();
            record::write_envelope(&mut out, Some(row), &Datum::Null, json);
            out
        });
        let schema =
            Schema { optional: false, default: None, kind: Kind::Struct(fields), ..row.as_ref().clone() };
        Some(FlatPlan {
            deletes: self.deletes,
            open: open(&schema, json),
            deleted: rewrites.then(|| lead("__deleted", plan.columns.is_empty())),
            gone,
            fields: added,
            headers,
        })
    }
}

/// `"name":`, with a comma before it for all but the first.
fn lead(name: &str, first: bool) -> Vec<u8> {
    let mut out = if first { Vec::new() } else { vec![b','] };
    json::write_str(&mut out, name.as_bytes());
    out.push(b':');
    out
}

/// Where an added value comes from.
#[derive(Clone, Copy, Debug)]
enum Place {
    Op,
    /// The envelope's time, in so many nanoseconds.
    Time(i64),
    Source(usize),
    Transaction(usize),
}

#[derive(Clone, Debug)]
struct Extra {
    place: Place,
    name: String,
    schema: Arc<Schema>,
    lead: Vec<u8>,
}

impl Extra {
    fn new(added: &Added, envelope: &Schema) -> Option<Self> {
        let schema = Arc::new(added.schema(envelope).ok().flatten()?);
        let name = added.name.clone();
        Some(Self { place: added.place(envelope)?, name, schema, lead: Vec::new() })
    }
}

/// Everything of a table's flat records that does not change from row to row.
#[derive(Clone, Debug)]
pub(super) struct FlatPlan {
    deletes: Deletes,
    /// `{"schema":…,"payload":`, or nothing.
    open: Vec<u8>,
    /// `,"__deleted":`, where rows have it.
    deleted: Option<Vec<u8>>,
    /// The value of a delete whose row is not kept; a tombstone without one.
    gone: Option<Vec<u8>>,
    fields: Vec<Extra>,
    headers: Vec<Extra>,
}

impl FlatPlan {
    /// Whether a change becomes a record at all.
    pub fn keeps(&self, change: &Change<'_, '_, '_>) -> bool {
        match (change.after, change.before) {
            (None, None) => false, // a truncate
            (None, Some(_)) => self.deletes != Deletes::Drop,
            (Some(_), _) => true,
        }
    }

    /// Whether a change's value is a null.
    pub fn is_null(&self, change: &Change<'_, '_, '_>) -> bool {
        change.after.is_none() && self.deletes == Deletes::DeleteToTombstone
    }

    /// Whether a change's value is a null, be it one with a schema.
    pub fn leaves_null(&self, change: &Change<'_, '_, '_>) -> bool {
        change.after.is_none() && !self.deletes.rewrites()
    }

    /// Whether the tombstone of a delete stays.
    pub fn keeps_tombstones(&self) -> bool {
        self.deletes == Deletes::RewriteWithTombstone
    }
}

impl Writer {
    /// Appends the flat value of a change that has one.
    pub fn flat_value(
        &self,
        out: &mut Vec<u8>,
        plan: &TablePlan,
        flat: &FlatPlan,
        change: &Change<'_, '_, '_>,
        order: Option<TransactionOrder>,
    ) {
        let row = match (change.after, change.before) {
            (None, Some(before)) if flat.deletes.rewrites() => before,
            (Some(after), _) => after,
            _ => return out.extend_from_slice(flat.gone.as_deref().unwrap_or_default()),
        };
        out.extend_from_slice(&flat.open);
        out.push(b'{');
        self.columns(out, plan, row);
        if let Some(lead) = &flat.deleted {
            out.extend_from_slice(lead);
            let text: &[u8] = if change.after.is_none() { b"\"true\"" } else { b"\"false\"" };
            out.extend_from_slice(text);
        }
        for extra in &flat.fields {
            out.extend_from_slice(&extra.lead);
            json::write(out, &extra.schema, &self.added(extra.place, plan, change, order), &self.value_json);
        }
        out.push(b'}');
        if !flat.open.is_empty() {
            out.push(b'}');
        }
    }

    /// Adds the headers that stand for fields of the envelope.
    pub fn flat_headers(
        &mut self,
        plan: &TablePlan,
        flat: &FlatPlan,
        change: &Change<'_, '_, '_>,
        order: Option<TransactionOrder>,
        record: &mut RecordBuilder<'_>,
    ) {
        let mut bytes = std::mem::take(&mut self.scratch);
        for extra in &flat.headers {
            let value = self.added(extra.place, plan, change, order);
            let header_json = self.options.header_json.as_ref();
            if value.is_null() && header_json.is_none() {
                record.header(extra.name.as_bytes(), None);
                continue;
            }
            bytes.clear();
            super::simple::header(&mut bytes, &extra.schema, &value, header_json);
            record.header(extra.name.as_bytes(), Some(&bytes));
        }
        self.scratch = bytes;
    }

    fn added<'s>(
        &'s self,
        place: Place,
        plan: &'s TablePlan,
        change: &Change<'s, '_, '_>,
        order: Option<TransactionOrder>,
    ) -> Datum<'s> {
        match place {
            Place::Op => Datum::str(change.op),
            Place::Time(unit) => Datum::Int(change.source.now_ns.div_euclid(unit)),
            Place::Source(at) => self.source.field(at, (&plan.schema, &plan.table), change.source),
            Place::Transaction(at) => envelope::transaction_field(at, change.source, order),
        }
    }
}
