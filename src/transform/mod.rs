//! Single message transforms and predicates, and the encoder of a connector's configuration.

use crate::event::{Encoder, EventError, EventOptions};

/// The encoder a connector's properties ask for: plain JSON on the fast path; transforms and other converters
/// through a pipeline of records.
pub fn encoder<'p>(
    options: EventOptions,
    properties: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<Encoder, EventError> {
    for (name, value) in properties {
        if name == "transforms" && !value.trim().is_empty() {
            return Err(EventError::Option {
                name: name.into(),
                value: value.into(),
                expected: "no transforms".into(),
            });
        }
    }
    Encoder::new(options)
}
