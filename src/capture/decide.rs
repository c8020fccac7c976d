//! How a connector begins: from its offset, the slot and the snapshot mode. Pure, so that every case is a test.

use super::identity::{ServerState, Standing, standing};
use super::offset::{Offset, SnapshotState};
use super::position::{Position, Stamp};
use crate::config::connector::{MismatchStrategy, SnapshotMode};
use crate::error::{Error, Result};
use crate::pg::Lsn;

/// What the server says of the slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotState {
    /// `confirmed_flush_lsn`.
    pub confirmed: Lsn,
    /// Why the slot can be read no more, where the server says so (`wal_status = 'lost'`, `invalidation_reason`).
    pub lost: Option<String>,
}

/// What a snapshot stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotBase {
    /// The slot is made now; its exported snapshot is exact.
    NewSlot,
    /// The slot exists: a temporary one beside it exports the snapshot, and the slot streams from there.
    BesideSlot,
    /// The slot exists, but can be read no more: it is dropped and made anew.
    RenewedSlot,
    /// Nothing is streamed afterwards: an ordinary transaction.
    Transaction,
    /// The slot of an interrupted snapshot still holds all that came since: what is left is read.
    Interrupted,
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
        /// Everything that commits before it is in the log.
        restart: Lsn,
        /// What is in the log already.
        position: Position,
        /// The transaction that has to come first, since it is in the log and the slot still holds it: a server
        /// that does not send it was set back, and has gone another way since.
        witness: Option<(Lsn, Stamp)>,
    },
    /// The snapshot is done and the mode does not stream.
    Idle,
}

/// Decides how to begin. `slot` is `None` where it does not exist; `resnapshot` answers a lost position with a new
/// snapshot whatever the mode (`millstream.lost.position`).
///
/// # Errors
/// When changes would be lost without a word and neither mode nor `resnapshot` answers that with a new snapshot.
pub fn decide(
    mode: SnapshotMode,
    mismatch: MismatchStrategy,
    resnapshot: bool,
    offset: Option<&Offset>,
    slot_name: &str,
    slot: Option<&SlotState>,
    server: &ServerState,
) -> Result<Start> {
    let snapshot = || {
        Start::Snapshot(match (mode.streams(), slot) {
            (false, _) => SnapshotBase::Transaction,
            (true, None) => SnapshotBase::NewSlot,
            (true, Some(slot)) if slot.lost.is_some() => SnapshotBase::RenewedSlot,
            (true, Some(_)) => SnapshotBase::BesideSlot,
        })
    };
    let Some(offset) = offset else {
        if mode.snapshots_without_offset() {
            return Ok(snapshot());
        }
        return Ok(match slot {
            None => Start::StreamNew,
            Some(slot) => afresh(slot.confirmed),
        });
    };
    if offset.snapshot == SnapshotState::Running {
        if mode == SnapshotMode::NoData {
            return Err(Error::config("the stored offset says that a snapshot was interrupted, and snapshot.mode=no_data forbids to repeat it")
                .next("set snapshot.mode=initial once, or reset the connector's offset"));
        }
        let same = |slot: &SlotState| {
            let bound = |b: &super::offset::SlotBinding| b.slot == slot_name;
            mode.streams()
                && slot.lost.is_none()
                && slot.confirmed <= offset.restart
                && offset.binding.as_ref().is_some_and(bound)
                && matches!(standing(offset, server), Standing::Good)
                && super::snapshot::under_way(offset).is_some()
        };
        if slot.is_some_and(same) {
            return Ok(Start::Snapshot(SnapshotBase::Interrupted));
        }
        return Ok(snapshot());
    }
    if mode.snapshots_always() {
        return Ok(snapshot());
    }
    if !mode.streams() {
        return Ok(Start::Idle);
    }
    let lost = |cause: String, next: &str| {
        if mode.snapshots_when_lost() || resnapshot {
            tracing::warn!("{cause}: a new snapshot is taken");
            return Ok(snapshot());
        }
        Err(Error::refused(format!(
            "the connector cannot go on at {}: changes after it are gone, or may be",
            offset.restart
        ))
        .because(cause)
        .next(format!(
            "set millstream.lost.position=resnapshot (or snapshot.mode=when_needed) to read the tables again, or reset \
             the connector's offset{next}"
        )))
    };
    const TRUST: &str = "; offset.mismatch.strategy=trust_slot goes on with what the slot still has";
    let trusts = mismatch == MismatchStrategy::TrustSlot;
    let Some(slot) = slot else {
        let was = offset.binding.as_ref().filter(|b| b.slot != slot_name);
        return lost(
            match was {
                Some(was) => format!(
                    "replication slot \"{slot_name}\" does not exist; the offset was written with slot \"{}\"",
                    was.slot
                ),
                None => format!("replication slot \"{slot_name}\" does not exist any more: it was dropped"),
            },
            "",
        );
    };
    if let Some(why) = &slot.lost {
        return lost(
            format!("the server has invalidated replication slot \"{slot_name}\": {why}"),
            "; a larger max_slot_wal_keep_size keeps the next slot longer",
        );
    }
    let mut offset = std::borrow::Cow::Borrowed(offset);
    match standing(&offset, server) {
        Standing::Good => {}
        Standing::UpTo(switch) => {
            tracing::info!(
                "the server was promoted at {switch}, after everything that is in the log: the stream goes on there"
            );
            let offset = offset.to_mut();
            offset.restart = offset.restart.min(switch);
            offset.position = Position::before(offset.restart);
        }
        Standing::Foreign { why, .. } if trusts => {
            tracing::warn!(
                "{why}; the stream goes on at {}, where replication slot \"{slot_name}\" is, as \
                 offset.mismatch.strategy=trust_slot says",
                slot.confirmed
            );
            // The offset's positions say nothing of this WAL.
            return Ok(afresh(slot.confirmed));
        }
        Standing::Foreign { why, other_cluster } => {
            let next = if other_cluster {
                "; if the connector had caught up before the old server was stopped, and the slot was made before the \
                 new one was written to: offset.mismatch.strategy=trust_slot goes on from the slot"
            } else {
                TRUST
            };
            return lost(why, next);
        }
    }
    let ahead = slot.confirmed > offset.restart;
    if ahead && matches!(mismatch, MismatchStrategy::TrustSlot | MismatchStrategy::TrustGreaterLsn) {
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
        return Ok(Start::Resume { from: slot.confirmed, restart: slot.confirmed, position, witness: None });
    }
    if ahead {
        return lost(
            format!(
                "replication slot \"{slot_name}\" is at {}, ahead of the stored offset {}: it was dropped and made anew, \
                 or used by somebody else",
                slot.confirmed, offset.restart
            ),
            TRUST,
        );
    }
    let (restart, position) = (offset.restart, offset.position);
    if mismatch == MismatchStrategy::TrustOffset {
        return Ok(Start::Resume { from: restart, restart, position, witness: None });
    }
    // From the last transaction on, not from behind it: what the slot has confirmed, this WAL shares with the one
    // that the offset comes from, and what lies between is sent again. Of a server that was set back behind the
    // offset nothing is skipped then.
    let from = position.commit.min(restart);
    let witness = position.stamp.filter(|_| slot.confirmed <= position.commit);
    Ok(Start::Resume { from, restart, position, witness: witness.map(|stamp| (position.commit, stamp)) })
}

/// Everything from `at` on.
fn afresh(at: Lsn) -> Start {
    Start::Resume { from: at, restart: at, position: Position::before(at), witness: None }
}

#[cfg(test)]
mod tests {
    use super::super::offset::SlotBinding;
    use super::*;

    const NONE: MismatchStrategy = MismatchStrategy::NoValidation;

    fn offset(restart: u64) -> Offset {
        let binding = SlotBinding { system: "1".into(), timeline: 1, slot: "s".into(), version: 150_003 };
        Offset::start(Lsn(restart), binding)
    }

    fn server(system: &str) -> ServerState {
        ServerState {
            system: system.into(),
            timeline: 1,
            version: 150_003,
            wal_end: Lsn(1000),
            history: Vec::new(),
            lacks: None,
        }
    }

    fn slot(confirmed: u64) -> SlotState {
        SlotState { confirmed: Lsn(confirmed), lost: None }
    }

    #[test]
    fn without_an_offset() {
        let decide = |mode, slot: Option<&SlotState>| {
            decide(mode, NONE, false, None, "s", slot, &server("1")).unwrap()
        };
        assert_eq!(decide(SnapshotMode::Initial, None), Start::Snapshot(SnapshotBase::NewSlot));
        assert_eq!(decide(SnapshotMode::Initial, Some(&slot(5))), Start::Snapshot(SnapshotBase::BesideSlot));
        assert_eq!(decide(SnapshotMode::InitialOnly, None), Start::Snapshot(SnapshotBase::Transaction));
        assert_eq!(decide(SnapshotMode::NoData, None), Start::StreamNew);
        assert_eq!(decide(SnapshotMode::NoData, Some(&slot(5))), afresh(Lsn(5)));
    }

    #[test]
    fn with_an_offset() {
        let o = offset(10);
        let resume = Start::Resume { from: Lsn(10), restart: Lsn(10), position: o.position, witness: None };
        let decide = |mode, mismatch, slot: Option<&SlotState>, system: &str| {
            decide(mode, mismatch, false, Some(&o), "s", slot, &server(system))
        };
        assert_eq!(decide(SnapshotMode::Initial, NONE, Some(&slot(10)), "1").unwrap(), resume);
        assert_eq!(decide(SnapshotMode::Initial, NONE, Some(&slot(3)), "1").unwrap(), resume);
        assert_eq!(decide(SnapshotMode::InitialOnly, NONE, None, "1").unwrap(), Start::Idle);
        let beside = Start::Snapshot(SnapshotBase::BesideSlot);
        let based = |data| SnapshotMode::ConfigurationBased { data, stream: true, on_data_error: false };
        assert_eq!(decide(SnapshotMode::Always, NONE, Some(&slot(3)), "1").unwrap(), beside);
        assert_eq!(decide(based(true), NONE, Some(&slot(3)), "1").unwrap(), beside);
        assert_eq!(decide(based(false), NONE, Some(&slot(10)), "1").unwrap(), resume);
        // Lost positions.
        for (slot, system, word) in [
            (None, "1", "does not exist"),
            (Some(slot(11)), "1", "ahead of the stored offset"),
            (Some(slot(10)), "2", "another database cluster"),
            (
                Some(SlotState { confirmed: Lsn(1), lost: Some("it is too far behind".into()) }),
                "1",
                "invalidated",
            ),
        ] {
            let error = decide(SnapshotMode::Initial, NONE, slot.as_ref(), system).unwrap_err();
            assert!(error.screen().contains(word), "{error}");
            let start = decide(SnapshotMode::WhenNeeded, NONE, slot.as_ref(), system).unwrap();
            assert!(matches!(start, Start::Snapshot(_)), "{start:?}");
        }
        let dead = SlotState { confirmed: Lsn(1), lost: Some("gone".into()) };
        let renewed =
            super::decide(SnapshotMode::Initial, NONE, true, Some(&o), "s", Some(&dead), &server("1"));
        assert_eq!(renewed.unwrap(), Start::Snapshot(SnapshotBase::RenewedSlot));
        // Positions of another cluster are not compared, only the slot's word is taken.
        let start = decide(SnapshotMode::Initial, MismatchStrategy::TrustSlot, Some(&slot(3)), "2").unwrap();
        assert_eq!(start, afresh(Lsn(3)));
        assert!(
            decide(SnapshotMode::Initial, MismatchStrategy::TrustGreaterLsn, Some(&slot(11)), "2").is_err()
        );
        let trusted =
            decide(SnapshotMode::Initial, MismatchStrategy::TrustSlot, Some(&slot(11)), "1").unwrap();
        assert_eq!(trusted, afresh(Lsn(11)));
        let greater =
            decide(SnapshotMode::Initial, MismatchStrategy::TrustGreaterLsn, Some(&slot(3)), "1").unwrap();
        assert_eq!(greater, resume);
    }

    #[test]
    fn the_last_transaction_is_a_witness_while_the_slot_still_holds_it() {
        let mut o = offset(10);
        let stamp = Stamp { xid: 7, ts_usec: 1 };
        o.position = Position { complete: true, stamp: Some(stamp), ..Position::before(Lsn(8)) };
        let decide = |mismatch, confirmed| {
            let slot = slot(confirmed);
            match decide(SnapshotMode::Initial, mismatch, false, Some(&o), "s", Some(&slot), &server("1")) {
                Ok(Start::Resume { from, restart, witness, .. }) => (from.0, restart.0, witness.is_some()),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(decide(NONE, 8), (8, 10, true));
        assert_eq!(decide(NONE, 9), (8, 10, false));
        assert_eq!(decide(MismatchStrategy::TrustOffset, 8), (10, 10, false));
    }

    #[test]
    fn nothing_of_a_new_timeline_is_left_out() {
        let mut o = offset(60);
        o.content = Lsn(50);
        o.position = Position { ordinal: 3, ..Position::before(Lsn(130)) };
        let mut promoted = server("1");
        promoted.timeline = 2;
        promoted.history = super::super::identity::parse_history("1\t0/64\tno recovery target specified\n");
        let start = decide(SnapshotMode::Initial, NONE, false, Some(&o), "s", Some(&slot(40)), &promoted);
        assert_eq!(start.unwrap(), afresh(Lsn(60)));
        // The old primary had told of more WAL, in which nothing was.
        o.restart = Lsn(110);
        let start = decide(SnapshotMode::Initial, NONE, false, Some(&o), "s", Some(&slot(40)), &promoted);
        assert_eq!(start.unwrap(), afresh(Lsn(100)));
    }

    #[test]
    fn an_interrupted_snapshot_starts_again() {
        let mut o = offset(10);
        o.snapshot = SnapshotState::Running;
        let start =
            decide(SnapshotMode::Initial, NONE, false, Some(&o), "s", Some(&slot(10)), &server("1")).unwrap();
        assert_eq!(start, Start::Snapshot(SnapshotBase::BesideSlot));
        assert!(
            decide(SnapshotMode::NoData, NONE, false, Some(&o), "s", Some(&slot(10)), &server("1")).is_err()
        );
    }
}
