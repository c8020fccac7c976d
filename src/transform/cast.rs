//! Kafka's `Cast`: fields, or the whole value, to another type.

use std::sync::Arc;

use super::config::Options;
use super::edit::{self, Derived};
use super::{Transform, Transformed};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::record::Record;
use crate::event::schema::{Kind, Schema};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// `Cast`.
pub(super) struct Cast {
    key: bool,
    fields: Vec<(String, Kind)>,
    whole: Option<Kind>,
    replace_nulls: bool,
    schemas: Derived<Arc<Schema>>,
}

fn kind(name: &str) -> Option<Kind> {
    Some(match name.trim().to_ascii_lowercase().as_str() {
        "int8" => Kind::Int8,
        "int16" => Kind::Int16,
        "int32" => Kind::Int32,
        "int64" => Kind::Int64,
        "float32" => Kind::Float32,
        "float64" => Kind::Float64,
        "boolean" => Kind::Boolean,
        "string" => Kind::String,
        _ => return None,
    })
}

impl Cast {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        own.required("spec")?;
        let types = "int8, int16, int32, int64, float32, float64, boolean, string";
        let wrong = || own.error("spec", format!("field:type, … or one type, of {types}"));
        let (mut fields, mut whole) = (Vec::new(), None);
        let spec = own.names("spec");
        for entry in &spec {
            match entry.split(':').collect::<Vec<_>>()[..] {
                [field, to] => fields.push((field.trim().to_owned(), kind(to).ok_or_else(wrong)?)),
                [to] if spec.len() == 1 => whole = Some(kind(to).ok_or_else(wrong)?),
                _ => return Err(wrong()),
            }
        }
        let replace_nulls = own.flag("replace.null.with.default", true)?;
        Ok(Self { key, fields, whole, replace_nulls, schemas: Derived::new() })
    }
}

/// Java's narrowing of a double to a long.
#[expect(clippy::cast_possible_truncation, reason = "saturates, as Java's cast does")]
pub(super) fn to_long(n: f64) -> i64 {
    n as i64
}

/// Java's narrowing of a long.
#[expect(clippy::cast_possible_truncation, reason = "Java's casts, which Cast applies")]
pub(super) fn narrow(n: i64, to: &Kind) -> i64 {
    match to {
        Kind::Int8 => i64::from(n as i8),
        Kind::Int16 => i64::from(n as i16),
        Kind::Int32 => i64::from(n as i32),
        _ => n,
    }
}

/// Java's narrowing of a floating point number: to 32 bits first for all but a long.
#[expect(clippy::cast_possible_truncation, reason = "Java's casts, which Cast applies")]
fn narrow_float(n: f64, to: &Kind) -> i64 {
    match to {
        Kind::Int64 => to_long(n),
        to => narrow(i64::from(n as i32), to),
    }
}

/// Java's `Double.parseDouble`.
fn parse_float(text: &str) -> Option<f64> {
    let text = text.trim();
    match text.trim_start_matches(['+', '-']) {
        "NaN" => return Some(f64::NAN),
        "Infinity" => return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY }),
        digits if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => return None,
        _ => {}
    }
    text.strip_suffix(['f', 'F', 'd', 'D']).unwrap_or(text).parse().ok()
}

fn text(datum: &Datum<'_>, from: &Schema) -> Result<String, String> {
    if let Some(text) = datum.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = Vec::new();
    crate::event::simple::header(&mut out, from, datum, None);
    String::from_utf8(out).map_err(|_| "the value is no text".to_owned())
}

fn cast(datum: &Datum<'_>, from: &Schema, to: &Kind) -> Result<Datum<'static>, String> {
    if datum.is_null() {
        return Ok(Datum::Null);
    }
    if matches!(from.kind, Kind::Array(_) | Kind::Map(..) | Kind::Struct(_)) {
        return Err("arrays, maps and structs cannot be cast".into());
    }
    if *to == Kind::String {
        return text(datum, from).map(Datum::string);
    }
    let wrong = || format!("the value is out of range for {to:?}").to_lowercase();
    let decimal = (from.name.as_deref() == Some(DECIMAL)).then(|| datum.to_bytes()).flatten();
    if let Some(bytes) = decimal {
        let scale = from.get_parameter("scale").and_then(|s| s.parse().ok()).unwrap_or(0);
        let number = crate::event::convert::decimal::to_java_string(&bytes, scale);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let whole = decimal_whole(&bytes, scale);
        return Ok(match to {
            Kind::Boolean => Datum::Bool(whole != 0),
            Kind::Float32 | Kind::Float64 => float(number, to),
            to => Datum::Int(narrow(whole, to)),
        });
    }
    match (to, datum) {
        (Kind::Boolean, Datum::Bool(b)) => Ok(Datum::Bool(*b)),
        (Kind::Boolean, Datum::Int(n)) => Ok(Datum::Bool(*n != 0)),
        (Kind::Boolean, Datum::F32(n)) => Ok(Datum::Bool(to_long(f64::from(*n)) != 0)),
        (Kind::Boolean, Datum::F64(n)) => Ok(Datum::Bool(to_long(*n) != 0)),
        (Kind::Boolean, d) => match d.as_str() {
            Some(text) => Ok(Datum::Bool(text.eq_ignore_ascii_case("true"))),
            None => Err("bytes can only be cast to string".into()),
        },
        (Kind::Float32 | Kind::Float64, d) => match d {
            #[expect(clippy::cast_precision_loss, reason = "Java's casts, which Cast applies")]
            Datum::Int(n) if *to == Kind::Float32 => Ok(Datum::F32(*n as f32)),
            #[expect(clippy::cast_precision_loss, reason = "Java's casts, which Cast applies")]
            Datum::Int(n) => Ok(Datum::F64(*n as f64)),
            Datum::F32(n) => Ok(float(f64::from(*n), to)),
            Datum::F64(n) => Ok(float(*n, to)),
            Datum::Bool(b) => Ok(float(f64::from(u8::from(*b)), to)),
            d => {
                let text = d.as_str().ok_or("bytes can only be cast to string")?;
                let n = parse_float(text).ok_or_else(wrong)?;
                // a single is read as one, not narrowed
                Ok(match to {
                    Kind::Float32 if n.is_finite() => Datum::F32(text.trim().parse().map_err(|_| wrong())?),
                    to => float(n, to),
                })
            }
        },
        (_, Datum::Int(n)) => Ok(Datum::Int(narrow(*n, to))),
        (_, Datum::F32(n)) => Ok(Datum::Int(narrow_float(f64::from(*n), to))),
        (_, Datum::F64(n)) => Ok(Datum::Int(narrow_float(*n, to))),
        (_, Datum::Bool(b)) => Ok(Datum::Int(i64::from(*b))),
        (_, d) => {
            let text = d.as_str().ok_or("bytes can only be cast to string")?;
            let n: i64 = text.parse().map_err(|_| wrong())?;
            if narrow(n, to) == n { Ok(Datum::Int(n)) } else { Err(wrong()) }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "Java's casts, which Cast applies")]
fn float(n: f64, to: &Kind) -> Datum<'static> {
    if *to == Kind::Float32 { Datum::F32(n as f32) } else { Datum::F64(n) }
}

/// The low 64 bits of a decimal without its fraction.
fn decimal_whole(unscaled: &[u8], scale: i32) -> i64 {
    let mut n = num_bigint::BigInt::from_signed_bytes_be(unscaled);
    let ten = num_bigint::BigInt::from(10);
    match u32::try_from(scale) {
        Ok(scale) => n /= ten.pow(scale),
        Err(_) => n *= ten.pow(scale.unsigned_abs()),
    }
    let mut low = [if n.sign() == num_bigint::Sign::Minus { 0xFF } else { 0 }; 8];
    for (to, from) in low.iter_mut().zip(n.to_signed_bytes_le()) {
        *to = from;
    }
    i64::from_le_bytes(low)
}

impl Transform for Cast {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        if edit::is_null(&record, self.key) {
            return Ok(Some(record));
        }
        if let Some(to) = &self.whole {
            let (schema, value) = edit::take_side(&mut record, self.key);
            let schema = schema.ok_or("a value without a schema cannot be cast")?;
            let new = self.schemas.try_get(&schema, "", |s| {
                let default = s.default.as_ref().map(|d| cast(d, s, to)).transpose()?;
                Ok(Arc::new(Schema { kind: to.clone(), default, ..s.clone() }))
            })?;
            let value = cast(&value, &schema, to)?;
            edit::set_side(&mut record, self.key, Some(new), value);
            return Ok(Some(record));
        }
        let (schema, mut values) = edit::take_struct(&mut record, self.key)?;
        let wanted = &self.fields;
        let named = |name: &str| wanted.iter().find(|(n, _)| n == name).map(|(_, to)| to);
        let new = self.schemas.try_get(&schema, "", |s| {
            let mut fields = Vec::new();
            for f in s.fields() {
                let Some(to) = named(&f.name) else {
                    fields.push(f.clone());
                    continue;
                };
                let mut schema = Schema::new(to.clone()).with_optional(f.schema.optional);
                if let Some(default) = f.schema.default.as_ref().filter(|d| !d.is_null()) {
                    let default = cast(default, &f.schema, to);
                    schema.default = Some(default.map_err(|e| format!("default of field {}: {e}", f.name))?);
                }
                fields.push(edit::field(f.name.as_str(), schema));
            }
            Ok(Arc::new(Schema { default: None, ..edit::with_fields(s, fields) }))
        })?;
        edit::defaults(&schema, &mut values, self.replace_nulls);
        for (f, v) in schema.fields().iter().zip(&mut values) {
            if let Some(to) = named(&f.name) {
                *v = cast(v, &f.schema, to).map_err(|e| format!("field {}: {e}", f.name))?;
            }
        }
        edit::set_side(&mut record, self.key, Some(new), Datum::Struct(values));
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts() {
        let text = Schema::new(Kind::String);
        assert_eq!(cast(&Datum::str("12"), &text, &Kind::Int32), Ok(Datum::Int(12)));
        assert_eq!(cast(&Datum::Int(300), &Schema::new(Kind::Int32), &Kind::Int8), Ok(Datum::Int(44)));
        assert_eq!(
            cast(&Datum::F64(1.5), &Schema::new(Kind::Float64), &Kind::String),
            Ok(Datum::string("1.5"))
        );
        assert_eq!(cast(&Datum::F64(1e300), &Schema::new(Kind::Float64), &Kind::Int16), Ok(Datum::Int(-1)));
        assert!(cast(&Datum::str("x"), &text, &Kind::Int64).is_err());
        assert!(cast(&Datum::str("300"), &text, &Kind::Int8).is_err());
    }
}
