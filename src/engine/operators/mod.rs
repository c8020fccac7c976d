//! The operators. Each takes the changes of one input at a time and appends what comes out to an [`Emitter`].

use super::error::EngineError;
use super::row::{Change, Row, RowKind};

/// What an operator hands on, in order.
pub(crate) enum Message {
    /// Rows.
    Rows(Vec<Change>),
    /// All rows with an earlier time have come (milliseconds; `i64::MAX` at the end of the input).
    Watermark(i64),
}

/// Collects the output of an operator.
#[derive(Default)]
pub(crate) struct Emitter {
    messages: Vec<Message>,
    spare: Vec<Vec<Change>>,
}

impl Emitter {
    /// A row.
    pub(crate) fn row(&mut self, kind: RowKind, row: Row) {
        self.rows().push(Change { kind, row });
    }

    /// The batch that rows are appended to.
    pub(crate) fn rows(&mut self) -> &mut Vec<Change> {
        if !matches!(self.messages.last(), Some(Message::Rows(_))) {
            self.messages.push(Message::Rows(self.spare.pop().unwrap_or_default()));
        }
        match self.messages.last_mut() {
            Some(Message::Rows(rows)) => rows,
            _ => unreachable!("a batch was just appended"),
        }
    }

    /// A watermark.
    pub(crate) fn watermark(&mut self, watermark: i64) {
        self.messages.push(Message::Watermark(watermark));
    }

    /// Takes what was collected.
    pub(crate) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// Gives an emptied batch back for reuse.
    pub(crate) fn recycle(&mut self, mut rows: Vec<Change>) {
        if self.spare.len() < 4 {
            rows.clear();
            self.spare.push(rows);
        }
    }
}

/// A running operator.
pub(crate) trait Operator: Send {
    /// Once, before anything else, when the job starts with no state (`first`) or goes on.
    fn start(&mut self, _first: bool, _out: &mut Emitter) -> Result<(), EngineError> {
        Ok(())
    }

    /// Changes of input `port`; `rows` may be drained.
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError>;

    /// The watermark of all inputs went up.
    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        out.watermark(watermark);
        Ok(())
    }

    /// The processing-time clock went on to this time, in milliseconds.
    fn clock(&mut self, _now: i64, _out: &mut Emitter) -> Result<(), EngineError> {
        Ok(())
    }

    /// When [`Operator::clock`] has something to do next.
    fn next_timer(&self) -> Option<i64> {
        None
    }

    /// Writes what changed in memory into the state tables.
    fn flush(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}
