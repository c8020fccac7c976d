//! Kafka's transforms between a struct and its fields: `HoistField`, `ExtractField`, `ValueToKey`.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// `HoistField`: wraps in a struct of one field.
pub(super) struct HoistField {
    key: bool,
    name: String,
    schemas: Derived<Arc<Schema>>,
}

impl HoistField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        Ok(Self { key, name: own.required("field")?.to_owned(), schemas: Derived::new() })
    }
}

impl Transform for HoistField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, value) = edit::take_side(&mut record, self.key);
        let Some(schema) = schema else { return Ok(Some(record)) };
        let name = &self.name;
        let inner = Arc::clone(&schema);
        let hoisted = self.schemas.get(&schema, "", |_| {
            Arc::new(Schema::new(Kind::Struct(vec![Field { name: name.clone(), schema: inner }])))
        });
        edit::set_side(&mut record, self.key, Some(hoisted), Datum::Struct(vec![value]));
        Ok(Some(record))
    }
}

/// `ExtractField`: one field instead of its struct.
pub(super) struct ExtractField {
    key: bool,
    path: Vec<String>,
    replace_nulls: bool,
}

impl ExtractField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let field = own.required("field")?;
        let nested = own.choice("field.syntax.version", false, &[("V1", false), ("V2", true)])?;
        let path =
            if nested { field.split('.').map(str::to_owned).collect() } else { vec![field.to_owned()] };
        Ok(Self { key, path, replace_nulls: own.flag("replace.null.with.default", true)? })
    }
}

impl Transform for ExtractField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, mut value) = edit::take_side(&mut record, self.key);
        let Some(mut schema) = schema else { return Ok(Some(record)) };
        for name in &self.path {
            let at = schema.position(name).ok_or_else(|| format!("unknown field: {name}"))?;
            let Some(field) = schema.fields().get(at).map(|f| Arc::clone(&f.schema)) else { continue };
            value = match value {
                Datum::Struct(mut values) if at < values.len() => values.swap_remove(at),
                _ => Datum::Null,
            };
            schema = field;
        }
        if let (true, true, Some(default)) = (value.is_null(), self.replace_nulls, &schema.default) {
            value = default.clone();
        }
        edit::set_side(&mut record, self.key, Some(schema), value);
        Ok(Some(record))
    }
}

/// A key's schema and the positions of its fields in the value, or the field the value does not have.
type KeyOf = Result<(Arc<Schema>, Arc<Vec<usize>>), String>;

/// `ValueToKey`: fields of the value as key.
pub(super) struct ValueToKey {
    fields: Vec<String>,
    schemas: Derived<KeyOf>,
}

impl ValueToKey {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("fields")?;
        Ok(Self { fields: own.list("fields"), schemas: Derived::new() })
    }
}

impl Transform for ValueToKey {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (Some(schema), Datum::Struct(values)) = (&record.value_schema, &record.value) else {
            return Err("the value is not a struct".into());
        };
        let names = &self.fields;
        let (key_schema, at) = self.schemas.get(schema, "", |schema| {
            let mut fields = Vec::new();
            let mut at = Vec::new();
            for name in names {
                let Some(i) = schema.position(name) else {
                    return Err(format!("field does not exist: {name}"));
                };
                fields.extend(schema.fields().get(i).cloned());
                at.push(i);
            }
            Ok((Arc::new(Schema::new(Kind::Struct(fields))), Arc::new(at)))
        })?;
        let key = at.iter().map(|i| values.get(*i).cloned().unwrap_or(Datum::Null)).collect();
        record.key = Datum::Struct(key);
        record.key_schema = Some(key_schema);
        Ok(Some(record))
    }
}
