//! What operators hand on.

use std::ops::Range;

use super::super::row::{Change, Row, RowKind};
use super::buffer::time_key;

/// What an operator hands on, in order.
pub(crate) enum Message {
    /// Rows.
    Rows(Vec<Change>),
    /// All rows with an earlier time have come (milliseconds; `i64::MAX` at the end of the input).
    Watermark(i64),
    /// The input gives nothing for the time being, and watermarks need not wait for it; or it does again.
    Idle(bool),
}

/// Collects the output of an operator.
#[derive(Default)]
pub(crate) struct Emitter {
    messages: Vec<Message>,
    spare: Vec<Vec<Change>>,
    notes: Option<Box<Notes>>,
}

/// What an instance of an operator notes of its output, so that it can be put together with the others'.
#[derive(Default)]
pub(super) struct Notes {
    /// The last watermark, which does not stand among the messages.
    pub watermark: Option<i64>,
    /// Where rows begin that belong together, and where their key stands in `keys`.
    pub marks: Vec<Mark>,
    pub keys: Vec<u8>,
    /// Timers that were set, in order.
    pub timers: Vec<(i64, Box<[u8]>)>,
}

/// Rows that have a key, up to those of the next mark.
pub(super) struct Mark {
    /// The number of rows before.
    pub at: usize,
    /// Where the key stands.
    pub key: Range<usize>,
}

impl Emitter {
    /// One that collects rows only and notes the rest.
    pub(super) fn noting() -> Self {
        Self { notes: Some(Box::default()), ..Self::default() }
    }

    /// The notes of [`Self::noting`].
    pub(super) fn notes(&mut self) -> Option<&mut Notes> {
        self.notes.as_deref_mut()
    }

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

    /// Rows in the batch at hand.
    pub(crate) fn len(&self) -> usize {
        if let Some(Message::Rows(rows)) = self.messages.last() { rows.len() } else { 0 }
    }

    /// The rows from here on come out at a watermark, or by the clock, and have this key (which is given in parts):
    /// those of lesser keys come before them, also of other instances of the operator.
    pub(crate) fn order(&mut self, key: &[&[u8]]) {
        let rows = self.len();
        if let Some(notes) = &mut self.notes {
            let start = notes.keys.len();
            key.iter().for_each(|part| notes.keys.extend_from_slice(part));
            notes.marks.push(Mark { at: rows, key: start..notes.keys.len() });
        }
    }

    /// A timer was set. Where rows come out by timers, they do so in the order in which Flink's heap gives these.
    pub(crate) fn timer(&mut self, time: i64, key: &[u8]) {
        if let Some(notes) = &mut self.notes {
            notes.timers.push((time, timer_key(time, key).into()));
        }
    }

    /// The rows from here on are of a timer that is due.
    pub(crate) fn order_by_timer(&mut self, time: i64, key: &[u8]) {
        if self.notes.is_some() {
            self.order(&[&timer_key(time, key)]);
        }
    }

    /// A watermark.
    pub(crate) fn watermark(&mut self, watermark: i64) {
        match &mut self.notes {
            Some(notes) => notes.watermark = Some(watermark),
            None => self.messages.push(Message::Watermark(watermark)),
        }
    }

    /// Whether the input is idle.
    pub(crate) fn idle(&mut self, idle: bool) {
        self.messages.push(Message::Idle(idle));
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

fn timer_key(time: i64, key: &[u8]) -> Vec<u8> {
    [time_key(time).as_slice(), key].concat()
}
