//! The embedded demo: temporary databases, sample workload, checks.

pub mod check;
pub mod databases;
pub mod postgres;
pub mod workload;
