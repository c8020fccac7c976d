//! Kafka's `Flatten`: nested structs to one level.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Field, Kind, Schema};

/// `Flatten`.
pub(super) struct Flatten {
    key: bool,
    delimiter: String,
    schemas: Derived<Arc<Schema>>,
}

impl Flatten {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Self {
        Self { key, delimiter: own.text("delimiter", "."), schemas: Derived::new() }
    }

    fn fields(
        schema: &Schema,
        prefix: &str,
        delimiter: &str,
        optional: bool,
        out: &mut Vec<Field>,
    ) -> Result<(), String> {
        for f in schema.fields() {
            let name =
                if prefix.is_empty() { f.name.clone() } else { format!("{prefix}{delimiter}{}", f.name) };
            match f.schema.kind {
                Kind::Struct(_) => {
                    Self::fields(&f.schema, &name, delimiter, optional || f.schema.optional, out)?;
                }
                Kind::Map(..) => return Err(format!("Flatten does not support maps (field {name})")),
                _ => {
                    let mut schema = (*f.schema).clone();
                    schema.optional = schema.optional || optional;
                    out.push(edit::field(name, schema));
                }
            }
        }
        Ok(())
    }

    fn values<'a>(schema: &Schema, value: Datum<'a>, present: bool, out: &mut Vec<Datum<'a>>) {
        let mut values = match value {
            Datum::Struct(values) => values.into_iter(),
            _ => Vec::new().into_iter(),
        };
        for f in schema.fields() {
            let v = values.next().unwrap_or(Datum::Null);
            match f.schema.kind {
                Kind::Struct(_) => {
                    let there = !v.is_null();
                    Self::values(&f.schema, v, there, out);
                }
                _ if present => out.push(edit::or_default(&f.schema, v)),
                _ => out.push(Datum::Null),
            }
        }
    }
}

impl Transform for Flatten {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if edit::is_null(&record, self.key) {
            return Ok(Some(record));
        }
        let (schema, values) = edit::take_struct(&mut record, self.key)?;
        let delimiter = &self.delimiter;
        let flat = self.schemas.try_get(&schema, "", |schema| {
            let mut fields = Vec::new();
            Self::fields(schema, "", delimiter, schema.optional, &mut fields)?;
            Ok(Arc::new(edit::copied(schema, fields)?))
        })?;
        let mut out = Vec::new();
        Self::values(&schema, Datum::Struct(values), true, &mut out);
        edit::set_side(&mut record, self.key, Some(flat), Datum::Struct(out));
        Ok(Some(record))
    }
}
