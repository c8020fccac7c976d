//! Single message transforms and predicates, and the encoder of a connector's configuration.
//!
//! A chain works on whole [`Record`]s; without transforms, and with JSON converters, none is ever built.

mod cast;
mod chain;
mod changed;
mod config;
mod converter;
mod decode_message;
mod edit;
mod flatten;
mod header_to_value;
mod java_date;
mod java_hash;
mod kafka_fields;
mod kafka_keys;
mod kafka_records;
mod literal;
mod logical_table;
mod outbox;
mod outbox_json;
mod partition;
mod predicate;
mod regex;
mod registry;
mod timestamp;
mod timezone;
mod unwrap;

pub use chain::Chain;

use crate::event::options::Converter;
use crate::event::record::Record;
use crate::event::{Encoder, EventError, EventOptions};

/// What a transform makes of a record: `None` drops it. The error is the cause alone.
type Transformed<'a> = Result<Option<Record<'a>>, String>;

/// A transform.
trait Transform: Send {
    /// Works on one record.
    fn apply<'a>(&mut self, record: Record<'a>) -> Transformed<'a>;
}

/// The encoder a connector's properties ask for: plain JSON on the fast path; transforms and other converters
/// through a chain.
///
/// # Errors
/// With the property that names an unknown transform, predicate or converter, or a wrong option of one.
pub fn encoder<'p>(
    options: EventOptions,
    properties: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> Result<Encoder, EventError> {
    let all: Vec<(&str, &str)> = properties.into_iter().collect();
    let chain = Chain::new(&options, &all)?;
    let json = matches!(
        (&options.key_converter, &options.value_converter),
        (Converter::Json(_), Converter::Json(_))
    );
    if json && chain.is_empty() {
        return Encoder::new(options);
    }
    Ok(Encoder::with_pipeline(options, Box::new(chain)))
}
