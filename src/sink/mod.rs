//! Sinks: PostgreSQL upserts behind an epoch fence, topics, print, filesystem.
