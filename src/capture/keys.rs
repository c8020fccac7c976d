//! Keys of rows, as text: by them tables are read in chunks and ranges, and chunks are held against the stream.

use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::error::Result;
use crate::java::float;
use crate::pg::catalog::TableInfo;
use crate::pg::pgoutput::Column;
use crate::pg::snapshot::CopyDecoder;
use crate::pg::{Ident, Literal, Qualified};

const BOOL: u32 = 16;
const FLOAT4: u32 = 700;
const FLOAT8: u32 = 701;

/// Key of a row, as text by key column.
pub(super) type Key = Vec<Option<Vec<u8>>>;

/// The columns that put a table's rows in order.
#[derive(Clone, Debug)]
pub(super) struct KeyColumns {
    /// By their place among the table's columns.
    places: Vec<usize>,
    names: Vec<String>,
}

impl KeyColumns {
    /// Columns by name; `None` where one is missing, or there is none.
    pub(super) fn new(table: &TableInfo, names: &[String]) -> Option<Self> {
        let places: Option<Vec<usize>> =
            names.iter().map(|k| table.columns.iter().position(|c| c.name == *k)).collect();
        let places = places.filter(|p| !p.is_empty())?;
        Some(Self { places, names: names.to_vec() })
    }

    /// The table's own key, where every column of it is there in every row.
    pub(super) fn unique(table: &TableInfo) -> Option<Self> {
        let key = Self::new(table, &table.key)?;
        let filled = key.places.iter().all(|p| table.columns.get(*p).is_some_and(|c| !c.optional));
        filled.then_some(key)
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// `"a", "b"`, each with a suffix (` DESC`).
    pub(super) fn list(&self, suffix: &str) -> String {
        self.names.iter().map(|k| format!("{}{suffix}", Ident(k))).collect::<Vec<_>>().join(", ")
    }

    /// An SQL condition: the key (its first columns) compared with the same columns of `key`.
    pub(super) fn compare(&self, operator: &str, key: &Key) -> String {
        let columns: Vec<String> = self.names.iter().take(key.len()).map(|k| Ident(k).to_string()).collect();
        format!("ROW({}) {operator} {}", columns.join(", "), row_of(key))
    }

    /// Types of the columns.
    pub(super) fn types<'t>(&'t self, table: &'t TableInfo) -> impl Iterator<Item = u32> + 't {
        self.places.iter().filter_map(|p| table.columns.get(*p)).map(|c| c.type_oid)
    }

    /// The key in a line of COPY.
    pub(super) fn of_line(&self, decoder: &mut CopyDecoder, line: &[u8]) -> Result<Key> {
        let columns: SmallVec<[Column<'_>; 32]> = decoder.decode(line)?.iter().collect();
        Ok(self.places.iter().map(|i| columns.get(*i).and_then(text)).collect())
    }

    /// Their places in a row of these columns; `None` where one is missing. The stream may leave out columns that the
    /// table has, or have them in another order.
    pub(super) fn places_in(&self, columns: &[String]) -> Option<Vec<usize>> {
        self.names.iter().map(|key| columns.iter().position(|column| column == key)).collect()
    }
}

/// Whether a row has this key at these places.
pub(super) fn is_at(key: &Key, places: &[usize], columns: &[Column<'_>]) -> bool {
    places.iter().zip(key).all(|(place, value)| match (columns.get(*place), value) {
        (Some(Column::Text(bytes)), Some(value)) => bytes == value,
        (Some(Column::Null), None) => true,
        _ => false,
    })
}

/// All columns in the catalog's order.
pub(super) fn all_columns(table: &TableInfo) -> String {
    table.columns.iter().map(|c| Ident(&c.name).to_string()).collect::<Vec<_>>().join(", ")
}

/// The table's quoted name.
pub(super) fn name_of(table: &TableInfo) -> Qualified<'_> {
    Qualified::new(&table.schema, &table.name)
}

/// A key as an SQL row; the literals take the types of the columns they are compared with.
pub(super) fn row_of(key: &Key) -> String {
    let values: Vec<String> = key
        .iter()
        .map(|v| match v {
            None => "NULL".to_owned(),
            Some(bytes) => Literal(&String::from_utf8_lossy(bytes)).to_string(),
        })
        .collect();
    format!("ROW({})", values.join(", "))
}

/// A value as text; `None` for null.
pub(super) fn text(column: &Column<'_>) -> Option<Vec<u8>> {
    match column {
        Column::Text(bytes) | Column::Binary(bytes) => Some(bytes.to_vec()),
        Column::Null | Column::Unchanged => None,
    }
}

/// For people and notifications: values as Java prints them.
pub(super) fn shown(key: &Key, types: impl Iterator<Item = u32>) -> String {
    let show = |(value, oid): (&Option<Vec<u8>>, u32)| {
        let Some(value) = value else { return "null".to_owned() };
        let text = String::from_utf8_lossy(value);
        let mut out = String::new();
        match (oid, text.as_ref()) {
            (BOOL, "t") => out.push_str("true"),
            (BOOL, "f") => out.push_str("false"),
            (FLOAT4, number) if let Ok(n) = number.parse() => float::push_float(&mut out, n),
            (FLOAT8, number) if let Ok(n) = number.parse() => float::push_double(&mut out, n),
            (_, text) => out.push_str(text),
        }
        out
    };
    key.iter().zip(types).map(show).collect::<Vec<_>>().join(",")
}

/// For the offset.
pub(super) fn to_json(key: &Key) -> Value {
    Value::Array(
        key.iter().map(|v| v.as_ref().map_or(Value::Null, |b| json!(String::from_utf8_lossy(b)))).collect(),
    )
}

/// From the offset.
pub(super) fn from_json(value: &Value) -> Option<Key> {
    Some(value.as_array()?.iter().map(|v| v.as_str().map(|s| s.as_bytes().to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_as_java_prints_them() {
        let key: Key = ["t", "2e+20", "0.1", "x,y"].map(|v| Some(v.as_bytes().to_vec())).to_vec();
        assert_eq!(shown(&key, [BOOL, FLOAT8, FLOAT4, 25].into_iter()), "true,2.0E20,0.1,x,y");
        assert_eq!(shown(&vec![None], [25].into_iter()), "null");
    }
}
