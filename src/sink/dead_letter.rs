//! Records that could not be read, as records of a topic of their own: key and value as they were, and where they
//! came from in the headers that Kafka Connect uses for its dead letters.

use std::collections::BTreeMap;

use crate::engine::plan::{TableColumn, TableRef};
use crate::engine::row::{Change, Instant, RowKind, Value};
use crate::engine::types::{DataType, Field, TypeKind};
use crate::log::Record;

/// The topic's name: an option of a source's table, or of all of them by SET.
pub const OPTION: &str = "millstream.dead-letter.topic";

/// The sink's name in state and fences.
pub fn sink_name(topic: &str) -> String {
    format!("dead-letter {topic}")
}

/// The sink's table: [`change`] makes its rows.
pub fn table(topic: &str) -> TableRef {
    let bytes = || DataType::new(TypeKind::Varbinary(i32::MAX.unsigned_abs()));
    let text = DataType::string();
    let column = |name: &str, data_type: DataType, metadata: Option<&str>| TableColumn {
        field: Field { name: name.to_owned(), data_type },
        metadata: metadata.map(str::to_owned),
    };
    let options = [
        ("connector", "kafka"),
        ("topic", topic),
        ("key.format", "raw"),
        ("key.fields", "key"),
        ("value.format", "raw"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    TableRef {
        name: sink_name(topic),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        columns: vec![
            column("key", bytes(), None),
            column("value", bytes(), None),
            column("timestamp", DataType::new(TypeKind::TimestampLtz(3)), Some("timestamp")),
            column(
                "headers",
                DataType::new(TypeKind::Map(Box::new(text), Box::new(bytes()))),
                Some("headers"),
            ),
        ],
        primary_key: Vec::new(),
    }
}

/// A record that could not be read; `why` holds no value of it.
pub fn change(record: &Record<'_>, why: &str) -> Change {
    let bytes = |b: Option<&[u8]>| b.map_or(Value::Null, |b| Value::Bytes(b.into()));
    let mut headers: Vec<(Value, Value)> = record
        .headers()
        .map(|(name, value)| (Value::str(&String::from_utf8_lossy(name)), bytes(value)))
        .collect();
    let own = [
        ("topic", record.at.topic.to_string()),
        ("partition", record.at.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("exception.message", why.to_owned()),
    ];
    for (name, value) in own {
        headers.push((Value::str(&format!("__connect.errors.{name}")), bytes(Some(value.as_bytes()))));
    }
    let at = Value::TimestampLtz(Instant::from_millis(record.timestamp));
    let row = vec![bytes(record.key), bytes(record.value), at, Value::Map(headers.into())];
    Change { kind: RowKind::Insert, row: row.into() }
}
