//! Integration tests, one module per capability, in one binary (one link).
//!
//! Everything runs against real parts: PostgreSQL from a temporary cluster, Kafka from a broker that the
//! tests start.

#![allow(
    missing_docs,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test program; some of what it shares with tests/goldens.rs is only used there"
)]

mod at_least_once;
mod bad_config;
mod bad_input;
mod capture;
mod catalog;
mod cli;
mod connectors;
mod converters;
mod crash;
mod demo;
mod disk_full;
mod doctor;
mod etl;
mod failover;
mod incremental;
mod jdbc_scan;
#[path = "support/goldens/json.rs"]
mod json;
mod kafka_refuses;
mod large_transactions;
mod log_contract;
mod log_crash;
mod network;
mod nothing_waits;
mod operate;
mod outage;
mod pipeline_crash;
mod pipeline_failures;
mod pipeline_files;
mod postgres_sink;
mod protobuf_reader;
#[allow(dead_code, reason = "the golden runner has more use for it")]
#[path = "support/goldens/registry.rs"]
mod registry;
mod registry_tls;
mod replication;
mod scalar_oracle;
mod service;
mod shared_sources;
mod slot_identity;
mod snapshots;
mod source_settings;
mod sql_oracle;
mod sql_text;
mod support;
mod tables;
mod takeover;
mod topics_on_kafka;
mod transforms;
mod two_instances;
mod values;
mod wal_health;
