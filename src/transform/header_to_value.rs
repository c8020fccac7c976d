//! `io.debezium.transforms.HeaderToValue`: headers as fields of the value.

use std::sync::Arc;

use super::config::Options;
use super::edit;
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

pub(super) struct HeaderToValue {
    pairs: Vec<(String, Vec<String>)>,
    remove: bool,
}

impl HeaderToValue {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("headers")?;
        own.required("fields")?;
        own.required("operation")?;
        let (headers, fields) = (own.names("headers"), own.names("fields"));
        for (name, list) in [("headers", &headers), ("fields", &fields)] {
            if list.iter().any(|n| n.is_empty() || n.contains(' ')) {
                return Err(own.error(name, "names without spaces, none of them empty"));
            }
        }
        if headers.len() != fields.len() {
            return Err(own.error("fields", "as many fields as headers"));
        }
        let remove = own.choice("operation", false, &[("move", true), ("copy", false)])?;
        let path = |f: String| f.split('.').map(str::to_owned).collect();
        Ok(Self { pairs: headers.into_iter().zip(fields.into_iter().map(path)).collect(), remove })
    }
}

/// A header's value and where it goes.
struct Entry<'e, 'a> {
    path: &'e [String],
    schema: Arc<Schema>,
    value: Datum<'a>,
}

/// The struct with the entries in it. A struct on the way that is not there becomes one of a single level.
fn insert<'a>(
    schema: &Schema,
    mut values: Vec<Datum<'a>>,
    entries: Vec<Entry<'_, 'a>>,
) -> Result<(Schema, Vec<Datum<'a>>), String> {
    edit::defaults(schema, &mut values, true);
    let mut fields = schema.fields().to_vec();
    let mut nested: Vec<(String, Vec<Entry<'_, 'a>>)> = Vec::new();
    for entry in entries {
        match entry.path {
            [] => {}
            [name] => match fields.iter().position(|f| f.name == *name) {
                Some(at) => {
                    let kind = fields.get(at).map(|f| &f.schema.kind);
                    if kind != Some(&entry.schema.kind) {
                        return Err(format!("field {name} exists and has another type than the header"));
                    }
                    if let Some(value) = values.get_mut(at) {
                        *value = entry.value;
                    }
                }
                None => {
                    fields.push(Field { name: name.clone(), schema: entry.schema });
                    values.push(entry.value);
                }
            },
            [first, rest @ ..] => {
                let entry = Entry { path: rest, ..entry };
                match nested.iter_mut().find(|(n, _)| n == first) {
                    Some((_, entries)) => entries.push(entry),
                    None => nested.push((first.clone(), vec![entry])),
                }
            }
        }
    }
    let mut parents = Vec::new();
    for (name, entries) in nested {
        let Some(at) = schema.position(&name) else {
            let (mut made, mut inner) = (Vec::new(), Vec::new());
            for entry in entries {
                let name = entry.path.first().cloned().unwrap_or_default();
                made.push(Field { name, schema: entry.schema });
                inner.push(entry.value);
            }
            let made = Schema::new(Kind::Struct(made)).optional();
            parents.push((Field { name, schema: Arc::new(made) }, Datum::Struct(inner)));
            continue;
        };
        let Some((field, value)) = fields.get_mut(at).zip(values.get_mut(at)) else { continue };
        if !matches!(field.schema.kind, Kind::Struct(_)) {
            return Err(format!("field {name} is no struct: nothing can be added to it"));
        }
        let (new_schema, new_value) = match std::mem::replace(value, Datum::Null) {
            Datum::Struct(inner) => {
                let (s, v) = insert(&field.schema, inner, entries)?;
                (s, Datum::Struct(v))
            }
            _ => (insert(&field.schema, Vec::new(), entries)?.0, Datum::Null),
        };
        field.schema = Arc::new(new_schema);
        *value = new_value;
    }
    for (field, value) in parents {
        fields.push(field);
        values.push(value);
    }
    Ok((edit::copied(schema, fields)?, values))
}

impl Transform for HeaderToValue {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if record.value.is_null() {
            return Ok(Some(record));
        }
        let mut entries = Vec::new();
        for header in &record.headers {
            let found = self.pairs.iter().find(|(name, _)| *name == header.name);
            if let (Some((_, path)), Some(schema)) = (found, &header.schema) {
                entries.push(Entry { path, schema: Arc::clone(schema), value: header.value.clone() });
            }
        }
        let (schema, values) = edit::take_struct(&mut record, false)?;
        if entries.is_empty() {
            edit::set_side(&mut record, false, Some(schema), Datum::Struct(values));
            return Ok(Some(record));
        }
        let (schema, values) = insert(&schema, values, entries)?;
        edit::set_side(&mut record, false, Some(Arc::new(schema)), Datum::Struct(values));
        if self.remove {
            record.headers.retain(|h| !self.pairs.iter().any(|(name, _)| *name == h.name));
        }
        Ok(Some(record))
    }
}
