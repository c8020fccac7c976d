//! The csv format: one line a record.

use super::metadata::Layout;
use super::text::{self, TimestampFormat};
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::{DataType, TypeKind};

pub(super) struct CsvDecoder {
    layout: Layout,
    delimiter: char,
    quote: Option<char>,
    escape: Option<char>,
    comments: bool,
    ignore_errors: bool,
    null_literal: Option<String>,
    empty_as_null: bool,
    trim: bool,
    array_delimiter: String,
    slots: Vec<Value>,
    fields: Vec<String>,
}

impl CsvDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let one = |option: &str, default: Option<char>| -> Result<Option<char>, FormatError> {
            let Some(text) = options.get(option) else { return Ok(default) };
            // Flink unescapes Java's \t and \u0001 in delimiters.
            let text = match text {
                "\\t" => "\t",
                other => other,
            };
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) => Ok(Some(c)),
                _ => Err(FormatError::new(format!(
                    "option '{}{option}' must be one character",
                    options.prefix
                ))),
            }
        };
        Ok(Self {
            layout: Layout::new(table, context, false)?,
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
            slots: Vec::new(),
            fields: Vec::new(),
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
            if self.escape == Some(c) {
                field.extend(chars.next());
            } else if quoted {
                if self.quote == Some(c) {
                    if self.quote == chars.peek().copied() {
                        field.push(c);
                        chars.next();
                    } else {
                        quoted = false;
                    }
                } else {
                    field.push(c);
                }
            } else if c == self.delimiter {
                self.fields.push(std::mem::take(&mut field));
                was_quoted = false;
            } else if self.quote == Some(c) && field.is_empty() && !was_quoted {
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
            let text = if self.trim { field.trim() } else { field.as_str() };
            let null = self.null_literal.as_deref() == Some(text) || (self.empty_as_null && text.is_empty());
            let value = if null {
                Some(Value::Null)
            } else {
                read_text(text, &column.data_type, &self.array_delimiter)
            };
            match value {
                Some(value) => self.slots.push(value),
                None if self.ignore_errors => self.slots.push(Value::Null),
                None => {
                    return Err(FormatError::new(format!("cannot read {} from text", column.data_type.kind))
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
                if line.is_empty() || (self.comments && line.starts_with('#')) {
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
            Err(_) if self.ignore_errors => Ok(()),
            Err(mut error) => {
                error.what = format!("Failed to deserialize CSV row: {}", error.what).into();
                Err(error)
            }
        }
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }
}
