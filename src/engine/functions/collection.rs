//! Functions on arrays, maps and rows.

use std::cmp::Ordering;
use std::sync::Arc;

use super::super::error::EvalError;
use super::super::row::Value;
use super::{Call, Scalar, arithmetic};

pub(super) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    Some(match name {
        "ARRAY" => (|call| Ok(Value::Array(call.args.into())), false),
        "ROW" => (|call| Ok(Value::Row(call.args.into())), false),
        "MAP" => (map, false),
        "ITEM" => (item, true),
        "CARDINALITY" => (cardinality, true),
        "ELEMENT" => (element, true),
        "ARRAY_CONTAINS" => {
            (|call| on_array(call, |items| Value::Bool(items.iter().any(|v| same(v, call.arg(1))))), false)
        }
        "ARRAY_POSITION" => (
            |call| {
                on_array(call, |items| {
                    if call.arg(1).is_null() {
                        return Value::Null;
                    }
                    let at = items.iter().position(|value| same(value, call.arg(1))).map_or(0, |at| at + 1);
                    Value::Int(i64::try_from(at).unwrap_or(0))
                })
            },
            false,
        ),
        "ARRAY_REMOVE" => (
            |call| {
                on_array(call, |items| array(items.iter().filter(|value| !same(value, call.arg(1))).cloned()))
            },
            false,
        ),
        "ARRAY_APPEND" => {
            (|call| on_array(call, |items| array(items.iter().chain([call.arg(1)]).cloned())), false)
        }
        "ARRAY_PREPEND" => {
            (|call| on_array(call, |items| array([call.arg(1)].into_iter().chain(items).cloned())), false)
        }
        "ARRAY_DISTINCT" => (|call| on_array(call, |items| distinct(items.iter())), true),
        "ARRAY_REVERSE" => (|call| on_array(call, |items| array(items.iter().rev().cloned())), true),
        "ARRAY_SORT" => (sort, true),
        "ARRAY_JOIN" => (join, true),
        "ARRAY_MAX" => (|call| on_array(call, |items| extreme(items, Ordering::Greater)), true),
        "ARRAY_MIN" => (|call| on_array(call, |items| extreme(items, Ordering::Less)), true),
        "ARRAY_CONCAT" => (
            |call| {
                let parts = (0..call.args.len()).map(|at| items(call, at)).collect::<Result<Vec<_>, _>>()?;
                Ok(array(parts.into_iter().flatten().cloned()))
            },
            true,
        ),
        "ARRAY_SLICE" => (slice, true),
        "ARRAY_UNION" => (|call| Ok(distinct(items(call, 0)?.iter().chain(items(call, 1)?))), true),
        "ARRAY_EXCEPT" => (|call| except(call, false), true),
        "ARRAY_INTERSECT" => (|call| except(call, true), true),
        "MAP_KEYS" => (|call| Ok(array(entries(call, 0)?.iter().map(|(key, _)| key.clone()))), true),
        "MAP_VALUES" => (|call| Ok(array(entries(call, 0)?.iter().map(|(_, value)| value.clone()))), true),
        "MAP_ENTRIES" => (
            |call| {
                let row = |(key, value): &(Value, Value)| Value::Row(Arc::from([key.clone(), value.clone()]));
                Ok(array(entries(call, 0)?.iter().map(row)))
            },
            true,
        ),
        "MAP_FROM_ARRAYS" => (from_arrays, true),
        "MAP_UNION" => (union, true),
        _ => return None,
    })
}

fn items<'a>(call: &Call<'a>, at: usize) -> Result<&'a [Value], EvalError> {
    match call.arg(at) {
        Value::Array(items) | Value::Row(items) => Ok(items),
        _ => Err(EvalError::new(format!("argument {} is not an array", at + 1))),
    }
}

fn entries<'a>(call: &Call<'a>, at: usize) -> Result<&'a [(Value, Value)], EvalError> {
    match call.arg(at) {
        Value::Map(entries) => Ok(entries),
        _ => Err(EvalError::new(format!("argument {} is not a map", at + 1))),
    }
}

fn on_array(call: &Call<'_>, function: impl FnOnce(&[Value]) -> Value) -> Result<Value, EvalError> {
    if call.arg(0).is_null() { Ok(Value::Null) } else { Ok(function(items(call, 0)?)) }
}

fn array(items: impl Iterator<Item = Value>) -> Value {
    Value::Array(items.collect())
}

/// Equality where NULL equals NULL.
fn same(left: &Value, right: &Value) -> bool {
    arithmetic::compare_nulls_first(left, right).is_eq()
}

fn put(entries: &mut Vec<(Value, Value)>, key: &Value, value: &Value) {
    match entries.iter_mut().find(|entry| same(&entry.0, key)) {
        Some(entry) => entry.1 = value.clone(),
        None => entries.push((key.clone(), value.clone())),
    }
}

fn map(call: &Call<'_>) -> Result<Value, EvalError> {
    let mut entries = Vec::with_capacity(call.args.len() / 2);
    for pair in call.args.chunks_exact(2) {
        if let [key, value] = pair {
            put(&mut entries, key, value);
        }
    }
    Ok(Value::Map(entries.into()))
}

fn item(call: &Call<'_>) -> Result<Value, EvalError> {
    Ok(match call.arg(0) {
        Value::Array(items) => {
            let at = call.int(1)?;
            usize::try_from(at - 1).ok().and_then(|at| items.get(at)).cloned().unwrap_or(Value::Null)
        }
        Value::Map(entries) => entries
            .iter()
            .find(|entry| same(&entry.0, call.arg(1)))
            .map_or(Value::Null, |entry| entry.1.clone()),
        Value::Row(fields) => usize::try_from(call.int(1)? - 1)
            .ok()
            .and_then(|at| fields.get(at))
            .cloned()
            .unwrap_or(Value::Null),
        _ => return Err(EvalError::new("[] takes an array or a map")),
    })
}

fn cardinality(call: &Call<'_>) -> Result<Value, EvalError> {
    let len = match call.arg(0) {
        Value::Map(entries) => entries.len(),
        _ => items(call, 0)?.len(),
    };
    Ok(Value::Int(i64::try_from(len).unwrap_or(i64::MAX)))
}

fn element(call: &Call<'_>) -> Result<Value, EvalError> {
    match items(call, 0)? {
        [] => Ok(Value::Null),
        [only] => Ok(only.clone()),
        _ => Err(EvalError::new("Array has more than one element.")),
    }
}

fn distinct<'a>(items: impl Iterator<Item = &'a Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for item in items {
        if !kept.iter().any(|known| same(known, item)) {
            kept.push(item.clone());
        }
    }
    Value::Array(kept.into())
}

fn except(call: &Call<'_>, intersect: bool) -> Result<Value, EvalError> {
    let other = items(call, 1)?;
    let kept = items(call, 0)?.iter().filter(|item| other.iter().any(|known| same(known, item)) == intersect);
    Ok(distinct(kept))
}

fn extreme(items: &[Value], wanted: Ordering) -> Value {
    let mut best = &Value::Null;
    for item in items.iter().filter(|item| !item.is_null()) {
        if best.is_null() || arithmetic::compare(item, best) == Some(wanted) {
            best = item;
        }
    }
    best.clone()
}

fn sort(call: &Call<'_>) -> Result<Value, EvalError> {
    let ascending = !matches!(call.arg(1), Value::Bool(false));
    let nulls_first = if let Value::Bool(first) = call.arg(2) { *first } else { ascending };
    let mut sorted = items(call, 0)?.to_vec();
    sorted.sort_by(|left, right| match (left.is_null(), right.is_null()) {
        (false, false) => {
            let order = arithmetic::compare_nulls_first(left, right);
            if ascending { order } else { order.reverse() }
        }
        (left, right) => {
            if nulls_first {
                right.cmp(&left)
            } else {
                left.cmp(&right)
            }
        }
    });
    Ok(Value::Array(sorted.into()))
}

fn join(call: &Call<'_>) -> Result<Value, EvalError> {
    let separator = call.str(1)?;
    let null = call.args.get(2).and_then(Value::as_str);
    let parts: Vec<&str> =
        items(call, 0)?.iter().filter_map(|item| if item.is_null() { null } else { item.as_str() }).collect();
    Ok(Value::from(parts.join(separator)))
}

fn slice(call: &Call<'_>) -> Result<Value, EvalError> {
    let items = items(call, 0)?;
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    let from_end = |position: i64| match position {
        0 => 1,
        1.. => position,
        _ => len + position + 1,
    };
    let start = from_end(call.int(1)?).max(1);
    let end = if call.args.len() > 2 { from_end(call.int(2)?) } else { len }.min(len);
    let range = usize::try_from(start - 1).unwrap_or(0)..usize::try_from(end).unwrap_or(0);
    Ok(Value::Array(items.get(range).unwrap_or_default().into()))
}

fn from_arrays(call: &Call<'_>) -> Result<Value, EvalError> {
    let (keys, values) = (items(call, 0)?, items(call, 1)?);
    if keys.len() != values.len() {
        return Err(EvalError::new(
            "Invalid function MAP_FROM_ARRAYS call: the lengths of the arrays are not the same",
        ));
    }
    let mut entries = Vec::with_capacity(keys.len());
    keys.iter().zip(values).for_each(|(key, value)| put(&mut entries, key, value));
    Ok(Value::Map(entries.into()))
}

fn union(call: &Call<'_>) -> Result<Value, EvalError> {
    let mut merged = Vec::new();
    for at in 0..call.args.len() {
        entries(call, at)?.iter().for_each(|(key, value)| put(&mut merged, key, value));
    }
    Ok(Value::Map(merged.into()))
}
