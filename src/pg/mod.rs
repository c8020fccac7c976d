//! PostgreSQL as a source: the replication wire client, pgoutput, the catalog and the snapshot reader.

mod auth;
pub mod catalog;
pub mod client;
pub mod command;
pub mod config;
pub mod error;
mod frames;
pub mod lsn;
mod net;
pub mod pgoutput;
pub mod quote;
pub mod snapshot;
pub mod stream;
mod tls;
mod url;
mod wire;

pub use client::{connect, primary};
pub use command::{CreateSlot, CreatedSlot, ReplicationClient, StartOptions, SystemIdentity};
pub use config::{ConnectConfig, SslMode};
pub use error::{ServerError, sql_error, sqlstate};
pub use frames::{Keepalive, WalChunk, WalFrame, XLogData};
pub use lsn::Lsn;
pub use quote::{Ident, Literal, Qualified};
pub use stream::{Acknowledger, WalStream};
