//! From plan to running pipeline: sources, epochs, sinks, shutdown.

pub mod epoch;
