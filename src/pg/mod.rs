//! PostgreSQL as a source: the replication wire client, pgoutput, the catalog and the snapshot reader.

pub mod catalog;
pub mod lsn;
pub mod pgoutput;
pub mod quote;

pub use lsn::Lsn;
pub use quote::{Ident, Literal, Qualified};
