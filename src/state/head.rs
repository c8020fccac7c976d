//! The head of a pipeline's state: which epoch the state is at, and what belongs to it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Newest format this version reads, and the one it writes.
pub const FORMAT: u32 = 1;

/// Committed in the same batch as the operators' state of the epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Format of the state directory.
    pub format: u32,
    /// What the state was computed by: a digest of the plan. State of another plan is not read.
    pub plan: String,
    /// Writer's tokens that a target's fence may hold: one in normal times; while a start renews the token,
    /// the old one and the new one.
    pub writers: Vec<String>,
    /// Number of epochs committed.
    pub epoch: u64,
    /// Next offset per input partition; the keys are the runtime's.
    pub inputs: BTreeMap<String, i64>,
    /// Per sink: how many epochs with output for it are in the state. The last one's output is its outbox.
    pub sinks: BTreeMap<String, u64>,
    /// The pipeline was started anew: targets that an earlier state wrote may be taken over. Cleared once done.
    #[serde(default)]
    pub takeover: bool,
    /// Per sink: the last epoch that its target holds, as far as is known; what a fence says counts more.
    #[serde(default)]
    pub written: BTreeMap<String, u64>,
    /// The number of each input partition among those of its source, by the keys of `inputs`: operators keep by it what
    /// they know of a partition.
    #[serde(default)]
    pub numbers: BTreeMap<String, u32>,
    /// Where the reading of each input partition began, by the keys of `inputs`; states of earlier versions lack it.
    #[serde(default)]
    pub begins: BTreeMap<String, i64>,
    /// Per sink: the writer's token that its fence was last claimed with. In normal times that of `writers`.
    #[serde(default)]
    pub tokens: BTreeMap<String, String>,
    /// What of the plan the state depends on: names of operators and sinks, with descriptions.
    #[serde(default)]
    pub nodes: BTreeMap<String, String>,
    /// Per input that goes by a key (a table of a database): what it has read, as the runtime writes it.
    #[serde(default)]
    pub keys: BTreeMap<String, String>,
    /// Per sink without a fence: the life of its target that the epochs count in, where it knows one.
    #[serde(default)]
    pub lives: BTreeMap<String, u64>,
    /// Per sink: the epoch in its outbox, of the savepoint that this state was restored from, where it is not known
    /// whether the target holds it. Empty once a start has found out.
    #[serde(default)]
    pub open: BTreeMap<String, OpenEpoch>,
}

/// An epoch that a target may hold or not, and what it would know it by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenEpoch {
    /// Its number when it was committed.
    pub epoch: u64,
    /// Tokens of those who may have written it.
    pub writers: Vec<String>,
    /// The life of a target without a fence.
    pub life: Option<u64>,
}
