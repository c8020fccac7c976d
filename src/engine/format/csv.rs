//! The csv format: one line a record.

use super::metadata::Layout;
use super::text::{self, TimestampFormat};
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::{DataType, TypeKind};

/// The options of the format.
#[derive(Clone, Debug)]
struct CsvOptions {
    delimiter: char,
    quote: Option<char>,
    escape: Option<char>,
    comments: bool,
    ignore_errors: bool,
    null_literal: Option<String>,
    empty_as_null: bool,
    trim: bool,
    array_delimiter: String,
}

impl CsvOptions {
    fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        let one = |option: &str, default: Option<char>| -> Result<Option<char>, FormatError> {
            let Some(text) = options.get(option) else { return Ok(default) };
            let mut chars = text.chars();
            match (unescaped(text), chars.next(), chars.next()) {
                (Some(c), ..) | (None, Some(c), None) => Ok(Some(c)),
                _ => Err(FormatError::new(format!(
                    "option '{}{option}' must be one character",
                    options.prefix
                ))),
            }
        };
        Ok(Self {
            delimiter: one("field-delimiter", Some(','))?.unwrap_or(','),
            quote: if options.flag("disable-quote-character")? {
                None
            } else {
                one("quote-character", Some('"'))?
            },
            escape: one("escape-character", None)?,
            comments: options.flag("allow-comments")?,
            ignore_errors: options.flag("ignore-parse-errors")?,
            null_literal: options.get("null-literal").map(str::to_owned),
            empty_as_null: options.flag("empty-string-as-null")?,
            trim: options.flag("trim-spaces")?,
            array_delimiter: options.get("array-element-delimiter").unwrap_or(";").to_owned(),
        })
    }
}

/// Flink takes Java's escapes in delimiters.
fn unescaped(text: &str) -> Option<char> {
    match text.strip_prefix('\\')? {
        "t" => Some('\t'),
        "n" => Some('\n'),
        "r" => Some('\r'),
        code => char::from_u32(u32::from_str_radix(code.strip_prefix('u')?, 16).ok()?),
    }
}

pub(super) struct CsvDecoder {
    layout: Layout,
    options: CsvOptions,
    slots: Vec<Value>,
    fields: Vec<String>,
    skipped: Option<FormatError>,
}

impl CsvDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        Ok(Self {
            layout: Layout::new(table, context, false)?,
            options: CsvOptions::new(options)?,
            slots: Vec::new(),
            fields: Vec::new(),
            skipped: None,
        })
    }

    /// Splits a line. A quoted field may hold the delimiter, doubled quotes and line ends.
    fn split(&mut self, line: &str) -> Result<(), FormatError> {
        self.fields.clear();
        let mut chars = line.chars().peekable();
        let mut field = String::new();
        let mut quoted = false;
        let mut was_quoted = false;
        while let Some(c) = chars.next() {
            if self.options.escape == Some(c) {
                field.extend(chars.next());
            } else if quoted {
                if self.options.quote == Some(c) {
                    if self.options.quote == chars.peek().copied() {
                        field.push(c);
                        chars.next();
                    } else {
                        quoted = false;
                    }
                } else {
                    field.push(c);
                }
            } else if c == self.options.delimiter {
                self.fields.push(std::mem::take(&mut field));
                was_quoted = false;
            } else if self.options.quote == Some(c) && field.is_empty() && !was_quoted {
                quoted = true;
                was_quoted = true;
            } else {
                field.push(c);
            }
        }
        if quoted {
            return Err(FormatError::new("a quoted field does not end"));
        }
        self.fields.push(field);
        Ok(())
    }

    fn read(&mut self, line: &str) -> Result<(), FormatError> {
        self.split(line)?;
        let wanted = self.layout.physical.len();
        if self.fields.len() != wanted {
            return Err(FormatError::new(format!(
                "the line has {} fields, the table {wanted} columns",
                self.fields.len()
            )));
        }
        self.slots.clear();
        for (field, column) in self.fields.iter().zip(&self.layout.physical) {
            let text = if self.options.trim { field.trim() } else { field.as_str() };
            let null = self.options.null_literal.as_deref() == Some(text)
                || (self.options.empty_as_null && text.is_empty());
            let value = if null {
                Some(Value::Null)
            } else {
                read_text(text, &column.data_type, &self.options.array_delimiter)
            };
            match value {
                Some(value) => self.slots.push(value),
                None if self.options.ignore_errors => self.slots.push(Value::Null),
                None => {
                    return Err(FormatError::new(format!(
                        "For input string: \"{text}\": it is no {}",
                        column.data_type.kind
                    ))
                    .in_column(&column.name));
                }
            }
        }
        Ok(())
    }
}

/// Reads a field; an empty one is NULL for every type but text.
fn read_text(text: &str, data_type: &DataType, array_delimiter: &str) -> Option<Value> {
    let body = text.trim();
    if body.is_empty() && !matches!(data_type.kind, TypeKind::Varchar(_) | TypeKind::Char(_)) {
        return Some(Value::Null);
    }
    let int = |low: i64, high: i64| body.parse().ok().filter(|n| (low..=high).contains(n)).map(Value::Int);
    match &data_type.kind {
        TypeKind::Varchar(_) | TypeKind::Char(_) => Some(Value::str(text)),
        TypeKind::Boolean => Some(Value::Bool(body.eq_ignore_ascii_case("true"))),
        TypeKind::TinyInt => int(i64::from(i8::MIN), i64::from(i8::MAX)),
        TypeKind::SmallInt => int(i64::from(i16::MIN), i64::from(i16::MAX)),
        TypeKind::Int => int(i64::from(i32::MIN), i64::from(i32::MAX)),
        TypeKind::BigInt => int(i64::MIN, i64::MAX),
        TypeKind::Float => body.parse().ok().map(Value::Float),
        TypeKind::Double => body.parse().ok().map(Value::Double),
        TypeKind::Decimal(precision, scale) => text::decimal(body, *precision, *scale)
            .ok()
            .map(|n| n.map_or(Value::Null, |n| Value::decimal(n, *scale))),
        TypeKind::Date => text::date(body).map(Value::Date),
        TypeKind::Time(_) => text::time(body).map(Value::Time),
        TypeKind::Timestamp(_) => text::timestamp(body, TimestampFormat::Sql).map(Value::Timestamp),
        TypeKind::TimestampLtz(_) => text::timestamp_ltz(body, TimestampFormat::Sql).map(Value::TimestampLtz),
        TypeKind::Array(element) => body
            .split(array_delimiter)
            .map(|part| read_text(part, element, array_delimiter))
            .collect::<Option<Vec<_>>>()
            .map(|values| Value::Array(values.into())),
        _ => None,
    }
}

impl Decoder for CsvDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(bytes) = input.value else { return Ok(()) };
        let result = match std::str::from_utf8(bytes) {
            Ok(line) => {
                let line = line.strip_suffix('\r').unwrap_or(line);
                if line.is_empty() || (self.options.comments && line.starts_with('#')) {
                    return Ok(());
                }
                self.read(line)
            }
            Err(_) => Err(FormatError::new("not UTF-8")),
        };
        match result {
            Ok(()) => {
                out.push(Change {
                    kind: RowKind::Insert,
                    row: self.layout.row(&mut self.slots, input, None),
                });
                Ok(())
            }
            Err(error) if self.options.ignore_errors => {
                self.skipped = Some(error);
                Ok(())
            }
            Err(mut error) => {
                error.what = format!("Failed to deserialize CSV row: {}", error.what).into();
                Err(error)
            }
        }
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }

    fn skips(&self) -> bool {
        self.options.ignore_errors
    }

    fn take_skipped(&mut self) -> Option<FormatError> {
        self.skipped.take()
    }
}

/// Jackson quotes every text that is longer, without looking at it.
const LONGEST_UNQUOTED: usize = 24;

/// Writes lines as Jackson's CsvGenerator does for Flink.
#[derive(Clone, Debug)]
pub(super) struct CsvWriter {
    options: CsvOptions,
    json: super::encode::Settings,
    /// Characters below this one are quoted: Jackson's quick test, which takes many that need not be.
    safe: char,
}

impl CsvWriter {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        let json = super::encode::Settings::new(options)?;
        let options = CsvOptions::new(options)?;
        let most = options.delimiter.max(options.quote.unwrap_or('\n')).max('\r');
        let safe = char::from_u32(u32::from(most) + 1).unwrap_or(char::MAX);
        Ok(Self { options, json, safe })
    }

    pub(super) fn write(
        &self,
        columns: &[(usize, crate::engine::types::Field)],
        row: &[Value],
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        for (position, (column, field)) in columns.iter().enumerate() {
            if position > 0 {
                out.extend_from_slice(self.options.delimiter.encode_utf8(&mut [0; 4]).as_bytes());
            }
            let value = row.get(*column).unwrap_or(&Value::Null);
            let text = self.text(value, &field.data_type).map_err(|e| e.in_column(&field.name))?;
            match value {
                Value::Null => out.extend_from_slice(self.null().as_bytes()),
                Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Double(_) | Value::Decimal(_) => {
                    out.extend_from_slice(text.as_bytes());
                }
                _ => self.quoted(&text, out),
            }
        }
        Ok(())
    }

    fn null(&self) -> &str {
        self.options.null_literal.as_deref().unwrap_or_default()
    }

    /// A value as bare text.
    fn text(&self, value: &Value, data_type: &DataType) -> Result<String, FormatError> {
        let joined = |values: &mut dyn Iterator<Item = (&Value, &DataType)>| {
            let parts = values.map(|(v, t)| match v {
                Value::Null => Ok(self.null().to_owned()),
                value => self.text(value, t),
            });
            parts.collect::<Result<Vec<_>, _>>().map(|parts| parts.join(&self.options.array_delimiter))
        };
        match (value, &data_type.kind) {
            (Value::Null, _) => Ok(String::new()),
            (Value::Str(text), _) => Ok(text.to_string()),
            (Value::Array(values), TypeKind::Array(element)) => {
                joined(&mut values.iter().map(|v| (v, element.as_ref())))
            }
            (Value::Row(values), TypeKind::Row(fields)) => {
                joined(&mut values.iter().zip(fields).map(|(v, f)| (v, &f.data_type)))
            }
            (Value::Map(_), kind) => Err(FormatError::new(format!("type {kind} cannot be written as csv"))),
            _ => {
                // What JSON writes as text, times and bytes, stands bare.
                let mut json = Vec::new();
                super::encode::write_value(&mut json, value, data_type, &self.json)?;
                let bare = json.strip_prefix(b"\"").and_then(|j| j.strip_suffix(b"\"")).unwrap_or(&json);
                Ok(String::from_utf8_lossy(bare).into_owned())
            }
        }
    }

    fn quoted(&self, text: &str, out: &mut Vec<u8>) {
        let special = |c: char| c < self.safe || self.options.escape == Some(c);
        match self.options.quote {
            Some(quote) if text.chars().count() > LONGEST_UNQUOTED || text.chars().any(special) => {
                let mut buffer = String::with_capacity(text.len() + 2);
                buffer.push(quote);
                for c in text.chars() {
                    if c == quote || self.options.escape == Some(c) {
                        buffer.push(c);
                    }
                    buffer.push(c);
                }
                buffer.push(quote);
                out.extend_from_slice(buffer.as_bytes());
            }
            _ => out.extend_from_slice(text.as_bytes()),
        }
    }
}
