//! PARTITIONED BY of filesystem tables: columns whose values are the names of directories, `k=v/…`, and not in the
//! files.
//!
//! The planner gives such columns the metadata key [`COLUMN`] with the column's name, and the table the option
//! [`OPTION`], which holds their names in order. Names are written as Flink (and Hive) write them.

use std::fmt::Write as _;

use super::{FormatError, text};
use crate::engine::plan::TableRef;
use crate::engine::row::{Decimal, Instant, Value};
use crate::engine::types::{Field, TypeKind};

/// What the metadata key of a partition column begins with.
pub const COLUMN: &str = "file.partition.";
/// The option with the names of the partition columns, separated by `/`. No user can set it: it is no option of the
/// connector.
pub const OPTION: &str = "millstream.internal.partitioned-by";

const DEFAULT_NAME: &str = "partition.default-name";

/// Names of the table's partition columns, in order.
pub fn names(table: &TableRef) -> Vec<&str> {
    table.options.get(OPTION).map(|names| names.split('/').collect()).unwrap_or_default()
}

/// The directory's name for a value that is NULL or empty.
fn default_name(table: &TableRef) -> String {
    table.options.get(DEFAULT_NAME).cloned().unwrap_or_else(|| "__DEFAULT_PARTITION__".to_owned())
}

/// A column whose value is read from a path.
#[derive(Clone, Debug)]
pub(super) struct PathColumn {
    field: Field,
    default_name: String,
}

impl PathColumn {
    pub(super) fn new(table: &TableRef, field: &Field) -> Self {
        Self { field: field.clone(), default_name: default_name(table) }
    }

    /// The value in a path; `None` where the path has no such directory or its name is no value of the type.
    pub(super) fn value(&self, path: &str) -> Option<Value> {
        let name = path.rsplit('/').skip(1).find_map(|directory| {
            let (name, value) = directory.split_once('=')?;
            (unescape(name) == self.field.name).then_some(value)
        })?;
        let text = unescape(name);
        if text == self.default_name {
            return Some(Value::Null);
        }
        read(&text, &self.field.data_type.kind)
    }
}

/// Names and values of a partition's directories, from its path below the table's.
pub fn values(relative: &str) -> Vec<(String, String)> {
    let pairs = relative.split('/').filter_map(|directory| directory.split_once('='));
    pairs.map(|(name, value)| (unescape(name), unescape(value))).collect()
}

/// Looks whether a file's path has a value for each partition column.
///
/// # Errors
/// Naming the column whose value is missing or of another type.
pub fn check(table: &TableRef, path: &str) -> Result<(), FormatError> {
    for column in &table.columns {
        if column.metadata.as_deref().is_some_and(|key| key.starts_with(COLUMN))
            && PathColumn::new(table, &column.field).value(path).is_none()
        {
            let kind = &column.field.data_type.kind;
            return Err(FormatError::new(format!("the path has no value of type {kind} for the partition"))
                .in_column(&column.field.name)
                .next("a partitioned table's files lie in directories named COLUMN=VALUE"));
        }
    }
    Ok(())
}

fn read(text: &str, kind: &TypeKind) -> Option<Value> {
    let whole =
        |low: i64, high: i64| text.parse::<i64>().ok().filter(|n| (low..=high).contains(n)).map(Value::Int);
    match kind {
        TypeKind::Char(_) | TypeKind::Varchar(_) => Some(Value::str(text)),
        TypeKind::Boolean => Some(Value::Bool(text.eq_ignore_ascii_case("true"))),
        TypeKind::TinyInt => whole(i64::from(i8::MIN), i64::from(i8::MAX)),
        TypeKind::SmallInt => whole(i64::from(i16::MIN), i64::from(i16::MAX)),
        TypeKind::Int => whole(i64::from(i32::MIN), i64::from(i32::MAX)),
        TypeKind::BigInt => whole(i64::MIN, i64::MAX),
        TypeKind::Float => text::float(text).map(Value::Float),
        TypeKind::Double => text::double(text).map(Value::Double),
        TypeKind::Decimal(precision, scale) => {
            let unscaled = text::decimal(text, *precision, *scale).ok()??;
            Some(Value::Decimal(Decimal::new(unscaled, *scale)))
        }
        // Flink's sink writes the number of the day; other programs write dates.
        TypeKind::Date => text.parse().ok().or_else(|| text::date(text)).map(Value::Date),
        TypeKind::Time(_) => text.parse().ok().or_else(|| text::time(text)).map(Value::Time),
        TypeKind::Timestamp(_) => timestamp(text).map(Value::Timestamp),
        TypeKind::TimestampLtz(_) => timestamp(text).map(Value::TimestampLtz),
        _ => None,
    }
}

fn timestamp(text: &str) -> Option<Instant> {
    // LocalDateTime's text leaves out seconds that are 0.
    let full = if text.len() == 16 { format!("{text}:00") } else { text.to_owned() };
    text::timestamp(&full, text::TimestampFormat::Iso8601)
}

/// A partition's directories for a row, below the table's path.
///
/// # Errors
/// Where a column's type cannot be a directory's name.
pub fn path(table: &TableRef, row: &[Value]) -> Result<String, FormatError> {
    let default_name = default_name(table);
    let mut path = String::new();
    for name in names(table) {
        let place = table.columns.iter().position(|column| column.field.name == name);
        let value = place.and_then(|place| row.get(place)).unwrap_or(&Value::Null);
        let kind = place.and_then(|place| table.columns.get(place)).map(|c| &c.field.data_type.kind);
        let mut text = String::new();
        if let Some(kind) = kind {
            write(&mut text, value, kind).map_err(|error| error.in_column(name))?;
        }
        let text = if text.is_empty() { &default_name } else { &text };
        if !path.is_empty() {
            path.push('/');
        }
        escape(&mut path, name);
        path.push('=');
        escape(&mut path, text);
    }
    Ok(path)
}

/// A value as `toString` of Flink's internal data writes it (seen in files of Flink 2.3): dates and times of day are
/// numbers, timestamps a `LocalDateTime`.
fn write(out: &mut String, value: &Value, kind: &TypeKind) -> Result<(), FormatError> {
    match (value, kind) {
        (Value::Null, _) => {}
        (Value::Str(text), _) => out.push_str(text),
        (Value::Bool(flag), _) => out.push_str(if *flag { "true" } else { "false" }),
        (Value::Int(number), _) => out.push_str(itoa::Buffer::new().format(*number)),
        (Value::Date(number) | Value::Time(number), _) => {
            out.push_str(itoa::Buffer::new().format(*number));
        }
        (Value::Timestamp(at) | Value::TimestampLtz(at), _) => write_local(out, *at),
        (Value::Decimal(decimal), _) => crate::engine::print::decimal(out, *decimal),
        (_, kind) => {
            return Err(FormatError::new(format!("a partition cannot be of type {kind}"))
                .next("CAST the column to STRING, and declare it so"));
        }
    }
    Ok(())
}

/// Seconds only where they or what follows are not 0, their fraction in threes of digits.
fn write_local(out: &mut String, at: Instant) {
    let day = i32::try_from(at.millis.div_euclid(86_400_000)).unwrap_or_default();
    let of_day = at.millis.rem_euclid(86_400_000);
    let mut date = Vec::new();
    text::write_date(&mut date, day);
    out.push_str(&String::from_utf8_lossy(&date));
    let (hours, minutes, seconds) = (of_day / 3_600_000, of_day / 60_000 % 60, of_day / 1000 % 60);
    let nanos = of_day % 1000 * 1_000_000 + i64::from(at.nanos);
    let _ = write!(out, "T{hours:02}:{minutes:02}");
    if seconds > 0 || nanos > 0 {
        let _ = write!(out, ":{seconds:02}");
    }
    let _ = match nanos {
        0 => Ok(()),
        n if n % 1_000_000 == 0 => write!(out, ".{:03}", n / 1_000_000),
        n if n % 1000 == 0 => write!(out, ".{:06}", n / 1000),
        n => write!(out, ".{n:09}"),
    };
}

/// Characters that a directory's name does not hold as they are.
fn is_escaped(c: char) -> bool {
    matches!(c, '\u{1}'..='\u{1f}' | '\u{7f}')
        || matches!(
            c,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '}' | '[' | ']' | '^'
        )
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_escaped(c) {
            let _ = write!(out, "%{:02X}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

fn unescape(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::TableColumn;
    use crate::engine::types::DataType;

    #[test]
    fn values_come_back_from_the_names_of_directories() {
        let kinds = [
            ("s", TypeKind::Varchar(u32::MAX)),
            ("n", TypeKind::Int),
            ("d", TypeKind::Date),
            ("t", TypeKind::Timestamp(3)),
            ("b", TypeKind::Boolean),
        ];
        let column = |(name, kind): &(&str, TypeKind)| TableColumn {
            field: Field { name: (*name).to_owned(), data_type: DataType::new(kind.clone()) },
            metadata: Some(format!("{COLUMN}{name}")),
        };
        let table = TableRef {
            name: "t".into(),
            options: [(OPTION.to_owned(), "d/s/n/t/b".to_owned())].into(),
            columns: kinds.iter().map(column).collect(),
            primary_key: Vec::new(),
        };
        let back = |row: &[Value]| {
            let path = format!("/data/s=no/{}/part-1", path(&table, row).unwrap());
            check(&table, &path).unwrap();
            let read = table.columns.iter().map(|c| PathColumn::new(&table, &c.field).value(&path).unwrap());
            (read.collect::<Vec<_>>(), path)
        };
        let row = [
            Value::str("a/b=c %ü"),
            Value::Int(-7),
            Value::Date(19_723),
            Value::Timestamp(Instant::from_millis(1_704_067_200_000)),
            Value::Bool(true),
        ];
        let (read, path) = back(&row);
        assert_eq!(read, row);
        assert_eq!(path, "/data/s=no/d=19723/s=a%2Fb%3Dc %25ü/n=-7/t=2024-01-01T00%3A00/b=true/part-1");
        let later = row.iter().cloned().map(|value| match value {
            Value::Timestamp(at) => Value::Timestamp(Instant::from_millis(at.millis + 37_230_500)),
            Value::Str(_) => Value::str(" "),
            other => other,
        });
        let later: Vec<Value> = later.collect();
        let (read, path) = back(&later);
        assert_eq!(read, later);
        assert!(path.contains("/s= /n=-7/t=2024-01-01T10%3A20%3A30.500/"), "{path}");
        let nothing = vec![Value::Null; 5];
        let (read, path) = back(&nothing);
        assert_eq!(read, nothing);
        assert!(path.contains("s=__DEFAULT_PARTITION__/"), "{path}");
        let error = check(&table, "/data/d=x/s=a/n=1/t=2024-01-01T00%3A00/b=true/f").unwrap_err();
        assert_eq!(error.column.as_deref(), Some("d"));
    }
}
