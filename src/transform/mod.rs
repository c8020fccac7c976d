//! Single message transforms and predicates, and the encoder of a connector's configuration.
//!
//! A chain works on whole [`Record`]s. With JSON converters none is built where there are no transforms, or only such
//! as look at neither key nor value: those run on what the encoder has written, see [`crate::event::flat::Shortcut`].

mod avro_converter;
mod cast;
mod chain;
mod changed;
mod check;
mod cloud_events;
mod config;
mod converter;
mod decode_message;
mod edit;
mod flatten;
mod header_to_value;
mod java_hash;
mod java_text;
mod kafka_fields;
mod kafka_keys;
mod kafka_records;
mod literal;
mod logical_table;
mod outbox;
mod outbox_json;
mod partition;
mod predicate;
mod protobuf_converter;
pub(crate) mod registry;
mod timestamp;
mod timezone;
mod unwrap;

pub use chain::Chain;
pub(crate) use config::Options;

use crate::config::AddressMap;
use crate::event::flat::Flattening;
use crate::event::json::JsonOptions;
use crate::event::options::Converter;
use crate::event::record::Record;
use crate::event::regex;
use crate::event::{Encoder, EventError, EventOptions};

/// What a transform makes of a record: `None` drops it. The error is the cause alone.
type Transformed<'a> = Result<Option<Record<'a>>, String>;

/// What a transform does with a record's headers, where that can be seen in another record: in Kafka Connect a
/// delete and its tombstone hold one list of headers until a transform makes a copy, so that what is added to the
/// delete's shows in the tombstone's too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Headers {
    /// Makes a copy of the list.
    Copied,
    /// Hands the list on.
    Kept,
    /// Adds to the list and hands it on.
    Added,
    /// Adds to the list, then makes a copy.
    AddedThenCopied,
}

/// A transform.
trait Transform: Send {
    /// Works on one record.
    fn apply<'a>(&mut self, record: Record<'a>) -> Transformed<'a>;

    /// What becomes of the headers.
    fn headers(&self) -> Headers {
        Headers::Copied
    }

    /// Whether it asks for a record's key or value, more than whether the value is a null.
    fn looks_inside(&self) -> bool {
        true
    }

    /// The same as what the encoder can do by itself, with a JSON converter of these settings; `None` where it needs
    /// the record.
    fn flattening(&self, _value: &JsonOptions) -> Option<Flattening> {
        None
    }
}

/// The encoder a connector's properties ask for: plain JSON on the fast path; transforms and other converters
/// through a chain. `addresses` are other addresses for schema registries.
///
/// # Errors
/// With the property that names an unknown transform, predicate or converter, or a wrong option of one.
pub fn encoder<'p>(
    options: EventOptions,
    properties: impl IntoIterator<Item = (&'p str, &'p str)>,
    addresses: &AddressMap,
) -> Result<Encoder, EventError> {
    let all: Vec<(&str, &str)> = properties.into_iter().collect();
    let chain = Chain::new(&all, addresses)?;
    let plain = converter::HeaderConverter::is_plain(&all);
    match (&options.key_converter, &options.value_converter) {
        (Converter::Json(_), Converter::Json(_)) if plain && chain.is_empty() => Encoder::new(options),
        (Converter::Json(_), Converter::Json(value)) if plain => {
            let shortcut = chain.shortcut(value);
            let encoder = Encoder::with_pipeline(options, Box::new(chain));
            Ok(match shortcut {
                Some(shortcut) => encoder.shortcut(shortcut),
                None => encoder,
            })
        }
        _ => Ok(Encoder::with_pipeline(options, Box::new(chain))),
    }
}
