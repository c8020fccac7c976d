//! Rows to bytes, as Flink's formats write them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::avro::AvroWriter;
use super::csv::CsvWriter;
use super::text::{self, TimestampFormat};
use super::{FormatContext, FormatError, FormatOptions};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, Value};
use crate::engine::types::{DataType, Field, TypeKind};
use crate::java;

#[derive(Clone, Debug)]
enum Style {
    Json(Settings),
    Debezium(Settings),
    Csv(CsvWriter),
    Raw(super::raw::RawOptions),
    Avro(AvroWriter),
}

/// How JSON is written.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) timestamps: TimestampFormat,
    plain_decimals: bool,
    ignore_nulls: bool,
    null_key: NullKey,
}

/// `map-null-key.mode`.
#[derive(Clone, Debug)]
enum NullKey {
    Fail,
    Drop,
    Literal(String),
}

impl Settings {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        let null_key = match options.get("map-null-key.mode").map(str::to_ascii_uppercase).as_deref() {
            None | Some("FAIL") => NullKey::Fail,
            Some("DROP") => NullKey::Drop,
            Some("LITERAL") => {
                NullKey::Literal(options.get("map-null-key.literal").unwrap_or("null").to_owned())
            }
            Some(_) => {
                return Err(FormatError::new(format!(
                    "option '{}map-null-key.mode' has an unsupported value",
                    options.prefix
                ))
                .next("write 'FAIL', 'DROP' or 'LITERAL'"));
            }
        };
        Ok(Self {
            timestamps: options.timestamps()?,
            plain_decimals: options.flag("encode.decimal-as-plain-number")?,
            ignore_nulls: options.flag("encode.ignore-null-fields")?,
            null_key,
        })
    }
}

/// Writes the rows of a sink table as records.
#[derive(Clone, Debug)]
pub struct Encoder {
    value: Part,
    key: Option<Part>,
    upsert: bool,
}

/// What a part is of; keys and values of upsert tables have formats that only insert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Key,
    Value,
    UpsertValue,
}

/// The key or the value of a record.
#[derive(Clone, Debug)]
struct Part {
    style: Style,
    /// Columns: position in the row, and name and type.
    columns: Vec<(usize, Field)>,
}

impl Encoder {
    pub(super) fn new(table: &TableRef, context: &FormatContext) -> Result<Self, FormatError> {
        let upsert = table.options.get("connector").is_some_and(|c| c == "upsert-kafka");
        let physical: Vec<(usize, Field)> = table
            .columns
            .iter()
            .enumerate()
            .filter(|(_, c)| c.metadata.is_none())
            .map(|(i, c)| (i, c.field.clone()))
            .collect();
        let keys = super::key_columns(table, &physical)?;
        let key = match FormatOptions::of_key(table) {
            Some(options) => {
                let columns = keys
                    .iter()
                    .filter_map(|c| physical.iter().find(|(i, _)| i == c).cloned())
                    .map(|(i, field)| (i, super::without_prefix(table, field)))
                    .collect();
                Some(Part::new(table, &options, columns, context, Place::Key)?)
            }
            None => None,
        };
        let except_key = table.except_key();
        let columns = physical.into_iter().filter(|(i, _)| !(except_key && keys.contains(i))).collect();
        let place = if upsert { Place::UpsertValue } else { Place::Value };
        let value = Part::new(table, &FormatOptions::of_value(table)?, columns, context, place)?;
        Ok(Self { value, key, upsert })
    }

    /// Whether nobody has to be asked for anything any more; see [`Self::prepare`].
    pub fn is_ready(&self) -> bool {
        self.avro().all(AvroWriter::is_ready)
    }

    /// Registers the schemas of what will be written. May block.
    ///
    /// # Errors
    /// What the schema registry says.
    pub fn prepare(&self) -> Result<(), FormatError> {
        self.avro().try_for_each(AvroWriter::prepare)
    }

    fn avro(&self) -> impl Iterator<Item = &AvroWriter> {
        std::iter::once(&self.value).chain(&self.key).filter_map(|part| match &part.style {
            Style::Avro(writer) => Some(writer),
            _ => None,
        })
    }

    /// Appends the record's key; `false`: the record has none.
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn key(&self, change: &Change, out: &mut Vec<u8>) -> Result<bool, FormatError> {
        match &self.key {
            Some(key) => key.write(change, out),
            None => Ok(false),
        }
    }

    /// Appends the record's value; `false`: it is a tombstone (a `-D` on an upsert table).
    ///
    /// # Errors
    /// Where a value cannot be written.
    pub fn value(&self, change: &Change, out: &mut Vec<u8>) -> Result<bool, FormatError> {
        if self.upsert && !change.kind.is_add() { Ok(false) } else { self.value.write(change, out) }
    }
}

impl Part {
    fn new(
        table: &TableRef,
        options: &FormatOptions,
        columns: Vec<(usize, Field)>,
        context: &FormatContext,
        place: Place,
    ) -> Result<Self, FormatError> {
        let insert_only = place != Place::Value;
        let style = match options.name.as_str() {
            "json" => Style::Json(Settings::new(options)?),
            "debezium-json" if !insert_only => {
                if options.flag("schema-include")? {
                    return Err(FormatError::new(format!(
                        "table {}: debezium-json cannot write the schema: 'debezium-json.schema-include' is for sources",
                        table.name
                    ))
                    .next("remove the option from the sink's table"));
                }
                Style::Debezium(Settings::new(options)?)
            }
            "debezium-avro-confluent" if insert_only => {
                return Err(super::unsupported(table, &options.name, true));
            }
            "avro" | "avro-confluent" | "debezium-avro-confluent" => {
                let fields: Vec<Field> = columns.iter().map(|(_, f)| f.clone()).collect();
                Style::Avro(AvroWriter::new(table, options, context, &fields, place == Place::Key)?)
            }
            "csv" => Style::Csv(CsvWriter::new(table, options)?),
            "raw" => {
                let options = super::raw::RawOptions::new(options)?;
                let [(_, field)] = columns.as_slice() else {
                    let columns: Vec<Field> = columns.into_iter().map(|(_, f)| f).collect();
                    return Err(super::raw::single_column(&columns));
                };
                super::raw::check(&field.data_type.kind)?;
                Style::Raw(options)
            }
            name => return Err(super::unsupported(table, name, insert_only)),
        };
        Ok(Self { style, columns })
    }

    /// `false`: the bytes are null.
    fn write(&self, change: &Change, out: &mut Vec<u8>) -> Result<bool, FormatError> {
        match &self.style {
            Style::Json(settings) => write_object(out, &self.columns, &change.row, settings)?,
            Style::Debezium(settings) => {
                // An update goes out as a delete and a create.
                if change.kind.is_add() {
                    out.extend_from_slice(br#"{"before":null,"after":"#);
                    write_object(out, &self.columns, &change.row, settings)?;
                    out.extend_from_slice(br#","op":"c"}"#);
                } else {
                    out.extend_from_slice(br#"{"before":"#);
                    write_object(out, &self.columns, &change.row, settings)?;
                    out.extend_from_slice(br#","after":null,"op":"d"}"#);
                }
            }
            Style::Avro(writer) => writer.write(&self.columns, &change.row, change.kind.is_add(), out)?,
            Style::Csv(writer) => writer.write(&self.columns, &change.row, out)?,
            Style::Raw(options) => {
                let Some((column, field)) = self.columns.first() else { return Ok(false) };
                let value = change.row.get(*column).unwrap_or(&Value::Null);
                return super::raw::write(value, &field.data_type.kind, *options, out)
                    .map_err(|e| e.in_column(&field.name));
            }
        }
        Ok(true)
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

pub(super) fn write_value(
    out: &mut Vec<u8>,
    value: &Value,
    data_type: &DataType,
    settings: &Settings,
) -> Result<(), FormatError> {
    match (value, &data_type.kind) {
        (Value::Null, _) => out.extend_from_slice(b"null"),
        (Value::Bool(b), _) => out.extend_from_slice(if *b { b"true" } else { b"false" }),
        (Value::Int(n), _) => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        (Value::Float(f), _) => write_float(out, f.is_finite(), &java::float::float(*f)),
        (Value::Double(d), _) => write_float(out, d.is_finite(), &java::float::double(*d)),
        // a plain number keeps the digits of its scale
        (Value::Decimal(d), _) if settings.plain_decimals => {
            let mut digits = String::with_capacity(40);
            crate::engine::print::decimal(&mut digits, *d);
            out.extend_from_slice(digits.as_bytes());
        }
        (Value::Decimal(d), _) => text::write_stripped_decimal(out, d.unscaled(), d.scale, false),
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
    let mut first = true;
    for (key, value) in entries {
        let key = match (key, &settings.null_key) {
            (Value::Null, NullKey::Drop) => continue,
            (Value::Null, NullKey::Literal(literal)) => literal,
            (key, _) => key.as_str().ok_or_else(|| {
                FormatError::new("JSON format doesn't support non-string or NULL as key of a map")
                    .next("'map-null-key.mode' = 'DROP' or 'LITERAL' says what is to be done with a NULL")
            })?,
        };
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        write_string(out, key);
        out.push(b':');
        write_value(out, value, value_type, settings)?;
    }
    out.push(b'}');
    Ok(())
}

fn write_float(out: &mut Vec<u8>, finite: bool, text: &[u8]) {
    // Jackson quotes what is no JSON number.
    if !finite {
        out.push(b'"');
    }
    out.extend_from_slice(text);
    if !finite {
        out.push(b'"');
    }
}

pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
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
