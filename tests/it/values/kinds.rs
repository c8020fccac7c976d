//! The column types: how their values are generated, and what the server says of one by another path.

use std::fmt::Write as _;

use proptest::prelude::*;

/// How an event's value is read before it is compared with the server's.
#[derive(Clone, Copy)]
pub(super) enum Read {
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

pub(super) struct Mode {
    pub(super) decimal: &'static str,
    pub(super) time: &'static str,
    pub(super) binary: &'static str,
    pub(super) interval: &'static str,
    pub(super) hstore: &'static str,
}

pub(super) const MODES: [Mode; 6] = [
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
pub(super) struct Kind {
    pub(super) sql: &'static str,
    pub(super) values: BoxedStrategy<String>,
    pub(super) said: fn(&Mode) -> (String, Read),
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

pub(super) fn kinds() -> Vec<Kind> {
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
