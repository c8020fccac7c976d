//! Records whose key and value have formats of their own: `key.format`, and upsert tables.

use super::metadata::Layout;
use super::{Decoder, FormatContext, FormatError, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, Row, RowKind, Value};

/// Where a column comes from.
#[derive(Clone, Copy, Debug)]
enum Part {
    Key(usize),
    Value(usize),
}

pub(super) struct KeyedDecoder {
    key: Box<dyn Decoder>,
    value: Box<dyn Decoder>,
    /// The whole table's, for rows of tombstones.
    layout: Layout,
    /// Places of the key's columns among the physical ones.
    key_places: Vec<usize>,
    parts: Vec<Part>,
    /// All columns come from the value, as it is.
    whole: bool,
    upsert: bool,
    rows: Vec<Change>,
    keys: Vec<Change>,
}

impl KeyedDecoder {
    pub(super) fn new(table: &TableRef, context: &FormatContext, upsert: bool) -> Result<Self, FormatError> {
        let physical: Vec<_> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.metadata.is_none())
            .map(|(i, c)| (i, c.field.clone()))
            .collect();
        let keys = super::key_columns(table, &physical)?;
        let except_key = table.except_key();
        let renamed = |format: &str, before: &str| {
            let mut options = table.options.clone();
            for other in ["format", "value.format", "key.format", "key.fields"] {
                options.remove(other);
            }
            options.insert("format".into(), format.to_owned());
            let inner = format!("{before}{format}.");
            for (name, value) in &table.options {
                if let Some(option) = name.strip_prefix(&inner) {
                    options.insert(format!("{format}.{option}"), value.clone());
                }
            }
            options
        };
        let key_format = table.options.get("key.format").map_or("json", String::as_str);
        let key_table = TableRef {
            name: table.name.clone(),
            options: renamed(key_format, "key."),
            columns: keys
                .iter()
                .filter_map(|c| table.columns.get(*c).cloned())
                .map(|mut column| {
                    column.field = super::without_prefix(table, column.field);
                    column
                })
                .collect(),
            primary_key: Vec::new(),
        };
        let (value_format, before) = match (table.options.get("value.format"), table.options.get("format")) {
            (Some(format), _) => (format.as_str(), "value."),
            (None, format) => (format.map_or("", String::as_str), ""),
        };
        let kept: Vec<usize> =
            (0..table.columns.len()).filter(|c| !(except_key && keys.contains(c))).collect();
        let value_table = TableRef {
            name: table.name.clone(),
            options: renamed(value_format, before),
            columns: kept.iter().filter_map(|c| table.columns.get(*c).cloned()).collect(),
            primary_key: table
                .primary_key
                .iter()
                .filter_map(|c| kept.iter().position(|kept| kept == c))
                .collect(),
        };
        let parts = (0..table.columns.len())
            .map(|column| match kept.iter().position(|kept| *kept == column) {
                Some(place) => Part::Value(place),
                None => Part::Key(keys.iter().position(|key| *key == column).unwrap_or(usize::MAX)),
            })
            .collect();
        let key_places = keys.iter().filter_map(|key| physical.iter().position(|(i, _)| i == key)).collect();
        Ok(Self {
            key: super::value_decoder(&key_table, context, true)?,
            value: super::value_decoder(&value_table, context, upsert)?,
            layout: Layout::new(table, context, !upsert)?,
            key_places,
            parts,
            whole: !except_key,
            upsert,
            rows: Vec::new(),
            keys: Vec::new(),
        })
    }

    /// The key's columns; `None` where its format gives no row: for a key that is not there (raw gives NULL), or that
    /// it skips.
    fn read_key(&mut self, input: &Input<'_>) -> Result<Option<Row>, FormatError> {
        self.keys.clear();
        let key = Input { value: input.key, key: None, ..*input };
        self.key.decode(&key, &mut self.keys).map_err(|mut error| {
            error.what = format!("the key: {}", error.what).into();
            error
        })?;
        Ok(self.keys.pop().map(|change| change.row))
    }
}

impl Decoder for KeyedDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        // As in Flink there is a row for each row of the key: none for a record whose key gives none.
        let Some(key) = self.read_key(input)? else { return Ok(()) };
        if input.value.is_none() && self.upsert {
            let mut slots = vec![Value::Null; self.layout.physical.len()];
            for (place, value) in self.key_places.iter().zip(key.iter()) {
                if let Some(slot) = slots.get_mut(*place) {
                    *slot = value.clone();
                }
            }
            out.push(Change { kind: RowKind::Delete, row: self.layout.row(&mut slots, input, None) });
            return Ok(());
        }
        let start = out.len();
        if self.whole {
            self.value.decode(input, out)?;
        } else {
            self.rows.clear();
            let mut rows = std::mem::take(&mut self.rows);
            let decoded = self.value.decode(input, &mut rows);
            match decoded {
                Ok(()) => out.extend(rows.drain(..).map(|change| {
                    let column = |part: &Part| match part {
                        Part::Value(place) => change.row.get(*place).cloned().unwrap_or(Value::Null),
                        Part::Key(place) => key.get(*place).cloned().unwrap_or(Value::Null),
                    };
                    Change { kind: change.kind, row: self.parts.iter().map(column).collect() }
                })),
                Err(error) => {
                    self.rows = rows;
                    return Err(error);
                }
            }
            self.rows = rows;
        }
        if self.upsert {
            for change in out.iter_mut().skip(start) {
                change.kind = RowKind::UpdateAfter;
            }
        }
        Ok(())
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }

    fn skips(&self) -> bool {
        self.value.skips() || self.key.skips()
    }

    fn take_absent(&mut self, ended: bool) -> Option<String> {
        self.value.take_absent(ended)
    }

    fn take_skipped(&mut self) -> Option<FormatError> {
        let key = self.key.take_skipped();
        self.value.take_skipped().or(key)
    }
}
