//! Columns of a source's row: physical ones from the record's value, metadata ones from around it.

use std::sync::Arc;

use super::{FormatContext, FormatError, Input, partitions};
use crate::engine::plan::TableRef;
use crate::engine::row::{Instant, Row, Value};
use crate::engine::types::{DataType, Field, TypeKind};

/// What a debezium-json envelope tells besides its rows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Envelope {
    pub(super) schema: Option<Arc<str>>,
    pub(super) ingestion: Option<i64>,
    pub(super) source_time: Option<i64>,
    pub(super) database: Option<Arc<str>>,
    pub(super) source_schema: Option<Arc<str>>,
    pub(super) table: Option<Arc<str>>,
    pub(super) properties: Option<Value>,
}

/// The metadata keys of kafka tables and of debezium-json.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    LeaderEpoch,
    Headers,
    Schema,
    Ingestion,
    SourceTime,
    Database,
    SourceSchema,
    Table,
    Properties,
    FilePath,
    FileName,
    FileSize,
    FileModified,
}

/// The header by which a file's record tells the size of its file.
pub const FILE_SIZE: &str = "file.size";

/// The keys that there are, of all connectors and formats.
pub fn keys() -> impl Iterator<Item = &'static str> {
    Key::NAMES.iter().map(|(name, _)| *name)
}

impl Key {
    const NAMES: [(&'static str, Self); 18] = [
        ("topic", Self::Topic),
        ("partition", Self::Partition),
        ("offset", Self::Offset),
        ("timestamp", Self::Timestamp),
        ("timestamp-type", Self::TimestampType),
        ("leader-epoch", Self::LeaderEpoch),
        ("headers", Self::Headers),
        ("value.schema", Self::Schema),
        ("value.ingestion-timestamp", Self::Ingestion),
        ("value.source.timestamp", Self::SourceTime),
        ("value.source.database", Self::Database),
        ("value.source.schema", Self::SourceSchema),
        ("value.source.table", Self::Table),
        ("value.source.properties", Self::Properties),
        ("file.path", Self::FilePath),
        ("file.name", Self::FileName),
        (FILE_SIZE, Self::FileSize),
        ("file.modification-time", Self::FileModified),
    ];

    /// Whether the envelope's `source` block is needed for it.
    fn of_envelope(self) -> bool {
        matches!(
            self,
            Self::Schema
                | Self::Ingestion
                | Self::SourceTime
                | Self::Database
                | Self::SourceSchema
                | Self::Table
                | Self::Properties
        )
    }
}

#[derive(Clone, Debug)]
enum Column {
    Physical(usize),
    Metadata(Key, DataType),
    /// Of PARTITIONED BY: its value stands in the file's path.
    OfPath(partitions::PathColumn),
}

/// Where each column of a table's row comes from.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    columns: Vec<Column>,
    /// Physical columns in order.
    pub(super) physical: Vec<Field>,
    /// Physical columns of the primary key.
    pub(super) primary_key: Vec<usize>,
    zone: super::Zone,
    only_physical: bool,
}

impl Layout {
    pub(super) fn new(
        table: &TableRef,
        context: &FormatContext,
        envelope: bool,
    ) -> Result<Self, FormatError> {
        let mut columns = Vec::with_capacity(table.columns.len());
        let mut physical = Vec::new();
        let mut position = Vec::with_capacity(table.columns.len());
        for column in &table.columns {
            match &column.metadata {
                None => {
                    position.push(Some(physical.len()));
                    columns.push(Column::Physical(physical.len()));
                    physical.push(column.field.clone());
                }
                Some(name) if name.starts_with(partitions::COLUMN) => {
                    position.push(None);
                    columns.push(Column::OfPath(partitions::PathColumn::new(table, &column.field)));
                }
                Some(name) => {
                    let key = Key::NAMES.iter().find(|(n, _)| n == name).map(|(_, k)| *k);
                    let Some(key) = key.filter(|k| envelope || !k.of_envelope()) else {
                        let known: Vec<&str> = Key::NAMES
                            .iter()
                            .filter(|(_, k)| envelope || !k.of_envelope())
                            .map(|(n, _)| *n)
                            .collect();
                        return Err(FormatError::new(format!(
                            "table {}: unknown metadata key '{name}'",
                            table.name
                        ))
                        .in_column(&column.field.name)
                        .next(format!("known keys: {}", known.join(", "))));
                    };
                    position.push(None);
                    columns.push(Column::Metadata(key, column.field.data_type.clone()));
                }
            }
        }
        let primary_key =
            table.primary_key.iter().filter_map(|c| position.get(*c).copied().flatten()).collect::<Vec<_>>();
        let only_physical = columns.iter().all(|c| matches!(c, Column::Physical(_)));
        Ok(Self { columns, physical, primary_key, zone: context.zone, only_physical })
    }

    pub(super) fn wants_headers(&self) -> bool {
        self.wants(|k| matches!(k, Key::Headers | Key::FileSize))
    }

    /// Whether the envelope's own fields (schema, source, ts_ms) are needed.
    pub(super) fn wants_envelope(&self) -> bool {
        self.wants(Key::of_envelope)
    }

    pub(super) fn wants_schema(&self) -> bool {
        self.wants(|k| k == Key::Schema)
    }

    pub(super) fn wants_properties(&self) -> bool {
        self.wants(|k| k == Key::Properties)
    }

    fn wants(&self, what: impl Fn(Key) -> bool) -> bool {
        self.columns.iter().any(|c| matches!(c, Column::Metadata(key, _) if what(*key)))
    }

    /// The row; the slots are left empty, with their memory.
    pub(super) fn row(&self, slots: &mut Vec<Value>, input: &Input<'_>, envelope: Option<&Envelope>) -> Row {
        if self.only_physical {
            return slots.drain(..).collect();
        }
        let row = self
            .columns
            .iter()
            .map(|column| match column {
                Column::Physical(index) => {
                    slots.get_mut(*index).map_or(Value::Null, |v| std::mem::replace(v, Value::Null))
                }
                Column::Metadata(key, data_type) => self.metadata(*key, data_type, input, envelope),
                // What is none of its type was found when the file was opened.
                Column::OfPath(column) => column.value(input.topic).unwrap_or(Value::Null),
            })
            .collect();
        slots.clear();
        row
    }

    fn metadata(
        &self,
        key: Key,
        data_type: &DataType,
        input: &Input<'_>,
        envelope: Option<&Envelope>,
    ) -> Value {
        let text = |text: Option<&Arc<str>>| text.map_or(Value::Null, |t| Value::Str(Arc::clone(t)));
        let native = match key {
            Key::Topic | Key::FilePath => Value::str(input.topic),
            Key::FileName => Value::str(input.topic.rsplit('/').next().unwrap_or_default()),
            Key::FileSize => input
                .headers
                .iter()
                .find(|(name, _)| *name == FILE_SIZE.as_bytes())
                .and_then(|(_, size)| std::str::from_utf8((*size)?).ok()?.parse().ok())
                .map_or(Value::Null, Value::Int),
            Key::Partition => Value::Int(i64::from(input.partition)),
            Key::Offset => Value::Int(input.offset),
            Key::Timestamp | Key::FileModified => Value::TimestampLtz(Instant::from_millis(input.timestamp)),
            Key::TimestampType => Value::str("CreateTime"),
            Key::LeaderEpoch => input.leader_epoch.map_or(Value::Null, |epoch| Value::Int(i64::from(epoch))),
            Key::Headers => headers(input),
            Key::Schema => text(envelope.and_then(|e| e.schema.as_ref())),
            Key::Ingestion => instant(envelope.and_then(|e| e.ingestion)),
            Key::SourceTime => instant(envelope.and_then(|e| e.source_time)),
            Key::Database => text(envelope.and_then(|e| e.database.as_ref())),
            Key::SourceSchema => text(envelope.and_then(|e| e.source_schema.as_ref())),
            Key::Table => text(envelope.and_then(|e| e.table.as_ref())),
            Key::Properties => envelope.and_then(|e| e.properties.clone()).unwrap_or(Value::Null),
        };
        self.declared(native, data_type)
    }

    /// The declared type may differ from the key's own: it is cast. These are the casts that occur; the planner
    /// refuses others.
    fn declared(&self, native: Value, data_type: &DataType) -> Value {
        match (native, &data_type.kind) {
            (Value::TimestampLtz(at), TypeKind::TimestampLtz(p)) => Value::TimestampLtz(cut(at, *p)),
            (Value::TimestampLtz(at), TypeKind::Timestamp(p)) => {
                let at = Instant { millis: self.zone.local(at.millis), nanos: at.nanos };
                Value::Timestamp(cut(at, *p))
            }
            (Value::TimestampLtz(at), TypeKind::BigInt) => Value::Int(at.millis.div_euclid(1000)),
            (Value::TimestampLtz(at), TypeKind::Date) => {
                let days = self.zone.local(at.millis).div_euclid(86_400_000);
                i32::try_from(days).map_or(Value::Null, Value::Date)
            }
            (Value::Int(n), TypeKind::Varchar(_)) => Value::str(itoa::Buffer::new().format(n)),
            (value, _) => value,
        }
    }
}

/// Cuts to a precision below milliseconds.
fn cut(at: Instant, precision: u8) -> Instant {
    let unit = match precision {
        0 => 1000,
        1 => 100,
        2 => 10,
        _ => return at,
    };
    Instant::from_millis(at.millis.div_euclid(unit) * unit)
}

fn instant(millis: Option<i64>) -> Value {
    millis.map_or(Value::Null, |ms| Value::TimestampLtz(Instant::from_millis(ms)))
}

/// MAP<STRING, BYTES>; of headers with one name the last counts, as in Flink.
fn headers(input: &Input<'_>) -> Value {
    let mut entries: Vec<(Value, Value)> = Vec::with_capacity(input.headers.len());
    for (name, value) in input.headers {
        let name = Value::str(&String::from_utf8_lossy(name));
        let value = value.map_or(Value::Null, |v| Value::Bytes(v.into()));
        match entries.iter_mut().find(|(n, _)| *n == name) {
            Some(entry) => entry.1 = value,
            None => entries.push((name, value)),
        }
    }
    Value::Map(entries.into())
}
