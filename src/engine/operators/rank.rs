//! Top-N.

use std::collections::BTreeMap;
use std::ops::Bound;

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::expr::ExprNode;
use super::super::plan::{ChangelogMode, Node, Op, Rank as Spec, RankFunction, SortKey};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::{put_sort_key, row_weight};
use super::{Builder, Emitter, Key, Operator};
use crate::state::{StateError, StateTable};

/// `ROW_NUMBER() … BETWEEN from AND to` over a changing input.
///
/// All rows of a partition are kept, sorted (of an insert-only input only those that can still count). After a
/// change the ranks from `from` to `to` are compared with what they were: with the rank column every rank that
/// holds another row is an update, without it only rows that leave or enter are emitted.
pub(super) struct Rank {
    spec: Spec,
    append_only: bool,
    /// A row with a known key replaces the one with that key: no `-U` comes, or it need not be looked at.
    upsert: bool,
    table: Box<dyn StateTable>,
    partitions: HashMap<Key, Partition, RandomState>,
    /// Bytes that may stay in memory over a flush, and those that are there.
    cached: usize,
    bytes: usize,
    /// The ranks that count are the first ones, so many, and only what enters or leaves them is emitted: known without
    /// looking at the others.
    first: Option<usize>,
    sequence: u64,
    sequence_changed: bool,
    sequences: Box<dyn StateTable>,
}

/// The rows of a partition.
#[derive(Default)]
struct Partition {
    /// By order, then arrival.
    rows: BTreeMap<Vec<u8>, Row>,
    /// Where the row of each input key stands; of upserts only.
    places: HashMap<Key, Vec<u8>, RandomState>,
    /// Key of the row at the last rank that counts, once there are so many.
    last: Option<Vec<u8>>,
}

/// Rows that leave and enter the ranks that count, by key.
#[derive(Default)]
struct Moved {
    left: BTreeMap<Vec<u8>, Row>,
    entered: BTreeMap<Vec<u8>, Row>,
}

impl Partition {
    /// A row was taken out of `rows`.
    fn removed(&mut self, key: &[u8], row: Row, moved: &mut Moved) {
        match &self.last {
            Some(last) if key > last.as_slice() => return,
            Some(last) => {
                let behind = (Bound::Excluded(last.as_slice()), Bound::Unbounded);
                let next = self.rows.range::<[u8], _>(behind).next();
                let next = next.map(|(key, row)| (key.clone(), Row::clone(row)));
                self.last = next.as_ref().map(|(key, _)| key.clone());
                moved.entered.extend(next);
            }
            None => {}
        }
        moved.left.insert(key.to_vec(), row);
    }

    /// A row was put into `rows`; `to` ranks count.
    fn added(&mut self, key: &[u8], row: &Row, to: usize, moved: &mut Moved) {
        match &self.last {
            Some(last) if key > last.as_slice() => return,
            Some(last) => {
                if let Some(row) = self.rows.get(last) {
                    moved.left.insert(last.clone(), Row::clone(row));
                }
                let before = (Bound::Unbounded, Bound::Excluded(last.as_slice()));
                self.last = self.rows.range::<[u8], _>(before).next_back().map(|(key, _)| key.clone());
            }
            None if self.rows.len() >= to => {
                self.last = self.rows.last_key_value().map(|(key, _)| key.clone())
            }
            None => {}
        }
        moved.entered.insert(key.to_vec(), Row::clone(row));
    }
}

const SEQUENCE: &[u8] = b"next";
/// About what a row takes in memory besides its key and its values.
const ROW_WEIGHT: usize = 64;
/// The same of its place.
const PLACE_WEIGHT: usize = 96;

/// Whether updates only ever move a row up in the order: it is by COUNT or MAX descending, or MIN ascending, of
/// an insert-only input (Flink's `UpdateFastStrategy`). Then an update is one step, without its old row leaving.
fn only_climbs(builder: &Builder<'_>, order: &[SortKey]) -> bool {
    let plan = builder.plan;
    let mut columns: Vec<usize> = order.iter().map(|key| key.column).collect();
    let mut node = builder.node.inputs.first().and_then(|&input| plan.nodes.get(input));
    // Through projections of plain columns.
    while let Some(Node { op: Op::Project(exprs), inputs, .. }) = node {
        for column in &mut columns {
            match exprs.get(*column).map(|expr| &expr.node) {
                Some(ExprNode::Column(of)) => *column = *of,
                _ => return false,
            }
        }
        node = inputs.first().and_then(|&input| plan.nodes.get(input));
    }
    let Some(Node { op: Op::Aggregate(spec), inputs, .. }) = node else { return false };
    let inserts = inputs
        .first()
        .and_then(|&input| plan.nodes.get(input))
        .is_some_and(|input| input.changelog == ChangelogMode::default());
    inserts
        && columns.iter().zip(order).all(|(&column, key)| {
            let Some(call) = column.checked_sub(spec.group.len()) else { return true };
            match spec.calls.get(call).map(|call| call.function) {
                Some("COUNT" | "MAX") => key.descending,
                Some("MIN") => !key.descending,
                _ => false,
            }
        })
}

impl Rank {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        if spec.function != RankFunction::RowNumber {
            return Err(EngineError::Plan(
                "RANK() and DENSE_RANK() on a streaming table are not supported".to_owned(),
            ));
        }
        let mode = builder.input_mode(0);
        let mut sequences = builder.table("sequence")?;
        let stored = sequences.get(SEQUENCE)?;
        let sequence = stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_be_bytes);
        Ok(Self {
            append_only: mode == ChangelogMode::default(),
            upsert: mode.update_after
                && spec.input_key.as_ref().is_some_and(|key| {
                    // Without its old row an update is found only where it was: in the same partition.
                    let stays = spec.partition.iter().all(|column| key.contains(column));
                    !mode.update_before || (stays && only_climbs(builder, &spec.order))
                }),
            first: (spec.from <= 1 && !spec.emit_rank)
                .then(|| spec.to.map_or(usize::MAX, |to| usize::try_from(to).unwrap_or(usize::MAX)))
                .filter(|to| *to > 0),
            spec: spec.clone(),
            table: builder.expiring_table("rows", None)?,
            partitions: HashMap::default(),
            cached: builder.cached(None),
            bytes: 0,
            sequence,
            sequence_changed: false,
            sequences,
        })
    }

    fn load(&mut self, partition: &[u8]) -> Result<(), EngineError> {
        if self.partitions.contains_key(partition) {
            return Ok(());
        }
        let mut loaded = Partition::default();
        let mut found = Vec::new();
        self.table.scan(partition, &mut |key, bytes| {
            let row = codec::get_row(bytes).map_err(|error| StateError::Corrupt {
                table: "ranked rows".to_owned(),
                what: error.to_string(),
            })?;
            found.push((key.get(partition.len()..).unwrap_or_default().to_vec(), row));
            Ok(true)
        })?;
        for (key, row) in found {
            self.bytes += self.weight(partition, &key, &row);
            if let Some(input_key) = self.input_key(&row) {
                loaded.places.insert(input_key, key.clone());
            }
            loaded.rows.insert(key, row);
        }
        if let Some(at) = self.first.and_then(|to| to.checked_sub(1)).filter(|at| *at < loaded.rows.len()) {
            loaded.last = loaded.rows.keys().nth(at).cloned();
        }
        self.partitions.insert(Key::from_slice(partition), loaded);
        Ok(())
    }

    /// The key by which a row is replaced.
    fn input_key(&self, row: &Row) -> Option<Key> {
        let columns = self.spec.input_key.as_ref().filter(|_| self.upsert)?;
        let mut key = Vec::with_capacity(24);
        codec::put_key(&mut key, row, columns);
        Some(Key::from_vec(key))
    }

    fn weight(&self, partition: &[u8], key: &[u8], row: &Row) -> usize {
        let place = if self.upsert { PLACE_WEIGHT + key.len() } else { 0 };
        ROW_WEIGHT + partition.len() + key.len() + row_weight(row) + place
    }

    fn remove(&mut self, partition: &[u8], key: &[u8]) -> Option<Row> {
        let mut removed = None;
        if let Some(known) = self.partitions.get_mut(partition)
            && let Some(row) = known.rows.remove(key)
        {
            let weight = self.weight(partition, key, &row);
            self.bytes = self.bytes.saturating_sub(weight);
            if let Some(input_key) = self.input_key(&row)
                && let Some(known) = self.partitions.get_mut(partition)
            {
                known.places.remove(&input_key);
            }
            removed = Some(row);
        }
        self.table.delete(&[partition, key].concat());
        removed
    }

    fn change(&mut self, change: &Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        let mut partition = Vec::new();
        codec::put_key(&mut partition, &change.row, &self.spec.partition);
        self.load(&partition)?;
        let before = if self.first.is_none() { self.top(&partition) } else { Vec::new() };
        let mut moved = Moved::default();
        let mut sort_key = Vec::new();
        put_sort_key(&mut sort_key, &change.row, &self.spec.order);
        let input_key = self.input_key(&change.row);
        let known = match &input_key {
            Some(input_key) => self
                .partitions
                .get(partition.as_slice())
                .and_then(|known| known.places.get(input_key).cloned()),
            None if change.kind.is_add() => None,
            None => self.find(&partition, &sort_key, |row| *row == change.row),
        };
        if let Some(known) = known {
            let removed = self.remove(&partition, &known);
            if let (Some(_), Some(row), Some(rows)) =
                (self.first, removed, self.partitions.get_mut(partition.as_slice()))
            {
                rows.removed(&known, row, &mut moved);
            }
        }
        if change.kind.is_add() {
            sort_key.extend_from_slice(&self.sequence.to_be_bytes());
            self.sequence += 1;
            self.sequence_changed = true;
            let mut bytes = Vec::new();
            codec::put_row(&mut bytes, &change.row);
            self.table.put(&[partition.as_slice(), &sort_key].concat(), &bytes);
            self.bytes += self.weight(&partition, &sort_key, &change.row);
            if let Some(known) = self.partitions.get_mut(partition.as_slice()) {
                if let Some(input_key) = input_key {
                    known.places.insert(input_key, sort_key.clone());
                }
                known.rows.insert(sort_key.clone(), Row::clone(&change.row));
                if let Some(to) = self.first {
                    known.added(&sort_key, &change.row, to, &mut moved);
                }
            }
            if let (true, Some(to)) = (self.append_only, self.spec.to) {
                self.prune(&partition, usize::try_from(to).unwrap_or(usize::MAX));
            }
        }
        if self.first.is_some() {
            let rows = |rows: BTreeMap<_, Row>| rows.into_values().collect::<Vec<_>>();
            self.emit(&rows(moved.left), &rows(moved.entered), out);
        } else {
            let after = self.top(&partition);
            self.emit(&before, &after, out);
        }
        Ok(())
    }

    /// Forgets rows behind the last rank: in an insert-only input they never come back.
    fn prune(&mut self, partition: &[u8], keep: usize) {
        while let Some(known) = self.partitions.get(partition)
            && known.rows.len() > keep
            && let Some(key) = known.rows.last_key_value().map(|(key, _)| key.clone())
        {
            self.remove(partition, &key);
        }
    }

    fn find(&self, partition: &[u8], prefix: &[u8], test: impl Fn(&Row) -> bool) -> Option<Vec<u8>> {
        let rows = &self.partitions.get(partition)?.rows;
        rows.range(prefix.to_vec()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .find(|(_, row)| test(row))
            .map(|(key, _)| key.clone())
    }

    /// The rows whose ranks count.
    fn top(&self, partition: &[u8]) -> Vec<Row> {
        let Some(known) = self.partitions.get(partition) else { return Vec::new() };
        let from = usize::try_from(self.spec.from.saturating_sub(1)).unwrap_or(usize::MAX);
        let to = self.spec.to.map_or(usize::MAX, |to| usize::try_from(to).unwrap_or(usize::MAX));
        known.rows.values().take(to).skip(from).cloned().collect()
    }

    fn emit(&self, before: &[Row], after: &[Row], out: &mut Vec<Change>) {
        // Without the rank only what enters or leaves counts. With an offset every rank does, as in Flink; but not where
        // old rows are left away: a row that leaves and one that comes are of other keys.
        if !self.spec.emit_rank && (self.spec.from <= 1 || !self.spec.emit_update_before) {
            let changed = |rows: &[Row], others: &[Row], kind: RowKind, out: &mut Vec<Change>| {
                let mut others: Vec<Option<&Row>> = others.iter().map(Some).collect();
                let mut found = 0;
                for row in rows {
                    // They are in the same order: the first ones are found already.
                    while others.get(found).is_some_and(Option::is_none) {
                        found += 1;
                    }
                    match others.iter_mut().skip(found).find(|other| **other == Some(row)) {
                        Some(other) => *other = None,
                        None => out.push(Change { kind, row: Row::clone(row) }),
                    }
                }
            };
            changed(before, after, RowKind::Delete, out);
            changed(after, before, RowKind::Insert, out);
            return;
        }
        let mut rank = i64::try_from(self.spec.from).unwrap_or(i64::MAX);
        for at in 0..before.len().max(after.len()) {
            let ranked = |row: &Row| match self.spec.emit_rank {
                true => row.iter().cloned().chain([Value::Int(rank)]).collect::<Row>(),
                false => Row::clone(row),
            };
            match (before.get(at), after.get(at)) {
                (Some(old), Some(new)) if old == new => {}
                (Some(old), Some(new)) => {
                    if self.spec.emit_update_before {
                        out.push(Change { kind: RowKind::UpdateBefore, row: ranked(old) });
                    }
                    out.push(Change { kind: RowKind::UpdateAfter, row: ranked(new) });
                }
                (Some(old), None) => out.push(Change { kind: RowKind::Delete, row: ranked(old) }),
                (None, Some(new)) => out.push(Change { kind: RowKind::Insert, row: ranked(new) }),
                (None, None) => {}
            }
            rank = rank.saturating_add(1);
        }
    }
}

impl Operator for Rank {
    fn process(
        &mut self,
        _port: usize,
        rows: &mut Vec<Change>,
        out: &mut Emitter,
    ) -> Result<(), EngineError> {
        let out = out.rows();
        for change in rows.drain(..) {
            if !(self.upsert && change.kind == RowKind::UpdateBefore) {
                self.change(&change, out)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        // Instances of the operator share it: the greatest number of them counts.
        if std::mem::take(&mut self.sequence_changed) {
            self.sequences.put_greater(SEQUENCE, &self.sequence.to_be_bytes())?;
        }
        if self.bytes > self.cached {
            self.partitions.clear();
            self.bytes = 0;
        } else {
            self.partitions.retain(|_, known| !known.rows.is_empty());
        }
        Ok(())
    }
}
