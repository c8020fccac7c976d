//! `io.debezium.transforms.ExtractChangedRecordState`: names of changed and unchanged columns as headers.

use std::sync::Arc;

use super::config::Options;
use super::edit;
use super::{Transform, Transformed};
use crate::event::datum::Datum;
use crate::event::record::{Header, Record};
use crate::event::schema::{Kind, Schema};

pub(super) struct ChangedRecordState {
    changed: Option<(String, Arc<Schema>)>,
    unchanged: Option<(String, Arc<Schema>)>,
}

impl ChangedRecordState {
    pub(super) fn new(own: &Options<'_>) -> Self {
        let header = |name: &str| {
            own.get(name).filter(|n| !n.is_empty()).map(|n| {
                let schema = Schema::array(Schema::new(Kind::String).optional()).optional().titled(n);
                (n.to_owned(), Arc::new(schema))
            })
        };
        Self { changed: header("header.changed.name"), unchanged: header("header.unchanged.name") }
    }
}

impl Transform for ChangedRecordState {
    fn headers(&self) -> super::Headers {
        super::Headers::Added
    }

    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.as_ref().filter(|s| edit::is_envelope(s)) else {
            return Ok(Some(record));
        };
        if record.value.is_null() {
            return Ok(Some(record));
        }
        let (mut changed, mut unchanged) = (Vec::new(), Vec::new());
        let row = |name: &str| edit::get(schema, &record.value, name);
        if let (Some((row, Datum::Struct(before))), Some((_, Datum::Struct(after)))) =
            (row("before"), row("after"))
        {
            for (field, (old, new)) in row.fields().iter().zip(before.iter().zip(after)) {
                let list = if same(old, new) { &mut unchanged } else { &mut changed };
                list.push(Datum::string(field.name.as_str()));
            }
        }
        for (header, names) in [(&self.changed, changed), (&self.unchanged, unchanged)] {
            if let Some((name, schema)) = header {
                record.headers.push(Header {
                    name: name.clone().into(),
                    schema: Some(Arc::clone(schema)),
                    value: Datum::Array(names),
                });
            }
        }
        Ok(Some(record))
    }
}

/// Whether two values are equal, however they are held.
fn same(a: &Datum<'_>, b: &Datum<'_>) -> bool {
    match (a, b) {
        (Datum::Array(a), Datum::Array(b)) | (Datum::Struct(a), Datum::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Datum::Map(a), Datum::Map(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
        }
        _ => match (a.as_str(), b.as_str(), a.to_bytes(), b.to_bytes()) {
            (Some(a), Some(b), ..) => a == b,
            (_, _, Some(a), Some(b)) => a == b,
            _ => a == b,
        },
    }
}
