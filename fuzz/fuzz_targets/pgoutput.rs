//! Whatever the server sends: the pgoutput decoder gives a message or an error, and walking the rows of a message
//! touches no byte outside of it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream::pg::pgoutput::{Message, parse, parse_streamed};

fn walk(message: &Message<'_>) {
    // Debug walks every borrowed part: names, tuples, values.
    std::hint::black_box(format!("{message:?}"));
}

fuzz_target!(|bytes: &[u8]| {
    for in_stream in [false, true] {
        if let Ok(message) = parse(bytes, in_stream) {
            walk(&message);
        }
    }
    if let Ok((_, message)) = parse_streamed(bytes) {
        walk(&message);
    }
});
