//! A connector's life: slot and publication, snapshot, streaming, offsets.
