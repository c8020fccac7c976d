//! How a connector begins: from its offset, the slot and the snapshot mode. Pure, so that every case is a test.

use super::offset::{Offset, SnapshotState};
use super::position::Position;
use crate::config::connector::{MismatchStrategy, SnapshotMode};
use crate::error::{Error, Result};
use crate::pg::Lsn;

/// What the server says of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// `confirmed_flush_lsn`.
    pub confirmed: Lsn,
    /// Whether the server has given up the slot's WAL (`wal_status = 'lost'`).
    pub lost: bool,
}

/// What a snapshot stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotBase {
    /// The slot is made now; its exported snapshot is exact.
    NewSlot,
    /// The slot exists: a temporary one beside it exports the snapshot, and the slot streams from there.
    BesideSlot,
    /// Nothing is streamed afterwards: an ordinary transaction.
    Transaction,
}

/// How to begin.
#[derive(Clone, Debug, PartialEq)]
pub enum Start {
    /// Read the tables, then stream (if the mode does).
    Snapshot(SnapshotBase),
    /// Make the slot and stream from where it begins, without content.
    StreamNew,
    /// Stream on from a stored or confirmed position.
    Resume {
        /// Where START_REPLICATION begins.
        from: Lsn,
        /// What is in the log already.
        position: Position,
    },
    /// The snapshot is done and the mode does not stream.
    Idle,
}

/// Decides how to begin. `system` is the cluster's identifier, `slot` is `None` where it does not exist.
///
/// # Errors
/// When changes would be lost without a word and the mode does not answer that with a new snapshot.
pub fn decide(
    mode: SnapshotMode,
    mismatch: MismatchStrategy,
    offset: Option<&Offset>,
    slot_name: &str,
    slot: Option<&SlotState>,
    system: &str,
) -> Result<Start> {
    let snapshot = || {
        Start::Snapshot(match (mode.streams(), slot) {
            (false, _) => SnapshotBase::Transaction,
            (true, None) => SnapshotBase::NewSlot,
            (true, Some(_)) => SnapshotBase::BesideSlot,
        })
    };
    let Some(offset) = offset else {
        if mode.snapshots_without_offset() {
            return Ok(snapshot());
        }
        return Ok(match slot {
            None => Start::StreamNew,
            Some(slot) => Start::Resume { from: slot.confirmed, position: Position::before(slot.confirmed) },
        });
    };
    if offset.snapshot == SnapshotState::Running {
        if mode == SnapshotMode::NoData {
            return Err(Error::config("the stored offset says that a snapshot was interrupted, and snapshot.mode=no_data forbids to repeat it")
                .next("set snapshot.mode=initial once, or reset the connector's offset"));
        }
        return Ok(snapshot());
    }
    if mode == SnapshotMode::Always {
        return Ok(snapshot());
    }
    if !mode.streams() {
        return Ok(Start::Idle);
    }
    let lost = |cause: String| {
        if mode.snapshots_when_lost() {
            tracing::warn!("{cause}: a new snapshot is taken");
            return Ok(snapshot());
        }
        Err(Error::refused(format!(
            "the connector cannot go on at {}: changes after it are gone",
            offset.restart
        ))
        .because(cause)
        .next(
            "set snapshot.mode=when_needed to read the tables again, or reset the connector's offset; \
                 offset.mismatch.strategy=trust_slot goes on with what the slot still has",
        ))
    };
    if let Some(binding) = offset.binding.as_ref().filter(|b| b.system != system) {
        return lost(format!(
            "the offset was written for another database cluster (system identifier {}, this one is {system})",
            binding.system
        ));
    }
    let Some(slot) = slot else {
        return lost(format!("replication slot \"{slot_name}\" does not exist any more"));
    };
    if slot.lost {
        return lost(format!(
            "the server has given up the WAL of replication slot \"{slot_name}\" (max_slot_wal_keep_size)"
        ));
    }
    let ahead = slot.confirmed > offset.restart;
    let trusts_slot = match mismatch {
        MismatchStrategy::TrustSlot => true,
        MismatchStrategy::TrustGreaterLsn => ahead,
        MismatchStrategy::NoValidation | MismatchStrategy::TrustOffset => false,
    };
    if trusts_slot && ahead {
        tracing::warn!(
            "replication slot \"{slot_name}\" is at {}, the stored offset at {}: what lies between is left out, as \
             offset.mismatch.strategy says",
            slot.confirmed,
            offset.restart
        );
        let mut position = offset.position;
        if position.commit < slot.confirmed {
            position = Position::before(slot.confirmed);
        }
        return Ok(Start::Resume { from: slot.confirmed, position });
    }
    if ahead {
        return lost(format!(
            "replication slot \"{slot_name}\" is at {}, ahead of the stored offset: it was made anew or used by \
             somebody else",
            slot.confirmed
        ));
    }
    Ok(Start::Resume { from: offset.restart, position: offset.position })
}

#[cfg(test)]
mod tests {
    use super::super::offset::SlotBinding;
    use super::*;

    const NONE: MismatchStrategy = MismatchStrategy::NoValidation;

    fn offset(restart: u64) -> Offset {
        Offset::start(Lsn(restart), SlotBinding { system: "1".into(), timeline: 1, slot: "s".into() })
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState { confirmed: Lsn(confirmed), lost: false }
    }

    #[test]
    fn without_an_offset() {
        let decide = |mode, slot: Option<&SlotState>| decide(mode, NONE, None, "s", slot, "1").unwrap();
        assert_eq!(decide(SnapshotMode::Initial, None), Start::Snapshot(SnapshotBase::NewSlot));
        assert_eq!(decide(SnapshotMode::Initial, Some(&slot(5))), Start::Snapshot(SnapshotBase::BesideSlot));
        assert_eq!(decide(SnapshotMode::InitialOnly, None), Start::Snapshot(SnapshotBase::Transaction));
        assert_eq!(decide(SnapshotMode::NoData, None), Start::StreamNew);
        let resumed = Start::Resume { from: Lsn(5), position: Position::before(Lsn(5)) };
        assert_eq!(decide(SnapshotMode::NoData, Some(&slot(5))), resumed);
    }

    #[test]
    fn with_an_offset() {
        let o = offset(10);
        let resume = Start::Resume { from: Lsn(10), position: o.position };
        let decide = |mode, mismatch, slot: Option<&SlotState>, system: &str| {
            decide(mode, mismatch, Some(&o), "s", slot, system)
        };
        assert_eq!(decide(SnapshotMode::Initial, NONE, Some(&slot(10)), "1").unwrap(), resume);
        assert_eq!(decide(SnapshotMode::Initial, NONE, Some(&slot(3)), "1").unwrap(), resume);
        assert_eq!(decide(SnapshotMode::InitialOnly, NONE, None, "1").unwrap(), Start::Idle);
        let beside = Start::Snapshot(SnapshotBase::BesideSlot);
        assert_eq!(decide(SnapshotMode::Always, NONE, Some(&slot(3)), "1").unwrap(), beside);
        // Lost positions.
        for (slot, system, word) in [
            (None, "1", "does not exist"),
            (Some(slot(11)), "1", "ahead of the stored offset"),
            (Some(slot(10)), "2", "another database cluster"),
            (Some(SlotState { confirmed: Lsn(1), lost: true }), "1", "given up"),
        ] {
            let error = decide(SnapshotMode::Initial, NONE, slot.as_ref(), system).unwrap_err();
            assert!(error.screen().contains(word), "{error}");
            let start = decide(SnapshotMode::WhenNeeded, NONE, slot.as_ref(), system).unwrap();
            assert!(matches!(start, Start::Snapshot(_)), "{start:?}");
        }
        let trusted =
            decide(SnapshotMode::Initial, MismatchStrategy::TrustSlot, Some(&slot(11)), "1").unwrap();
        assert_eq!(trusted, Start::Resume { from: Lsn(11), position: Position::before(Lsn(11)) });
        let greater =
            decide(SnapshotMode::Initial, MismatchStrategy::TrustGreaterLsn, Some(&slot(3)), "1").unwrap();
        assert_eq!(greater, resume);
    }

    #[test]
    fn an_interrupted_snapshot_starts_again() {
        let mut o = offset(10);
        o.snapshot = SnapshotState::Running;
        let start = decide(SnapshotMode::Initial, NONE, Some(&o), "s", Some(&slot(10)), "1").unwrap();
        assert_eq!(start, Start::Snapshot(SnapshotBase::BesideSlot));
        assert!(decide(SnapshotMode::NoData, NONE, Some(&o), "s", Some(&slot(10)), "1").is_err());
    }
}
