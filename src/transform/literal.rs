//! A literal as Kafka Connect's `Values.parseString` reads it: the narrowest number, a boolean, a date, an array or
//! a map of them, else text.

use std::str::FromStr as _;
use std::sync::Arc;

use num_bigint::BigInt;

use crate::event::datum::{Datum, Inline};
use crate::event::schema::{Kind, Schema};
use crate::java::simple_date::SimpleDateFormat;

/// Schema and value; both nothing for `null`.
pub(super) type Parsed = (Option<Schema>, Datum<'static>);

/// Reads a literal.
pub(super) fn parse(text: &str) -> Parsed {
    let as_text = || (Some(Schema::new(Kind::String)), Datum::string(text));
    if text.trim().is_empty() {
        return as_text();
    }
    let mut parser = Parser { rest: text };
    if let Some(parsed) = parser.whole() {
        return parsed;
    }
    if text.trim_start().starts_with(['[', '{']) {
        let mut parser = Parser { rest: text };
        return parser.collection().unwrap_or_else(as_text);
    }
    scalar(text.trim()).unwrap_or_else(as_text)
}

struct Parser<'t> {
    rest: &'t str,
}

/// Characters that end a token.
const DELIMITERS: [char; 7] = [':', ',', '{', '}', '[', ']', '"'];

/// A number or a date.
fn scalar(token: &str) -> Option<Parsed> {
    if !token.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    temporal(token).or_else(|| number(token))
}

fn temporal(token: &str) -> Option<Parsed> {
    let token = token.replace("\\:", ":");
    let (name, kind, pattern) = match token.len() {
        10 => ("Date", Kind::Int32, "yyyy-MM-dd"),
        13 => ("Time", Kind::Int32, "HH:mm:ss.SSS'Z'"),
        24 => ("Timestamp", Kind::Int64, "yyyy-MM-dd'T'HH:mm:ss.SSS'Z'"),
        _ => return None,
    };
    let ms = SimpleDateFormat::new(pattern).ok()?.parse_utc(&token)?;
    let n = if name == "Date" { ms.div_euclid(86_400_000) } else { ms };
    Some((Some(Schema::new(kind).named(format!("org.apache.kafka.connect.data.{name}"), 1)), Datum::Int(n)))
}

fn number(token: &str) -> Option<Parsed> {
    let plain = |n: i64| {
        let kind = if i8::try_from(n).is_ok() {
            Kind::Int8
        } else if i16::try_from(n).is_ok() {
            Kind::Int16
        } else if i32::try_from(n).is_ok() {
            Kind::Int32
        } else {
            Kind::Int64
        };
        (Some(Schema::new(kind)), Datum::Int(n))
    };
    // what java.math.BigDecimal reads
    let (mantissa, exponent) = match token.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (token, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    let bare = digits.trim_start_matches(['+', '-']);
    if bare.is_empty() || digits.len() - bare.len() > 1 || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let unscaled = BigInt::from_str(digits.trim_start_matches('+')).ok()?;
    let scale = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    let ten = BigInt::from(10);
    let zero = BigInt::from(0);
    let integer = match u32::try_from(scale) {
        Ok(scale) if scale < 1000 => {
            let power = ten.pow(scale);
            (&unscaled % &power == zero).then(|| &unscaled / power)
        }
        Err(_) if scale > -40 => Some(&unscaled * ten.pow(scale.unsigned_abs())),
        _ => None,
    };
    if let Some(n) = integer.as_ref().and_then(|n| i64::try_from(n).ok()) {
        return Some(plain(n));
    }
    let (single, double): (f32, f64) = (token.parse().ok()?, token.parse().ok()?);
    if single.is_finite() && scale != 0 {
        return Some((Some(Schema::new(Kind::Float32)), Datum::F32(single)));
    }
    if double.is_finite() && scale != 0 {
        return Some((Some(Schema::new(Kind::Float64)), Datum::F64(double)));
    }
    let schema = Schema::new(Kind::Bytes)
        .named("org.apache.kafka.connect.data.Decimal", 1)
        .parameter("scale", scale.to_string());
    Some((Some(schema), Datum::Short(Inline::from_vec(unscaled.to_signed_bytes_be()))))
}

impl Parser<'_> {
    fn space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, expected: char) -> bool {
        self.space();
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// `null`, `true`, `false` as the whole text.
    fn whole(&mut self) -> Option<Parsed> {
        word(self.rest.trim())
    }

    /// An array or a map with nothing to be told after it: as Kafka, what follows is not looked at.
    fn collection(&mut self) -> Option<Parsed> {
        if self.take('[') { self.array() } else { self.take('{').then(|| self.map())? }
    }

    fn array(&mut self) -> Option<Parsed> {
        let (mut schemas, mut items) = (Common::default(), Vec::new());
        loop {
            if self.take(']') {
                let schema = schemas.schema?;
                let items = items.into_iter().map(|i| aligned(i, &schema)).collect::<Option<_>>()?;
                return Some((Some(Schema::array(schema)), Datum::Array(items)));
            }
            let (schema, value) = self.element()?;
            schemas.merge(schema)?;
            items.push(value);
            self.space();
            if !self.rest.starts_with(']') && !self.take(',') {
                return None;
            }
        }
    }

    fn map(&mut self) -> Option<Parsed> {
        let (mut keys, mut values, mut pairs) = (Common::default(), Common::default(), Vec::new());
        loop {
            if self.take('}') {
                let (keys, values) = (keys.schema?, values.schema?);
                let align = |(k, v): (Datum<'static>, Datum<'static>)| {
                    Some((aligned(k, &keys)?, aligned(v, &values)?))
                };
                let pairs = pairs.into_iter().map(align).collect::<Option<_>>()?;
                return Some((
                    Some(Schema::new(Kind::Map(Arc::new(keys), Arc::new(values)))),
                    Datum::Map(pairs),
                ));
            }
            let (key_schema, key) = self.element()?;
            if key.is_null() || !self.take(':') {
                return None;
            }
            let (value_schema, value) = self.element()?;
            keys.merge(key_schema)?;
            values.merge(value_schema)?;
            pairs.push((key, value));
            self.take(',');
        }
    }

    fn element(&mut self) -> Option<Parsed> {
        self.space();
        if self.rest.starts_with(['[', '{']) {
            return self.collection();
        }
        if self.take('"') {
            let mut escaped = false;
            let end = self.rest.find(|c| {
                let quote = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                quote
            })?;
            let content = self.rest.get(..end)?;
            self.rest = self.rest.get(end + 1..)?;
            let text = (Some(Schema::new(Kind::String)), Datum::string(content));
            return Some(temporal(content).unwrap_or(text));
        }
        let end = self.rest.find(DELIMITERS).unwrap_or(self.rest.len());
        let token = self.rest.get(..end)?.trim();
        let found = word(token).or_else(|| scalar(token))?;
        self.rest = self.rest.get(end..)?;
        Some(found)
    }
}

fn word(token: &str) -> Option<Parsed> {
    match token {
        "null" => Some((None, Datum::Null)),
        "true" | "false" => Some((Some(Schema::new(Kind::Boolean)), Datum::Bool(token == "true"))),
        _ => None,
    }
}

/// The schema of all elements so far.
#[derive(Default)]
struct Common {
    schema: Option<Schema>,
}

impl Common {
    /// `None` where the elements have no common type.
    fn merge(&mut self, next: Option<Schema>) -> Option<()> {
        let Some(next) = next else { return Some(()) };
        let rank = |s: &Schema| match s.kind {
            Kind::Int8 => Some(0),
            Kind::Int16 => Some(1),
            Kind::Int32 => Some(2),
            Kind::Int64 => Some(3),
            Kind::Float32 => Some(4),
            Kind::Float64 => Some(5),
            _ => None,
        };
        match &self.schema {
            None => self.schema = Some(next),
            Some(before) if before.kind == next.kind => self.schema = Some(next),
            Some(before) => {
                if rank(&next)? > rank(before)? {
                    self.schema = Some(next);
                }
            }
        }
        Some(())
    }
}

/// A number as the common schema holds it.
#[expect(clippy::cast_precision_loss, reason = "Java's conversions")]
fn aligned(value: Datum<'static>, schema: &Schema) -> Option<Datum<'static>> {
    Some(match (&schema.kind, value) {
        // the element schema is required
        (_, Datum::Null) => return None,
        (Kind::Float32, Datum::Int(n)) => Datum::F32(n as f32),
        (Kind::Float64, Datum::Int(n)) => Datum::F64(n as f64),
        (Kind::Float64, Datum::F32(n)) => Datum::F64(f64::from(n)),
        (_, value) => value,
    })
}
