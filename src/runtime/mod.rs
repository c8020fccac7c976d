//! From plan to running pipeline: sources, epochs, sinks, shutdown.
