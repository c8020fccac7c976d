//! The embedded demo: temporary databases, sample workload, checks.
