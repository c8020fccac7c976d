//! Values and rows of a changelog.

use std::sync::Arc;

/// A value. The static type stands in the plan; integers of all widths are `Int`.
///
/// The engine owns this representation: other modules use the constructors and accessors, so that it can
/// become smaller or faster without them.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// NULL.
    Null,
    /// BOOLEAN.
    Bool(bool),
    /// TINYINT, SMALLINT, INT, BIGINT, already wrapped to their width.
    Int(i64),
    /// FLOAT.
    Float(f32),
    /// DOUBLE.
    Double(f64),
    /// DECIMAL: `unscaled × 10^-scale`.
    Decimal(Decimal),
    /// CHAR, VARCHAR, STRING.
    Str(Arc<str>),
    /// BINARY, VARBINARY, BYTES.
    Bytes(Arc<[u8]>),
    /// Days since 1970-01-01.
    Date(i32),
    /// Milliseconds since midnight.
    Time(i32),
    /// Wall clock: milliseconds since 1970-01-01T00:00 and the nanoseconds within the millisecond.
    Timestamp(Instant),
    /// Instant: milliseconds since 1970-01-01T00:00Z and the nanoseconds within the millisecond.
    TimestampLtz(Instant),
    /// INTERVAL YEAR TO MONTH in months, INTERVAL DAY TO SECOND in milliseconds.
    Interval(i64),
    /// ARRAY.
    Array(Arc<[Value]>),
    /// MAP and MULTISET (value: count), in order of insertion.
    Map(Arc<[(Value, Value)]>),
    /// ROW.
    Row(Arc<[Value]>),
}

/// A decimal number of up to 38 digits. Packed, so that a [`Value`] takes 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed)]
pub struct Decimal {
    unscaled: i128,
    /// Digits after the point.
    pub scale: u8,
}

impl Decimal {
    /// From a whole number and a scale.
    pub fn new(unscaled: i128, scale: u8) -> Self {
        Self { unscaled, scale }
    }

    /// All digits as a whole number.
    pub fn unscaled(self) -> i128 {
        self.unscaled
    }
}

/// A point in time or on a wall clock, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Milliseconds since 1970.
    pub millis: i64,
    /// Nanoseconds within the millisecond, 0..1_000_000.
    pub nanos: u32,
}

/// What a row of a changelog does to the table. `+I -U +U -D` in Flink's writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RowKind {
    /// `+I`
    Insert,
    /// `-U`
    UpdateBefore,
    /// `+U`
    UpdateAfter,
    /// `-D`
    Delete,
}

impl Instant {
    /// From milliseconds since 1970.
    pub fn from_millis(millis: i64) -> Self {
        Self { millis, nanos: 0 }
    }
}

impl Value {
    /// A string.
    pub fn str(text: &str) -> Self {
        Self::Str(Arc::from(text))
    }

    /// A decimal number.
    pub fn decimal(unscaled: i128, scale: u8) -> Self {
        Self::Decimal(Decimal::new(unscaled, scale))
    }

    /// Whether this is NULL.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether two values are one in the state, where NaN is NaN.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(left), Self::Float(right)) => left == right || left.is_nan() && right.is_nan(),
            (Self::Double(left), Self::Double(right)) => left == right || left.is_nan() && right.is_nan(),
            (Self::Array(left), Self::Array(right)) | (Self::Row(left), Self::Row(right)) => {
                left.len() == right.len() && left.iter().zip(right.iter()).all(|(l, r)| l.is_same(r))
            }
            _ => self == other,
        }
    }

    /// The text of a string value.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::Str(text) = self { Some(text) } else { None }
    }

    /// The number of an integer value.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }

    /// The milliseconds of a timestamp of either kind.
    pub fn as_millis(&self) -> Option<i64> {
        match self {
            Self::Timestamp(at) | Self::TimestampLtz(at) => Some(at.millis),
            _ => None,
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Str(Arc::from(text))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl Change {
    /// A change from its kind and its columns.
    pub fn new(kind: RowKind, values: Vec<Value>) -> Self {
        Self { kind, row: Row::from(values) }
    }
}

impl RowKind {
    /// Whether the row comes into the table (`+I`, `+U`).
    pub fn is_add(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }

    /// `+I`, `-U`, `+U`, `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}

/// The columns of a row; cheap to clone.
pub type Row = Arc<[Value]>;

/// A row of a changelog.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What it does.
    pub kind: RowKind,
    /// Its columns.
    pub row: Row,
}

const _: () = assert!(size_of::<Value>() == 24);
