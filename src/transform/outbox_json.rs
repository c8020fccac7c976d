//! JSON text to a struct with a schema inferred from it, as Debezium's `JsonSchemaData` infers it.

use std::sync::Arc;

use serde_json::Value;

use crate::event::datum::Datum;
use crate::event::names;
use crate::event::options::Adjustment;
use crate::event::schema::{Field, Kind, Schema};

/// How schemas are inferred.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inference {
    /// A null becomes a field of optional bytes; otherwise it is left out.
    pub(super) keep_nulls: bool,
    /// What becomes of field names.
    pub(super) adjustment: Adjustment,
}

impl Inference {
    /// The schema of a JSON value; `None` where it has none (a null that is left out, an empty array). `name` is that
    /// of a struct.
    ///
    /// # Errors
    /// Where the elements of an array do not have one type.
    pub(super) fn schema(self, json: &Value, name: Option<&str>) -> Result<Option<Schema>, String> {
        let schema = match json {
            Value::Null if self.keep_nulls => Schema::new(Kind::Bytes),
            Value::Null => return Ok(None),
            Value::Bool(_) => Schema::new(Kind::Boolean),
            Value::Number(n) => Schema::new(match n.as_i64() {
                Some(n) if i32::try_from(n).is_ok() => Kind::Int32,
                Some(_) => Kind::Int64,
                None => Kind::Float64,
            }),
            Value::String(_) => Schema::new(Kind::String),
            Value::Array(items) if items.is_empty() => return Ok(None),
            Value::Array(items) => Schema::array(self.element(items, name)?),
            Value::Object(map) => {
                let mut fields: Vec<Field> = Vec::new();
                for (key, value) in map {
                    let key = names::adjust_field(key, self.adjustment);
                    let nested = match name {
                        Some(name) if !name.trim().is_empty() => format!("{name}.{key}"),
                        _ => key.clone(),
                    };
                    let schema = self.schema(value, Some(&nested))?;
                    if let Some(schema) = schema.filter(|_| !fields.iter().any(|f| f.name == key)) {
                        fields.push(Field { name: key, schema: Arc::new(schema) });
                    }
                }
                let schema = Schema::new(Kind::Struct(fields));
                match name {
                    Some(name) => schema.titled(name),
                    None => schema,
                }
            }
        };
        Ok(Some(schema.optional()))
    }

    /// The schema of all elements of an array.
    fn element(self, items: &[Value], name: Option<&str>) -> Result<Schema, String> {
        let sample = items.iter().find(|i| !i.is_null()).unwrap_or(&Value::Null);
        for item in items.iter().filter(|i| !i.is_null()) {
            let numbers = sample.is_number() && self.schema(sample, None)? != self.schema(item, None)?;
            if std::mem::discriminant(sample) != std::mem::discriminant(item) || numbers {
                return Err("an array whose elements have different types".into());
            }
        }
        if !sample.is_object() {
            return self
                .schema(sample, None)?
                .ok_or_else(|| "an array of elements without a type".to_owned());
        }
        let mut merged: Option<Schema> = None;
        for item in items.iter().filter(|i| i.is_object()) {
            let Some(next) = self.schema(item, name)? else { continue };
            merged = Some(match merged {
                Some(before) if before.kind == next.kind => before,
                Some(before) => merge(before, &next),
                None => next,
            });
        }
        merged.ok_or_else(|| "an array of elements without a type".to_owned())
    }
}

/// The schema with the fields of both structs. It is not optional any more, as Debezium makes it.
fn merge(mut a: Schema, b: &Schema) -> Schema {
    let mut fields = a.fields().to_vec();
    for f in b.fields() {
        match fields.iter_mut().find(|g| g.name == f.name) {
            None => fields.push(f.clone()),
            // what was only null so far
            Some(g) if g.schema.kind == Kind::Bytes => g.schema = Arc::clone(&f.schema),
            Some(_) => {}
        }
    }
    a.kind = Kind::Struct(fields);
    a.optional = false;
    a
}

/// The value under its schema; fields of the schema that are missing are null. `None` where it does not fit.
pub(super) fn value(json: &Value, schema: &Schema) -> Option<Datum<'static>> {
    Some(match (&schema.kind, json) {
        (_, Value::Null) => Datum::Null,
        (Kind::Boolean, Value::Bool(b)) => Datum::Bool(*b),
        (Kind::Int32, Value::Number(n)) => Datum::Int(n.as_i64().filter(|n| i32::try_from(*n).is_ok())?),
        (Kind::Int64, Value::Number(n)) => Datum::Int(n.as_i64().filter(|n| i32::try_from(*n).is_err())?),
        // whole numbers beyond 64 bits are no doubles to Jackson
        (Kind::Float64, Value::Number(n)) if n.is_f64() => Datum::F64(n.as_f64()?),
        (Kind::String, Value::String(s)) => Datum::string(s.as_str()),
        (Kind::Array(element), Value::Array(items)) => {
            Datum::Array(items.iter().map(|i| value(i, element)).collect::<Option<_>>()?)
        }
        (Kind::Struct(fields), Value::Object(map)) => {
            let field = |f: &Field| map.get(&f.name).map_or(Some(Datum::Null), |v| value(v, &f.schema));
            Datum::Struct(fields.iter().map(field).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}
