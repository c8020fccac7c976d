//! Flink SQL's data types.

use std::fmt;

/// A type with its nullability.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DataType {
    /// The type.
    pub kind: TypeKind,
    /// Whether NULL is among its values.
    pub nullable: bool,
}

/// Flink's logical types. `TIMESTAMP` alone is `Timestamp(6)`, `DECIMAL` alone `Decimal(10, 0)`,
/// `STRING` is `Varchar(i32::MAX)`, `BYTES` is `Varbinary(i32::MAX)`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeKind {
    /// The type of a bare NULL.
    Null,
    /// BOOLEAN.
    Boolean,
    /// 8 bits.
    TinyInt,
    /// 16 bits.
    SmallInt,
    /// 32 bits.
    Int,
    /// 64 bits.
    BigInt,
    /// 32 bits.
    Float,
    /// 64 bits.
    Double,
    /// Precision (1..=38), scale.
    Decimal(u8, u8),
    /// CHAR(n).
    Char(u32),
    /// VARCHAR(n).
    Varchar(u32),
    /// BINARY(n).
    Binary(u32),
    /// VARBINARY(n).
    Varbinary(u32),
    /// DATE.
    Date,
    /// TIME(p), kept in milliseconds.
    Time(u8),
    /// TIMESTAMP(p): a wall clock without zone.
    Timestamp(u8),
    /// TIMESTAMP_LTZ(p): an instant.
    TimestampLtz(u8),
    /// INTERVAL YEAR TO MONTH and its parts; months.
    IntervalMonths,
    /// INTERVAL DAY TO SECOND and its parts; milliseconds.
    IntervalMillis,
    /// ARRAY.
    Array(Box<DataType>),
    /// MAP.
    Map(Box<DataType>, Box<DataType>),
    /// MULTISET.
    Multiset(Box<DataType>),
    /// ROW.
    Row(Vec<Field>),
}

/// A named, typed column or field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
}

impl DataType {
    /// A nullable type.
    pub fn new(kind: TypeKind) -> Self {
        Self { kind, nullable: true }
    }

    /// A NOT NULL type.
    pub fn not_null(kind: TypeKind) -> Self {
        Self { kind, nullable: false }
    }

    /// The same type with this nullability.
    #[must_use]
    pub fn with_nullable(mut self, nullable: bool) -> Self {
        self.nullable = nullable;
        self
    }

    /// STRING.
    pub fn string() -> Self {
        Self::new(TypeKind::Varchar(i32::MAX as u32))
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)?;
        if self.nullable { Ok(()) } else { f.write_str(" NOT NULL") }
    }
}

impl fmt::Display for TypeKind {
    /// As Flink's `DESCRIBE` and `expected.schema` of the goldens write types.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Boolean => f.write_str("BOOLEAN"),
            Self::TinyInt => f.write_str("TINYINT"),
            Self::SmallInt => f.write_str("SMALLINT"),
            Self::Int => f.write_str("INT"),
            Self::BigInt => f.write_str("BIGINT"),
            Self::Float => f.write_str("FLOAT"),
            Self::Double => f.write_str("DOUBLE"),
            Self::Decimal(p, s) => write!(f, "DECIMAL({p}, {s})"),
            Self::Char(n) => write!(f, "CHAR({n})"),
            Self::Varchar(n) if *n == i32::MAX as u32 => f.write_str("STRING"),
            Self::Varchar(n) => write!(f, "VARCHAR({n})"),
            Self::Binary(n) => write!(f, "BINARY({n})"),
            Self::Varbinary(n) if *n == i32::MAX as u32 => f.write_str("BYTES"),
            Self::Varbinary(n) => write!(f, "VARBINARY({n})"),
            Self::Date => f.write_str("DATE"),
            Self::Time(p) => write!(f, "TIME({p})"),
            Self::Timestamp(p) => write!(f, "TIMESTAMP({p})"),
            Self::TimestampLtz(p) => write!(f, "TIMESTAMP_LTZ({p})"),
            Self::IntervalMonths => f.write_str("INTERVAL MONTH"),
            Self::IntervalMillis => f.write_str("INTERVAL SECOND(3)"),
            Self::Array(t) => write!(f, "ARRAY<{t}>"),
            Self::Map(k, v) => write!(f, "MAP<{k}, {v}>"),
            Self::Multiset(t) => write!(f, "MULTISET<{t}>"),
            Self::Row(fields) => {
                f.write_str("ROW<")?;
                for (i, field) in fields.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "`{}` {}", field.name.replace('`', "``"), field.data_type)?;
                }
                f.write_str(">")
            }
        }
    }
}
