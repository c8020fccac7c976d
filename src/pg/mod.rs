//! PostgreSQL as a source: the replication wire client, pgoutput, the catalog and the snapshot reader.

pub mod catalog;
pub mod lsn;
pub mod pgoutput;

pub use lsn::Lsn;
