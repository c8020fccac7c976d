//! Sinks: PostgreSQL upserts behind an epoch fence, topics, print, filesystem.
//!
//! A sink gets the changes of an epoch as one [`Output`], compacted where its table has a key. The state
//! store already holds the same output (the outbox) when a sink sees it, so that an epoch that was
//! interrupted is written again after a restart. What keeps it from being written twice is the sink's
//! [`Fence`]: a small row that moves from epoch `n - 1` to `n` in the transaction of the changes.

pub mod dead_letter;
pub mod filesystem;
pub mod open;
pub mod outbox;
pub mod output;
pub mod postgres;
pub mod print;
pub mod topic;

use std::fmt;

use async_trait::async_trait;

use crate::engine::row::Change;
use crate::error::Result;

/// What a target remembers of the pipeline that writes it, per pipeline and sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The last epoch of this sink that the target holds; 0 before the first.
    pub epoch: u64,
    /// The random token of the process that writes; renewed at every start.
    pub writer: String,
}

/// Who writes: together the key of the fence.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SinkId {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the sink: its table's name in the catalog, with a number where a pipeline writes it twice.
    pub sink: String,
}

impl fmt::Display for SinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.pipeline, self.sink)
    }
}

/// The changes of one epoch for one sink.
///
/// For a sink with [`Reduction::ByKey`] every key occurs once, as [`crate::engine::row::RowKind::UpdateAfter`]
/// (the whole row, to be upserted) or [`crate::engine::row::RowKind::Delete`] (a row whose key columns name the
/// row to delete; the other columns are whatever the query retracted), in the order of the encoded key. For
/// [`Reduction::None`] it is every change in order, and for [`Reduction::Each`] every such change of a key.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Output {
    /// The changes.
    pub changes: Vec<Change>,
}

/// How the changes of an epoch may be reduced before they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Every change is written, in order.
    None,
    /// Only the last change per key is written; the indexes are the key's columns in the sink's row.
    ByKey(Vec<usize>),
    /// Every change of these columns' keys is written, in order: readers ask for each version of a row.
    Each(Vec<usize>),
}

/// A target. All methods are called by one task, one after the other.
///
/// After a [`crate::Kind::Transient`] error the driver waits, calls [`Sink::fence`] (which connects anew) and
/// writes again where the fence says that the target does not hold the epoch. Any other error stops the
/// pipeline.
#[async_trait]
pub trait Sink: Send {
    /// What it writes to, for messages: `table star.dim_customers at db:5432/dw`.
    fn describe(&self) -> String;

    /// How the changes of an epoch are reduced for it.
    fn reduction(&self) -> Reduction;

    /// Whether the target keeps a fence; then [`Sink::fence`] and [`Sink::claim`] are its own. One without may see
    /// the last epoch again after a crash.
    fn is_fenced(&self) -> bool {
        false
    }

    /// Told before [`Self::fence`] whether earlier epochs lie in the target: then it must be there, and is not made.
    fn expects_target(&mut self, _written: bool) {}

    /// Connects if need be, checks that the target fits the sink's table (existence, columns, types; made
    /// where that is allowed), and says what the fence holds; `None` where there is none.
    ///
    /// # Errors
    /// [`crate::Kind::Transient`] where the target cannot be reached; [`crate::Kind::Config`] or
    /// [`crate::Kind::Refused`] where it does not fit, with table, column and both types.
    async fn fence(&mut self) -> Result<Option<Fence>> {
        Ok(None)
    }

    /// Compare and set: replaces the fence `_expected` (`None`: there is none) by `_new`, and says whether it was
    /// still `_expected`.
    async fn claim(&mut self, _expected: Option<&Fence>, _new: &Fence) -> Result<bool> {
        Ok(true)
    }

    /// Writes an epoch and moves the fence from (`epoch - 1`, the claimed writer) to `epoch` in one
    /// transaction. Fails with [`crate::Kind::Fenced`] where the fence is not at `epoch - 1` of that writer;
    /// nothing is written then.
    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()>;

    /// Called before the first write where the state has given this sink nothing yet: epochs count from 1, whatever
    /// an earlier state wrote. Only for sinks without a fence.
    async fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// Which of the lives that [`Self::begin`] begins its epochs count in; within one, an epoch that comes again is known
    /// and not written twice. `None`: the target knows nothing of epochs. Only for sinks without a fence.
    async fn life(&mut self) -> Result<Option<u64>> {
        Ok(None)
    }

    /// All rows up to this watermark (milliseconds since 1970; `i64::MAX` at the end) are written.
    fn reached(&mut self, _watermark: i64) {}

    /// When [`Self::tend`] is to be called, though nothing is to be written.
    fn due(&self) -> Option<std::time::Instant> {
        None
    }

    /// Does what time alone brings about.
    async fn tend(&mut self) -> Result<()> {
        Ok(())
    }

    /// Lets go of connections and files after the last write.
    async fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// A format's failure as the border's error.
pub(crate) fn format_error(table: &str, error: crate::engine::format::FormatError) -> crate::Error {
    let at = error.column.as_ref().map(|c| format!(", column {c}")).unwrap_or_default();
    let kind = if error.transient { crate::Kind::Transient } else { crate::Kind::Config };
    let outer = crate::Error::new(kind, format!("table {table}{at}: {}", error.what));
    match error.next {
        Some(next) => outer.next(next),
        None => outer,
    }
}
