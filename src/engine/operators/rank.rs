//! Top-N.

use std::ops::Bound;

use super::super::codec;
use super::super::error::EngineError;
use super::super::expr::ExprNode;
use super::super::plan::{ChangelogMode, Node, Op, Rank as Spec, RankFunction, SortKey};
use super::super::row::{Change, Row, RowKind, Value};
use super::buffer::put_sort_key;
use super::ranked::{Moved, Partition, Ranked};
use super::{Builder, Emitter, Operator};
use crate::state::StateTable;

/// `ROW_NUMBER() … BETWEEN from AND to` over a changing input.
///
/// All rows of a partition are kept, sorted (of an insert-only input, or one whose rows only climb, those that can
/// still count). After a change the ranks from where it was are compared with what they were: with the rank column
/// every rank that holds another row is an update, without it only rows that leave or enter are emitted.
pub(super) struct Rank {
    spec: Spec,
    /// A row with a known key replaces the one with that key: no `-U` comes, or it need not be looked at.
    upsert: bool,
    rows: Ranked,
    /// Ranks that count.
    from: usize,
    to: usize,
    sequence: u64,
    sequence_changed: bool,
    sequences: Box<dyn StateTable>,
}

/// A row that was taken out, and the key of one that was added.
struct Step<'a> {
    removed: Option<(&'a [u8], &'a Row)>,
    added: Option<&'a [u8]>,
}

const SEQUENCE: &[u8] = b"next";
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
        // Without its old row an update is found only where it was: in the same partition.
        let climbs = spec.input_key.as_ref().is_some_and(|key| {
            spec.partition.iter().all(|column| key.contains(column)) && only_climbs(builder, &spec.order)
        });
        let upsert = mode.update_after && spec.input_key.is_some() && (!mode.update_before || climbs);
        let to = spec.to.map_or(usize::MAX, |to| usize::try_from(to).unwrap_or(usize::MAX));
        let prunes = mode == ChangelogMode::default() || (upsert && climbs && !mode.delete);
        let input_key = spec.input_key.clone().filter(|_| upsert);
        Ok(Self {
            spec: spec.clone(),
            upsert,
            rows: Ranked::new(builder, to, prunes, input_key)?,
            from: usize::try_from(spec.from.max(1)).unwrap_or(usize::MAX),
            to,
            sequence,
            sequence_changed: false,
            sequences,
        })
    }

    fn change(&mut self, change: &Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        if self.from > self.to {
            return Ok(());
        }
        let mut partition = Vec::new();
        codec::put_key(&mut partition, &change.row, &self.spec.partition);
        self.rows.open(&partition)?;
        let mut moved = Moved::default();
        let mut sort_key = Vec::new();
        put_sort_key(&mut sort_key, &change.row, &self.spec.order);
        let add = change.kind.is_add();
        let known = match (self.upsert, add) {
            (true, _) => self.rows.place(&partition, &change.row),
            (false, true) => None,
            (false, false) => self.rows.find(&partition, &sort_key, &change.row)?,
        };
        let removed = known.as_ref().and_then(|key| self.rows.remove(&partition, key, &mut moved));
        if add {
            sort_key.extend_from_slice(&self.sequence.to_be_bytes());
            self.sequence += 1;
            self.sequence_changed = true;
            self.rows.add(&partition, &sort_key, &change.row, &mut moved);
        }
        if self.from == 1 && !self.spec.emit_rank {
            let (left, entered): (Vec<Row>, Vec<Row>) =
                (moved.left.into_values().collect(), moved.entered.into_values().collect());
            emit_moved(&left.iter().collect::<Vec<_>>(), &entered.iter().collect::<Vec<_>>(), out);
        } else if let Some(rows) = self.rows.partition(&partition) {
            let removed = known.as_deref().zip(removed.as_ref());
            self.emit(rows, &Step { removed, added: add.then_some(sort_key.as_slice()) }, out);
        }
        self.rows.close(&partition)
    }

    /// Gives out the ranks that hold another row than before a step, from where it was.
    fn emit(&self, partition: &Partition, step: &Step<'_>, out: &mut Vec<Change>) {
        let rows = &partition.rows;
        let (removed, added) = (step.removed.map(|(key, _)| key), step.added);
        let Some(first) = removed.into_iter().chain(added).min() else { return };
        // The last of the ranks that count, or of those that there are, and how many these are.
        let (end, ranks) = match &partition.last {
            Some(last) if first > last.as_slice() => return,
            Some(last) => (Bound::Included(last.as_slice()), self.to),
            None => (Bound::Unbounded, rows.len()),
        };
        let behind = rows.range::<[u8], _>((Bound::Included(first), end)).count();
        let (mut start, mut new_rank) = (first, ranks.saturating_sub(behind) + 1);
        let mut old_rank = new_rank;
        if new_rank < self.from {
            // From the rank before the first that counts on: rows have moved by one.
            new_rank = self.from - 1;
            let back = ranks.checked_sub(new_rank);
            let back = back.and_then(|back| rows.range::<[u8], _>((Bound::Unbounded, end)).rev().nth(back));
            let Some((key, _)) = back else { return };
            start = key.as_slice();
            let is_before = |key: Option<&[u8]>| usize::from(key.is_some_and(|key| key < start));
            old_rank = (new_rank + is_before(removed)).saturating_sub(is_before(added));
        }
        let from_start = || rows.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        let mut stayed = from_start().filter(|(key, _)| Some(key.as_slice()) != added).peekable();
        let mut gone = step.removed.filter(|(key, _)| *key >= start);
        let mut old = std::iter::from_fn(|| match (gone, stayed.peek()) {
            (Some((key, _)), next) if next.is_none_or(|(next, _)| key < next.as_slice()) => gone.take(),
            _ => stayed.next().map(|(key, row)| (key.as_slice(), row)),
        });
        let mut new = from_start().map(|(key, row)| (key.as_slice(), row));
        while old_rank < self.from {
            old.next();
            old_rank += 1;
        }
        while new_rank < self.from {
            new.next();
            new_rank += 1;
        }
        let last = removed.into_iter().chain(added).max();
        let by_rank = self.spec.emit_rank || self.spec.emit_update_before;
        let (mut left, mut entered) = (Vec::new(), Vec::new());
        for rank in old_rank.max(new_rank)..=self.to {
            let (old, new) = (old.next(), new.next());
            match (old, new) {
                (None, None) => break,
                // What stands behind both is where it was.
                (Some((old, _)), Some((new, _))) if old == new && Some(old) > last => break,
                (Some((_, old)), Some((_, new))) if old == new => {}
                _ if by_rank => self.emit_rank(rank, old.map(|old| old.1), new.map(|new| new.1), out),
                _ => {
                    left.extend(old.map(|(_, row)| row));
                    entered.extend(new.map(|(_, row)| row));
                }
            }
        }
        emit_moved(&left, &entered, out);
    }

    /// Gives out that a rank holds another row. With an offset it does so without the rank too, as in Flink; but not
    /// where old rows are left away: a row that leaves and one that comes are of other keys.
    fn emit_rank(&self, rank: usize, old: Option<&Row>, new: Option<&Row>, out: &mut Vec<Change>) {
        let ranked = |row: &Row| match self.spec.emit_rank {
            true => {
                let rank = Value::Int(i64::try_from(rank).unwrap_or(i64::MAX));
                row.iter().cloned().chain([rank]).collect::<Row>()
            }
            false => Row::clone(row),
        };
        let (old_kind, new_kind) = match (old, new) {
            (Some(_), Some(_)) => (RowKind::UpdateBefore, RowKind::UpdateAfter),
            _ => (RowKind::Delete, RowKind::Insert),
        };
        if let Some(row) = old.filter(|_| new.is_none() || self.spec.emit_update_before) {
            out.push(Change { kind: old_kind, row: ranked(row) });
        }
        if let Some(row) = new {
            out.push(Change { kind: new_kind, row: ranked(row) });
        }
    }
}

/// Gives out the rows that left or entered the ranks that count, and did not do both.
fn emit_moved(before: &[&Row], after: &[&Row], out: &mut Vec<Change>) {
    let changed = |rows: &[&Row], others: &[&Row], kind: RowKind, out: &mut Vec<Change>| {
        let mut others: Vec<Option<&Row>> = others.iter().map(|row| Some(*row)).collect();
        let mut found = 0;
        for row in rows {
            // They are in the same order: the first ones are found already.
            while others.get(found).is_some_and(Option::is_none) {
                found += 1;
            }
            match others.iter_mut().skip(found).find(|other| **other == Some(*row)) {
                Some(other) => *other = None,
                None => out.push(Change { kind, row: Row::clone(row) }),
            }
        }
    };
    changed(before, after, RowKind::Delete, out);
    changed(after, before, RowKind::Insert, out);
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
        self.rows.flush();
        Ok(())
    }
}
