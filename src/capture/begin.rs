//! How a run begins: the slot, the snapshot, and the place to stream from.

use std::time::Duration;

use super::decide::{SnapshotBase, Start};
use super::notify::Notifier;
use super::offset::{Offset, SlotBinding};
use super::position::{Position, Stamp};
use super::pump::Pump;
use super::run::{Run, Session};
use super::status::Phase;
use super::stream::now_ns;
use super::{snapshot, takeover};
use crate::error::Result;
use crate::event::Encoder;
use crate::pg::catalog::TableName;
use crate::pg::{CreateSlot, Lsn};

/// How long making a slot may wait for transactions under way.
const SLOT_TIMEOUT: Duration = Duration::from_secs(90);

/// Where the stream begins, and what it has to show.
pub(super) struct Beginning {
    pub(super) from: Lsn,
    pub(super) position: Position,
    pub(super) witness: Option<(Lsn, Stamp)>,
}

impl Beginning {
    /// Everything from here on.
    fn at(from: Lsn) -> Self {
        Self { from, position: Position::before(from), witness: None }
    }
}

/// What a start has made on the server.
#[derive(Default)]
pub(super) struct Made {
    pub(super) publication: bool,
    pub(super) slot: bool,
}

impl Run {
    /// Makes the slot and reads the snapshot where the start asks for it. Gives the place to stream from.
    pub(super) async fn begin(
        &self,
        session: &mut Session,
        encoder: &mut Encoder,
        pump: &mut Pump,
        captured: &[TableName],
        binding: &SlotBinding,
        made: &mut Made,
    ) -> Result<Option<Beginning>> {
        let options = &self.options;
        let mut slot = CreateSlot::new(&options.slot);
        slot.failover =
            options.slot_failover && session.replication.server_version() >= 170_000 && !session.in_recovery;
        let base = match session.start {
            Start::Idle => return Ok(None),
            Start::Resume { from, restart, mut position, witness } => {
                if let Some(through) = &mut position.through {
                    takeover::complete(&self.env.log, self.config.text("topic.prefix"), through).await?;
                }
                // Behind the offset where the server was promoted there, or the slot is to be trusted.
                pump.offset.restart = restart;
                pump.offset.content = pump.offset.content.min(restart);
                pump.offset.position = position;
                Notifier::new(options).initial(encoder, &mut pump.batch, "SKIPPED", &[])?;
                return Ok(Some(Beginning { from, position, witness }));
            }
            Start::StreamNew => {
                slot.export_snapshot = false;
                let created = session.replication.create_slot(&slot, SLOT_TIMEOUT).await?;
                made.slot = true;
                crate::failpoint!("capture.slot_created");
                pump.offset = Offset::start(created.consistent_point, binding.clone());
                pump.offset.ts_usec = now_ns() / 1000;
                Notifier::new(options).initial(encoder, &mut pump.batch, "SKIPPED", &[])?;
                pump.sync().await?;
                return Ok(Some(Beginning::at(created.consistent_point)));
            }
            Start::Snapshot(base) => base,
        };
        self.status.phase(Phase::Snapshot);
        if !options.snapshot_delay.is_zero() {
            tokio::time::sleep(options.snapshot_delay).await;
        }
        if base == SnapshotBase::Interrupted {
            tracing::info!(connector = options.name, "the interrupted snapshot goes on");
        }
        let exported = match base {
            SnapshotBase::NewSlot | SnapshotBase::RenewedSlot => {
                if base == SnapshotBase::RenewedSlot {
                    session.replication.drop_slot(&options.slot, false).await?;
                }
                let created = session.replication.create_slot(&slot, SLOT_TIMEOUT).await?;
                made.slot = true;
                Some(created)
            }
            SnapshotBase::BesideSlot => {
                slot.name = format!("millstream_{}", uuid::Uuid::new_v4().simple());
                slot.temporary = true;
                slot.failover = false;
                Some(session.replication.create_slot(&slot, SLOT_TIMEOUT).await?)
            }
            SnapshotBase::Transaction | SnapshotBase::Interrupted => None,
        };
        crate::failpoint!("capture.slot_created");
        let basis = match (&exported, snapshot::under_way(&pump.offset)) {
            (Some(slot), _) => snapshot::Basis::Slot(slot),
            (None, Some(progress)) if base == SnapshotBase::Interrupted => snapshot::Basis::Killed(progress),
            (None, _) => snapshot::Basis::Transaction,
        };
        let at = snapshot::read(self, &session.types, encoder, pump, captured, basis, binding).await?;
        crate::failpoint!("capture.snapshot_done");
        if base == SnapshotBase::BesideSlot {
            // The session goes away, and the temporary slot with it.
            session.replication.drop_slot(&slot.name, false).await?;
        }
        if !options.snapshot_mode.streams() {
            return Ok(None);
        }
        if !options.streaming_delay.is_zero() {
            tokio::time::sleep(options.streaming_delay).await;
        }
        Ok(Some(Beginning::at(at)))
    }
}
