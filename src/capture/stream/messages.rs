//! Logical decoding messages (`pg_logical_emit_message`), within transactions and outside of them.

use std::sync::atomic::Ordering;

use super::super::offset::SnapshotState;
use super::super::position::{Position, Resume};
use super::super::pump::Pump;
use super::{Stream, now_ns, undecodable};
use crate::error::Result;
use crate::event::SourceInfo;
use crate::pg::Lsn;

impl Stream {
    /// A message within a transaction: it counts as a change of it.
    pub(super) fn transactional_message(
        &mut self,
        lsn: Lsn,
        prefix: &str,
        content: &[u8],
        pump: &mut Pump,
    ) -> Result<()> {
        self.encode(lsn, pump, "MESSAGE", |encoder, source, batch| {
            encoder.message(prefix, content, source, batch)
        })
    }

    /// A message outside a transaction: it stands for itself in the order of commits.
    pub(super) fn lone_message(
        &mut self,
        lsn: Lsn,
        prefix: &str,
        content: &[u8],
        pump: &mut Pump,
    ) -> Result<()> {
        self.status.changes.fetch_add(1, Ordering::Relaxed);
        self.last_commit = Some(lsn);
        if self.resume.resume(lsn, None) != Resume::Whole {
            return Ok(());
        }
        let now = now_ns();
        let source = SourceInfo {
            lsn: Some(lsn),
            last_commit_lsn: Some(lsn),
            ts_ns: now / 1000 * 1000,
            now_ns: now,
            ..SourceInfo::default()
        };
        self.encoder.message(prefix, content, &source, &mut pump.batch).map_err(|e| undecodable(lsn, &e))?;
        let offset = &mut pump.offset;
        offset.snapshot = SnapshotState::None;
        offset.position = Position { ordinal: 1, complete: true, ..Position::before(lsn) };
        offset.restart = offset.restart.max(lsn);
        offset.content = offset.content.max(Lsn(lsn.0.saturating_add(1)));
        offset.lsn = lsn;
        offset.lsn_commit = Some(lsn);
        offset.tx_id = None;
        offset.ts_usec = now / 1000;
        offset.message_type = Some("MESSAGE");
        Ok(())
    }
}
