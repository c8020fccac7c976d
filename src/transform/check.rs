//! What Kafka Connect's converters refuse: nulls where the schema wants a value, values of another type.

use crate::event::datum::Datum;
use crate::event::schema::{Kind, Schema};

/// Whether a value fits its schema; `defaults` says whether a null stands for the default.
///
/// # Errors
/// With the path of the first field that does not fit.
pub(super) fn check(schema: &Schema, datum: &Datum<'_>, defaults: bool) -> Result<(), String> {
    fits(schema, datum, defaults).map_err(|mut wrong| {
        wrong.path.reverse();
        match wrong.path.is_empty() {
            true => wrong.what.to_owned(),
            false => format!("field {}: {}", wrong.path.join("."), wrong.what),
        }
    })
}

struct Wrong {
    /// Innermost first.
    path: Vec<String>,
    what: &'static str,
}

fn fits(schema: &Schema, datum: &Datum<'_>, defaults: bool) -> Result<(), Wrong> {
    let wrong = |what| Err(Wrong { path: Vec::new(), what });
    match (&schema.kind, datum) {
        (_, Datum::Null) => {
            let replaced = defaults && schema.default.as_ref().is_some_and(|d| !d.is_null());
            if schema.optional || replaced {
                return Ok(());
            }
            wrong("null value for a field that is required and has no default value")
        }
        (Kind::Struct(fields), Datum::Struct(values)) => {
            for (i, field) in fields.iter().enumerate() {
                fits(&field.schema, values.get(i).unwrap_or(&Datum::Null), defaults).map_err(|mut e| {
                    e.path.push(field.name.clone());
                    e
                })?;
            }
            Ok(())
        }
        (Kind::Array(element), Datum::Array(items)) => {
            items.iter().try_for_each(|item| fits(element, item, defaults))
        }
        (Kind::Map(keys, values), Datum::Map(pairs)) => pairs
            .iter()
            .try_for_each(|(k, v)| fits(keys, k, defaults).and_then(|()| fits(values, v, defaults))),
        (Kind::Boolean, Datum::Bool(_))
        | (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, Datum::Int(_))
        | (Kind::Float32, Datum::F32(_))
        | (Kind::Float64, Datum::F64(_))
        | (Kind::String, Datum::Str(_) | Datum::Text(_))
        | (Kind::Bytes, Datum::Bytes(_) | Datum::Short(_) | Datum::Hex(_)) => Ok(()),
        _ => wrong("a value of another type than its schema's"),
    }
}
