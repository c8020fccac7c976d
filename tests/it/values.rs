//! Values of every type, generated, with PostgreSQL as the oracle: what the encoder makes of the text the server
//! sends is compared with what the server says of the same value by another path (arithmetic on epochs, `encode`,
//! `to_json`, `array_to_json`, `hstore_to_json`).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::event::{Encoder, EventOptions, SourceInfo};
use millstream::log::Batch;
use millstream::pg::catalog::{ColumnInfo, TableInfo, list_tables, load_tables, load_types};
use millstream::pg::pgoutput::{Column, Relation, RelationColumn, ReplicaIdentity};
use millstream::pg::snapshot::{CopyDecoder, CopyReader, SESSION_SETTINGS};
use millstream::pg::{self, ConnectConfig};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

/// Rows of generated values.
const ROWS: usize = 120;

/// How an event's value is read before it is compared with the server's.
#[derive(Clone, Copy)]
enum Read {
    /// As it is.
    Plain,
    /// A decimal in base64 at this scale, as text.
    Decimal(usize),
    /// A struct of scale and decimal, as text without trailing zeros.
    Variable,
    /// Bits, lowest first, as text; leading zeros are lost.
    Bits,
    /// A JSON document in a string.
    Document,
    /// A number the server says as text, single or double precision.
    Single,
    Double,
    /// The coordinates in a point and those in its well-known binary.
    Point,
}

/// The labels of the enum.
const WORDS: [&str; 3] = ["sad", "ok, fine", "hap\"py"];

struct Mode {
    decimal: &'static str,
    time: &'static str,
    binary: &'static str,
    interval: &'static str,
    hstore: &'static str,
}

const MODES: [Mode; 6] = [
    Mode { decimal: "precise", time: "adaptive", binary: "bytes", interval: "numeric", hstore: "json" },
    Mode { decimal: "string", time: "connect", binary: "hex", interval: "string", hstore: "map" },
    Mode { decimal: "double", time: "isostring", binary: "base64", interval: "numeric", hstore: "json" },
    Mode {
        decimal: "precise",
        time: "nanoseconds",
        binary: "base64-url-safe",
        interval: "string",
        hstore: "map",
    },
    Mode { decimal: "string", time: "microseconds", binary: "bytes", interval: "numeric", hstore: "json" },
    Mode {
        decimal: "double",
        time: "adaptive_time_microseconds",
        binary: "hex",
        interval: "numeric",
        hstore: "map",
    },
];

/// A column: its type, its values as literals, and what the server says of a value `c` (an expression that gives
/// JSON) in a mode.
struct Kind {
    sql: &'static str,
    values: BoxedStrategy<String>,
    said: fn(&Mode) -> (String, Read),
}

fn kind<S>(sql: &'static str, values: S, said: fn(&Mode) -> (String, Read)) -> Kind
where
    S: Strategy<Value = String> + 'static,
{
    Kind { sql, values: values.boxed(), said }
}

fn text(expression: &str) -> (String, Read) {
    (format!("to_json(({expression})::text)"), Read::Plain)
}

fn plain(expression: &str) -> (String, Read) {
    (format!("to_json({expression})"), Read::Plain)
}

fn as_text(_: &Mode) -> (String, Read) {
    text("c")
}

fn as_json(_: &Mode) -> (String, Read) {
    plain("c")
}

fn integers(low: i64, high: i64) -> impl Strategy<Value = String> {
    prop_oneof![3 => low..=high, 1 => Just(low), 1 => Just(high), 2 => (-9i64..=9).prop_map(move |n| n.clamp(low, high))]
        .prop_map(|n| n.to_string())
}

/// Digits before and after the point.
fn decimals(whole: usize, fraction: usize) -> impl Strategy<Value = String> {
    let pattern = format!("-?(0|[1-9][0-9]{{0,{}}})(\\.[0-9]{{1,{fraction}}})?", whole - 1);
    proptest::string::string_regex(&pattern).unwrap()
}

/// Everything but NUL, with what must be escaped in JSON, arrays and COPY.
fn any_text() -> impl Strategy<Value = String> {
    let odd = "[\\t\\n\\r\\x08\\x0c\"\\\\{},' =>éß日😀\\x01-\\x1f\\x7fa-z]{0,12}";
    prop_oneof![3 => proptest::string::string_regex(odd).unwrap(), 1 => Just(String::new()),
                1 => Just("NULL".to_owned()), 1 => Just("\\N".to_owned())]
}

fn date_in(years: std::ops::RangeInclusive<i64>) -> impl Strategy<Value = String> {
    (years, 1u32..=12, 1u32..=28).prop_map(|(year, month, day)| match year {
        year if year < 1 => format!("{:04}-{month:02}-{day:02} BC", 1 - year),
        year => format!("{year:04}-{month:02}-{day:02}"),
    })
}

fn clock() -> impl Strategy<Value = String> {
    let any = (0u32..24, 0u32..60, 0u32..60, prop_oneof![Just(0u32), Just(500_000), 0u32..1_000_000])
        .prop_map(|(h, m, s, us)| format!("{h:02}:{m:02}:{s:02}.{us:06}"));
    prop_oneof![20 => any, 1 => Just("24:00:00".to_owned()), 1 => Just("00:00:00".to_owned())]
}

fn instant_in(years: std::ops::RangeInclusive<i64>) -> impl Strategy<Value = String> {
    (date_in(years), clock()).prop_map(|(date, clock)| match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {clock} BC"),
        None => format!("{date} {clock}"),
    })
}

fn zone() -> impl Strategy<Value = String> {
    (-12i32..=14, prop_oneof![Just(0u32), Just(30)]).prop_map(|(h, m)| format!("{h:+03}:{m:02}"))
}

fn bits(length: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    proptest::collection::vec(prop_oneof![Just('0'), Just('1')], length).prop_map(String::from_iter)
}

/// An array literal of these texts, some null.
fn array_of(items: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::option::weighted(0.8, items), 0..5).prop_map(|items| {
        let quoted = items.iter().map(|item| match item {
            Some(text) => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            None => "NULL".to_owned(),
        });
        format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
    })
}

/// The ISO date of a date or timestamp `c`: BC years and those beyond 9999 as `java.time` prints them.
fn iso_date(c: &str) -> String {
    format!(
        "(select case when y < 0 then '-' when y > 9999 then '+' else '' end || lpad(abs(y)::text, greatest(4, \
         length(abs(y)::text)), '0') || to_char({c}, '-MM-DD') from (select case when extract(year from {c}) < 0 then \
         extract(year from {c})::int + 1 else extract(year from {c})::int end) as t(y))"
    )
}

fn date(mode: &Mode) -> (String, Read) {
    match mode.time {
        "isostring" => text(&format!("{} || 'Z'", iso_date("c"))),
        _ => plain("c - date '1970-01-01'"),
    }
}

fn time_of(mode: &Mode, short: bool) -> (String, Read) {
    let micros = "(extract(epoch from c) * 1000000)::int8";
    match mode.time {
        "isostring" => text(
            "case when c = '24:00' then '00:00:00' else to_char(c, 'HH24:MI:SS') || \
             rtrim(rtrim(to_char(c, '.US'), '0'), '.') end || 'Z'",
        ),
        "connect" => plain(&format!("{micros} / 1000")),
        "adaptive" if short => plain(&format!("{micros} / 1000")),
        "nanoseconds" => plain(&format!("{micros} * 1000")),
        _ => plain(micros),
    }
}

fn timestamp_of(mode: &Mode, short: bool) -> (String, Read) {
    let micros = "(extract(epoch from c) * 1000000)::int8";
    let millis = "floor(extract(epoch from c) * 1000)::int8";
    match mode.time {
        "isostring" => text(&format!(
            "{} || 'T' || to_char(c, 'HH24:MI:SS') || rtrim(rtrim(to_char(c, '.US'), '0'), '.') || 'Z'",
            iso_date("c")
        )),
        "connect" => plain(millis),
        "adaptive" | "adaptive_time_microseconds" if short => plain(millis),
        "nanoseconds" => plain(&format!("{micros} * 1000")),
        _ => plain(micros),
    }
}

fn numeric_of(mode: &Mode, scale: usize) -> (String, Read) {
    match mode.decimal {
        "precise" => (format!("to_json(c::numeric(60, {scale})::text)"), Read::Decimal(scale)),
        "double" => (text("c::float8").0, Read::Double),
        _ => text("c"),
    }
}

fn bytes(mode: &Mode) -> (String, Read) {
    let base64 = "translate(encode(c, 'base64'), E'\\n', '')";
    match mode.binary {
        "hex" => text("encode(c, 'hex')"),
        "base64-url-safe" => text(&format!("translate({base64}, '+/', '-_')")),
        _ => text(base64),
    }
}

/// The text of a type without a mapping, as `binary.handling.mode` has bytes.
fn unknown(mode: &Mode) -> (String, Read) {
    let (said, read) = bytes(mode);
    (said.replace("(c,", "(convert_to(c::text, 'UTF8'),"), read)
}

fn map(mode: &Mode) -> (String, Read) {
    ("hstore_to_json(c)".into(), if mode.hstore == "json" { Read::Document } else { Read::Plain })
}

fn kinds() -> Vec<Kind> {
    let number = || decimals(12, 6);
    vec![
        kind("bool", prop_oneof![Just("t".to_owned()), Just("f".to_owned())], as_json),
        kind("int2", integers(-32_768, 32_767), as_json),
        kind("int4", integers(i64::from(i32::MIN), i64::from(i32::MAX)), as_json),
        kind("int8", integers(i64::MIN, i64::MAX), as_json),
        kind("oid", integers(0, 4_294_967_295), |_| plain("c::int8")),
        kind("float4", any::<f32>().prop_map(|n| n.to_string().to_lowercase()), |_| {
            (text("c").0, Read::Single)
        }),
        kind("float8", any::<f64>().prop_map(|n| n.to_string().to_lowercase()), |_| {
            (text("c").0, Read::Double)
        }),
        kind("numeric(20,6)", decimals(14, 6), |m| numeric_of(m, 6)),
        kind(
            "numeric(8,0)",
            decimals(8, 1).prop_filter("fits", |n| !n.starts_with("99999999") && !n.starts_with("-99999999")),
            |m| numeric_of(m, 0),
        ),
        kind("numeric", decimals(18, 18), |mode| match mode.decimal {
            "precise" => (text("trim_scale(c)").0, Read::Variable),
            "double" => (text("c::float8").0, Read::Double),
            _ => text("c"),
        }),
        kind("money", decimals(12, 2), |mode| match mode.decimal {
            "precise" => (text("c::numeric(30,2)").0, Read::Decimal(2)),
            "double" => (text("c::numeric::float8").0, Read::Double),
            _ => text("c::numeric(30,2)"),
        }),
        kind("text", any_text(), as_text),
        kind("varchar(40)", any_text(), as_text),
        kind("char(14)", any_text(), |_| (r#"to_json(rpad(c::text, 14))"#.into(), Read::Plain)),
        kind("name", any_text(), as_text),
        kind("\"char\"", "[a-z]?", as_text),
        kind(
            "bytea",
            proptest::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| {
                bytes.iter().fold("\\x".to_owned(), |mut out, b| {
                    write!(out, "{b:02x}").unwrap();
                    out
                })
            }),
            bytes,
        ),
        kind("uuid", any::<u128>().prop_map(|n| uuid::Uuid::from_u128(n).to_string()), as_text),
        kind("mood", proptest::sample::select(&WORDS[..]).prop_map(str::to_owned), as_text),
        kind(
            "json",
            any_text().prop_map(|t| serde_json::json!({ "a": t, "b": [1.50, null] }).to_string()),
            as_text,
        ),
        kind("jsonb", any_text().prop_map(|t| serde_json::json!([t, { "k": 1e3 }]).to_string()), as_text),
        kind(
            "hstore",
            proptest::collection::vec((any_text(), proptest::option::of(any_text())), 0..3).prop_map(
                |pairs| {
                    let quote = |t: &str| format!("\"{}\"", t.replace('\\', "\\\\").replace('"', "\\\""));
                    let pairs = pairs
                        .iter()
                        .map(|(k, v)| format!("{}=>{}", quote(k), v.as_deref().map_or("NULL".into(), quote)));
                    pairs.collect::<Vec<_>>().join(",")
                },
            ),
            map,
        ),
        kind(
            "inet",
            any::<[u8; 4]>().prop_map(|a| format!("{}.{}.{}.{}/{}", a[0], a[1], a[2], a[3], a[3] % 33)),
            as_json,
        ),
        kind("cidr", any::<[u8; 2]>().prop_map(|a| format!("{}.{}.0.0/16", a[0], a[1])), as_text),
        kind("macaddr", "[0-9a-f]{2}(:[0-9a-f]{2}){5}", as_text),
        kind("int4range", (0i32..100, 0i32..100).prop_map(|(a, b)| format!("[{a},{})", a + b)), as_text),
        kind("tstzrange", instant_in(1900..=2100).prop_map(|t| format!("[\"{t}+00\",)")), as_text),
        kind("tsvector", "[a-z]{1,5}( [a-z]{1,5}){0,2}", as_text),
        kind("bit(1)", bits(1..=1), |_| plain("c = B'1'")),
        kind("bit(13)", bits(13..=13), |_| (text("ltrim(c::text, '0')").0, Read::Bits)),
        kind("varbit", bits(0..=40), |_| (text("ltrim(c::text, '0')").0, Read::Bits)),
        kind("date", date_in(-4000..=20_000), date),
        kind("time", clock(), |m| time_of(m, false)),
        kind("time(2)", clock(), |m| time_of(m, true)),
        kind("timetz", (clock(), zone()).prop_map(|(c, z)| format!("{c}{z}")), |_| {
            text(
                "to_char((c at time zone 'UTC')::time, 'HH24:MI:SS') || rtrim(rtrim(to_char((c at time zone 'UTC')::time, '.US'), '0'), '.') || 'Z'",
            )
        }),
        // nanoseconds fit from 1677 to 2262; microseconds are tried with all years below
        kind("timestamp", instant_in(1700..=2200), |m| timestamp_of(m, false)),
        kind("timestamp(3)", instant_in(1700..=2200), |m| timestamp_of(m, true)),
        kind("timestamptz", (instant_in(1..=12_000), zone()).prop_map(|(t, z)| format!("{t}{z}")), |_| {
            let utc = "(c at time zone 'UTC')";
            text(
                &format!("{} || to_char({utc}, 'THH24:MI:SS.US') || 'Z'", iso_date(utc))
                    .replace("'THH24", "'\"T\"HH24"),
            )
        }),
        kind(
            "timestamptz(1)",
            (instant_in(1900..=2100), zone()).prop_map(|(t, z)| format!("{t}{z}")),
            |_| {
                let utc = "(c at time zone 'UTC')";
                text(&format!(
                    "to_char({utc}, 'YYYY-MM-DD\"T\"HH24:MI:SS.') || left(to_char({utc}, 'US'), 1) || 'Z'"
                ))
            },
        ),
        kind(
            "interval",
            (-900i32..900, -40i32..40, -1000i64..1000, -90_000i64..90_000, 0u32..1000)
                .prop_map(|(y, m, d, s, ms)| format!("{y} years {m} mons {d} days {s}.{ms:03} seconds")),
            |mode| match mode.interval {
                "numeric" => plain(
                    "((extract(year from c) * 12 + extract(month from c)) * 2629800000000 + extract(day from c) * 86400000000 \
                 + extract(hour from c) * 3600000000 + extract(minute from c) * 60000000 + extract(second from c) * 1000000)::int8",
                ),
                _ => text(
                    "format('P%sY%sM%sDT%sH%sM%sS', extract(year from c), extract(month from c), extract(day from c), \
                 extract(hour from c), extract(minute from c), trim_scale(extract(second from c)))",
                ),
            },
        ),
        kind(
            "point",
            (-1000i32..1000, -1000i32..1000)
                .prop_map(|(x, y)| format!("({},{})", f64::from(x) / 8.0, f64::from(y) / 16.0)),
            |_| ("json_build_array(c[0], c[1])".into(), Read::Point),
        ),
        kind("pg_lsn", "[1-9A-F][0-9A-F]{0,7}/[1-9A-F][0-9A-F]{0,7}", unknown),
        kind("pair", (integers(0, 99), "[a-z]{0,3}").prop_map(|(a, b)| format!("({a},{b})")), unknown),
        kind(
            "int4multirange",
            (0i32..9, 20i32..30).prop_map(|(a, b)| format!("{{[{a},10),[{b},40)}}")),
            unknown,
        ),
        kind("xid", integers(0, 4_294_967_295), unknown),
        kind("price", decimals(6, 2), |m| numeric_of(m, 2)),
        kind("price_of", decimals(6, 2), |m| numeric_of(m, 2)),
        kind("int4[]", array_of(integers(-99, 99)), as_json),
        kind("int8[]", array_of(integers(i64::MIN, i64::MAX)), as_json),
        kind("bool[]", array_of(prop_oneof![Just("t".to_owned()), Just("f".to_owned())]), as_json),
        kind("text[]", array_of(any_text()), as_json),
        kind("varchar[]", array_of(any_text()), as_json),
        kind("uuid[]", array_of(any::<u128>().prop_map(|n| uuid::Uuid::from_u128(n).to_string())), as_json),
        kind("mood[]", array_of(proptest::sample::select(&WORDS[..]).prop_map(str::to_owned)), as_json),
        kind(
            "inet[]",
            array_of(any::<[u8; 4]>().prop_map(|a| format!("{}.{}.{}.{}", a[0], a[1], a[2], a[3]))),
            as_json,
        ),
        kind("xml[]", array_of("<a>[a-z]{0,4}</a>"), |_| ("to_json(c::text[])".into(), Read::Plain)),
        kind("name[]", array_of("[a-z]{0,4}"), |_| ("to_json(c::text[])".into(), Read::Plain)),
        kind("bit[]", array_of(bits(1..=1)), |_| {
            ("(select coalesce(json_agg(e = B'1' order by n), '[]') from unnest(c) with ordinality u(e, n))".into(), Read::Plain)
        }),
        kind("numeric[]", array_of(number()), |mode| {
            match mode.decimal {
            "string" => ("to_json(c::text[])".into(), Read::Plain),
            "double" => ("to_json(c::text[])".into(), Read::Double),
            _ => ("(select coalesce(json_agg(trim_scale(e)::text order by n), '[]') from unnest(c) with ordinality u(e, n))".into(), Read::Variable),
        }
        }),
        kind("date[]", array_of(date_in(-4000..=20_000)), |m| {
            let (one, read) = date(m);
            let one = one
                .replacen("to_json", "", 1)
                .replace("from c", "from e")
                .replace("(c,", "(e,")
                .replace("(c -", "(e -");
            (
                format!(
                    "(select coalesce(json_agg({one} order by n), '[]') from unnest(c) with ordinality u(e, n))"
                ),
                read,
            )
        }),
        kind("float8[]", array_of((-9999i32..9999).prop_map(|n| (f64::from(n) / 7.0).to_string())), |_| {
            ("to_json(c::text[])".into(), Read::Double)
        }),
        kind(
            "int2vector",
            proptest::collection::vec(-9i32..99, 0..4)
                .prop_map(|v| v.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
            |_| ("to_json(c::int2[])".into(), Read::Plain),
        ),
    ]
}

/// The unscaled value in base64 at a scale, as PostgreSQL prints a numeric.
fn decimal(base64: &str, scale: usize) -> String {
    let n = num_bigint::BigInt::from_signed_bytes_be(&STANDARD.decode(base64).unwrap());
    let sign = if n.sign() == num_bigint::Sign::Minus { "-" } else { "" };
    let digits = format!("{:0>width$}", n.magnitude().to_string(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// The event's value in the form the server's is in.
fn read(value: &Value, said: &Value, how: Read) -> (Value, Value) {
    if let (Value::Array(values), Value::Array(saids), false) =
        (value, said, matches!(how, Read::Plain | Read::Point | Read::Document))
    {
        assert_eq!(values.len(), saids.len());
        let pairs = values.iter().zip(saids).map(|(v, s)| read(v, s, how));
        let (values, saids): (Vec<Value>, Vec<Value>) = pairs.unzip();
        return (values.into(), saids.into());
    }
    if value.is_null() || said.is_null() {
        return (value.clone(), said.clone());
    }
    let float = |v: &Value| match v {
        Value::String(text) => text.parse::<f64>().unwrap(),
        v => v.as_f64().unwrap(),
    };
    let value = match how {
        Read::Plain => value.clone(),
        Read::Document => serde_json::from_str(value.as_str().unwrap()).unwrap(),
        Read::Decimal(scale) => decimal(value.as_str().unwrap(), scale).into(),
        Read::Variable => {
            let scale = usize::try_from(value["scale"].as_u64().unwrap()).unwrap();
            decimal(value["value"].as_str().unwrap(), scale).into()
        }
        Read::Bits => {
            let bytes = STANDARD.decode(value.as_str().unwrap()).unwrap();
            let bits: String = bytes.iter().rev().map(|b| format!("{b:08b}")).collect();
            bits.trim_start_matches('0').into()
        }
        Read::Double => {
            let (value, said) = (float(value), float(said));
            // serde_json does not always read the nearest number
            let near = (value - said).abs() <= (said.abs() * 4.0 * f64::EPSILON).max(f64::MIN_POSITIVE);
            let same = value == said || near || (value.is_nan() && said.is_nan());
            return (Value::Bool(same), Value::Bool(true));
        }
        Read::Single => {
            #[allow(clippy::cast_possible_truncation, reason = "the number is one of single precision")]
            let (value, said) = (float(value) as f32, float(said) as f32);
            return (Value::Bool(value == said || (value.is_nan() && said.is_nan())), Value::Bool(true));
        }
        Read::Point => {
            let wkb = STANDARD.decode(value["wkb"].as_str().unwrap()).unwrap();
            assert_eq!(wkb[..5], [1, 1, 0, 0, 0]);
            let number = |at: usize| f64::from_le_bytes(wkb[at..at + 8].try_into().unwrap());
            let same = value["x"].as_f64() == Some(number(5)) && value["y"].as_f64() == Some(number(13));
            let said = said[0].as_f64() == Some(number(5)) && said[1].as_f64() == Some(number(13));
            return (Value::Bool(same && said), Value::Bool(true));
        }
    };
    (value, said.clone())
}

fn quoted(value: Option<&String>) -> String {
    value.map_or("NULL".to_owned(), |v| pg::Literal(v).to_string())
}

#[tokio::test]
async fn generated_values_are_what_the_server_says_they_are() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    let kinds = kinds();
    let columns: Vec<String> = kinds.iter().enumerate().map(|(i, k)| format!("c{i} {}", k.sql)).collect();
    client
        .batch_execute(&format!(
            "CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'ok, fine', 'hap\"py');
             CREATE TYPE pair AS (a int, b text); CREATE DOMAIN price AS numeric(8,2);
             CREATE DOMAIN price_of AS price; SET timezone = 'UTC'; SET lc_monetary = 'C'; SET xmloption = content;
             CREATE TABLE v (id int PRIMARY KEY, {})",
            columns.join(", ")
        ))
        .await
        .unwrap();
    let seed = std::env::var("MILLSTREAM_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7u8);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut insert = String::new();
    for id in 0..ROWS {
        let row = kinds.iter().map(|k| {
            let values = proptest::option::weighted(0.9, k.values.clone());
            quoted(values.new_tree(&mut runner).unwrap().current().as_ref())
        });
        writeln!(insert, "INSERT INTO v VALUES ({id}, {});", row.collect::<Vec<_>>().join(", ")).unwrap();
    }
    client.batch_execute(&insert).await.unwrap();

    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let table = load_tables(&client, &oids).await.unwrap().into_iter().find(|t| t.name == "v").unwrap();
    client.batch_execute(SESSION_SETTINGS).await.unwrap();
    let mut copy = CopyReader::start(&client, "SELECT * FROM v ORDER BY id").await.unwrap();
    let mut lines = Vec::new();
    while let Some(line) = copy.next_line().await.unwrap() {
        lines.push(line);
    }
    assert_eq!(lines.len(), ROWS);
    let relation = relation_of(&table);
    let oracle = pg::connect(&config).await.unwrap();
    oracle
        .batch_execute("SET timezone = 'UTC'; SET lc_monetary = 'C'; SET extra_float_digits = 1")
        .await
        .unwrap();
    let mut wrong = Vec::new();
    for mode in &MODES {
        let said: Vec<(String, Read)> = kinds.iter().map(|k| (k.said)(mode)).collect();
        let list = said.iter().enumerate().map(|(i, (expression, _))| {
            format!("(SELECT CASE WHEN c IS NULL THEN NULL ELSE {expression} END::text FROM (SELECT v.c{i}) AS one(c))")
        });
        let sql = format!("SELECT {} FROM v ORDER BY id", list.collect::<Vec<_>>().join(", "));
        let answers = oracle.query(&sql, &[]).await.unwrap();
        let properties = [
            ("topic.prefix", "p"),
            ("decimal.handling.mode", mode.decimal),
            ("time.precision.mode", mode.time),
            ("binary.handling.mode", mode.binary),
            ("interval.handling.mode", mode.interval),
            ("hstore.handling.mode", mode.hstore),
            ("key.converter.schemas.enable", "false"),
            ("value.converter.schemas.enable", "false"),
            ("millstream.strict.values", "true"),
        ];
        let mut encoder = Encoder::new(EventOptions::from_properties(properties).unwrap()).unwrap();
        for streamed in [false, true] {
            let plan = match streamed {
                true => encoder.stream_plan(&relation, Some(&table), &types).unwrap(),
                false => encoder.snapshot_plan(&table, &types).unwrap(),
            };
            let mut decoder = CopyDecoder::new();
            for (line, answer) in lines.iter().zip(&answers) {
                let row: Vec<Column<'_>> = decoder.decode(line).unwrap().iter().collect();
                let mut batch = Batch::new();
                encoder.insert(&plan, &row, &SourceInfo::default(), &mut batch).unwrap();
                let event: Value =
                    serde_json::from_slice(batch.iter().next().unwrap().value.unwrap()).unwrap();
                let after = &event["after"];
                for (i, (kind, (_, how))) in kinds.iter().zip(&said).enumerate() {
                    let said: Option<&str> = answer.get(i);
                    let said = said.map_or(Value::Null, |s| serde_json::from_str(s).unwrap());
                    let value =
                        after.get(format!("c{i}")).unwrap_or_else(|| panic!("{} is missing", kind.sql));
                    let (ours, theirs) = read(value, &said, *how);
                    if ours != theirs {
                        wrong.push(format!(
                            "{} (time {}, decimal {}, binary {}, streamed {streamed}): {value}, the server says {said}",
                            kind.sql, mode.time, mode.decimal, mode.binary
                        ));
                    }
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "seed {seed}: {} differ, among them\n{}", wrong.len(), {
        let mut seen = std::collections::HashSet::new();
        wrong.retain(|w| seen.insert(w.split(':').next().unwrap_or("").to_owned()));
        wrong.join("\n")
    });
}

/// A value that Debezium loses or changes: the column's type, a literal, the time precision mode, what the event has
/// by default (`None`: the column is left out), and with strict values (`None`: an error).
type Lost = (&'static str, &'static str, &'static str, Option<&'static str>, Option<&'static str>);

/// All of them.
const LOST: [Lost; 20] = [
    ("date", "infinity", "adaptive", Some("-2147472692"), None),
    ("date", "-infinity", "isostring", Some("\"-5877611-06-22Z\""), Some("\"-infinity\"")),
    ("date", "infinity", "connect", Some("-2147472692"), None),
    ("timestamp", "infinity", "isostring", None, Some("\"infinity\"")),
    ("timestamp", "infinity", "adaptive", None, None),
    ("timestamp", "294276-12-31 23:59:59.999999", "adaptive", None, None),
    ("timestamp", "9999-01-01", "nanoseconds", Some("null"), None),
    ("timestamp", "9999-01-01", "adaptive", Some("253370764800000000"), Some("253370764800000000")),
    ("interval", "300000 years", "adaptive", Some("9223372036854775807"), None),
    ("interval", "1 month 0.000001 seconds", "adaptive", Some("2629800000001"), Some("2629800000001")),
    ("numeric(5,2)", "NaN", "adaptive", Some("null"), None),
    ("int4[]", "{{1,2},{3,4}}", "adaptive", Some("[null,null]"), None),
    ("mood[]", "{sad,NULL}", "adaptive", Some("null"), Some("[\"sad\",null]")),
    (
        "timestamp[]",
        "{1500-01-01 00:00:00.123456}",
        "isostring",
        None,
        Some("[\"1500-01-01T00:00:00.123456Z\"]"),
    ),
    ("xml[]", "{<a/>}", "adaptive", None, Some("[\"<a/>\"]")),
    ("bit[]", "{1,0}", "adaptive", Some("null"), Some("[true,false]")),
    ("int2vector", "1 2", "adaptive", Some("[]"), Some("[1,2]")),
    ("name", "streamed", "adaptive", Some("null"), Some("\"streamed\"")),
    ("xid", "7", "adaptive", None, Some("\"Nw==\"")),
    ("text", "as ever", "adaptive", Some("\"as ever\""), Some("\"as ever\"")),
];

fn strict_encoder(strict: &str, time: &str) -> Encoder {
    let properties = [
        ("topic.prefix", "p"),
        ("time.precision.mode", time),
        ("key.converter.schemas.enable", "false"),
        ("value.converter.schemas.enable", "false"),
        ("millstream.strict.values", strict),
    ];
    Encoder::new(EventOptions::from_properties(properties).unwrap()).unwrap()
}

fn relation_of(table: &TableInfo) -> Relation {
    let column = |c: &ColumnInfo| RelationColumn {
        in_identity: c.name == "id",
        name: c.name.clone(),
        type_oid: c.type_oid,
        typmod: c.typmod,
    };
    Relation {
        oid: table.oid,
        schema: table.schema.clone(),
        name: table.name.clone(),
        identity: ReplicaIdentity::Default,
        columns: table.columns.iter().map(column).collect(),
    }
}

#[tokio::test]
async fn strict_values_are_right_or_refused_by_table_and_column() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    client.batch_execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); SET xmloption = content").await.unwrap();
    for (i, (sql, literal, ..)) in LOST.iter().enumerate() {
        let made = format!(
            "CREATE TABLE t{i} (id int, c {sql}); INSERT INTO t{i} VALUES (1, {})",
            pg::Literal(literal)
        );
        client.batch_execute(&made).await.unwrap();
    }
    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let tables = load_tables(&client, &oids).await.unwrap();
    client.batch_execute(SESSION_SETTINGS).await.unwrap();
    for (i, (sql, literal, time, default, strict)) in LOST.iter().enumerate() {
        let table = tables.iter().find(|t| t.name == format!("t{i}")).unwrap();
        let mut copy = CopyReader::start(&client, &format!("SELECT * FROM t{i}")).await.unwrap();
        let line = copy.next_line().await.unwrap().unwrap();
        let mut decoder = CopyDecoder::new();
        let row: Vec<Column<'_>> = decoder.decode(&line).unwrap().iter().collect();
        while copy.next_line().await.unwrap().is_some() {}
        let encoded = |strict: &str| {
            let mut encoder = strict_encoder(strict, time);
            let plan = encoder.stream_plan(&relation_of(table), Some(table), &types).unwrap();
            let mut batch = Batch::new();
            encoder.insert(&plan, &row, &SourceInfo::default(), &mut batch).map(|_| {
                let event: Value =
                    serde_json::from_slice(batch.iter().next().unwrap().value.unwrap()).unwrap();
                event["after"].get("c").map(Value::to_string)
            })
        };
        let left = encoded("false").unwrap();
        // what wraps or shifts is only said to be another value
        match default {
            Some(_) => assert_eq!(left.as_deref(), *default, "{sql} {literal}, default"),
            None => assert_ne!(left.as_deref(), *strict, "{sql} {literal}, default"),
        }
        match (strict, encoded("true")) {
            (Some(right), Ok(value)) => assert_eq!(value.as_deref(), Some(*right), "{sql} {literal}"),
            (None, Err(error)) => {
                let text = error.to_string();
                assert!(text.contains(&format!("column c of table public.t{i}")), "{text}");
            }
            (_, other) => panic!("{sql} {literal}: {other:?} instead of {strict:?}"),
        }
    }
}

#[tokio::test]
async fn an_unsent_value_is_refused_where_no_placeholder_can_tell_it() {
    let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
    let config = ConnectConfig::from_url(&server.url("postgres")).unwrap();
    let client = pg::connect(&config).await.unwrap();
    client.batch_execute("CREATE TABLE t (id int PRIMARY KEY, a text, b text[], c int[])").await.unwrap();
    let types = load_types(&client).await.unwrap();
    let oids: Vec<u32> = list_tables(&client).await.unwrap().iter().map(|t| t.oid).collect();
    let tables = load_tables(&client, &oids).await.unwrap();
    for strict in ["false", "true"] {
        let mut encoder = strict_encoder(strict, "adaptive");
        let plan = encoder.stream_plan(&relation_of(&tables[0]), Some(&tables[0]), &types).unwrap();
        let mut batch = Batch::new();
        let known = [Column::Text(b"1"), Column::Unchanged, Column::Unchanged, Column::Text(b"{1}")];
        encoder.update(&plan, None, &known, &SourceInfo::default(), &mut batch).unwrap();
        let value = batch.iter().next().unwrap().value.unwrap().to_vec();
        let event: Value = serde_json::from_slice(&value).unwrap();
        let placeholder = "__debezium_unavailable_value";
        assert_eq!(event["after"]["a"], placeholder);
        assert_eq!(event["after"]["b"], serde_json::json!([placeholder]));
        let unknown = [Column::Text(b"1"), Column::Unchanged, Column::Unchanged, Column::Unchanged];
        let made = encoder.update(&plan, None, &unknown, &SourceInfo::default(), &mut batch);
        match strict {
            "true" => {
                let text = made.unwrap_err().to_string();
                assert!(
                    text.contains("column c of table public.t") && text.contains("REPLICA IDENTITY FULL")
                );
                assert_eq!(batch.len(), 1, "nothing is left of it");
            }
            _ => assert_eq!(made, Ok(1)),
        }
    }
}
