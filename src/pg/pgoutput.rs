//! Decoder of the `pgoutput` logical replication messages, borrowed from the bytes they came in.
//!
//! Specified in PostgreSQL's documentation, "Logical Replication Message Formats". No tokio here:
//! bytes in, borrowed messages out.

use super::Lsn;

mod decode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, TupleIter, parse, parse_streamed};

/// One column of a tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column<'a> {
    /// SQL NULL.
    Null,
    /// A TOASTed value that the change did not touch and the server therefore did not send.
    Unchanged,
    /// The value in PostgreSQL's text format, in the client encoding (UTF-8).
    Text(&'a [u8]),
    /// The value in the type's binary format.
    Binary(&'a [u8]),
}

/// A row's columns, still in wire form. Validated when it was parsed: iterating never fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple<'a> {
    pub(super) columns: u16,
    pub(super) bytes: &'a [u8],
}

/// Which old row an update or delete carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// Only the replica identity's columns are set, the others are null (`K`).
    Key(Tuple<'a>),
    /// The whole old row: REPLICA IDENTITY FULL (`O`).
    Full(Tuple<'a>),
}

/// A table's replica identity, from a Relation message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key (`d`).
    Default,
    /// Nothing (`n`).
    Nothing,
    /// The whole row (`f`).
    Full,
    /// A unique index (`i`).
    Index,
}

/// A column of a Relation message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationColumn {
    /// Part of the replica identity.
    pub in_identity: bool,
    /// Column name.
    pub name: String,
    /// Type OID.
    pub type_oid: u32,
    /// Type modifier, -1 for none.
    pub typmod: i32,
}

/// A Relation message: describes a table before its first change in a session and after each change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation {
    /// The table's OID.
    pub oid: u32,
    /// Schema name.
    pub schema: String,
    /// Table name.
    pub name: String,
    /// Replica identity.
    pub identity: ReplicaIdentity,
    /// Columns in wire order.
    pub columns: Vec<RelationColumn>,
}

/// One logical replication message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Start of a transaction.
    Begin {
        /// LSN of the commit record.
        final_lsn: Lsn,
        /// Commit time, microseconds since 2000-01-01 UTC.
        commit_ts: i64,
        /// Transaction id.
        xid: u32,
    },
    /// End of a transaction.
    Commit {
        /// LSN of the commit record; equals the Begin's `final_lsn`.
        commit_lsn: Lsn,
        /// End of the transaction: what to confirm.
        end_lsn: Lsn,
        /// Commit time, microseconds since 2000-01-01 UTC.
        commit_ts: i64,
    },
    /// The origin of a replicated transaction.
    Origin {
        /// Commit LSN on the origin.
        lsn: Lsn,
        /// Its name.
        name: &'a str,
    },
    /// A table's description.
    Relation(Relation),
    /// A type that is not built in.
    Type {
        /// Type OID.
        oid: u32,
        /// Schema.
        schema: &'a str,
        /// Name.
        name: &'a str,
    },
    /// A new row.
    Insert {
        /// Table OID.
        relation: u32,
        /// The row.
        new: Tuple<'a>,
    },
    /// A changed row.
    Update {
        /// Table OID.
        relation: u32,
        /// The old row: with identity FULL always, else only when the key changed.
        old: Option<OldTuple<'a>>,
        /// The new row.
        new: Tuple<'a>,
    },
    /// A removed row.
    Delete {
        /// Table OID.
        relation: u32,
        /// The old row.
        old: OldTuple<'a>,
    },
    /// Tables emptied by one TRUNCATE.
    Truncate {
        /// CASCADE was given.
        cascade: bool,
        /// RESTART IDENTITY was given.
        restart_identity: bool,
        /// Table OIDs.
        relations: Vec<u32>,
    },
    /// `pg_logical_emit_message`.
    LogicalMessage {
        /// Part of a transaction.
        transactional: bool,
        /// Where it stands.
        lsn: Lsn,
        /// Its prefix.
        prefix: &'a str,
        /// Its content.
        content: &'a [u8],
    },
    /// A piece of a large in-progress transaction begins (protocol 2+).
    StreamStart {
        /// Top-level transaction id.
        xid: u32,
        /// First piece of this transaction.
        first: bool,
    },
    /// That piece ends.
    StreamStop,
    /// A streamed transaction commits.
    StreamCommit {
        /// Top-level transaction id.
        xid: u32,
        /// LSN of the commit record.
        commit_lsn: Lsn,
        /// End of the transaction.
        end_lsn: Lsn,
        /// Commit time, microseconds since 2000-01-01 UTC.
        commit_ts: i64,
    },
    /// A streamed transaction, or a part of it, is rolled back.
    StreamAbort {
        /// Top-level transaction id.
        xid: u32,
        /// The subtransaction that is rolled back; equals `xid` for the whole.
        subxid: u32,
    },
}
