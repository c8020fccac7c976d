//! JSON objects as rows, by the conversions of Flink's `JsonToRowDataConverters` and `JsonParserToRowDataConverters`.

use std::borrow::Cow;
use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::absent::Absent;
use super::encode::write_string;
use super::parser::{Kind, Parser};
use super::text::{self, TimestampFormat};
use super::{FormatError, FormatOptions};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};

/// How values are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct JsonOptions {
    pub(super) timestamps: TimestampFormat,
    /// A field that cannot be read becomes NULL, a record that is not JSON is dropped.
    pub(super) ignore_errors: bool,
    pub(super) fail_on_missing: bool,
    /// As Flink reads by Jackson's tree of the document (debezium-json, and json without
    /// `decode.json-parser.enabled`) instead of its tokens: numbers are normalized, a map of no object is empty.
    pub(super) tree: bool,
}

impl JsonOptions {
    pub(super) fn new(options: &FormatOptions) -> Result<Self, FormatError> {
        let read = Self {
            timestamps: options.timestamps()?,
            ignore_errors: options.flag("ignore-parse-errors")?,
            fail_on_missing: options.flag("fail-on-missing-field")?,
            tree: options.get("decode.json-parser.enabled").is_some_and(|v| v.eq_ignore_ascii_case("false")),
        };
        if read.ignore_errors && read.fail_on_missing {
            return Err(FormatError::new(format!(
                "options '{0}fail-on-missing-field' and '{0}ignore-parse-errors' cannot both be 'true'",
                options.prefix
            )));
        }
        Ok(read)
    }
}

/// Reads objects into the columns of a row type.
#[derive(Debug)]
pub(super) struct ObjectReader {
    pub(super) fields: Vec<Field>,
    index: HashMap<String, usize, ahash::RandomState>,
    options: JsonOptions,
    /// What the messages' own schema says of the columns; empty where there is none.
    pub(super) encodings: Vec<Encoding>,
    seen: Vec<bool>,
    nested: Vec<Option<Box<ObjectReader>>>,
    absent: Option<Box<Absent>>,
}

/// What a Connect schema says of a column that JSON alone does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Encoding {
    /// As it stands.
    #[default]
    Plain,
    /// `org.apache.kafka.connect.data.Decimal`: base64 of the unscaled number, with this scale.
    Decimal(i32),
}

impl ObjectReader {
    pub(super) fn new(fields: Vec<Field>, options: JsonOptions) -> Self {
        let index = fields.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect();
        let nested = fields
            .iter()
            .map(|f| match &f.data_type.kind {
                TypeKind::Row(inner) => Some(Box::new(Self::new(inner.clone(), options))),
                _ => None,
            })
            .collect();
        Self {
            seen: vec![false; fields.len()],
            encodings: Vec::new(),
            index,
            options,
            nested,
            fields,
            absent: None,
        }
    }

    /// Reads an object into one value per column; what it lacks is NULL, what is not a column is skipped.
    pub(super) fn read(&mut self, p: &mut Parser<'_>, row: &mut Vec<Value>) -> Result<(), FormatError> {
        let start = row.len();
        row.resize(start + self.fields.len(), Value::Null);
        self.seen.fill(false);
        let Self { fields, index, options, encodings, seen, nested, absent } = self;
        // Writers keep the order of the columns: the next name is nearly always the next column's.
        let mut expected = 0;
        p.object(|p, name| {
            let column = match fields.get(expected) {
                Some(field) if field.name == name => expected,
                _ => match index.get(name) {
                    Some(column) => *column,
                    None => {
                        if let Some(absent) = absent {
                            absent.other(name);
                        }
                        return p.skip().map(drop);
                    }
                },
            };
            expected = column + 1;
            let (Some(field), Some(slot)) = (fields.get(column), row.get_mut(start + column)) else {
                return p.skip().map(drop);
            };
            if let Some(seen) = seen.get_mut(column) {
                *seen = true;
            }
            let encoding = encodings.get(column).copied().unwrap_or_default();
            let inner = nested.get_mut(column).and_then(Option::as_deref_mut);
            *slot = read_field(p, field, encoding, inner, options)?;
            Ok(())
        })?;
        if let Some(absent) = absent {
            absent.row(seen);
        }
        if options.fail_on_missing
            && let Some(missing) = seen.iter().position(|seen| !seen)
        {
            let name = fields.get(missing).map_or("", |f| f.name.as_str());
            return Err(FormatError::new("the field is missing").in_column(name));
        }
        Ok(())
    }

    /// Looks for columns that no row has, until [`Self::take_absent`] tells them.
    pub(super) fn looking_for_absent(mut self) -> Self {
        self.absent = Some(Box::new(Absent::of(self.fields.len())));
        self
    }

    /// Columns that none of the first rows had, once there were so many; told once.
    pub(super) fn take_absent(&mut self, rows: u32) -> Option<String> {
        self.absent.take_if(|absent| absent.is_sure(rows))?.told(&self.fields)
    }
}

fn read_field(
    p: &mut Parser<'_>,
    field: &Field,
    encoding: Encoding,
    nested: Option<&mut ObjectReader>,
    options: &JsonOptions,
) -> Result<Value, FormatError> {
    if !options.ignore_errors {
        return read_value(p, &field.data_type, encoding, nested, options)
            .map_err(|e| e.in_column(&field.name));
    }
    // The value's text is taken first, so that the reading goes on behind it whatever is in it.
    let text = p.skip()?;
    let mut inside = Parser::new(text.as_bytes())?;
    inside.peek()?;
    match read_value(&mut inside, &field.data_type, encoding, nested, options) {
        // What is no JSON makes the whole record none.
        Err(error) if error.is_syntax() => Err(error),
        other => Ok(other.unwrap_or(Value::Null)),
    }
}

fn mismatch(kind: Kind, wanted: &DataType) -> FormatError {
    let found = match kind {
        Kind::Null => "null",
        Kind::Bool => "a boolean",
        Kind::Number => "a number",
        Kind::String => "text that is none",
        Kind::Array => "an array",
        Kind::Object => "an object",
    };
    FormatError::new(format!("cannot read {} from JSON: found {found}", wanted.kind))
}

/// Text of a scalar as Jackson's `asText` gives it.
fn scalar_text<'a>(p: &mut Parser<'a>, kind: Kind, tree: bool) -> Result<Option<Cow<'a, str>>, FormatError> {
    Ok(match kind {
        Kind::String => Some(p.string()?),
        Kind::Number if tree => Some(text::tree_number(p.number()?)),
        Kind::Number => Some(p.number()?.into()),
        Kind::Bool => Some(if p.bool()? { "true" } else { "false" }.into()),
        _ => None,
    })
}

fn read_value(
    p: &mut Parser<'_>,
    data_type: &DataType,
    encoding: Encoding,
    nested: Option<&mut ObjectReader>,
    options: &JsonOptions,
) -> Result<Value, FormatError> {
    let kind = p.peek()?;
    if kind == Kind::Null {
        p.null()?;
        return Ok(Value::Null);
    }
    let bad = || mismatch(kind, data_type);
    let tree = options.tree;
    match &data_type.kind {
        TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt => {
            let text = scalar_text(p, kind, tree)?.ok_or_else(bad)?;
            integer(&text, kind, &data_type.kind).ok_or_else(bad)
        }
        TypeKind::Varchar(_) | TypeKind::Char(_) => match kind {
            // Containers as JSON text.
            Kind::Array | Kind::Object if tree => {
                let mut text = Vec::new();
                write_tree(p, &mut text)?;
                Ok(Value::str(&String::from_utf8_lossy(&text)))
            }
            Kind::Array | Kind::Object => Ok(Value::str(p.skip()?)),
            _ => Ok(Value::str(&scalar_text(p, kind, tree)?.ok_or_else(bad)?)),
        },
        TypeKind::Decimal(precision, scale) => decimal(p, kind, encoding, *precision, *scale, tree, bad),
        TypeKind::Boolean => match kind {
            Kind::Bool => Ok(Value::Bool(p.bool()?)),
            // Java's Boolean.parseBoolean: whatever is not "true" is false.
            Kind::String => Ok(Value::Bool(p.string()?.trim().eq_ignore_ascii_case("true"))),
            _ => p.skip().map(|_| Value::Bool(false)),
        },
        // How a number is written makes no difference to its value.
        TypeKind::Double => {
            let number = scalar_text(p, kind, false)?.ok_or_else(bad)?;
            text::double(&number).map(Value::Double).ok_or_else(bad)
        }
        TypeKind::Float => {
            let number = scalar_text(p, kind, false)?.ok_or_else(bad)?;
            text::float(&number).map(Value::Float).ok_or_else(bad)
        }
        TypeKind::Date => scalar_text(p, kind, tree)?.and_then(|t| text::date(&t)).map(Value::Date).ok_or_else(|| {
            bad().next("Debezium writes dates as days since 1970-01-01: declare the column INT and compute the date")
        }),
        TypeKind::Time(_) => {
            scalar_text(p, kind, tree)?.and_then(|t| text::time(&t)).map(Value::Time).ok_or_else(bad)
        }
        TypeKind::Timestamp(_) => {
            let text = scalar_text(p, kind, tree)?.ok_or_else(bad)?;
            text::timestamp(&text, options.timestamps)
                .map(Value::Timestamp)
                .ok_or_else(|| timestamp_remedy(bad(), &text, kind, false, options))
        }
        TypeKind::TimestampLtz(_) => {
            let text = scalar_text(p, kind, tree)?.ok_or_else(bad)?;
            text::timestamp_ltz(&text, options.timestamps)
                .map(Value::TimestampLtz)
                .ok_or_else(|| timestamp_remedy(bad(), &text, kind, true, options))
        }
        TypeKind::Binary(_) | TypeKind::Varbinary(_) => match kind {
            Kind::String => {
                BASE64.decode(p.string()?.trim().as_bytes()).map(|b| Value::Bytes(b.into())).map_err(|_| bad())
            }
            _ => Err(bad()),
        },
        TypeKind::Array(element) => {
            if kind != Kind::Array {
                return Err(bad());
            }
            let field = Field { name: "[]".into(), data_type: (**element).clone() };
            let mut inner = inner_reader(element, options);
            let mut values = Vec::new();
            p.array(|p| {
                values.push(read_field(p, &field, Encoding::Plain, inner.as_mut(), options)?);
                Ok(())
            })?;
            Ok(Value::Array(values.into()))
        }
        TypeKind::Map(key, value) => read_map(p, kind, key, value, options, bad),
        TypeKind::Multiset(key) => {
            read_map(p, kind, key, &DataType::new(TypeKind::Int), options, bad)
        }
        TypeKind::Row(fields) => {
            if kind != Kind::Object {
                return Err(bad());
            }
            let mut values = Vec::with_capacity(fields.len());
            match nested {
                Some(reader) => reader.read(p, &mut values)?,
                None => ObjectReader::new(fields.clone(), *options).read(p, &mut values)?,
            }
            Ok(Value::Row(values.into()))
        }
        TypeKind::Null | TypeKind::IntervalMonths | TypeKind::IntervalMillis => Err(FormatError::new(format!(
            "type {} cannot be read from JSON",
            data_type.kind
        ))),
        #[allow(unreachable_patterns, reason = "types may be added to the engine")]
        _ => Err(FormatError::new(format!("type {} cannot be read from JSON", data_type.kind))),
    }
}

fn inner_reader(element: &DataType, options: &JsonOptions) -> Option<ObjectReader> {
    match &element.kind {
        TypeKind::Row(fields) => Some(ObjectReader::new(fields.clone(), *options)),
        _ => None,
    }
}

fn read_map(
    p: &mut Parser<'_>,
    kind: Kind,
    key: &DataType,
    value: &DataType,
    options: &JsonOptions,
    bad: impl FnOnce() -> FormatError,
) -> Result<Value, FormatError> {
    if options.tree && kind != Kind::Object {
        p.skip()?;
        return Ok(Value::Map(Vec::new().into()));
    }
    if kind != Kind::Object || !matches!(key.kind, TypeKind::Varchar(_) | TypeKind::Char(_)) {
        return Err(bad());
    }
    let field = Field { name: "{}".into(), data_type: value.clone() };
    let mut inner = inner_reader(value, options);
    let mut entries: Vec<(Value, Value)> = Vec::new();
    p.object(|p, name| {
        let value = read_field(p, &field, Encoding::Plain, inner.as_mut(), options)?;
        match entries.iter_mut().find(|(k, _)| k.as_str() == Some(name)) {
            Some(entry) => entry.1 = value,
            None => entries.push((Value::str(name), value)),
        }
        Ok(())
    })?;
    crate::java::hash_map::sort_by_text(&mut entries, |(key, _)| key.as_str().unwrap_or_default());
    Ok(Value::Map(entries.into()))
}

/// A number is cut to a whole one, as Jackson's `asInt` does; text must be a whole number.
fn integer(text: &str, kind: Kind, wanted: &TypeKind) -> Option<Value> {
    let number = match text.trim().parse::<i64>() {
        Ok(number) => number,
        Err(_) if kind == Kind::Number && matches!(wanted, TypeKind::Int | TypeKind::BigInt) => {
            let float: f64 = text.parse().ok()?;
            if !(-9.2e18..9.2e18).contains(&float) {
                return None;
            }
            #[allow(clippy::cast_possible_truncation, reason = "in range, and the cut is what is meant")]
            let whole = float.trunc() as i64;
            whole
        }
        Err(_) => return None,
    };
    let fits = match wanted {
        TypeKind::TinyInt => i8::try_from(number).is_ok(),
        TypeKind::SmallInt => i16::try_from(number).is_ok(),
        TypeKind::Int => i32::try_from(number).is_ok(),
        _ => true,
    };
    fits.then_some(Value::Int(number))
}

fn decimal(
    p: &mut Parser<'_>,
    kind: Kind,
    encoding: Encoding,
    precision: u8,
    scale: u8,
    tree: bool,
    bad: impl Fn() -> FormatError,
) -> Result<Value, FormatError> {
    let value = |unscaled: Option<i128>| unscaled.map_or(Value::Null, |n| Value::decimal(n, scale));
    if kind == Kind::String
        && let Encoding::Decimal(from) = encoding
    {
        let bytes = BASE64.decode(p.string()?.as_bytes()).map_err(|_| bad())?;
        let unscaled = big_endian(&bytes);
        return Ok(value(unscaled.and_then(|n| text::rescale(n, from, scale, precision))));
    }
    if kind == Kind::Object {
        return variable_scale(p)
            .map(|(from, n)| value(text::rescale(n, from, scale, precision)))
            .map_err(|_| bad());
    }
    let text = scalar_text(p, kind, tree)?.ok_or_else(&bad)?;
    text::decimal(if tree { &text } else { text.trim() }, precision, scale).map(value).map_err(|_| {
        bad().next(
            "Debezium writes numeric columns as base64 unless 'decimal.handling.mode' is 'string' or 'double': set \
             it in the connector, or let the messages carry their schema (value.converter.schemas.enable=true with \
             'debezium-json.schema-include'='true')",
        )
    })
}

/// Writes a value as Jackson writes its tree: without blanks, numbers normalized.
fn write_tree(p: &mut Parser<'_>, out: &mut Vec<u8>) -> Result<(), FormatError> {
    let comma = |out: &mut Vec<u8>, open: u8| {
        if out.last() != Some(&open) {
            out.push(b',');
        }
    };
    match p.peek()? {
        Kind::Object => {
            out.push(b'{');
            p.object(|p, name| {
                comma(out, b'{');
                write_string(out, name);
                out.push(b':');
                write_tree(p, out)
            })?;
            out.push(b'}');
        }
        Kind::Array => {
            out.push(b'[');
            p.array(|p| {
                comma(out, b'[');
                write_tree(p, out)
            })?;
            out.push(b']');
        }
        Kind::String => write_string(out, &p.string()?),
        Kind::Number => out.extend_from_slice(text::tree_number(p.number()?).as_bytes()),
        Kind::Bool | Kind::Null => out.extend_from_slice(p.skip()?.as_bytes()),
    }
    Ok(())
}

/// `io.debezium.data.VariableScaleDecimal`: `{"scale":2,"value":"base64"}`.
fn variable_scale(p: &mut Parser<'_>) -> Result<(i32, i128), FormatError> {
    let (mut scale, mut unscaled) = (None, None);
    p.object(|p, name| {
        match (name, p.peek()?) {
            ("scale", Kind::Number) => scale = p.number()?.parse::<i32>().ok(),
            ("value", Kind::String) => {
                unscaled = BASE64.decode(p.string()?.as_bytes()).ok().and_then(|b| big_endian(&b));
            }
            _ => drop(p.skip()?),
        }
        Ok(())
    })?;
    scale.zip(unscaled).ok_or_else(|| FormatError::new("not a decimal with its scale"))
}

/// A whole number in two's complement, most significant byte first; `None` where it does not fit.
pub(super) fn big_endian(bytes: &[u8]) -> Option<i128> {
    if bytes.is_empty() || bytes.len() > 16 {
        return None;
    }
    let fill = if bytes.first().is_some_and(|b| b & 0x80 != 0) { 0xFF } else { 0 };
    let mut all = [fill; 16];
    all.get_mut(16 - bytes.len()..)?.copy_from_slice(bytes);
    Some(i128::from_be_bytes(all))
}

/// Adds what to do about a timestamp that is written otherwise than the table says.
fn timestamp_remedy(
    error: FormatError,
    text: &str,
    kind: Kind,
    ltz: bool,
    options: &JsonOptions,
) -> FormatError {
    if kind == Kind::Number {
        return error.next(
            "Debezium writes timestamps as numbers since 1970: declare the column BIGINT and compute it, \
             TO_TIMESTAMP_LTZ(column / 1000, 3) for microseconds",
        );
    }
    let other = match options.timestamps {
        TimestampFormat::Sql => (TimestampFormat::Iso8601, "ISO-8601"),
        TimestampFormat::Iso8601 => (TimestampFormat::Sql, "SQL"),
    };
    for (format, standard) in [(options.timestamps, None), (other.0, Some(other.1))] {
        let plain = text::timestamp(text, format).is_some();
        let zoned = text::timestamp_ltz(text, format).is_some();
        let type_hint = match (ltz, plain, zoned) {
            (false, false, true) => Some("declare the column TIMESTAMP_LTZ"),
            (true, true, false) => Some("declare the column TIMESTAMP"),
            (_, false, false) => continue,
            _ => None,
        };
        let standard = standard.map(|s| format!("set 'FORMAT.timestamp-format.standard' = '{s}'"));
        let parts: Vec<String> = type_hint.map(str::to_owned).into_iter().chain(standard).collect();
        return error.next(parts.join(" and "));
    }
    error
}
