//! The regular join: both inputs change, both are kept.
//!
//! Row kinds as Flink's `StreamingJoinOperator` and `StreamingSemiAntiJoinOperator` give them: a pair carries
//! the kind of the change that made it, except where padded rows come and go: there it is `+I` and `-D`.

use super::super::codec;
use super::super::error::EngineError;
use super::super::eval::{Evaluator, Input};
use super::super::plan::{Join as Spec, JoinKind};
use super::super::row::{Change, Row, RowKind, Value};
use super::bucket::Side;
use super::row::failed;
use super::{Builder, ENOUGH, Emitter, Operator};

pub(super) struct Join {
    name: String,
    kind: JoinKind,
    keys: [Vec<usize>; 2],
    residual: Option<Evaluator>,
    sides: [Side; 2],
    widths: [usize; 2],
    key: Vec<u8>,
    /// Positions in the other side's bucket that match; kept for its memory.
    matches: Vec<usize>,
    /// Rows of the input at hand are still to be taken in.
    left: bool,
}

impl Join {
    pub(super) fn new(builder: &mut Builder<'_>, spec: &Spec) -> Result<Self, EngineError> {
        let residual = spec.residual.as_ref().map(|residual| builder.evaluator(residual)).transpose()?;
        let [left_ttl, right_ttl] = spec.ttl;
        let keys: [Vec<usize>; 2] =
            [spec.on.iter().map(|on| on.0).collect(), spec.on.iter().map(|on| on.1).collect()];
        let sides = [
            Side::new(builder, "left", keys[0].clone(), spec.left_key.clone(), left_ttl)?,
            Side::new(builder, "right", keys[1].clone(), spec.right_key.clone(), right_ttl)?,
        ];
        Ok(Self {
            name: builder.node.name.clone(),
            kind: spec.kind,
            keys,
            residual,
            sides,
            widths: [builder.input(0)?.len(), builder.input(1)?.len()],
            key: Vec::new(),
            matches: Vec::new(),
            left: false,
        })
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

    fn change(&mut self, port: usize, change: &Change, out: &mut Vec<Change>) -> Result<(), EngineError> {
        let add = change.kind.is_add();
        let semi = matches!(self.kind, JoinKind::Semi | JoinKind::Anti);
        let (input_outer, other_outer) = (self.is_outer(port), self.is_outer(1 - port));
        let lone = Lone { pass: semi, widths: self.widths };
        let keys = self.keys.get(port).map(Vec::as_slice).unwrap_or_default();
        if keys.iter().any(|&column| change.row.get(column).is_none_or(Value::is_null)) {
            // NULL never matches: nothing to keep.
            if input_outer {
                let kind = if add { RowKind::Insert } else { RowKind::Delete };
                out.push(lone.change(port, kind, &change.row));
            } else if self.kind == JoinKind::Anti && port == 0 {
                out.push(change.clone());
            }
            return Ok(());
        }
        self.key.clear();
        codec::put_key(&mut self.key, &change.row, keys);
        let (key, matches) = (self.key.as_slice(), &mut self.matches);
        matches.clear();

        let [left, right] = &mut self.sides;
        let (input, other) = if port == 0 { (left, right) } else { (right, left) };
        let bucket = other.bucket(key)?;
        let mut degree: u32 = 0;
        for (at, entry) in bucket.entries.iter().enumerate().filter(|(_, entry)| entry.count > 0) {
            let pair = if port == 0 {
                Input::pair(&change.row, &entry.row)
            } else {
                Input::pair(&entry.row, &change.row)
            };
            let matched = match &self.residual {
                Some(residual) => residual.is_true(pair).map_err(|error| failed(&self.name, error))?,
                None => true,
            };
            if matched {
                matches.push(at);
                degree = degree.saturating_add(entry.count);
            }
        }
        // An update of which only the new row comes: whoever it matches has its old row for a partner already.
        let replaced = add && input.add(key, &change.row, degree)?;
        if !add {
            input.remove(key, &change.row)?;
        }

        if semi && port == 0 {
            if (degree == 0) == (self.kind == JoinKind::Anti) {
                out.push(change.clone());
            }
            return Ok(());
        }
        if matches.is_empty() {
            if input_outer {
                let kind = if add { RowKind::Insert } else { RowKind::Delete };
                out.push(lone.change(port, kind, &change.row));
            }
            return Ok(());
        }
        let pair_kind = match (add, input_outer, other_outer) {
            (true, false, false) | (false, false, _) => change.kind,
            (true, ..) => RowKind::Insert,
            (false, ..) => RowKind::Delete,
        };
        let mut first_change = false;
        for &at in matches.iter() {
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
        if first_change {
            other.changed(key);
        }
        Ok(())
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
            self.change(port, change, out)?;
            done += 1;
            // A row may have very many partners: what has come out is handed on before more is made.
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
