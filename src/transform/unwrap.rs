//! `io.debezium.transforms.ExtractNewRecordState`: the row out of the envelope.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::flat::{Added, Deletes, Flattening};
use crate::event::json::JsonOptions;
use crate::event::record::{Header, Record};
use crate::event::schema::{Kind, Schema};

/// The added field's value in an event.
fn added_value<'a>(added: &Added, envelope: &Schema, value: &Datum<'a>) -> Datum<'a> {
    let Some(block) = &added.block else {
        return edit::get(envelope, value, &added.field).map_or(Datum::Null, |(_, v)| v.clone());
    };
    match edit::get(envelope, value, block) {
        Some((_, Datum::Null)) | None => Datum::Null,
        Some((schema, holder)) => edit::get(schema, holder, &added.field)
            .or_else(|| edit::get(envelope, value, &added.field))
            .map_or(Datum::Null, |(_, v)| v.clone()),
    }
}

pub(super) struct Unwrap {
    deletes: Deletes,
    fields: Vec<Added>,
    headers: Vec<Added>,
    header_schemas: Derived<Arc<Vec<Option<Arc<Schema>>>>>,
    route: Option<String>,
    replace_nulls: bool,
    drop_header: Option<String>,
    drop_from_key: bool,
    keep_compatible: bool,
    schemas: Derived<Arc<Schema>>,
    dropped: Derived<Arc<Schema>>,
}

impl Unwrap {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        for old in ["drop.tombstones", "delete.handling.mode"] {
            if own.get(old).is_some() {
                let now = "delete.tombstone.handling.mode";
                tracing::warn!("{old} of ExtractNewRecordState has no effect since Debezium 3: use {now}");
            }
        }
        let deletes = own.choice(
            "delete.tombstone.handling.mode",
            Deletes::Tombstone,
            &[
                ("drop", Deletes::Drop),
                ("tombstone", Deletes::Tombstone),
                ("rewrite", Deletes::Rewrite),
                ("rewrite-with-tombstone", Deletes::RewriteWithTombstone),
                ("delete-to-tombstone", Deletes::DeleteToTombstone),
            ],
        )?;
        let parse = |list: &str, prefix: &str| -> Result<Vec<Added>, EventError> {
            let prefix = own.text(prefix, "__");
            own.names(list)
                .iter()
                .map(|text| {
                    let wrong = || own.error(list, "field, struct.field or field:name, several by comma");
                    Added::parse(text, &prefix).ok_or_else(wrong)
                })
                .collect()
        };
        Ok(Self {
            deletes,
            fields: parse("add.fields", "add.fields.prefix")?,
            headers: parse("add.headers", "add.headers.prefix")?,
            header_schemas: Derived::new(),
            route: own.get("route.by.field").filter(|f| !f.is_empty()).map(str::to_owned),
            replace_nulls: own.flag("replace.null.with.default", true)?,
            drop_header: own
                .get("drop.fields.header.name")
                .filter(|n| !n.trim().is_empty())
                .map(str::to_owned),
            drop_from_key: own.flag("drop.fields.from.key", false)?,
            keep_compatible: own.flag("drop.fields.keep.schema.compatible", true)?,
            schemas: Derived::new(),
            dropped: Derived::new(),
        })
    }

    fn add_headers<'a>(
        &mut self,
        record: &mut Record<'a>,
        schema: &Arc<Schema>,
        value: &Datum<'a>,
    ) -> Result<(), String> {
        if self.headers.is_empty() {
            return Ok(());
        }
        let headers = &self.headers;
        let schemas = self.header_schemas.try_get(schema, "", |schema| {
            let all: Result<Vec<_>, String> =
                headers.iter().map(|h| Ok(h.schema(schema)?.map(Arc::new))).collect();
            all.map(Arc::new)
        })?;
        for (added, header_schema) in headers.iter().zip(schemas.iter()) {
            if header_schema.is_some() {
                record.headers.push(Header {
                    name: added.name.clone().into(),
                    schema: header_schema.clone(),
                    value: added_value(added, schema, value),
                });
            }
        }
        Ok(())
    }

    fn rewrites(&self) -> bool {
        self.deletes.rewrites()
    }

    /// The row's schema with the added fields; the row is required now.
    fn row_schema(&mut self, envelope: &Arc<Schema>, row: &Schema) -> Result<Arc<Schema>, String> {
        let rewrites = self.rewrites();
        let fields = &self.fields;
        self.schemas.try_get(envelope, "", |envelope| {
            let mut all = row.fields().to_vec();
            if rewrites {
                all.push(edit::field("__deleted", Schema::new(Kind::String).optional()));
            }
            for added in fields {
                if let Some(schema) = added.schema(envelope)? {
                    all.push(edit::field(added.name.as_str(), schema));
                }
            }
            Ok(Arc::new(edit::copied(row, all)?))
        })
    }

    /// The row's values with the added fields.
    fn row_values<'a>(
        &self,
        (envelope, value): (&Schema, &Datum<'a>),
        schema: &Schema,
        mut values: Vec<Datum<'a>>,
        deleted: bool,
    ) -> Vec<Datum<'a>> {
        if self.rewrites() {
            edit::defaults(schema, &mut values, self.replace_nulls);
            values.push(Datum::str(if deleted { "true" } else { "false" }));
        }
        for added in &self.fields {
            let known = match &added.block {
                None => None,
                Some(block) => envelope.field(block).and_then(|b| b.position(&added.field)),
            };
            if known.is_some() || envelope.position(&added.field).is_some() {
                values.push(added_value(added, envelope, value));
            }
        }
        values
    }

    fn route(
        &self,
        record: &mut Record<'_>,
        schema: &Schema,
        row: &Datum<'_>,
        deleted: bool,
    ) -> Result<(), String> {
        let Some(column) = &self.route else { return Ok(()) };
        let (field, value) =
            edit::get(schema, row, column).ok_or_else(|| format!("{column} is not a valid field name"))?;
        if field.kind != Kind::String {
            return Err(format!("field {column} is not of type STRING"));
        }
        // only a rewritten row has its defaults by now
        let defaults = self.rewrites() && !deleted && self.replace_nulls;
        let value = match &field.default {
            Some(default) if defaults && value.is_null() => default.as_str(),
            _ => value.as_str(),
        };
        if let Some(topic) = value.filter(|t| !t.trim().is_empty()) {
            topic.clone_into(&mut record.topic);
        }
        Ok(())
    }

    fn drop_fields(&mut self, record: &mut Record<'_>) {
        let Some(header) = &self.drop_header else { return };
        let Some(header) = record.headers.iter().find(|h| h.name == *header) else { return };
        let Datum::Array(items) = &header.value else { return };
        let names: Vec<String> = items.iter().filter_map(|d| d.as_str().map(str::to_owned)).collect();
        if names.is_empty() {
            return;
        }
        let words = names.join("\u{0}");
        for key in [true, false] {
            if key && !self.drop_from_key {
                continue;
            }
            let (schema, value) = edit::take_side(record, key);
            let (Some(schema), Datum::Struct(mut values)) = (schema.clone(), value.clone()) else {
                edit::set_side(record, key, schema, value);
                continue;
            };
            let drops: Vec<bool> = schema
                .fields()
                .iter()
                .map(|f| names.contains(&f.name) && (f.schema.optional || !self.keep_compatible))
                .collect();
            if self.keep_compatible && !drops.contains(&true) {
                edit::set_side(record, key, Some(schema), Datum::Struct(values));
                continue;
            }
            edit::defaults(&schema, &mut values, true);
            let kept = self.dropped.get(&schema, &words, |schema| {
                let fields = schema.fields().iter().zip(&drops).filter(|(_, d)| !**d).map(|(f, _)| f.clone());
                Arc::new(Schema {
                    optional: false,
                    default: None,
                    ..edit::with_fields(schema, fields.collect())
                })
            });
            let values = values.into_iter().zip(&drops).filter(|(_, d)| !**d).map(|(v, _)| v).collect();
            edit::set_side(record, key, Some(kept), Datum::Struct(values));
        }
    }

    /// A record without value: only one of the modes keeps it.
    fn tombstone<'a>(&self, mut record: Record<'a>) -> Option<Record<'a>> {
        if self.deletes != Deletes::RewriteWithTombstone {
            return None;
        }
        for added in self.headers.iter().filter(|a| a.field == "op") {
            let schema = Some(Arc::new(Schema::new(Kind::String)));
            record.headers.push(Header { name: added.name.clone().into(), schema, value: Datum::str("d") });
        }
        Some(record)
    }
}

impl Transform for Unwrap {
    fn headers(&self) -> super::Headers {
        super::Headers::AddedThenCopied
    }

    fn flattening(&self, value: &JsonOptions) -> Option<Flattening> {
        // the defaults that this fills in are those that the converter fills in
        let same_nulls = !self.rewrites() || !self.replace_nulls || value.replace_null_with_default;
        // a delete's headers show in its tombstone
        let apart = self.headers.is_empty() || self.deletes != Deletes::RewriteWithTombstone;
        (same_nulls && apart && self.route.is_none() && self.drop_header.is_none()).then(|| Flattening {
            deletes: self.deletes,
            fields: self.fields.clone(),
            headers: self.headers.clone(),
        })
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if record.value.is_null() {
            return Ok(self.tombstone(record));
        }
        let Some(schema) = record.value_schema.clone().filter(|s| edit::is_envelope(s)) else {
            return Ok(Some(record));
        };
        let mut value = std::mem::replace(&mut record.value, Datum::Null);
        self.add_headers(&mut record, &schema, &value)?;
        let unknown = |name: &str| format!("the event has no field {name}");
        let after_at = schema.position("after").ok_or_else(|| unknown("after"))?;
        let before_at = schema.position("before").ok_or_else(|| unknown("before"))?;
        let Datum::Struct(blocks) = &mut value else { return Err("the value is no struct".into()) };
        let take = |blocks: &mut Vec<Datum<'a>>, at: usize| {
            blocks.get_mut(at).map_or(Datum::Null, |b| std::mem::replace(b, Datum::Null))
        };
        let after = take(blocks, after_at);
        let deleted = after.is_null();
        let (at, row) = if deleted { (before_at, take(blocks, before_at)) } else { (after_at, after) };
        let Some(row_schema) = schema.fields().get(at).map(|f| Arc::clone(&f.schema)) else {
            return Ok(None);
        };
        // neither row: a truncate
        if row.is_null() || (deleted && self.deletes == Deletes::Drop) {
            return Ok(None);
        }
        self.route(&mut record, &row_schema, &row, deleted)?;
        if deleted && !self.rewrites() {
            record.value_schema = match self.deletes {
                Deletes::DeleteToTombstone => None,
                _ => schema.fields().get(after_at).map(|f| Arc::clone(&f.schema)),
            };
            return Ok(Some(record));
        }
        let Datum::Struct(row) = row else { return Err("the row is no struct".into()) };
        let new_schema = self.row_schema(&schema, &row_schema)?;
        let values = self.row_values((&schema, &value), &row_schema, row, deleted);
        record.value_schema = Some(new_schema);
        record.value = Datum::Struct(values);
        self.drop_fields(&mut record);
        Ok(Some(record))
    }
}
