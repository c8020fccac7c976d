//! Whether a stored offset belongs to the server that answers: pure, so that every case is a test.
//!
//! Positions in the WAL mean something in one cluster and on one timeline only. A promoted standby goes on with
//! the same WAL up to the point where it switched: an offset that depends on nothing behind that point stays
//! good. What was restored from a backup, made anew or upgraded counts its WAL anew or otherwise.

use super::offset::Offset;
use crate::pg::Lsn;

/// The end of a timeline: the next one begins there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that ends.
    pub timeline: u32,
    /// Its WAL counts up to here.
    pub at: Lsn,
}

/// What is known of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerState {
    /// `system_identifier`.
    pub system: String,
    /// Timeline it is on.
    pub timeline: u32,
    /// `server_version_num`.
    pub version: u32,
    /// End of its WAL.
    pub wal_end: Lsn,
    /// How it came to its timeline.
    pub history: Vec<Switch>,
    /// Commit of a transaction that is in the log, and that the stream has shown not to be in its WAL.
    pub lacks: Option<Lsn>,
}

/// How an offset stands to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its positions count.
    Good,
    /// Its positions count up to here, which is at or after everything that is in the log; from here on the WAL is
    /// another.
    UpTo(Lsn),
    /// They mean nothing here: why, and whether the cluster is another one.
    Foreign {
        /// In a sentence's words.
        why: String,
        /// Not even comparable.
        other_cluster: bool,
    },
}

/// Reads a timeline's history file (`TIMELINE_HISTORY`): a line per switch, `timeline LSN reason`.
pub fn parse_history(text: &str) -> Vec<Switch> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next()?.parse().ok()?;
            Some(Switch { timeline, at: words.next()?.parse().ok()? })
        })
        .collect()
}

fn major(version: u32) -> u32 {
    version / 10_000
}

/// Compares.
pub fn standing(offset: &Offset, server: &ServerState) -> Standing {
    let foreign = |why: String| Standing::Foreign { why, other_cluster: false };
    let Some(binding) = &offset.binding else {
        // Debezium's offset says nothing of where it is from.
        return behind(offset, server).map_or(Standing::Good, foreign);
    };
    if binding.system != server.system {
        let why = if binding.version > 0 && major(server.version) > major(binding.version) {
            format!(
                "the server was upgraded from PostgreSQL {} to {}, which makes it another database cluster",
                major(binding.version),
                major(server.version)
            )
        } else {
            format!(
                "the offset was written for another database cluster (system identifier {}, this one is {})",
                binding.system, server.system
            )
        };
        return Standing::Foreign { why, other_cluster: true };
    }
    if server.lacks == Some(offset.position.commit) {
        let xid = offset.position.stamp.map_or(0, |stamp| stamp.xid);
        return foreign(format!(
            "the server's WAL does not hold transaction {xid}, committed at {}, which is in the log: the server was \
             restored from a backup that is older (or the connector reads another publication now)",
            offset.position.commit
        ));
    }
    if binding.timeline == server.timeline {
        return behind(offset, server).map_or(Standing::Good, foreign);
    }
    let switch = server.history.iter().find(|switch| switch.timeline == binding.timeline);
    let Some(switch) = switch else {
        return foreign(format!(
            "the server is on timeline {}, which does not come from timeline {} of the stored offset: it was restored \
             from a backup, or promoted from another branch",
            server.timeline, binding.timeline
        ));
    };
    if offset.content > switch.at {
        return foreign(format!(
            "the server was promoted from timeline {} to {} at {}, before the last change in the log ({}): it had not \
             received what came between, and has gone another way since",
            binding.timeline, server.timeline, switch.at, offset.content
        ));
    }
    // The position may also name a transaction that the old timeline alone has, and of which nothing but filtered
    // changes have come.
    let position = &offset.position;
    let within = position.commit >= switch.at && (position.ordinal > 0 || position.complete);
    let ahead = offset.restart > switch.at || within;
    if ahead { Standing::UpTo(switch.at) } else { Standing::Good }
}

/// A server whose WAL ends before the offset was set back.
fn behind(offset: &Offset, server: &ServerState) -> Option<String> {
    (server.wal_end < offset.restart).then(|| {
        format!(
            "the server's WAL ends at {}, before the stored offset {}: it was restored from a backup, or is another \
             server",
            server.wal_end, offset.restart
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::offset::SlotBinding;
    use super::super::position::Position;
    use super::*;

    fn server(timeline: u32, wal_end: u64) -> ServerState {
        ServerState {
            system: "1".into(),
            timeline,
            version: 150_002,
            wal_end: Lsn(wal_end),
            history: parse_history("1\t0/64\tno recovery target specified\n\n2\t0/C8\tbefore 2026\n"),
            lacks: None,
        }
    }

    fn offset(timeline: u32, content: u64, restart: u64) -> Offset {
        let binding = SlotBinding { system: "1".into(), timeline, slot: "s".into(), version: 140_000 };
        let mut offset = Offset::start(Lsn(restart), binding);
        offset.content = Lsn(content);
        offset
    }

    #[test]
    fn a_promotion_after_the_last_change_is_followed() {
        assert_eq!(standing(&offset(3, 50, 60), &server(3, 500)), Standing::Good);
        assert_eq!(standing(&offset(1, 50, 60), &server(3, 500)), Standing::Good);
        assert_eq!(standing(&offset(1, 100, 100), &server(3, 500)), Standing::Good);
        // The old primary had more WAL, but nothing of it is in the log.
        assert_eq!(standing(&offset(1, 90, 110), &server(3, 500)), Standing::UpTo(Lsn(100)));
        assert_eq!(standing(&offset(2, 90, 210), &server(3, 500)), Standing::UpTo(Lsn(200)));
        // Within a transaction of which only filtered changes have come.
        let mut within = offset(1, 50, 60);
        within.position = Position { ordinal: 3, ..Position::before(Lsn(130)) };
        assert_eq!(standing(&within, &server(3, 500)), Standing::UpTo(Lsn(100)));
    }

    #[test]
    fn what_has_gone_another_way_is_named() {
        let why = |offset: &Offset, server: &ServerState| match standing(offset, server) {
            Standing::Foreign { why, .. } => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&offset(1, 101, 120), &server(3, 500)).contains("promoted from timeline 1 to 3"));
        assert!(why(&offset(4, 10, 10), &server(3, 500)).contains("does not come from timeline 4"));
        assert!(why(&offset(3, 10, 600), &server(3, 500)).contains("restored from a backup"));
        let mut other = server(3, 500);
        other.system = "2".into();
        assert!(why(&offset(3, 10, 10), &other).contains("upgraded from PostgreSQL 14 to 15"));
        other.version = 140_009;
        assert!(why(&offset(3, 10, 10), &other).contains("another database cluster"));
        let mut restored = server(3, 500);
        restored.lacks = Some(Lsn(10));
        assert!(why(&offset(3, 10, 10), &restored).contains("backup"));
        assert_eq!(standing(&offset(3, 20, 20), &restored), Standing::Good);
        let mut plain = offset(3, 10, 600);
        plain.binding = None;
        assert!(why(&plain, &server(3, 500)).contains("WAL ends"));
    }
}
