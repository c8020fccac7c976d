//! Replication commands (PostgreSQL's documentation, "Streaming Replication Protocol").

use std::fmt::Write as _;
use std::time::Duration;

use super::Lsn;
use super::config::ConnectConfig;
use super::error::{ServerError, protocol_error, server_error};
use super::quote::{Ident, ReplicationLiteral};
use super::stream::WalStream;
use super::wire::{TextRow, Wire};
use crate::error::{Error, Result};

/// After so long without a word the server counts as gone, where `wal_sender_timeout` is off and tells nothing.
const SILENCE: Duration = Duration::from_secs(600);

/// A walsender session of one database, before it streams.
#[derive(Debug)]
pub struct ReplicationClient {
    wire: Wire,
}

/// Answer to IDENTIFY_SYSTEM: what a stored position is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemIdentity {
    /// `system_identifier` of the cluster.
    pub system_id: String,
    /// Timeline.
    pub timeline: u32,
    /// Present end of the WAL.
    pub position: Lsn,
}

/// A logical slot to make.
#[derive(Clone, Debug)]
pub struct CreateSlot {
    /// Its name.
    pub name: String,
    /// It goes away with the session.
    pub temporary: bool,
    /// Export a snapshot that shows the database exactly as of the slot's start.
    pub export_snapshot: bool,
    /// Decode prepared transactions at PREPARE (server 14+).
    pub two_phase: bool,
    /// Keep it on standbys too (server 17+).
    pub failover: bool,
}

impl CreateSlot {
    /// A lasting slot with an exported snapshot.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), temporary: false, export_snapshot: true, two_phase: false, failover: false }
    }

    fn command(&self, server_version: u32) -> Result<String> {
        let too_old = |what: &str, needed: u32| {
            Error::config(format!("{what} need PostgreSQL {needed} or newer"))
                .because(format!("the server is version {}", server_version / 10_000))
        };
        if self.failover && server_version < 170_000 {
            return Err(too_old("failover slots", 17));
        }
        if self.two_phase && server_version < 140_000 {
            return Err(too_old("slots with two-phase decoding", 14));
        }
        let temporary = if self.temporary { " TEMPORARY" } else { "" };
        let mut text = format!("CREATE_REPLICATION_SLOT {}{temporary} LOGICAL pgoutput", Ident(&self.name));
        if server_version >= 150_000 {
            let mut options =
                vec![if self.export_snapshot { "SNAPSHOT 'export'" } else { "SNAPSHOT 'nothing'" }];
            if self.two_phase {
                options.push("TWO_PHASE");
            }
            if self.failover {
                options.push("FAILOVER");
            }
            let _ = write!(text, " ({})", options.join(", "));
        } else {
            text.push_str(if self.export_snapshot { " EXPORT_SNAPSHOT" } else { " NOEXPORT_SNAPSHOT" });
            if self.two_phase {
                text.push_str(" TWO_PHASE");
            }
        }
        Ok(text)
    }
}

/// A slot that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Streaming starts here: the snapshot holds everything before it and nothing after.
    pub consistent_point: Lsn,
    /// Name of the exported snapshot; valid until this session's next command.
    pub snapshot_name: Option<String>,
}

/// What to stream.
#[derive(Clone, Debug)]
pub struct StartOptions {
    /// Slot.
    pub slot: String,
    /// Where to start; the server starts at the slot's confirmed position when that is later.
    pub start: Lsn,
    /// Publications.
    pub publications: Vec<String>,
    /// pgoutput's protocol version: 1, or 2 (server 14+) for [`Self::streaming`].
    pub proto_version: u8,
    /// Send large transactions in pieces before they commit.
    pub streaming: bool,
    /// Send values in binary format where the type has one (server 14+).
    pub binary: bool,
    /// Send what `pg_logical_emit_message` wrote (server 14+).
    pub messages: bool,
    /// `none` leaves out what came by replication itself (server 16+).
    pub origin: Option<String>,
    /// Longest time between two status updates.
    pub status_interval: Duration,
}

impl StartOptions {
    /// Protocol 1 in text format with logical messages, as Debezium asks for it.
    pub fn new(slot: impl Into<String>, publication: impl Into<String>, start: Lsn) -> Self {
        Self {
            slot: slot.into(),
            start,
            publications: vec![publication.into()],
            proto_version: 1,
            streaming: false,
            binary: false,
            messages: true,
            origin: None,
            status_interval: Duration::from_secs(10),
        }
    }

    fn command(&self, server_version: u32) -> String {
        let names: Vec<String> = self.publications.iter().map(|name| Ident(name).to_string()).collect();
        let mut text = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {}",
            Ident(&self.slot),
            self.start,
            self.proto_version,
            // A list of identifiers inside a literal: quoted twice.
            ReplicationLiteral(&names.join(","))
        );
        // Older servers refuse options they do not know.
        let modern = server_version >= 140_000;
        if self.messages && modern {
            text.push_str(", messages 'true'");
        }
        if self.binary && modern {
            text.push_str(", binary 'true'");
        }
        if self.streaming && modern && self.proto_version >= 2 {
            text.push_str(", streaming 'on'");
        }
        if let Some(origin) = self.origin.as_ref().filter(|_| server_version >= 160_000) {
            let _ = write!(text, ", origin {}", ReplicationLiteral(origin));
        }
        text.push(')');
        text
    }
}

impl ReplicationClient {
    /// Opens a walsender session.
    ///
    /// # Errors
    /// Unreachable server, refused login, missing replication privilege, no free walsender.
    pub async fn connect(config: &ConnectConfig) -> Result<Self> {
        let config = &super::primary(config).await?;
        Ok(Self { wire: Wire::connect(config, true).await? })
    }

    /// `server_version_num`: 150012 for 15.12.
    pub fn server_version(&self) -> u32 {
        self.wire.server_version
    }

    /// The server's process behind this session, as `pg_stat_replication.pid` shows it.
    pub fn backend_pid(&self) -> i32 {
        self.wire.backend
    }

    /// IDENTIFY_SYSTEM.
    ///
    /// # Errors
    /// When the session breaks.
    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let rows = self.wire.query("cannot identify the server", "IDENTIFY_SYSTEM").await?;
        let mut row = first(rows);
        let identity = (|| {
            let system_id = row.next()??;
            let timeline = row.next()??.parse().ok()?;
            let position = row.next()??.parse().ok()?;
            Some(SystemIdentity { system_id, timeline, position })
        })();
        identity
            .ok_or_else(|| protocol_error(&self.wire.config, "its answer to IDENTIFY_SYSTEM cannot be read"))
    }

    /// TIMELINE_HISTORY: how the server came to a timeline, as its history file has it; empty for the first.
    ///
    /// # Errors
    /// When the server does not have the file, or the session breaks.
    pub async fn timeline_history(&mut self, timeline: u32) -> Result<String> {
        if timeline <= 1 {
            return Ok(String::new());
        }
        let rows = self
            .wire
            .query("cannot read the timeline's history", &format!("TIMELINE_HISTORY {timeline}"))
            .await?;
        let mut row = first(rows);
        let _file = row.next();
        Ok(row.next().flatten().unwrap_or_default())
    }

    /// CREATE_REPLICATION_SLOT with pgoutput. It waits for each of the transactions that are under way; `timeout`
    /// (none for zero) bounds such a wait by `lock_timeout`, since replication commands know no other limit.
    ///
    /// # Errors
    /// A slot of this name exists, no slot is free, `wal_level` is not `logical`, or time is up
    /// (SQLSTATE 55P03, transient).
    pub async fn create_slot(&mut self, slot: &CreateSlot, timeout: Duration) -> Result<CreatedSlot> {
        let command = slot.command(self.wire.server_version)?;
        let what = format!("cannot create replication slot \"{}\"", slot.name);
        self.wire.query(&what, &format!("SET lock_timeout = {}", timeout.as_millis())).await?;
        if slot.export_snapshot {
            // The snapshot lives in an idle transaction of this session for as long as tables are read.
            self.wire.query(&what, "SET idle_in_transaction_session_timeout = 0").await?;
            if self.wire.server_version >= 170_000 {
                self.wire.query(&what, "SET transaction_timeout = 0").await?;
            }
        }
        let rows = self.wire.query(&what, &command).await?;
        let mut row = first(rows);
        let created = (|| {
            let _name = row.next()?;
            let consistent_point = row.next()??.parse().ok()?;
            let snapshot_name = row.next().flatten();
            Some(CreatedSlot { consistent_point, snapshot_name })
        })();
        created.ok_or_else(|| {
            protocol_error(&self.wire.config, "its answer to CREATE_REPLICATION_SLOT cannot be read")
        })
    }

    /// DROP_REPLICATION_SLOT; with `wait` it waits for a session that still uses the slot.
    ///
    /// # Errors
    /// No such slot, or it is in use.
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<()> {
        let wait = if wait { " WAIT" } else { "" };
        let what = format!("cannot drop replication slot \"{name}\"");
        self.wire.query(&what, &format!("DROP_REPLICATION_SLOT {}{wait}", Ident(name))).await?;
        Ok(())
    }

    /// Runs any SQL in this session (a walsender of a database takes plain queries); all values as text.
    /// `what` (`cannot …`) names it in errors. Ends the life of an exported snapshot.
    ///
    /// # Errors
    /// What the server reports.
    pub async fn query(&mut self, what: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.wire.query(what, sql).await
    }

    /// START_REPLICATION: turns the session into a stream of changes.
    ///
    /// # Errors
    /// Slot missing, in use ([`crate::error::Kind::Fenced`]) or invalidated; WAL that is gone.
    pub async fn start(mut self, options: &StartOptions) -> Result<WalStream> {
        let what = format!("cannot stream from replication slot \"{}\"", options.slot);
        let sql = "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'";
        let timeout = first(self.wire.query(&what, sql).await?).next().flatten();
        // Zero, and what cannot be read, mean that the server never gives up on us.
        let timeout = timeout.and_then(|ms| ms.parse().ok()).filter(|ms| *ms > 0).map(Duration::from_millis);
        self.wire.send_query(&options.command(self.wire.server_version)).await?;
        loop {
            let frame = self.wire.frame().await?;
            match frame.tag {
                // CopyBothResponse
                b'W' => break,
                b'E' => {
                    let error = ServerError::from_body(&frame.body);
                    return Err(server_error(format!("{what} ({})", self.wire.config.describe()), error));
                }
                b'N' | b'S' => {}
                other => return Err(self.wire.unexpected(other)),
            }
        }
        let interval = timeout.map_or(options.status_interval, |t| options.status_interval.min(t / 2));
        // Asked every interval, a living server answers long before it would give us up.
        let silence = timeout.map_or(SILENCE, |t| t * 2);
        Ok(WalStream::new(self.wire, options.slot.clone(), options.start, interval, silence))
    }

    /// Ends the session.
    pub async fn close(self) {
        self.wire.terminate().await;
    }
}

fn first(rows: Vec<TextRow>) -> std::vec::IntoIter<Option<String>> {
    rows.into_iter().next().unwrap_or_default().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_commands_follow_the_servers_version() {
        let mut slot = CreateSlot::new("a\"b");
        assert_eq!(
            slot.command(150_000).unwrap(),
            "CREATE_REPLICATION_SLOT \"a\"\"b\" LOGICAL pgoutput (SNAPSHOT 'export')"
        );
        assert_eq!(
            slot.command(140_000).unwrap(),
            "CREATE_REPLICATION_SLOT \"a\"\"b\" LOGICAL pgoutput EXPORT_SNAPSHOT"
        );
        slot.failover = true;
        assert!(slot.command(160_000).is_err());
        assert!(slot.command(170_000).unwrap().ends_with("(SNAPSHOT 'export', FAILOVER)"));
    }

    #[test]
    fn publication_names_are_quoted_twice() {
        let mut options = StartOptions::new("s", "it's \"p\"", Lsn(0x10));
        options.publications.push("q".to_owned());
        assert_eq!(
            options.command(130_000),
            "START_REPLICATION SLOT \"s\" LOGICAL 0/10 (proto_version '1', \
             publication_names '\"it''s \"\"p\"\"\",\"q\"')"
        );
        options.proto_version = 2;
        options.streaming = true;
        options.origin = Some("none".to_owned());
        assert!(options.command(160_000).ends_with("messages 'true', streaming 'on', origin 'none')"));
    }
}
