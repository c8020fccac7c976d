//! After a snapshot that was killed and went on: what is left out of the stream.
//!
//! The stream begins where the slot does, at the first attempt. Rows that were read later, under another snapshot,
//! hold what that snapshot had seen; the changes it had seen are left out for those rows, so that a row never goes
//! back and nothing comes twice. Which snapshot a row was read under is told by its key's range, what a snapshot
//! has seen by `pg_snapshot`. Once the stream is past the last snapshot all this is forgotten.

use std::collections::HashMap;

use smallvec::SmallVec;
use tokio_postgres::Client;

use super::keys::{Key, row_of, text};
use super::offset::Offset;
use super::snapshot::is_integer;
use super::snapshot::progress::{FIELD, Progress, TableProgress};
use super::snapshot::under_way;
use crate::error::{Error, Result};
use crate::pg::pgoutput::{Column, Message, OldTuple, Relation, Tuple};
use crate::pg::{Ident, Lsn, Qualified, sql_error};

/// What of a change goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All of it.
    All,
    /// Nothing: the snapshot had it.
    Nothing,
    /// A row that got another key: only that it left the old one.
    Old,
    /// A row that got another key: only that it came to the new one.
    New,
}

/// A `pg_snapshot`: `xmin:xmax:xip,…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    xmin: u64,
    xmax: u64,
    running: Vec<u64>,
}

impl Seen {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (xmin, xmax, running) = (parts.next()?, parts.next()?, parts.next()?);
        let running: Option<Vec<u64>> =
            running.split(',').filter(|x| !x.is_empty()).map(|x| x.parse().ok()).collect();
        Some(Self { xmin: xmin.parse().ok()?, xmax: xmax.parse().ok()?, running: running? })
    }

    /// Whether it has seen a transaction, whose id the stream gives without its epoch.
    pub(super) fn has(&self, xid: u64) -> bool {
        // The whole id is the one nearest to the snapshot's.
        let low = xid & 0xffff_ffff;
        let near = self.xmax & !0xffff_ffff | low;
        let half = 1u64 << 31;
        let whole = if near > self.xmax.saturating_add(half) {
            near.saturating_sub(1 << 32)
        } else if near.saturating_add(half) < self.xmax {
            near.saturating_add(1 << 32)
        } else {
            near
        };
        whole < self.xmin || (whole < self.xmax && !self.running.contains(&whole))
    }
}

/// A table of the stream.
struct Watched {
    schema: String,
    name: String,
    key: Vec<String>,
    /// Key columns by their place in the stream.
    places: Vec<usize>,
    /// Values are compared here; else the server is asked.
    integers: bool,
    /// Upper ends in key order (the last region has none), and the snapshot that read the rows up to there. An end
    /// may hold the first columns only.
    ends: Vec<Key>,
    under: Vec<usize>,
}

/// What is left out of the stream, and until where.
pub(super) struct Reconciler {
    tables: Vec<TableProgress>,
    seen: Vec<Option<Seen>>,
    until: Lsn,
    watched: HashMap<u32, Watched>,
}

impl Reconciler {
    /// What the offset says; `None` where there is nothing to leave out.
    pub(super) fn resume(offset: &Offset) -> Option<Self> {
        let Progress { snapshots, tables } = under_way(offset)?;
        let until = snapshots.iter().map(|s| s.until).max()?;
        let seen = snapshots.iter().map(|s| s.seen.as_deref().and_then(Seen::parse)).collect();
        Some(Self { tables, seen, until, watched: HashMap::new() })
    }

    /// Whether a transaction with this commit LSN, and so all that follow, are past all snapshots.
    pub(super) fn is_past(&self, commit: Lsn) -> bool {
        commit > self.until
    }

    /// Forgets it in the offset.
    pub(super) fn forget(offset: &mut Offset) {
        offset.extra.remove(FIELD);
    }

    /// A table of the stream is described.
    pub(super) fn describe(&mut self, relation: &Relation) {
        self.watched.remove(&relation.oid);
        let name = format!("{}.{}", relation.schema, relation.name);
        let Some(table) = self.tables.iter().find(|t| t.name == name) else { return };
        let (mut ends, mut under) = (Vec::new(), Vec::new());
        for range in &table.ranges {
            for (end, by) in &range.parts {
                let high = range.high.as_ref().map(|high| vec![Some(high.clone().into_bytes())]);
                ends.extend(end.clone().or(high));
                under.push(*by);
            }
        }
        let mut places = Vec::new();
        let mut integers = true;
        for name in &table.key {
            let Some(place) = relation.columns.iter().position(|c| c.name == *name) else { return };
            integers &= relation.columns.get(place).is_some_and(|c| is_integer(c.type_oid));
            places.push(place);
        }
        if under.is_empty() {
            under.push(table.whole);
        }
        let watched = Watched {
            schema: relation.schema.clone(),
            name: relation.name.clone(),
            key: table.key.clone(),
            places,
            integers,
            ends,
            under,
        };
        self.watched.insert(relation.oid, watched);
    }

    /// What of a change of this transaction goes on.
    pub(super) async fn judge(&self, message: &Message<'_>, xid: u64, client: &Client) -> Result<Verdict> {
        let has = |n: &usize| self.seen.get(*n).is_some_and(|s| s.as_ref().is_some_and(|s| s.has(xid)));
        let oid = match message {
            Message::Insert { relation, .. }
            | Message::Update { relation, .. }
            | Message::Delete { relation, .. } => relation,
            // A table that is emptied is emptied, unless all that was read of it was read after that.
            Message::Truncate { relations, .. } => {
                let all = relations
                    .iter()
                    .all(|oid| self.watched.get(oid).is_some_and(|w| w.under.iter().all(has)));
                return Ok(if all { Verdict::Nothing } else { Verdict::All });
            }
            _ => return Ok(Verdict::All),
        };
        let Some(watched) = self.watched.get(oid).filter(|w| w.under.iter().any(has)) else {
            return Ok(Verdict::All);
        };
        Ok(match message {
            Message::Insert { new, .. } => whole(watched.known(*new, &has, client).await?),
            Message::Delete { old: OldTuple::Key(old) | OldTuple::Full(old), .. } => {
                whole(watched.known(*old, &has, client).await?)
            }
            Message::Update { old, new, .. } => {
                let new = watched.known(*new, &has, client).await?;
                let old = match old {
                    Some(old) => watched.known(old.tuple(), &has, client).await?,
                    None => new,
                };
                match (old, new) {
                    (true, true) => Verdict::Nothing,
                    (false, false) => Verdict::All,
                    (false, true) => Verdict::Old,
                    (true, false) => Verdict::New,
                }
            }
            _ => Verdict::All,
        })
    }
}

fn whole(known: bool) -> Verdict {
    if known { Verdict::Nothing } else { Verdict::All }
}

impl Watched {
    /// Whether the row's snapshot has seen the change. What has no key here goes on.
    async fn known(&self, row: Tuple<'_>, has: &impl Fn(&usize) -> bool, client: &Client) -> Result<bool> {
        let region = if self.ends.is_empty() {
            0
        } else {
            let columns: SmallVec<[Column<'_>; 32]> = row.iter().collect();
            let key: Key = self.places.iter().map(|p| columns.get(*p).and_then(text)).collect();
            if key.iter().any(Option::is_none) {
                return Ok(false);
            }
            match self.integers.then(|| self.region(&key)).flatten() {
                Some(region) => region,
                None => self.ask(&key, client).await?,
            }
        };
        Ok(self.under.get(region).is_some_and(has))
    }

    /// Number of ends that the key is behind.
    fn region(&self, key: &Key) -> Option<usize> {
        let numbers = |key: &Key| -> Option<Vec<i64>> {
            key.iter().map(|v| std::str::from_utf8(v.as_deref()?).ok()?.parse().ok()).collect()
        };
        let key = numbers(key)?;
        let mut region = 0;
        for end in &self.ends {
            let end = numbers(end)?;
            region += usize::from(key.iter().zip(&end).find(|(k, e)| k != e).is_some_and(|(k, e)| k > e));
        }
        Some(region)
    }

    /// The same by the server, which knows the order of its types and collations.
    async fn ask(&self, key: &Key, client: &Client) -> Result<usize> {
        let values: serde_json::Map<String, serde_json::Value> = self
            .key
            .iter()
            .zip(key)
            .map(|(name, value)| {
                let text = String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned();
                (name.clone(), serde_json::Value::String(text))
            })
            .collect();
        let behind: Vec<String> = self
            .ends
            .iter()
            .map(|end| {
                let columns: Vec<String> =
                    self.key.iter().take(end.len()).map(|k| format!("t.{}", Ident(k))).collect();
                format!("(ROW({}) > {})::int", columns.join(", "), row_of(end))
            })
            .collect();
        let sql = format!(
            "SELECT {} FROM jsonb_populate_record(NULL::{}, $1::text::jsonb) AS t",
            behind.join(" + "),
            Qualified::new(&self.schema, &self.name)
        );
        let values = serde_json::Value::Object(values).to_string();
        let row = client.query_one(&sql, &[&values]).await.map_err(|e| {
            sql_error(format!("cannot compare keys of table {}.{}", self.schema, self.name), e)
        })?;
        usize::try_from(row.get::<_, i32>(0)).map_err(|_| Error::internal("a negative number of ranges"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_has_seen_what_ended_before_it() {
        let seen = Seen::parse("100:110:100,105").unwrap();
        assert!([99, 101, 109].iter().all(|x| seen.has(*x)));
        assert!(![100, 105, 110, 200].iter().any(|x| seen.has(*x)));
        assert!(Seen::parse("5:5:").unwrap().has(4));
        assert_eq!(Seen::parse("5:5"), None);
        // Ids in the stream have 32 bits; the epoch goes on in between.
        let epoch = 3u64 << 32;
        let seen = Seen::parse(&format!("{}:{}:{}", epoch - 5, epoch + 5, epoch - 5)).unwrap();
        assert!(seen.has(0xffff_fffc) && seen.has(4) && seen.has(0xffff_0000));
        assert!(!seen.has(0xffff_fffb) && !seen.has(5));
    }

    #[test]
    fn keys_of_integers_find_their_region() {
        let key = |parts: &[i64]| -> Key { parts.iter().map(|n| Some(n.to_string().into_bytes())).collect() };
        let watched = Watched {
            schema: "s".into(),
            name: "t".into(),
            key: vec!["a".into(), "b".into()],
            places: vec![0, 1],
            integers: true,
            ends: vec![key(&[5, 3]), key(&[10])],
            under: vec![0, 1, 2],
        };
        let region = |a, b| watched.region(&key(&[a, b]));
        assert_eq!(region(-7, 9), Some(0));
        assert_eq!((region(5, 3), region(5, 4)), (Some(0), Some(1)));
        assert_eq!((region(10, 99), region(11, -1)), (Some(1), Some(2)));
    }
}
