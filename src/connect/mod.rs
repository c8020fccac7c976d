//! The worker: connectors, tasks, states, offsets topics, in Kafka Connect's semantics.
