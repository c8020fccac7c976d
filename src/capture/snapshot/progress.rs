//! How far a snapshot is, in the offset record of every batch: a killed one goes on where it was.
//!
//! The exported snapshot dies with its session. What is left is read under a new one, and the stream still begins
//! where the slot does. So it is noted which range of keys was read under which snapshot: a change that a range's
//! own snapshot has seen already is left out of the stream (see [`super::super::reconcile`]).

use serde_json::{Map, Value, json};

use crate::capture::keys::{self, Key};
use crate::pg::Lsn;

/// The field of the offset.
pub(in crate::capture) const FIELD: &str = "millstream.snapshot";

/// A snapshot that rows were read under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Past {
    /// `pg_snapshot` as text; `None` for the slot's own, which has seen nothing of the stream.
    pub(in crate::capture) seen: Option<String>,
    /// What commits after it was not seen for sure.
    pub(in crate::capture) until: Lsn,
}

/// Rows up to a key (or to the range's end), and the number of the snapshot they were read under.
pub(in crate::capture) type Part = (Option<Key>, usize);

/// Rows of a table between two values of the key's first column: above `low`, up to `high`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::capture) struct RangeProgress {
    pub(in crate::capture) low: Option<String>,
    pub(in crate::capture) high: Option<String>,
    /// In key order; the last one grows.
    pub(in crate::capture) parts: Vec<Part>,
}

/// How far a table is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::capture) struct TableProgress {
    /// `schema.table`.
    pub(in crate::capture) name: String,
    pub(in crate::capture) done: bool,
    /// Rows of it are in the log.
    pub(in crate::capture) begun: bool,
    /// It was begun again from its start: the stream is to be applied as it is.
    pub(in crate::capture) again: bool,
    /// A statement of the user reads it: what of a change it would show is not known, so that the stream is to be
    /// applied as it is.
    pub(in crate::capture) own: bool,
    /// `pg_relation_filenode`: another one says that it was rewritten or emptied.
    pub(in crate::capture) file: Option<u32>,
    /// Columns of the key that the ranges are cut by.
    pub(in crate::capture) key: Vec<String>,
    pub(in crate::capture) ranges: Vec<RangeProgress>,
    /// Without ranges: read as a whole under this snapshot.
    pub(in crate::capture) whole: usize,
}

/// How far a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::capture) struct Progress {
    pub(in crate::capture) snapshots: Vec<Past>,
    pub(in crate::capture) tables: Vec<TableProgress>,
}

impl Progress {
    /// Nothing is read; the first snapshot is the slot's own.
    pub(in crate::capture) fn new() -> Self {
        Self { snapshots: vec![Past { seen: None, until: Lsn::ZERO }], tables: Vec::new() }
    }

    /// Number of the snapshot in force.
    pub(in crate::capture) fn current(&self) -> usize {
        self.snapshots.len() - 1
    }

    /// The table's entry, made where there is none.
    pub(in crate::capture) fn table(&mut self, name: &str) -> usize {
        self.tables.iter().position(|t| t.name == name).unwrap_or_else(|| {
            let whole = self.current();
            self.tables.push(TableProgress { name: name.to_owned(), whole, ..TableProgress::default() });
            self.tables.len() - 1
        })
    }

    /// Keeps what the stream needs to know. Says whether there is anything.
    pub(in crate::capture) fn reduce(&mut self) -> bool {
        self.tables.retain(|t| {
            !t.again
                && !t.own
                && (t.whole > 0 || t.ranges.iter().any(|r| r.parts.iter().any(|(_, n)| *n > 0)))
        });
        !self.tables.is_empty()
    }

    pub(in crate::capture) fn to_value(&self) -> Value {
        let snapshots: Vec<Value> =
            self.snapshots.iter().map(|s| json!([s.seen, s.until.to_string()])).collect();
        let tables: Vec<Value> = self.tables.iter().map(table_value).collect();
        json!({ "snapshots": snapshots, "tables": tables })
    }

    /// What [`Progress::to_value`] wrote; `None` for anything else.
    pub(in crate::capture) fn from_value(value: &Value) -> Option<Self> {
        let mut snapshots = Vec::new();
        for past in value.get("snapshots")?.as_array()? {
            let seen = match past.get(0)? {
                Value::Null => None,
                seen => Some(seen.as_str()?.to_owned()),
            };
            snapshots.push(Past { seen, until: past.get(1)?.as_str()?.parse().ok()? });
        }
        if snapshots.is_empty() {
            return None;
        }
        let tables: Option<Vec<TableProgress>> =
            value.get("tables")?.as_array()?.iter().map(table_from).collect();
        let all = Self { snapshots, tables: tables? };
        let known = |n: usize| n < all.snapshots.len();
        let sound = all
            .tables
            .iter()
            .all(|t| known(t.whole) && t.ranges.iter().all(|r| r.parts.iter().all(|(_, n)| known(*n))));
        sound.then_some(all)
    }
}

fn table_value(table: &TableProgress) -> Value {
    let mut map = Map::new();
    map.insert("name".into(), json!(table.name));
    let flags = [("done", table.done), ("begun", table.begun), ("again", table.again), ("own", table.own)];
    for (name, flag) in flags {
        if flag {
            map.insert(name.into(), json!(true));
        }
    }
    if table.whole > 0 {
        map.insert("whole".into(), json!(table.whole));
    }
    if let Some(file) = table.file {
        map.insert("file".into(), json!(file));
    }
    if !table.ranges.is_empty() {
        map.insert("key".into(), json!(table.key));
        let ranges: Vec<Value> = table
            .ranges
            .iter()
            .map(|r| {
                let parts: Vec<Value> = r
                    .parts
                    .iter()
                    .map(|(end, n)| json!([end.as_ref().map_or(Value::Null, keys::to_json), n]))
                    .collect();
                json!({ "low": r.low, "high": r.high, "parts": parts })
            })
            .collect();
        map.insert("ranges".into(), Value::Array(ranges));
    }
    Value::Object(map)
}

fn table_from(value: &Value) -> Option<TableProgress> {
    let flag = |v: &Value, name: &str| v.get(name).and_then(Value::as_bool).unwrap_or(false);
    let number = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
    let text = |v: &Value, name: &str| v.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut ranges = Vec::new();
    for range in value.get("ranges").and_then(Value::as_array).into_iter().flatten() {
        let mut parts = Vec::new();
        for part in range.get("parts")?.as_array()? {
            let end = match part.get(0)? {
                Value::Null => None,
                key => Some(keys::from_json(key)?),
            };
            parts.push((end, number(part.get(1)?)?));
        }
        ranges.push(RangeProgress { low: text(range, "low"), high: text(range, "high"), parts });
    }
    let key = value.get("key").and_then(Value::as_array).into_iter().flatten();
    Some(TableProgress {
        name: text(value, "name")?,
        done: flag(value, "done"),
        begun: flag(value, "begun"),
        again: flag(value, "again"),
        own: flag(value, "own"),
        file: value.get("file").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok()),
        key: key.filter_map(|k| k.as_str().map(str::to_owned)).collect(),
        ranges,
        whole: value.get("whole").and_then(number).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_comes_back_from_the_offset() {
        let mut progress = Progress::new();
        progress.snapshots.push(Past { seen: Some("10:20:12,15".into()), until: Lsn(0x1_0000_0010) });
        let n = progress.table("public.a");
        let table = &mut progress.tables[n];
        table.begun = true;
        table.file = Some(16_400);
        table.key = vec!["id".into(), "at".into()];
        table.ranges = vec![
            RangeProgress {
                high: Some("100".into()),
                parts: vec![(Some(vec![Some(b"5".to_vec()), None]), 0), (None, 1)],
                ..RangeProgress::default()
            },
            RangeProgress { low: Some("100".into()), ..RangeProgress::default() },
        ];
        let n = progress.table("public.b");
        progress.tables[n].done = true;
        progress.tables[n].whole = 0;
        let mut own = progress.tables[0].clone();
        (own.name, own.own) = ("public.own".into(), true);
        progress.tables.push(own);
        let value = progress.to_value();
        assert_eq!(Progress::from_value(&value), Some(progress.clone()));
        assert!(progress.reduce());
        assert_eq!(progress.tables.len(), 1, "what the slot's own snapshot held needs no reconciling");
        let mut broken = value;
        broken["tables"][0]["ranges"][0]["parts"][1][1] = json!(7);
        assert_eq!(Progress::from_value(&broken), None);
    }
}
