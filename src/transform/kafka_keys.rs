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
        let name = &self.name;
        let Some(schema) = schema else {
            // without a schema it becomes a map
            let map = Datum::Map(vec![(Datum::string(name.as_str()), value)]);
            edit::set_side(&mut record, self.key, None, map);
            return Ok(Some(record));
        };
        let hoisted = self.schemas.get(&schema, "", |s| {
            let inner = Arc::new(s.clone());
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

/// The steps of a path: `a.b`, with backticks around a step that has dots in it. `None` for a backtick too few.
fn steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let Some(quoted) = rest.strip_prefix('`') else {
            let Some((step, after)) = rest.split_once('.') else {
                steps.push(rest.to_owned());
                return Some(steps);
            };
            steps.push(step.to_owned());
            rest = after;
            continue;
        };
        let mut step = String::new();
        let mut from = quoted;
        loop {
            let at = from.find('`')?;
            let (before, after) = (from.get(..at)?, from.get(at + 1..)?);
            let escaped = before.ends_with('\\');
            if after.is_empty() {
                if escaped {
                    return None;
                }
                step.push_str(before);
                steps.push(step);
                return Some(steps);
            }
            if !after.starts_with('.') {
                step.push_str(before);
                step.push('`');
            } else if escaped {
                step.push_str(before.strip_suffix('\\').unwrap_or(before));
                step.push('`');
            } else {
                step.push_str(before);
                steps.push(step);
                rest = after.strip_prefix('.').unwrap_or(after);
                break;
            }
            from = after;
        }
    }
}

impl ExtractField {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let field = own.required("field")?;
        let nested = own.choice("field.syntax.version", false, &[("V1", false), ("V2", true)])?;
        let path = if nested {
            steps(field).ok_or_else(|| own.error("field", "a path whose backticks come in pairs"))?
        } else {
            vec![field.to_owned()]
        };
        Ok(Self { key, path, replace_nulls: own.flag("replace.null.with.default", true)? })
    }
}

impl Transform for ExtractField {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (schema, mut value) = edit::take_side(&mut record, self.key);
        let Some(mut schema) = schema else {
            if value.is_null() {
                return Ok(Some(record));
            }
            return Err("a value without a schema has no fields".into());
        };
        let mut steps = self.path.iter().peekable();
        while let Some(name) = steps.next() {
            let at =
                schema.position(name).ok_or_else(|| format!("unknown field: {}", self.path.join(".")))?;
            let Some(field) = schema.fields().get(at).map(|f| Arc::clone(&f.schema)) else { continue };
            value = match value {
                Datum::Struct(mut values) if at < values.len() => {
                    let value = values.swap_remove(at);
                    let replace = self.replace_nulls || steps.peek().is_some();
                    if replace { edit::or_default(&field, value) } else { value }
                }
                _ => Datum::Null,
            };
            schema = field;
        }
        edit::set_side(&mut record, self.key, Some(schema), value);
        Ok(Some(record))
    }
}

/// A key's schema and the positions of its fields in the value.
type KeyOf = (Arc<Schema>, Arc<Vec<usize>>);

/// `ValueToKey`: fields of the value as key.
pub(super) struct ValueToKey {
    fields: Vec<String>,
    replace_nulls: bool,
    schemas: Derived<KeyOf>,
}

impl ValueToKey {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        own.required("fields")?;
        let replace_nulls = own.flag("replace.null.with.default", true)?;
        Ok(Self { fields: own.distinct("fields")?, replace_nulls, schemas: Derived::new() })
    }
}

impl Transform for ValueToKey {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let (Some(schema), Datum::Struct(values)) = (&record.value_schema, &record.value) else {
            return Err("the value must be a struct to copy fields from it to the key".into());
        };
        let names = &self.fields;
        let (key_schema, at) = self.schemas.try_get(schema, "", |schema| {
            let mut fields = Vec::new();
            let mut at = Vec::new();
            for name in names {
                let i = schema.position(name).ok_or_else(|| format!("field does not exist: {name}"))?;
                fields.extend(schema.fields().get(i).cloned());
                at.push(i);
            }
            Ok((Arc::new(Schema::new(Kind::Struct(fields))), Arc::new(at)))
        })?;
        let mut key: Vec<_> = at.iter().map(|i| values.get(*i).cloned().unwrap_or(Datum::Null)).collect();
        edit::defaults(&key_schema, &mut key, self.replace_nulls);
        record.key = Datum::Struct(key);
        record.key_schema = Some(key_schema);
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_with_backticks() {
        for (path, wanted) in [
            ("a.b", Some(vec!["a", "b"])),
            ("`a.b`.c", Some(vec!["a.b", "c"])),
            ("`a`.`b`", Some(vec!["a", "b"])),
            ("a.", Some(vec!["a", ""])),
            ("`a", None),
        ] {
            let wanted = wanted.map(|w| w.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(steps(path), wanted, "{path}");
        }
    }
}
