//! PostgreSQL types to converters and schemas: Debezium's type mapping under its handling modes.

use super::convert::array::{Elements, Toast};
use super::convert::temporal::Fraction;
use super::convert::{Conv, Decimals, Unit};
use super::options::{BinaryMode, DecimalMode, EventOptions, HstoreMode, IntervalMode, TimeMode};
use super::schema::{Kind, Schema};
use crate::pg::catalog::{PgType, TypeKind, TypeRegistry};

/// OIDs of built-in types that are told apart by number.
mod oid {
    pub const NAME: u32 = 19;
}

/// A column's type as the encoder sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    /// Converter.
    pub conv: Conv,
    /// Schema without default and parameters of column rules; not optional.
    pub schema: Schema,
}

/// Where a row comes from: some types differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A snapshot's SELECT.
    Snapshot,
    /// The stream.
    Stream,
}

/// A resolved type: domains are followed to their base.
struct Resolved<'t> {
    pg: &'t PgType,
    typmod: i32,
}

fn resolve(types: &TypeRegistry, type_oid: u32, typmod: i32) -> Option<Resolved<'_>> {
    let mut pg = types.get(type_oid)?;
    let mut modifier = typmod;
    for _ in 0..32 {
        match &pg.kind {
            TypeKind::Domain { base, typmod } => {
                // the outermost that has one counts
                if modifier < 0 {
                    modifier = *typmod;
                }
                pg = types.get(*base)?;
            }
            _ => return Some(Resolved { pg, typmod: modifier }),
        }
    }
    None
}

/// Maps a column's type; `None` where Debezium drops the column.
pub fn map(
    options: &EventOptions,
    types: &TypeRegistry,
    type_oid: u32,
    typmod: i32,
    origin: Origin,
) -> Option<Mapped> {
    let unknown = || options.include_unknown.then(|| opaque(Conv::Unknown(options.binary), options.binary));
    let Some(r) = resolve(types, type_oid, typmod) else { return unknown() };
    match &r.pg.kind {
        TypeKind::Array(element) => map_array(options, types, *element, r.typmod, origin),
        TypeKind::Enum(labels) => Some(Mapped { conv: Conv::Text, schema: enumeration(labels) }),
        TypeKind::Composite => unknown(),
        TypeKind::Base if matches!(r.pg.name.as_str(), "int2vector" | "oidvector") => {
            let element = if r.pg.name == "oidvector" { Kind::Int64 } else { Kind::Int16 };
            let conv = Conv::Vector32 { strict: options.strict_values };
            Some(Mapped { conv, schema: Schema::array(Schema::new(element)) })
        }
        _ => scalar(options, r.pg, r.typmod, origin).or_else(|| {
            if matches!(r.pg.name.as_str(), "line" | "lseg" | "box" | "path" | "polygon" | "circle") {
                return options
                    .include_unknown
                    .then(|| opaque(Conv::UnknownGeometric(options.binary), options.binary));
            }
            unknown()
        }),
    }
}

fn map_array(
    options: &EventOptions,
    types: &TypeRegistry,
    element: u32,
    typmod: i32,
    origin: Origin,
) -> Option<Mapped> {
    let element_type = types.get(element)?;
    let delimiter = element_type.delimiter;
    let toast = match element_type.name.as_str() {
        "text" | "varchar" | "bpchar" | "json" | "jsonb" => Toast::One,
        "bytea" if options.binary == BinaryMode::Bytes => Toast::One,
        "int4" | "int8" => Toast::Numbers,
        "date" if !matches!(options.time, TimeMode::Connect | TimeMode::IsoString) => Toast::Numbers,
        "uuid" => Toast::Uuid,
        _ => Toast::Null,
    };
    let strict = options.strict_values;
    let make = |m: Mapped, optional: bool, null_is_fatal: bool| {
        let elements = match (strict, null_is_fatal) {
            (true, _) => Elements::Strict,
            (false, true) => Elements::NullIsFatal,
            (false, false) => Elements::Lenient,
        };
        Mapped {
            conv: Conv::Array { element: Box::new(m.conv), delimiter, elements, toast },
            schema: Schema::array(m.schema.with_optional(optional || strict)),
        }
    };
    match &element_type.kind {
        TypeKind::Enum(labels) => {
            return Some(make(Mapped { conv: Conv::Text, schema: enumeration(labels) }, false, true));
        }
        TypeKind::Domain { .. } | TypeKind::Composite => {
            return options
                .include_unknown
                .then(|| make(opaque(Conv::Unknown(options.binary), options.binary), false, true));
        }
        _ => {}
    }
    match element_type.name.as_str() {
        name if strict => {
            let known = scalar(options, element_type, typmod, origin);
            let text = || {
                (name == "refcursor").then(|| Mapped { conv: Conv::Text, schema: Schema::new(Kind::String) })
            };
            let opaque = || opaque(Conv::Unknown(options.binary), options.binary);
            Some(make(known.or_else(text).unwrap_or_else(opaque), true, false))
        }
        // Debezium has no mapping and drops the column, even with include.unknown.datatypes
        "money" | "name" | "interval" | "varbit" | "xml" | "point" | "refcursor" => None,
        // the schema is that of one element, which the array then is not
        "bit" if typmod <= 1 => Some(Mapped { conv: Conv::Null, schema: Schema::new(Kind::Boolean) }),
        "bit" => Some(Mapped { conv: Conv::Null, schema: bit_schema(typmod) }),
        "tsvector" | "vector" | "halfvec" => {
            scalar(options, element_type, typmod, origin).map(|m| make(m, false, true))
        }
        // Debezium reads each element as null, which the element's schema does not allow
        "sparsevec" => {
            let element = Mapped { conv: Conv::Null, schema: sparse_schema() };
            Some(make(element, false, true))
        }
        name => match scalar(options, element_type, typmod, origin) {
            Some(m) => {
                // Debezium asks each ltree for its text, null or not
                Some(make(Mapped { conv: through_java_sql(m.conv), ..m }, true, name == "ltree"))
            }
            None => options
                .include_unknown
                .then(|| make(opaque(Conv::Unknown(options.binary), options.binary), false, true)),
        },
    }
}

/// Debezium gets the elements of arrays as `java.sql` types, in snapshots and streams alike.
fn through_java_sql(conv: Conv) -> Conv {
    match conv {
        Conv::Date { unit, strict, .. } => Conv::Date { unit, strict, legacy: true },
        Conv::Time { unit, .. } => Conv::Time { unit, legacy: true },
        Conv::Timestamp { unit, strict, .. } => Conv::Timestamp { unit, strict, legacy: true },
        Conv::TimestampTz { fraction, .. } => Conv::TimestampTz { fraction, legacy: true },
        Conv::TimeTz { .. } => Conv::TimeTz { legacy: true },
        // a number format that knows no NaN
        Conv::Numeric(mode) => Conv::FiniteNumeric(mode),
        other => other,
    }
}

fn enumeration(labels: &[String]) -> Schema {
    Schema::new(Kind::String).named("io.debezium.data.Enum", 1).parameter("allowed", labels.join(","))
}

fn opaque(conv: Conv, mode: BinaryMode) -> Mapped {
    let kind = if mode == BinaryMode::Bytes { Kind::Bytes } else { Kind::String };
    Mapped { conv, schema: Schema::new(kind) }
}

fn bit_schema(length: i32) -> Schema {
    let length = if length < 0 { i32::MAX } else { length };
    Schema::new(Kind::Bytes).named("io.debezium.data.Bits", 1).parameter("length", length.to_string())
}

fn named(kind: Kind, name: &str) -> Schema {
    Schema::new(kind).named(name, 1)
}

fn scalar(options: &EventOptions, pg: &PgType, typmod: i32, origin: Origin) -> Option<Mapped> {
    let plain = |conv: Conv, kind: Kind| Some(Mapped { conv, schema: Schema::new(kind) });
    let text = |name: &str| Some(Mapped { conv: Conv::Text, schema: named(Kind::String, name) });
    if pg.kind == TypeKind::Range {
        return match pg.name.as_str() {
            "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange" => {
                plain(Conv::Text, Kind::String)
            }
            _ => None,
        };
    }
    match pg.name.as_str() {
        "bool" => plain(Conv::Bool, Kind::Boolean),
        "int2" => plain(Conv::Int, Kind::Int16),
        "int4" => plain(Conv::Int, Kind::Int32),
        "int8" | "oid" => plain(Conv::Int, Kind::Int64),
        "float4" => plain(Conv::F32, Kind::Float32),
        "float8" => plain(Conv::F64, Kind::Float64),
        "numeric" => Some(numeric(options, typmod)),
        "money" => Some(money(options)),
        "name" if pg.oid == oid::NAME => {
            // Debezium's stream decoder has a schema for it, but no value
            let conv = if origin == Origin::Stream && !options.include_unknown && !options.strict_values {
                Conv::Null
            } else {
                Conv::Text
            };
            plain(conv, Kind::String)
        }
        "text" | "varchar" | "bpchar" | "char" | "citext" | "inet" | "cidr" | "macaddr" | "macaddr8"
        | "isbn" => plain(Conv::Text, Kind::String),
        "bytea" => Some(opaque(Conv::Bytea(options.binary), options.binary)),
        "json" | "jsonb" => text("io.debezium.data.Json"),
        "xml" => text("io.debezium.data.Xml"),
        "uuid" => Some(Mapped { conv: Conv::Uuid, schema: named(Kind::String, "io.debezium.data.Uuid") }),
        "ltree" => text("io.debezium.data.Ltree"),
        "tsvector" => text("io.debezium.data.Tsvector"),
        "bit" if typmod <= 1 => plain(Conv::BitBool, Kind::Boolean),
        "varbit" if typmod == 1 => plain(Conv::BitBool, Kind::Boolean),
        "bit" | "varbit" => Some(Mapped { conv: Conv::Bits, schema: bit_schema(typmod) }),
        "date" => Some(date(options, origin)),
        "time" => Some(time(options, typmod)),
        "timestamp" => Some(timestamp(options, typmod)),
        "timestamptz" => {
            let digits = u8::try_from(typmod).unwrap_or(6);
            Some(Mapped {
                conv: Conv::TimestampTz { fraction: Fraction::Fixed(digits), legacy: false },
                schema: named(Kind::String, "io.debezium.time.ZonedTimestamp"),
            })
        }
        "timetz" => {
            let conv = Conv::TimeTz { legacy: false };
            Some(Mapped { conv, schema: named(Kind::String, "io.debezium.time.ZonedTime") })
        }
        "interval" => {
            let schema = match options.interval {
                IntervalMode::Numeric => named(Kind::Int64, "io.debezium.time.MicroDuration"),
                IntervalMode::String => named(Kind::String, "io.debezium.time.Interval"),
            };
            Some(Mapped {
                conv: Conv::Interval { mode: options.interval, strict: options.strict_values },
                schema,
            })
        }
        "hstore" => {
            let schema = match options.hstore {
                HstoreMode::Json => named(Kind::String, "io.debezium.data.Json"),
                HstoreMode::Map => Schema::new(Kind::Map(
                    Schema::new(Kind::String).into(),
                    Schema::new(Kind::String).optional().into(),
                )),
            };
            Some(Mapped { conv: Conv::Hstore(options.hstore), schema })
        }
        "point" => Some(Mapped { conv: Conv::Point, schema: point_schema() }),
        // a NOT NULL geometry's field is optional too; a geography's is not
        "geometry" => Some(Mapped { conv: Conv::Geometry, schema: geometry_schema("Geometry").optional() }),
        "geography" => Some(Mapped { conv: Conv::Geometry, schema: geometry_schema("Geography") }),
        "vector" => Some(Mapped {
            conv: Conv::Vector(false),
            schema: Schema::array(Schema::new(Kind::Float64)).named("io.debezium.data.DoubleVector", 1),
        }),
        "halfvec" => Some(Mapped {
            conv: Conv::Vector(true),
            schema: Schema::array(Schema::new(Kind::Float32)).named("io.debezium.data.FloatVector", 1),
        }),
        "sparsevec" => Some(Mapped { conv: Conv::SparseVector, schema: sparse_schema() }),
        _ => None,
    }
}

fn decimal_schema(scale: usize, precision: Option<usize>) -> Schema {
    let schema =
        named(Kind::Bytes, "org.apache.kafka.connect.data.Decimal").parameter("scale", scale.to_string());
    match precision {
        Some(p) => schema.parameter("connect.decimal.precision", p.to_string()),
        None => schema,
    }
}

fn numeric(options: &EventOptions, typmod: i32) -> Mapped {
    let declared = u32::try_from(typmod).ok().and_then(|t| t.checked_sub(4)).map(|t| {
        // pgjdbc reads the scale as unsigned: -2 is 2046
        ((t >> 16) & 0xFFFF, t & 0xFFFF)
    });
    let declared = declared.map(|(p, s)| (usize::try_from(p).unwrap_or(0), usize::try_from(s).unwrap_or(0)));
    match (options.decimal, declared) {
        (DecimalMode::Precise, Some((precision, scale))) => Mapped {
            conv: Conv::Numeric(Decimals::Scaled(scale)),
            schema: decimal_schema(scale, Some(precision)),
        },
        (DecimalMode::Precise, None) => Mapped {
            conv: Conv::Numeric(Decimals::Variable),
            schema: Schema::structure([
                ("scale", Schema::new(Kind::Int32)),
                ("value", Schema::new(Kind::Bytes)),
            ])
            .named("io.debezium.data.VariableScaleDecimal", 1)
            .documented("Variable scaled decimal"),
        },
        (DecimalMode::Double, _) => {
            Mapped { conv: Conv::Numeric(Decimals::Double), schema: Schema::new(Kind::Float64) }
        }
        (DecimalMode::String, declared) => Mapped {
            conv: Conv::Numeric(Decimals::Text(declared.map(|(_, scale)| scale))),
            schema: Schema::new(Kind::String),
        },
    }
}

fn money(options: &EventOptions) -> Mapped {
    let scale = usize::from(options.money_fraction_digits);
    match options.decimal {
        DecimalMode::Precise => {
            Mapped { conv: Conv::Money(Decimals::Scaled(scale), scale), schema: decimal_schema(scale, None) }
        }
        DecimalMode::Double => {
            Mapped { conv: Conv::Money(Decimals::Double, scale), schema: Schema::new(Kind::Float64) }
        }
        DecimalMode::String => {
            Mapped { conv: Conv::Money(Decimals::Text(None), scale), schema: Schema::new(Kind::String) }
        }
    }
}

fn date(options: &EventOptions, origin: Origin) -> Mapped {
    let conv = |unit| Conv::Date { unit, legacy: origin == Origin::Snapshot, strict: options.strict_values };
    match options.time {
        TimeMode::Connect => Mapped {
            conv: conv(Unit::Days),
            schema: named(Kind::Int32, "org.apache.kafka.connect.data.Date"),
        },
        TimeMode::IsoString => {
            Mapped { conv: conv(Unit::Iso), schema: named(Kind::String, "io.debezium.time.IsoDate") }
        }
        _ => Mapped { conv: conv(Unit::Days), schema: named(Kind::Int32, "io.debezium.time.Date") },
    }
}

fn time(options: &EventOptions, typmod: i32) -> Mapped {
    let short = (0..=3).contains(&typmod);
    let (unit, schema) = match options.time {
        TimeMode::Adaptive if short => (Unit::Millis, named(Kind::Int32, "io.debezium.time.Time")),
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            (Unit::Micros, named(Kind::Int64, "io.debezium.time.MicroTime"))
        }
        TimeMode::Connect => (Unit::Millis, named(Kind::Int32, "org.apache.kafka.connect.data.Time")),
        TimeMode::IsoString => (Unit::Iso, named(Kind::String, "io.debezium.time.IsoTime")),
        TimeMode::Nanoseconds => (Unit::Nanos, named(Kind::Int64, "io.debezium.time.NanoTime")),
    };
    Mapped { conv: Conv::Time { unit, legacy: false }, schema }
}

fn timestamp(options: &EventOptions, typmod: i32) -> Mapped {
    let short = (0..=3).contains(&typmod);
    let (unit, schema) = match options.time {
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds if short => {
            (Unit::Millis, named(Kind::Int64, "io.debezium.time.Timestamp"))
        }
        TimeMode::Adaptive | TimeMode::AdaptiveTimeMicroseconds | TimeMode::Microseconds => {
            (Unit::Micros, named(Kind::Int64, "io.debezium.time.MicroTimestamp"))
        }
        TimeMode::Connect => (Unit::Millis, named(Kind::Int64, "org.apache.kafka.connect.data.Timestamp")),
        TimeMode::IsoString => (Unit::Iso, named(Kind::String, "io.debezium.time.IsoTimestamp")),
        TimeMode::Nanoseconds => (Unit::Nanos, named(Kind::Int64, "io.debezium.time.NanoTimestamp")),
    };
    Mapped { conv: Conv::Timestamp { unit, legacy: false, strict: options.strict_values }, schema }
}

fn point_schema() -> Schema {
    Schema::structure([
        ("x", Schema::new(Kind::Float64)),
        ("y", Schema::new(Kind::Float64)),
        ("wkb", Schema::new(Kind::Bytes).optional()),
        ("srid", Schema::new(Kind::Int32).optional()),
    ])
    .named("io.debezium.data.geometry.Point", 1)
    .documented("Geometry (POINT)")
}

fn geometry_schema(name: &str) -> Schema {
    Schema::structure([("wkb", Schema::new(Kind::Bytes)), ("srid", Schema::new(Kind::Int32).optional())])
        .named(format!("io.debezium.data.geometry.{name}"), 1)
        .documented(name)
}

fn sparse_schema() -> Schema {
    Schema::structure([
        ("dimensions", Schema::new(Kind::Int16)),
        (
            "vector",
            Schema::new(Kind::Map(Schema::new(Kind::Int16).into(), Schema::new(Kind::Float64).into())),
        ),
    ])
    .named("io.debezium.data.SparseDoubleVector", 1)
    .documented("Sparse double vector")
}

/// Whether JDBC has the type as one of characters: the only ones that masks and hashes reach.
pub fn is_characters(types: &TypeRegistry, type_oid: u32) -> bool {
    resolve(types, type_oid, -1).is_some_and(|r| match r.pg.kind {
        TypeKind::Enum(_) => true,
        TypeKind::Base => matches!(r.pg.name.as_str(), "text" | "varchar" | "bpchar" | "char" | "name"),
        _ => false,
    })
}

/// Length and scale as pgjdbc reports them: what `column.propagate.source.type` writes, and what hashes are cut to.
pub fn length_and_scale(
    types: &TypeRegistry,
    type_oid: u32,
    typmod: i32,
    origin: Origin,
) -> (i32, Option<i32>) {
    /// Debezium's mark of a numeric without precision, in streams.
    const VARIABLE: i32 = 131_089;
    let Some(r) = resolve(types, type_oid, typmod) else { return (i32::MAX, Some(0)) };
    match (r.pg.name.as_str(), origin) {
        ("numeric", Origin::Stream) if r.typmod < 4 => (VARIABLE, Some(0)),
        ("numeric", Origin::Snapshot) if r.typmod < 4 => (0, None),
        _ => {
            let (length, scale) = described(types, r);
            (length, Some(scale))
        }
    }
}

fn described<'t>(types: &'t TypeRegistry, mut r: Resolved<'t>) -> (i32, i32) {
    const UNKNOWN: i32 = i32::MAX;
    if let TypeKind::Array(element) = r.pg.kind {
        match types.get(element) {
            Some(e) => r.pg = e,
            None => return (UNKNOWN, 0),
        }
    }
    let t = r.typmod;
    let seconds = match t {
        -1 => 7,
        0 => 0,
        1 => 3,
        n => n + 1,
    };
    let digits = if t == -1 { 6 } else { t };
    match r.pg.name.as_str() {
        "int2" => (5, 0),
        "int4" | "oid" => (10, 0),
        "int8" => (19, 0),
        "float4" => (8, 8),
        "float8" => (17, 17),
        "numeric" if t < 4 => (0, 0),
        "numeric" => (((t - 4) >> 16) & 0xFFFF, (t - 4) & 0xFFFF),
        "char" | "bool" => (1, 0),
        "bpchar" | "varchar" if t < 4 => (UNKNOWN, 0),
        "bpchar" | "varchar" => (t - 4, 0),
        "date" => (13, 0),
        "time" => (8 + seconds, digits),
        "timetz" => (14 + seconds, digits),
        "timestamp" => (22 + seconds, digits),
        "timestamptz" => (28 + seconds, digits),
        "interval" => (49, if t == -1 { 6 } else { t & 0xFFFF }),
        "bit" => (if t < 0 { 1 } else { t }, 0),
        "varbit" => (if t < 0 { UNKNOWN } else { t }, 0),
        _ => (UNKNOWN, 0),
    }
}

#[cfg(test)]
mod tests;
