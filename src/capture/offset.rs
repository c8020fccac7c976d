//! The offset record: Kafka Connect's key and Debezium's value, with what identity needs besides.
//!
//! Key: `["CONNECTOR",{"server":"PREFIX"}]`, byte for byte. Value: the JSON object that Debezium's PostgreSQL
//! connector stores; the fields under `millstream.` are ours and Debezium does not look at them, so that a
//! Connect cluster can take over a connector and hand it back.

use serde_json::{Map, Value, json};

use super::owner::Owner;
use super::position::{Position, Stamp, Through};
use crate::pg::Lsn;

/// What a slot is bound to: positions mean nothing elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotBinding {
    /// `system_identifier` of the cluster.
    pub system: String,
    /// Timeline when the offset was written; changes with a failover.
    pub timeline: u32,
    /// Slot name.
    pub slot: String,
    /// `server_version_num` then; 0 where it is not known.
    pub version: u32,
}

/// Whether a snapshot was under way when the offset was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotState {
    /// Streaming.
    None,
    /// Rows are being read.
    Running,
    /// The last row is in; nothing streamed yet.
    Completed,
}

/// What is stored with every batch of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Up to where events are in the log, by identity.
    pub position: Position,
    /// Where START_REPLICATION is to begin and what may be confirmed: every transaction that commits before
    /// it is in the log.
    pub restart: Lsn,
    /// The log's content depends on the WAL up to here: the end of the last transaction (or snapshot) of which
    /// something is in it. [`Self::restart`] may be further, where nothing concerned this connector.
    pub content: Lsn,
    /// Debezium's `lsn`: LSN of the last event.
    pub lsn: Lsn,
    /// Debezium's `lsn_commit`: end of the last commit seen.
    pub lsn_commit: Option<Lsn>,
    /// Transaction of the last event.
    pub tx_id: Option<u64>,
    /// Commit time of the last event, microseconds since 1970.
    pub ts_usec: i64,
    /// `INSERT`, `UPDATE`, …; of the last event.
    pub message_type: Option<&'static str>,
    /// Snapshot under way.
    pub snapshot: SnapshotState,
    /// The transaction under way and its events by table, with `provide.transaction.metadata`.
    pub transaction: Option<(String, Vec<(String, u64)>)>,
    /// Further fields (incremental snapshots), carried as they are.
    pub extra: Map<String, Value>,
    /// The slot; `None` in an offset that Debezium, or a person, has written.
    pub binding: Option<SlotBinding>,
    /// Who wrote it; `None` as for [`Self::binding`].
    pub owner: Option<Owner>,
}

/// An offset value that cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum OffsetError {
    /// Not a JSON object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A field is missing or of the wrong type.
    #[error("its field {0} is missing or not a number")]
    Field(&'static str),
}

const ORDER: &str = "transaction_data_collection_order_";

impl Offset {
    /// The offset before the first event: everything that commits from `start` on is to come.
    pub fn start(start: Lsn, binding: SlotBinding) -> Self {
        Self {
            position: Position::before(start),
            restart: start,
            content: start,
            lsn: start,
            lsn_commit: None,
            tx_id: None,
            ts_usec: 0,
            message_type: None,
            snapshot: SnapshotState::None,
            transaction: None,
            extra: Map::new(),
            binding: Some(binding),
            owner: None,
        }
    }

    /// Appends the value's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        let value = self.to_value();
        // Writing JSON into memory cannot fail.
        let _ = serde_json::to_writer(out, &value);
    }

    /// The value as JSON.
    pub fn to_value(&self) -> Value {
        let mut map = self.extra.clone();
        // Debezium holds LSNs in a Java long.
        let long = |lsn: Lsn| json!(lsn.0.cast_signed());
        map.insert("lsn".into(), long(self.lsn));
        if let Some(tx) = self.tx_id {
            map.insert("txId".into(), json!(tx));
        }
        map.insert("ts_usec".into(), json!(self.ts_usec));
        if self.snapshot == SnapshotState::None {
            map.insert("lsn_proc".into(), long(self.lsn));
            if let Some(commit) = self.lsn_commit {
                map.insert("lsn_commit".into(), long(commit));
            }
            if let Some(kind) = self.message_type {
                map.insert("messageType".into(), json!(kind));
            }
        } else {
            let completed = self.snapshot == SnapshotState::Completed;
            map.insert("snapshot".into(), json!("INITIAL"));
            map.insert("last_snapshot_record".into(), json!(completed));
            map.insert("snapshot_completed".into(), json!(completed));
        }
        if let Some((id, tables)) = &self.transaction {
            map.insert("transaction_id".into(), json!(id));
            for (table, n) in tables {
                map.insert(format!("{ORDER}{table}"), json!(n));
            }
        }
        if let Some(binding) = &self.binding {
            map.insert("millstream.restart_lsn".into(), long(self.restart));
            map.insert("millstream.commit_lsn".into(), long(self.position.commit));
            map.insert("millstream.ordinal".into(), json!(self.position.ordinal));
            map.insert("millstream.complete".into(), json!(self.position.complete));
            if let Some(stamp) = self.position.stamp {
                map.insert("millstream.commit_xid".into(), json!(stamp.xid));
                map.insert("millstream.commit_ts_usec".into(), json!(stamp.ts_usec));
            }
            map.insert("millstream.content_lsn".into(), long(self.content));
            map.insert("millstream.system".into(), json!(binding.system));
            map.insert("millstream.timeline".into(), json!(binding.timeline));
            map.insert("millstream.slot".into(), json!(binding.slot));
            map.insert("millstream.server_version".into(), json!(binding.version));
        }
        if let Some(owner) = &self.owner {
            owner.write(&mut map);
        }
        Value::Object(map)
    }

    /// Reads a stored value: ours, Debezium's, or a minimal one that a person has written.
    ///
    /// # Errors
    /// When it is not an object with a numeric `lsn`, `lsn_proc` or `lsn_commit`.
    pub fn read(bytes: &[u8]) -> Result<Self, OffsetError> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Self::from_map(map),
            _ => Err(OffsetError::NotAnObject),
        }
    }

    /// Reads a stored value; see [`Offset::read`].
    ///
    /// # Errors
    /// As [`Offset::read`].
    pub fn from_map(mut map: Map<String, Value>) -> Result<Self, OffsetError> {
        let mut lsn = |name: &'static str| match map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(v) => {
                let long = v.as_i64().map(i64::cast_unsigned).or_else(|| v.as_u64());
                long.map(|n| Some(Lsn(n))).ok_or(OffsetError::Field(name))
            }
        };
        let event = lsn("lsn")?;
        let processed = lsn("lsn_proc")?;
        let lsn_commit = lsn("lsn_commit")?;
        let restart = lsn("millstream.restart_lsn")?;
        let commit = lsn("millstream.commit_lsn")?;
        let content = lsn("millstream.content_lsn")?;
        let last = event.or(processed).or(lsn_commit).ok_or(OffsetError::Field("lsn"))?;
        let number = |v: Option<Value>| v.and_then(|v| v.as_i64());
        let text = |v: Option<Value>| v.and_then(|v| v.as_str().map(str::to_owned));
        let tx_id = number(map.remove("txId")).map(i64::cast_unsigned);
        let ts_usec = number(map.remove("ts_usec")).unwrap_or(0);
        let message_type = text(map.remove("messageType")).and_then(|t| {
            ["INSERT", "UPDATE", "DELETE", "TRUNCATE", "MESSAGE", "BEGIN", "COMMIT"]
                .into_iter()
                .find(|known| *known == t)
        });
        let truth = |v: Option<Value>| match v {
            Some(Value::Bool(b)) => Some(b),
            Some(Value::String(s)) => Some(s.eq_ignore_ascii_case("true")),
            _ => None,
        };
        let completed = truth(map.remove("snapshot_completed"));
        let last_record = truth(map.remove("last_snapshot_record"));
        let snapshot = match map.remove("snapshot") {
            Some(Value::String(s)) if matches!(s.as_str(), "INITIAL" | "true" | "TRUE") => {
                match completed.or(last_record) {
                    Some(true) => SnapshotState::Completed,
                    _ => SnapshotState::Running,
                }
            }
            Some(Value::Bool(true)) => match completed.or(last_record) {
                Some(true) => SnapshotState::Completed,
                _ => SnapshotState::Running,
            },
            // A blocking or incremental snapshot does not ask for an initial one.
            _ => SnapshotState::None,
        };
        let mut counts = Vec::new();
        for key in map.keys().filter(|k| k.starts_with(ORDER)).cloned().collect::<Vec<_>>() {
            if let Some(n) = number(map.remove(&key)).and_then(|n| u64::try_from(n).ok()) {
                counts.push((key.strip_prefix(ORDER).unwrap_or("").to_owned(), n));
            }
        }
        let transaction = text(map.remove("transaction_id")).map(|id| (id, counts));
        let ordinal = number(map.remove("millstream.ordinal")).and_then(|n| u64::try_from(n).ok());
        let complete = truth(map.remove("millstream.complete"));
        let xid = number(map.remove("millstream.commit_xid")).and_then(|n| u64::try_from(n).ok());
        let stamp = xid.zip(number(map.remove("millstream.commit_ts_usec")));
        let stamp = stamp.map(|(xid, ts_usec)| Stamp { xid, ts_usec });
        let system = text(map.remove("millstream.system"));
        let timeline = number(map.remove("millstream.timeline")).and_then(|n| u32::try_from(n).ok());
        let slot = text(map.remove("millstream.slot"));
        let version =
            number(map.remove("millstream.server_version")).and_then(|n| u32::try_from(n).ok()).unwrap_or(0);
        let binding = match (system, timeline, slot) {
            (Some(system), Some(timeline), Some(slot)) => {
                Some(SlotBinding { system, timeline, slot, version })
            }
            _ => None,
        };
        let (position, restart) = match (&binding, commit, ordinal, complete) {
            (Some(_), Some(commit), Some(ordinal), Some(complete)) => {
                (Position { commit, ordinal, complete, through: None, stamp }, restart.unwrap_or(last))
            }
            // Debezium's: everything up to the last event, by LSN within the transaction that holds it.
            _ => {
                let restart = lsn_commit.unwrap_or_else(|| processed.unwrap_or(last).min(last));
                let mut position = Position::before(restart);
                // BEGIN names the first change, which is not there yet; behind COMMIT nothing is left to know.
                let change = message_type.is_some_and(|kind| !matches!(kind, "BEGIN" | "COMMIT"));
                // The first change of a transaction may stand where the commit before it ends, and all of them before
                // it, where that other transaction came later and was done sooner. Where the change belongs to what
                // that commit ended, no transaction with its id comes any more.
                let within = lsn_commit.is_none() || last > restart || tx_id.is_some();
                if change && within {
                    position.through = Some(Through { lsn: last, xid: tx_id, at_lsn: None });
                }
                (position, restart)
            }
        };
        Ok(Self {
            position,
            restart,
            content: content.unwrap_or(restart),
            lsn: last,
            lsn_commit,
            tx_id,
            ts_usec,
            message_type,
            snapshot,
            transaction,
            owner: Owner::take(&mut map),
            extra: map,
            binding,
        })
    }
}

/// Key of a connector's offset: `["CONNECTOR",{"server":"PREFIX"}]` without spaces.
pub fn key(connector: &str, prefix: &str) -> Vec<u8> {
    let value = json!([connector, { "server": prefix }]);
    value.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding() -> SlotBinding {
        SlotBinding { system: "7345".into(), timeline: 1, slot: "s".into(), version: 150_003 }
    }

    #[test]
    fn the_key_has_no_spaces() {
        assert_eq!(key("c \"1\"", "srv"), br#"["c \"1\"",{"server":"srv"}]"#);
    }

    #[test]
    fn ours_comes_back() {
        let mut offset = Offset::start(Lsn(0x10), binding());
        let stamp = Some(Stamp { xid: 9, ts_usec: -5 });
        offset.position = Position { commit: Lsn(0x40), ordinal: 3, complete: false, through: None, stamp };
        offset.restart = Lsn(0x30);
        offset.lsn = Lsn(u64::MAX);
        offset.lsn_commit = Some(Lsn(0x30));
        offset.tx_id = Some(9);
        offset.message_type = Some("UPDATE");
        offset.transaction = Some(("9".into(), vec![("public.a".into(), 2)]));
        offset.extra.insert("incremental_snapshot_correlation_id".into(), json!("x"));
        let mut bytes = Vec::new();
        offset.write(&mut bytes);
        assert!(String::from_utf8_lossy(&bytes).contains("\"lsn\":-1,"));
        assert_eq!(Offset::read(&bytes).unwrap(), offset);
        offset.snapshot = SnapshotState::Running;
        offset.message_type = None;
        offset.lsn_commit = None;
        let mut bytes = Vec::new();
        offset.write(&mut bytes);
        assert_eq!(Offset::read(&bytes).unwrap(), offset);
    }

    #[test]
    fn debeziums_is_understood() {
        let text = br#"{"lsn_proc":40,"messageType":"DELETE","lsn_commit":30,"lsn":40,"txId":5,"ts_usec":7}"#;
        let offset = Offset::read(text).unwrap();
        assert_eq!(
            (offset.restart, offset.position.through),
            (Lsn(30), Some(Through { lsn: Lsn(40), xid: Some(5), at_lsn: None }))
        );
        assert_eq!(offset.binding, None);
        // Another transaction began later and was done sooner.
        let woven = Offset::read(br#"{"messageType":"INSERT","lsn_commit":50,"lsn":40,"txId":5}"#).unwrap();
        let known = Through { lsn: Lsn(40), xid: Some(5), at_lsn: None };
        assert_eq!((woven.restart, woven.position.through), (Lsn(50), Some(known)));
        // A change right behind the commit before it is in the log; what BEGIN names is not.
        let behind = |kind: &str| {
            let text =
                format!(r#"{{"lsn_proc":40,"messageType":"{kind}","lsn_commit":40,"lsn":40,"txId":5}}"#);
            Offset::read(text.as_bytes()).unwrap().position.through.map(|through| through.lsn)
        };
        assert_eq!([behind("UPDATE"), behind("COMMIT"), behind("BEGIN")], [Some(Lsn(40)), None, None]);
        let begin = Offset::read(br#"{"lsn_proc":30,"messageType":"BEGIN","lsn":40,"txId":5}"#).unwrap();
        assert_eq!((begin.restart, begin.position.through), (Lsn(30), None));
        let text = br#"{"last_snapshot_record":true,"lsn":20,"txId":1,"ts_usec":2,"snapshot":"INITIAL","snapshot_completed":true}"#;
        let offset = Offset::read(text).unwrap();
        assert_eq!((offset.snapshot, offset.restart), (SnapshotState::Completed, Lsn(20)));
        assert_eq!(offset.position.through, None);
        let offset = Offset::read(br#"{"lsn":20,"snapshot":"INITIAL","snapshot_completed":false}"#).unwrap();
        assert_eq!(offset.snapshot, SnapshotState::Running);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Offset::read(b"[]"), Err(OffsetError::NotAnObject));
        assert_eq!(Offset::read(br#"{"lsn":"x"}"#), Err(OffsetError::Field("lsn")));
        assert_eq!(Offset::read(br#"{"txId":1}"#), Err(OffsetError::Field("lsn")));
    }
}
