//! The embedded demo: temporary databases, sample workload, checks.

pub mod postgres;
