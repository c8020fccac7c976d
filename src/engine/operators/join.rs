//! The regular join: both inputs change, both are kept.
//!
//! Row kinds as Flink's `StreamingJoinOperator` and `StreamingSemiAntiJoinOperator` give them: a pair carries
//! the kind of the change that made it, except where padded rows come and go: there it is `+I` and `-D`.

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{Join as Spec, JoinKind};
use super::super::row::{Change, Row, RowKind, Value};
use super::bucket::{Bucket, Entry};
use super::row::failed;
use super::side::Side;
use super::{Builder, ENOUGH, Emitter, Operator};

pub(super) struct Join {
    keys: [Vec<usize>; 2],
    /// Those of the keys in which NULL matches nothing.
    known: [Vec<usize>; 2],
    pairs: Pairs,
    sides: [Side; 2],
    key: Vec<u8>,
    /// Positions in the other side's bucket that match; kept for its memory.
    matches: Vec<usize>,
    /// The first row at hand meets a bucket that is too large for memory.
    meeting: Option<Meeting>,
    /// Rows of the input at hand are still to be taken in.
    left: bool,
}

/// How far a row has come that meets a bucket in pieces.
struct Meeting {
    /// Where the next piece begins.
    from: Vec<u8>,
    /// What the pieces before it had.
    bytes: usize,
    degree: u32,
    matched: bool,
    /// The row took the place of another.
    replaced: bool,
}

impl Join {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let residual = spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?;
        let [left_ttl, right_ttl] = spec.ttl;
        let keys: [Vec<usize>; 2] =
            [spec.on.iter().map(|on| on.0).collect(), spec.on.iter().map(|on| on.1).collect()];
        let safe = |at: usize| spec.null_safe.get(at).is_some_and(|safe| *safe);
        let known = keys.each_ref().map(|keys| {
            keys.iter().enumerate().filter(|(at, _)| !safe(*at)).map(|(_, column)| *column).collect()
        });
        let sides = [
            Side::new(builder, "left", keys[0].clone(), spec.left_key.clone(), left_ttl)?,
            Side::new(builder, "right", keys[1].clone(), spec.right_key.clone(), right_ttl)?,
        ];
        let pairs = Pairs {
            name: builder.node.name.clone(),
            kind: spec.kind,
            residual,
            widths: [builder.input(0)?.len(), builder.input(1)?.len()],
        };
        Ok(Self {
            keys,
            known,
            pairs,
            sides,
            key: Vec::new(),
            matches: Vec::new(),
            meeting: None,
            left: false,
        })
    }

    /// Takes in a row; says whether that is done, or [`Self::meet_on`] is to be called.
    fn change(&mut self, port: usize, change: &Change, out: &mut Vec<Change>) -> Result<bool, EngineError> {
        let add = change.kind.is_add();
        let keys = self.keys.get(port).map(Vec::as_slice).unwrap_or_default();
        let known = self.known.get(port).map(Vec::as_slice).unwrap_or_default();
        if known.iter().any(|&column| change.row.get(column).is_none_or(Value::is_null)) {
            // NULL never matches: nothing to keep.
            self.pairs.finish(port, change, 0, false, out);
            return Ok(true);
        }
        self.key.clear();
        codec::put_key(&mut self.key, &change.row, keys);
        let (key, matches) = (self.key.as_slice(), &mut self.matches);

        let [left, right] = &mut self.sides;
        let (input, other) = if port == 0 { (left, right) } else { (right, left) };
        input.relieve();
        other.relieve();
        let Some(bucket) = other.bucket(key)? else {
            let replaced = add && input.has(key, &change.row)?;
            let from = self.key.clone();
            self.meeting = Some(Meeting { from, bytes: 0, degree: 0, matched: false, replaced });
            return self.meet_on(port, change, out);
        };
        let degree = self.pairs.meet(port, &change.row, &bucket.entries, matches)?;
        // An update of which only the new row comes: whoever it matches has its old row for a partner already.
        let replaced = take_in(input, key, change, degree)?;
        if self.pairs.emit(port, change, replaced, bucket, matches, out) {
            other.changed(key);
        }
        self.pairs.finish(port, change, degree, !matches.is_empty(), out);
        Ok(true)
    }

    /// Lets the row meet the bucket's next pieces, until much has come out; says whether it has met all.
    fn meet_on(&mut self, port: usize, change: &Change, out: &mut Vec<Change>) -> Result<bool, EngineError> {
        let Some(mut meeting) = self.meeting.take() else { return Ok(true) };
        let (key, matches) = (self.key.as_slice(), &mut self.matches);
        let [left, right] = &mut self.sides;
        let (input, other) = if port == 0 { (left, right) } else { (right, left) };
        loop {
            let mut piece = other.piece(key, &meeting.from)?;
            let degree = self.pairs.meet(port, &change.row, &piece.bucket.entries, matches)?;
            if self.pairs.emit(port, change, meeting.replaced, &mut piece.bucket, matches, out) {
                other.write(key, &mut piece.bucket);
            }
            meeting.bytes += piece.bytes;
            meeting.degree = meeting.degree.saturating_add(degree);
            meeting.matched |= !matches.is_empty();
            let Some(next) = piece.next else { break };
            meeting.from = next;
            if out.len() >= ENOUGH {
                self.meeting = Some(meeting);
                return Ok(false);
            }
        }
        other.measured(key, meeting.bytes);
        take_in(input, key, change, meeting.degree)?;
        self.pairs.finish(port, change, meeting.degree, meeting.matched, out);
        Ok(true)
    }
}

/// Keeps a row, or forgets it; says whether it took the place of another.
fn take_in(input: &mut Side, key: &[u8], change: &Change, degree: u32) -> Result<bool, EngineError> {
    if change.kind.is_add() {
        return input.add(key, &change.row, degree);
    }
    input.remove(key, &change.row)?;
    Ok(false)
}

/// What comes out when a row meets the rows of the other side.
struct Pairs {
    name: String,
    kind: JoinKind,
    residual: Option<Evaluator>,
    widths: [usize; 2],
}

impl Pairs {
    fn is_semi(&self) -> bool {
        matches!(self.kind, JoinKind::Semi | JoinKind::Anti)
    }

    /// Whether rows of this input survive without a partner.
    fn is_outer(&self, port: usize) -> bool {
        match self.kind {
            JoinKind::Full => true,
            JoinKind::Left => port == 0,
            JoinKind::Right => port == 1,
            JoinKind::Inner | JoinKind::Semi | JoinKind::Anti => false,
        }
    }

    /// Finds the entries that a row matches; gives how many rows they are.
    fn meet(
        &self,
        port: usize,
        row: &Row,
        entries: &[Entry],
        matches: &mut Vec<usize>,
    ) -> Result<u32, EngineError> {
        matches.clear();
        let mut degree: u32 = 0;
        for (at, entry) in entries.iter().enumerate().filter(|(_, entry)| entry.count > 0) {
            let pair = if port == 0 { Input::pair(row, &entry.row) } else { Input::pair(&entry.row, row) };
            let matched = match &self.residual {
                Some(residual) => residual.is_true(pair).map_err(|error| failed(&self.name, error))?,
                None => true,
            };
            if matched {
                matches.push(at);
                degree = degree.saturating_add(entry.count);
            }
        }
        Ok(degree)
    }

    /// Gives out the pairs of a row with the entries that it matches; says whether they are the bucket's first change
    /// since the last flush.
    fn emit(
        &self,
        port: usize,
        change: &Change,
        replaced: bool,
        bucket: &mut Bucket,
        matches: &[usize],
        out: &mut Vec<Change>,
    ) -> bool {
        let (add, semi) = (change.kind.is_add(), self.is_semi());
        if semi && port == 0 {
            return false;
        }
        let (input_outer, other_outer) = (self.is_outer(port), self.is_outer(1 - port));
        let pair_kind = match (add, input_outer, other_outer) {
            (true, false, false) | (false, false, _) => change.kind,
            (true, ..) => RowKind::Insert,
            (false, ..) => RowKind::Delete,
        };
        let lone = self.lone();
        let mut first_change = false;
        for &at in matches {
            let Some(entry) = bucket.entries.get(at) else { continue };
            let (row, count, degree) = (&entry.row, entry.count, entry.degree);
            let first = if add { degree == 0 && !replaced } else { degree <= 1 };
            if semi {
                // The other side is the left one: its row comes or goes with its first or last partner.
                if first {
                    let kind = match (self.kind, add) {
                        (JoinKind::Semi, _) => change.kind,
                        (_, true) => RowKind::Delete,
                        (_, false) => RowKind::Insert,
                    };
                    out.extend((0..count).map(|_| Change { kind, row: Row::clone(row) }));
                }
            } else {
                let (left, right) = if port == 0 { (&change.row, row) } else { (row, &change.row) };
                for _ in 0..count {
                    if other_outer && add && first {
                        out.push(lone.change(1 - port, RowKind::Delete, row));
                    }
                    let pair = left.iter().chain(right.iter()).cloned().collect();
                    out.push(Change { kind: pair_kind, row: pair });
                    if other_outer && !add && first {
                        out.push(lone.change(1 - port, RowKind::Insert, row));
                    }
                }
            }
            if (other_outer || semi) && !replaced {
                let degree = if add { degree.saturating_add(1) } else { degree.saturating_sub(1) };
                first_change |= bucket.set_degree(at, degree);
            }
        }
        first_change
    }

    /// The row has met all rows that there are: it may come out, or go, by itself.
    fn finish(&self, port: usize, change: &Change, degree: u32, matched: bool, out: &mut Vec<Change>) {
        if self.is_semi() && port == 0 {
            if (degree == 0) == (self.kind == JoinKind::Anti) {
                out.push(change.clone());
            }
        } else if !matched && self.is_outer(port) {
            let kind = if change.kind.is_add() { RowKind::Insert } else { RowKind::Delete };
            out.push(self.lone().change(port, kind, &change.row));
        }
    }

    fn lone(&self) -> Lone {
        Lone { pass: self.is_semi(), widths: self.widths }
    }
}

/// How a row without a partner goes out.
#[derive(Clone, Copy)]
struct Lone {
    /// As it is (SEMI, ANTI); else padded with NULLs.
    pass: bool,
    widths: [usize; 2],
}

impl Lone {
    /// The change of a lone row of an input.
    fn change(self, port: usize, kind: RowKind, row: &Row) -> Change {
        let width = self.widths.get(1 - port).copied().unwrap_or(0);
        let nulls = std::iter::repeat_n(Value::Null, width);
        let row = match port {
            _ if self.pass => Row::clone(row),
            0 => row.iter().cloned().chain(nulls).collect(),
            _ => nulls.chain(row.iter().cloned()).collect(),
        };
        Change { kind, row }
    }
}

impl Operator for Join {
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        let out = out.rows();
        let mut done = 0;
        for change in rows.iter() {
            let met = match self.meeting {
                None => self.change(port, change, out)?,
                Some(_) => self.meet_on(port, change, out)?,
            };
            // A row may have very many partners: what has come out is handed on before more is made.
            if !met {
                break;
            }
            done += 1;
            if out.len() >= ENOUGH {
                break;
            }
        }
        rows.drain(..done);
        self.left = !rows.is_empty();
        Ok(())
    }

    fn pending(&self) -> bool {
        self.left
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.sides.iter_mut().for_each(Side::flush);
        Ok(())
    }
}
