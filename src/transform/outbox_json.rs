//! JSON text to a struct with a schema inferred from it, as Debezium's `JsonSchemaData` infers it.

use std::sync::Arc;

use serde_json::Value;

use crate::event::datum::Datum;
use crate::event::schema::{Field, Kind, Schema};

/// The schema of a JSON value; `None` where it has none (a null that is left out). `name` is that of a struct.
pub(super) fn schema(json: &Value, name: Option<&str>, keep_nulls: bool) -> Option<Schema> {
    Some(
        match json {
            Value::Null if keep_nulls => Schema::new(Kind::Bytes),
            Value::Null => return None,
            Value::Bool(_) => Schema::new(Kind::Boolean),
            Value::Number(n) => match n.as_i64() {
                Some(n) if i32::try_from(n).is_ok() => Schema::new(Kind::Int32),
                Some(_) => Schema::new(Kind::Int64),
                None => Schema::new(Kind::Float64),
            },
            Value::String(_) => Schema::new(Kind::String),
            Value::Array(items) => {
                let mut element: Option<Schema> = None;
                for item in items {
                    let Some(next) = schema(item, name, false) else { continue };
                    element = Some(match element {
                        Some(before) => merge(before, next),
                        None => next,
                    });
                }
                match element {
                    Some(element) => Schema::array(element),
                    None if keep_nulls => Schema::array(Schema::new(Kind::Bytes).optional()),
                    None => return None,
                }
            }
            Value::Object(map) => {
                let mut fields = Vec::new();
                for (key, value) in map {
                    let nested = name.map_or_else(|| key.clone(), |n| format!("{n}.{key}"));
                    if let Some(schema) = schema(value, Some(&nested), keep_nulls) {
                        fields.push(Field { name: key.clone(), schema: Arc::new(schema) });
                    }
                }
                let schema = Schema::new(Kind::Struct(fields));
                match name {
                    Some(name) => schema.titled(name),
                    None => schema,
                }
            }
        }
        .optional(),
    )
}

/// The schema that holds elements of both: structs get the fields of both.
fn merge(a: Schema, b: Schema) -> Schema {
    match (&a.kind, &b.kind) {
        (Kind::Struct(left), Kind::Struct(right)) => {
            let mut fields = left.clone();
            for f in right {
                if !fields.iter().any(|g| g.name == f.name) {
                    fields.push(f.clone());
                }
            }
            Schema { kind: Kind::Struct(fields), ..a }
        }
        (Kind::Int32, Kind::Int64 | Kind::Float64) | (Kind::Int64, Kind::Float64) => b,
        _ => a,
    }
}

/// The value under its schema; fields of the schema that are missing are null.
pub(super) fn value(json: &Value, schema: &Schema) -> Datum<'static> {
    match (&schema.kind, json) {
        (_, Value::Null) => Datum::Null,
        (Kind::Boolean, Value::Bool(b)) => Datum::Bool(*b),
        (Kind::Int32 | Kind::Int64, Value::Number(n)) => n.as_i64().map_or(Datum::Null, Datum::Int),
        (Kind::Float64, Value::Number(n)) => n.as_f64().map_or(Datum::Null, Datum::F64),
        (Kind::String, Value::String(s)) => Datum::string(s.as_str()),
        (Kind::Array(element), Value::Array(items)) => {
            Datum::Array(items.iter().map(|i| value(i, element)).collect())
        }
        (Kind::Struct(fields), Value::Object(map)) => Datum::Struct(
            fields.iter().map(|f| map.get(&f.name).map_or(Datum::Null, |v| value(v, &f.schema))).collect(),
        ),
        _ => Datum::Null,
    }
}
