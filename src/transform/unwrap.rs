//! `io.debezium.transforms.ExtractNewRecordState`: the row out of the envelope.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::{Header, Record};
use crate::event::schema::{Kind, Schema};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deletes {
    Drop,
    Tombstone,
    Rewrite,
    RewriteWithTombstone,
    DeleteToTombstone,
}

/// A field of the envelope that is added to the row or the headers.
#[derive(Clone, Debug)]
struct Added {
    /// `source`, `transaction`, or none for the envelope itself.
    block: Option<String>,
    field: String,
    name: String,
}

impl Added {
    fn parse(text: &str, prefix: &str) -> Self {
        let (path, rename) = match text.split_once(':') {
            Some((path, name)) => (path.trim(), Some(name.trim())),
            None => (text.trim(), None),
        };
        let (block, field, shown) = match path.split_once('.') {
            Some((block, field)) => (Some(block.to_owned()), field, format!("{block}_{field}")),
            None => {
                let block = match path {
                    "id" | "total_order" | "data_collection_order" => Some("transaction".to_owned()),
                    "op" | "ts_ms" | "ts_us" | "ts_ns" => None,
                    _ => Some("source".to_owned()),
                };
                (block, path, path.to_owned())
            }
        };
        let name = format!("{prefix}{}", rename.unwrap_or(&shown));
        Self { block, field: field.to_owned(), name }
    }

    /// The field's schema (made optional, without default) and value; `None` where the envelope has no such field.
    fn find<'a>(&self, schema: &Schema, value: &Datum<'a>) -> Option<(Schema, Datum<'a>)> {
        let (holder, datum) = match &self.block {
            None => (schema, value),
            Some(block) => {
                let (s, d) = edit::get(schema, value, block)?;
                (s.as_ref(), d)
            }
        };
        let field = holder.field(&self.field)?;
        let datum = holder.position(&self.field).and_then(|at| datum.as_struct()?.get(at)).cloned();
        let mut schema = field.as_ref().clone().optional();
        schema.default = None;
        Some((schema, datum.unwrap_or(Datum::Null)))
    }
}

pub(super) struct Unwrap {
    deletes: Deletes,
    fields: Vec<Added>,
    headers: Vec<Added>,
    route: Option<String>,
    replace_nulls: bool,
    drop_header: Option<String>,
    drop_from_key: bool,
    keep_compatible: bool,
    schemas: Derived<Arc<Schema>>,
}

impl Unwrap {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        let legacy = match own.get("delete.handling.mode") {
            Some("rewrite") if own.flag("drop.tombstones", true)? => Deletes::Rewrite,
            Some("rewrite") => Deletes::RewriteWithTombstone,
            Some(_) if own.flag("drop.tombstones", true)? => Deletes::Drop,
            _ => Deletes::Tombstone,
        };
        let deletes = own.choice(
            "delete.tombstone.handling.mode",
            legacy,
            &[
                ("drop", Deletes::Drop),
                ("tombstone", Deletes::Tombstone),
                ("rewrite", Deletes::Rewrite),
                ("rewrite-with-tombstone", Deletes::RewriteWithTombstone),
                ("delete-to-tombstone", Deletes::DeleteToTombstone),
            ],
        )?;
        let parse = |list: &str, prefix: &str| -> Vec<Added> {
            let prefix = own.text(prefix, "__");
            own.list(list).iter().map(|t| Added::parse(t, &prefix)).collect()
        };
        Ok(Self {
            deletes,
            fields: parse("add.fields", "add.fields.prefix"),
            headers: parse("add.headers", "add.headers.prefix"),
            route: own.get("route.by.field").filter(|f| !f.is_empty()).map(str::to_owned),
            replace_nulls: own.flag("replace.null.with.default", true)?,
            drop_header: own.get("drop.fields.header.name").map(str::to_owned),
            drop_from_key: own.flag("drop.fields.from.key", false)?,
            keep_compatible: own.flag("drop.fields.keep.schema.compatible", true)?,
            schemas: Derived::new(),
        })
    }

    fn add_headers<'a>(&self, record: &mut Record<'a>, schema: &Schema, value: &Datum<'a>) {
        for added in &self.headers {
            if let Some((schema, value)) = added.find(schema, value) {
                record.headers.push(Header {
                    name: added.name.clone(),
                    schema: Some(Arc::new(schema)),
                    value,
                });
            }
        }
    }

    fn rewrites(&self) -> bool {
        matches!(self.deletes, Deletes::Rewrite | Deletes::RewriteWithTombstone)
    }

    /// The row's schema with the added fields; the row is required now.
    fn row_schema(&mut self, envelope: &Arc<Schema>, row: &Arc<Schema>, value: &Datum<'_>) -> Arc<Schema> {
        let rewrites = self.rewrites();
        let fields = &self.fields;
        self.schemas.get(envelope, "", |envelope| {
            let mut all = row.fields().to_vec();
            if rewrites {
                all.push(edit::field("__deleted", Schema::new(Kind::String).optional()));
            }
            for added in fields {
                if let Some((schema, _)) = added.find(envelope, value) {
                    all.push(edit::field(added.name.as_str(), schema));
                }
            }
            let mut schema = edit::with_fields(row, all);
            schema.optional = false;
            Arc::new(schema)
        })
    }

    fn drop_fields(&self, record: &mut Record<'_>) {
        let Some(header) = &self.drop_header else { return };
        let Some(at) = record.headers.iter().position(|h| h.name == *header) else { return };
        let names: Vec<String> = match &record.headers[at].value {
            Datum::Array(items) => items.iter().filter_map(|d| d.as_str().map(str::to_owned)).collect(),
            _ => return,
        };
        for key in [false, true] {
            if key && !self.drop_from_key {
                continue;
            }
            let (Some(schema), Datum::Struct(values)) = edit::take_side(record, key) else { continue };
            let keep: Vec<bool> = schema
                .fields()
                .iter()
                .map(|f| !names.contains(&f.name) || (self.keep_compatible && !f.schema.optional))
                .collect();
            let fields: Vec<_> =
                schema.fields().iter().zip(&keep).filter(|(_, k)| **k).map(|(f, _)| f.clone()).collect();
            let values = values.into_iter().zip(&keep).filter(|(_, k)| **k).map(|(v, _)| v).collect();
            let schema = Arc::new(edit::with_fields(&schema, fields));
            edit::set_side(record, key, Some(schema), Datum::Struct(values));
        }
    }
}

impl Transform for Unwrap {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone() else {
            // a tombstone
            return Ok(match self.deletes {
                Deletes::RewriteWithTombstone => {
                    for added in self.headers.iter().filter(|a| a.block.is_none() && a.field == "op") {
                        let schema = Some(Arc::new(Schema::new(Kind::String)));
                        record.headers.push(Header {
                            name: added.name.clone(),
                            schema,
                            value: Datum::str("d"),
                        });
                    }
                    Some(record)
                }
                _ => None,
            });
        };
        if !edit::is_envelope(&schema) {
            return Ok(Some(record));
        }
        let value = std::mem::replace(&mut record.value, Datum::Null);
        let op = edit::get(&schema, &value, "op").and_then(|(_, op)| op.as_str()).unwrap_or("").to_owned();
        if op == "t" {
            return Ok(None);
        }
        let deleted = op == "d";
        if deleted && self.deletes == Deletes::Drop {
            return Ok(None);
        }
        self.add_headers(&mut record, &schema, &value);
        let row_name = if deleted { "before" } else { "after" };
        let Some((row_schema, row)) = edit::get(&schema, &value, row_name) else { return Ok(None) };
        let routed = self.route.as_ref().and_then(|column| edit::get(row_schema, row, column)?.1.as_str());
        if let Some(topic) = routed {
            record.topic = topic.to_owned();
        }
        if deleted && !self.rewrites() {
            record.value = Datum::Null;
            record.value_schema =
                if self.deletes == Deletes::DeleteToTombstone { None } else { Some(Arc::clone(row_schema)) };
            return Ok(Some(record));
        }
        let Datum::Struct(row) = row else { return Ok(None) };
        let new_schema = self.row_schema(&schema, row_schema, &value);
        let mut values = row.clone();
        if self.replace_nulls {
            for (field, v) in row_schema.fields().iter().zip(&mut values) {
                if let (true, Some(default)) = (v.is_null(), &field.schema.default) {
                    *v = default.clone();
                }
            }
        }
        if self.rewrites() {
            values.push(Datum::str(if deleted { "true" } else { "false" }));
        }
        for added in &self.fields {
            if let Some((_, v)) = added.find(&schema, &value) {
                values.push(v);
            }
        }
        record.value_schema = Some(new_schema);
        record.value = Datum::Struct(values);
        self.drop_fields(&mut record);
        Ok(Some(record))
    }
}
