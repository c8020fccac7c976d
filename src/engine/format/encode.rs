//! Rows to bytes, as Flink's json and debezium-json formats write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::text::{self, TimestampFormat};
use super::{FormatContext, FormatError, FormatOptions};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, Value};
use crate::engine::types::{DataType, Field, TypeKind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Json,
    Debezium,
    Csv,
    Raw,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    timestamps: TimestampFormat,
    plain_decimals: bool,
    ignore_nulls: bool,
}

impl Settings {
    fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        Ok(Self {
            timestamps: options.timestamps()?,
            plain_decimals: options.flag("encode.decimal-as-plain-number")?,
            ignore_nulls: options.flag("encode.ignore-null-fields")?,
        })
    }
}

/// Writes the rows of a sink table as records.
#[derive(Clone, Debug)]
pub struct Encoder {
    style: Style,
    settings: Settings,
    delimiter: u8,
    /// Columns of the value: name and position in the row.
    columns: Vec<(usize, Field)>,
    key: Option<KeyEncoder>,
    upsert: bool,
}

#[derive(Clone, Debug)]
struct KeyEncoder {
    settings: Settings,
    columns: Vec<(usize, Field)>,
}

impl Encoder {
    pub(super) fn new(table: &TableRef, context: &FormatContext) -> Result<Self, FormatError> {
        let _ = context;
        let options = FormatOptions::of_value(table)?;
        let upsert = table.options.get("connector").is_some_and(|c| c == "upsert-kafka");
        let style = match options.name.as_str() {
            "json" => Style::Json,
            "debezium-json" if !upsert => Style::Debezium,
            "csv" if !upsert => Style::Csv,
            "raw" if !upsert => Style::Raw,
            name => return Err(super::unsupported(table, name, upsert)),
        };
        if style == Style::Debezium && options.flag("schema-include")? {
            return Err(FormatError::new(format!(
                "table {}: debezium-json cannot write the schema: 'debezium-json.schema-include' is for sources",
                table.name
            ))
            .next("remove the option from the sink's table"));
        }
        let physical: Vec<(usize, Field)> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.metadata.is_none())
            .map(|(i, c)| (i, c.field.clone()))
            .collect();
        let key_columns: Vec<usize> = match table.options.get("key.fields") {
            Some(names) => names
                .split(';')
                .map(|name| {
                    physical.iter().find(|(_, f)| f.name == name).map(|(i, _)| *i).ok_or_else(|| {
                        FormatError::new(format!(
                            "table {}: 'key.fields' names no column '{name}'",
                            table.name
                        ))
                    })
                })
                .collect::<Result<_, _>>()?,
            None if upsert => table.primary_key.clone(),
            None => Vec::new(),
        };
        let key = match FormatOptions::of_key(table) {
            Some(key) if key.name != "json" => {
                return Err(FormatError::new(format!(
                    "table {}: key format '{}' is not supported here",
                    table.name, key.name
                ))
                .next("use 'json'"));
            }
            Some(key) => Some(KeyEncoder {
                settings: Settings::new(&key)?,
                columns: key_columns
                    .iter()
                    .filter_map(|c| physical.iter().find(|(i, _)| i == c).cloned())
                    .map(|(i, mut field)| {
                        let prefix = table.options.get("key.fields-prefix").map_or("", String::as_str);
                        if let Some(short) = field.name.strip_prefix(prefix) {
                            field.name = short.to_owned();
                        }
                        (i, field)
                    })
                    .collect(),
            }),
            None => None,
        };
        let except_key = table.options.get("value.fields-include").is_some_and(|v| v == "EXCEPT_KEY");
        let columns = physical
            .into_iter()
            .filter(|(i, _)| !(except_key && key_columns.contains(i)))
            .collect::<Vec<_>>();
        if style == Style::Raw && columns.len() != 1 {
            return Err(FormatError::new(format!("table {}: the raw format takes one column", table.name)));
        }
        let delimiter = options.get("field-delimiter").and_then(|d| d.bytes().next()).unwrap_or(b',');
        Ok(Self { style, settings: Settings::new(&options)?, delimiter, columns, key, upsert })
    }

    /// Appends the record's key; `false`: the record has none.
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn key(&self, change: &Change, out: &mut Vec<u8>) -> Result<bool, FormatError> {
        match &self.key {
            Some(key) => write_object(out, &key.columns, &change.row, &key.settings).map(|()| true),
            None => Ok(false),
        }
    }

    /// Appends the record's value; `false`: it is a tombstone (a `-D` on an upsert table).
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn value(&self, change: &Change, out: &mut Vec<u8>) -> Result<bool, FormatError> {
        match self.style {
            Style::Json if self.upsert && !change.kind.is_add() => Ok(false),
            Style::Json => write_object(out, &self.columns, &change.row, &self.settings).map(|()| true),
            Style::Debezium => {
                // An update goes out as a delete and a create.
                if change.kind.is_add() {
                    out.extend_from_slice(br#"{"before":null,"after":"#);
                    write_object(out, &self.columns, &change.row, &self.settings)?;
                    out.extend_from_slice(br#","op":"c"}"#);
                } else {
                    out.extend_from_slice(br#"{"before":"#);
                    write_object(out, &self.columns, &change.row, &self.settings)?;
                    out.extend_from_slice(br#","after":null,"op":"d"}"#);
                }
                Ok(true)
            }
            Style::Csv => self.csv(change, out).map(|()| true),
            Style::Raw => {
                let value = self.columns.first().and_then(|(i, _)| change.row.get(*i));
                match value {
                    Some(Value::Str(text)) => out.extend_from_slice(text.as_bytes()),
                    Some(Value::Bytes(bytes)) => out.extend_from_slice(bytes),
                    Some(Value::Null) | None => return Ok(false),
                    Some(_) => return Err(FormatError::new("the raw format writes STRING and BYTES here")),
                }
                Ok(true)
            }
        }
    }

    fn csv(&self, change: &Change, out: &mut Vec<u8>) -> Result<(), FormatError> {
        for (position, (column, field)) in self.columns.iter().enumerate() {
            if position > 0 {
                out.push(self.delimiter);
            }
            match change.row.get(*column) {
                None | Some(Value::Null) => {}
                Some(Value::Str(text)) => {
                    let quote = text.is_empty()
                        || text
                            .bytes()
                            .any(|b| b == self.delimiter || matches!(b, b'"' | b'\n' | b'\r' | b' '));
                    if quote {
                        out.push(b'"');
                        out.extend_from_slice(text.replace('"', "\"\"").as_bytes());
                        out.push(b'"');
                    } else {
                        out.extend_from_slice(text.as_bytes());
                    }
                }
                Some(value) => {
                    let mut json = Vec::new();
                    write_value(&mut json, value, &field.data_type, &self.settings)
                        .map_err(|e| e.in_column(&field.name))?;
                    // What JSON writes as text, times and bytes, stands bare.
                    let bare = json.strip_prefix(b"\"").and_then(|j| j.strip_suffix(b"\"")).unwrap_or(&json);
                    let spaced = bare.contains(&b' ');
                    if spaced {
                        out.push(b'"');
                    }
                    out.extend_from_slice(bare);
                    if spaced {
                        out.push(b'"');
                    }
                }
            }
        }
        Ok(())
    }
}

fn write_object(
    out: &mut Vec<u8>,
    columns: &[(usize, Field)],
    row: &[Value],
    settings: &Settings,
) -> Result<(), FormatError> {
    out.push(b'{');
    let mut first = true;
    for (column, field) in columns {
        let value = row.get(*column).unwrap_or(&Value::Null);
        if settings.ignore_nulls && value.is_null() {
            continue;
        }
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_string(out, &field.name);
        out.push(b':');
        write_value(out, value, &field.data_type, settings).map_err(|e| e.in_column(&field.name))?;
    }
    out.push(b'}');
    Ok(())
}

fn write_value(
    out: &mut Vec<u8>,
    value: &Value,
    data_type: &DataType,
    settings: &Settings,
) -> Result<(), FormatError> {
    match (value, &data_type.kind) {
        (Value::Null, _) => out.extend_from_slice(b"null"),
        (Value::Bool(b), _) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        (Value::Int(n), _) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        (Value::Float(f), _) => write_float(out, f.is_finite(), &format!("{f:e}")),
        (Value::Double(d), _) => write_float(out, d.is_finite(), &format!("{d:e}")),
        (Value::Decimal(d), _) => {
            text::write_stripped_decimal(out, d.unscaled(), d.scale, settings.plain_decimals);
        }
        (Value::Str(text), _) => write_string(out, text),
        (Value::Bytes(bytes), _) => {
            out.push(b'"');
            out.extend_from_slice(BASE64.encode(bytes).as_bytes());
            out.push(b'"');
        }
        (Value::Date(days), _) => {
            out.push(b'"');
            text::write_date(out, *days);
            out.push(b'"');
        }
        (Value::Time(millis), _) => {
            out.push(b'"');
            text::write_time(out, u32::try_from(*millis).unwrap_or_default(), 0);
            out.push(b'"');
        }
        (Value::Timestamp(at), _) => {
            out.push(b'"');
            text::write_timestamp(out, *at, settings.timestamps);
            out.push(b'"');
        }
        (Value::TimestampLtz(at), _) => {
            out.push(b'"');
            text::write_timestamp(out, *at, settings.timestamps);
            out.extend_from_slice(b"Z\"");
        }
        (Value::Interval(n), _) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        (Value::Array(elements), TypeKind::Array(element)) => {
            out.push(b'[');
            for (i, value) in elements.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_value(out, value, element, settings)?;
            }
            out.push(b']');
        }
        (Value::Map(entries), TypeKind::Map(_, value_type)) => write_map(out, entries, value_type, settings)?,
        (Value::Map(entries), TypeKind::Multiset(_)) => {
            write_map(out, entries, &DataType::new(TypeKind::Int), settings)?;
        }
        (Value::Row(values), TypeKind::Row(fields)) => {
            let columns: Vec<(usize, Field)> = fields.iter().cloned().enumerate().collect();
            write_object(out, &columns, values, settings)?;
        }
        (_, kind) => return Err(FormatError::new(format!("a value does not fit its type {kind}"))),
    }
    Ok(())
}

fn write_map(
    out: &mut Vec<u8>,
    entries: &[(Value, Value)],
    value_type: &DataType,
    settings: &Settings,
) -> Result<(), FormatError> {
    out.push(b'{');
    for (i, (key, value)) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        let Some(key) = key.as_str() else {
            return Err(FormatError::new("JSON format doesn't support non-string or NULL as key of a map"));
        };
        write_string(out, key);
        out.push(b':');
        write_value(out, value, value_type, settings)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_float(out: &mut Vec<u8>, finite: bool, digits: &str) {
    // Jackson quotes what is no JSON number.
    if !finite {
        out.push(b'"');
    }
    text::write_java_float(out, digits);
    if !finite {
        out.push(b'"');
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|b| *b < 0x20 || matches!(b, b'"' | b'\\')) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, behind)) = from.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0C => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => out.extend_from_slice(format!("\\u{other:04X}").as_bytes()),
        }
        rest = behind;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
