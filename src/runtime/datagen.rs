//! The datagen connector: made-up rows, as JSON objects.
//!
//! A row depends on its number only, so that a restart goes on with the same rows.

use std::fmt::Write as _;

use crate::engine::plan::TableRef;
use crate::engine::types::{DataType, TypeKind};
use crate::error::{Error, Result};

/// What to make.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Generator {
    /// Rows a second.
    pub(super) rate: u64,
    /// Rows in all; `None` goes on for ever.
    pub(super) rows: Option<i64>,
    fields: Vec<(String, Maker)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Maker {
    how: How,
    null_rate: f64,
}

#[derive(Clone, Debug, PartialEq)]
enum How {
    Sequence {
        start: i64,
        text: bool,
    },
    Whole {
        min: i64,
        max: i64,
    },
    Real {
        min: f64,
        max: f64,
        digits: Option<u8>,
    },
    Bool,
    Text {
        length: usize,
        varying: bool,
    },
    Bytes {
        length: usize,
        varying: bool,
    },
    /// Up to this many milliseconds before now.
    Instant {
        max_past: i64,
        zone: bool,
    },
    Date,
    Time,
}

/// Options of one field.
const OF_FIELD: [&str; 9] =
    ["kind", "min", "max", "max-past", "length", "var-len", "null-rate", "start", "end"];

impl Generator {
    pub(super) fn new(table: &TableRef) -> Result<Self> {
        let wrong = |option: &str, why: &str| {
            Error::config(format!("table {}: option '{option}' is wrong", table.name)).because(why)
        };
        let number = |option: &str| -> Result<Option<i64>> {
            let text = table.options.get(option);
            text.map(|t| t.trim().parse().map_err(|_| wrong(option, &format!("'{t}' is not a whole number"))))
                .transpose()
        };
        for option in table.options.keys().filter_map(|o| o.strip_prefix("fields.")) {
            let known = option.rsplit_once('.').is_some_and(|(field, name)| {
                OF_FIELD.contains(&name) && table.columns.iter().any(|c| c.field.name == field)
            });
            // A column that the query does not read is not among these columns.
            let unread = option.rsplit_once('.').is_some_and(|(_, name)| OF_FIELD.contains(&name));
            if !known && !unread {
                return Err(wrong(&format!("fields.{option}"), "it is no option of a field")
                    .next(format!("a field has: {}", OF_FIELD.join(", "))));
            }
        }
        let mut rows = number("number-of-rows")?;
        let mut fields = Vec::new();
        for column in &table.columns {
            let name = &column.field.name;
            let option = |option: &str| format!("fields.{name}.{option}");
            let text = |of: &str| table.options.get(&option(of)).map(String::as_str);
            let how = match text("kind").unwrap_or("random") {
                "sequence" => {
                    let needed = |of: &str| {
                        number(&option(of))?.ok_or_else(|| {
                            Error::config(format!("table {}: option '{}' is missing", table.name, option(of)))
                                .because("a sequence has a start and an end")
                        })
                    };
                    let (start, end) = (needed("start")?, needed("end")?);
                    let length = end.saturating_sub(start).saturating_add(1).max(0);
                    rows = Some(rows.map_or(length, |rows| rows.min(length)));
                    let text =
                        matches!(column.field.data_type.kind, TypeKind::Char(_) | TypeKind::Varchar(_));
                    How::Sequence { start, text }
                }
                "random" => random(&column.field.data_type, &text).map_err(|why| {
                    Error::config(format!("table {}: column {name} cannot be generated", table.name))
                        .because(why)
                })?,
                _ => return Err(wrong(&option("kind"), "it is neither 'random' nor 'sequence'")),
            };
            let null_rate = match text("null-rate").map(str::parse::<f64>) {
                None => 0.0,
                Some(Ok(rate)) if (0.0..=1.0).contains(&rate) => rate,
                Some(_) => return Err(wrong(&option("null-rate"), "it is not a number from 0 to 1")),
            };
            fields.push((name.clone(), Maker { how, null_rate }));
        }
        let rate = number("rows-per-second")?.unwrap_or(10_000);
        let rate = u64::try_from(rate).ok().filter(|r| *r > 0);
        Ok(Self { rate: rate.ok_or_else(|| wrong("rows-per-second", "it is not positive"))?, rows, fields })
    }

    /// Appends the row of this number; `now` in milliseconds since 1970.
    pub(super) fn row(&self, number: i64, now: i64, out: &mut String) {
        out.push('{');
        for (place, (name, maker)) in self.fields.iter().enumerate() {
            if place > 0 {
                out.push(',');
            }
            let mut random = Random::new(number, place);
            let _ = write!(out, "{}:", serde_json::Value::from(name.as_str()));
            if maker.null_rate > 0.0 && random.unit() < maker.null_rate {
                out.push_str("null");
            } else {
                maker.how.write(number, now, &mut random, out);
            }
        }
        out.push('}');
    }
}

fn random<'a>(data_type: &DataType, text: &dyn Fn(&str) -> Option<&'a str>) -> Result<How, String> {
    fn or<T: std::str::FromStr>(text: Option<&str>, default: T) -> Result<T, String> {
        text.map_or(Ok(default), |t| {
            t.trim().parse().map_err(|_| format!("'{t}' is not a value of its type"))
        })
    }
    let whole = |low: i64, high: i64| {
        let (min, max) = (or(text("min"), low)?, or(text("max"), high)?);
        if min > max { Err("its min is above its max".to_owned()) } else { Ok(How::Whole { min, max }) }
    };
    let real = |low: f64, high: f64, digits| {
        Ok(How::Real { min: or(text("min"), low)?, max: or(text("max"), high)?, digits })
    };
    let varying = text("var-len") == Some("true");
    let length = |default: usize| or(text("length"), default);
    let max_past = || {
        let past = text("max-past").map(super::options::duration).transpose()?;
        Ok::<_, String>(past.map_or(0, |p| i64::try_from(p.as_millis()).unwrap_or(i64::MAX)))
    };
    match &data_type.kind {
        TypeKind::TinyInt => whole(i64::from(i8::MIN), i64::from(i8::MAX)),
        TypeKind::SmallInt => whole(i64::from(i16::MIN), i64::from(i16::MAX)),
        TypeKind::Int => whole(i64::from(i32::MIN), i64::from(i32::MAX)),
        TypeKind::BigInt => whole(i64::MIN, i64::MAX),
        TypeKind::Float => real(-f64::from(f32::MAX), f64::from(f32::MAX), None),
        TypeKind::Double => real(-f64::MAX / 2.0, f64::MAX / 2.0, None),
        TypeKind::Decimal(precision, scale) => {
            let most = 10f64.powi(i32::from(precision.saturating_sub(*scale)).min(15)) - 1.0;
            real(0.0, most, Some(*scale))
        }
        TypeKind::Boolean => Ok(How::Bool),
        TypeKind::Char(n) => Ok(How::Text { length: usize::try_from(*n).unwrap_or(1), varying: false }),
        TypeKind::Varchar(n) => {
            let most = usize::try_from(*n).unwrap_or(usize::MAX);
            Ok(How::Text { length: length(100)?.min(most), varying })
        }
        TypeKind::Binary(n) => Ok(How::Bytes { length: usize::try_from(*n).unwrap_or(1), varying: false }),
        TypeKind::Varbinary(_) => Ok(How::Bytes { length: length(100)?, varying }),
        TypeKind::Timestamp(_) => Ok(How::Instant { max_past: max_past()?, zone: false }),
        TypeKind::TimestampLtz(_) => Ok(How::Instant { max_past: max_past()?, zone: true }),
        TypeKind::Date => Ok(How::Date),
        TypeKind::Time(_) => Ok(How::Time),
        other => Err(format!("random values of type {other} are not supported")),
    }
}

impl How {
    fn write(&self, number: i64, now: i64, random: &mut Random, out: &mut String) {
        let at = |millis: i64, form: &str| {
            chrono::DateTime::from_timestamp_millis(millis).unwrap_or_default().format(form).to_string()
        };
        let size = |random: &mut Random, length: usize, varying: bool| match varying {
            true => usize::try_from(random.below(u64::try_from(length).unwrap_or(1).max(1)) + 1).unwrap_or(1),
            false => length,
        };
        let _ = match self {
            Self::Sequence { start, text: true } => write!(out, "\"{}\"", start.saturating_add(number)),
            Self::Sequence { start, text: false } => write!(out, "{}", start.saturating_add(number)),
            Self::Whole { min, max } => {
                let span = max.wrapping_sub(*min).cast_unsigned();
                let offset = if span == u64::MAX { random.next() } else { random.below(span + 1) };
                write!(out, "{}", min.wrapping_add(offset.cast_signed()))
            }
            Self::Real { min, max, digits: None } => write!(out, "{:e}", min + random.unit() * (max - min)),
            Self::Real { min, max, digits: Some(digits) } => {
                write!(out, "{:.*}", usize::from(*digits), min + random.unit() * (max - min))
            }
            Self::Bool => write!(out, "{}", random.next() & 1 == 1),
            Self::Text { length, varying } => {
                out.push('"');
                for _ in 0..size(random, *length, *varying) {
                    let digit = u32::try_from(random.below(16)).unwrap_or(0);
                    out.push(char::from_digit(digit, 16).unwrap_or('0'));
                }
                out.push('"');
                Ok(())
            }
            Self::Bytes { length, varying } => {
                use base64::Engine as _;
                let bytes: Vec<u8> =
                    (0..size(random, *length, *varying)).map(|_| random.next().to_le_bytes()[0]).collect();
                write!(out, "\"{}\"", base64::engine::general_purpose::STANDARD.encode(bytes))
            }
            Self::Instant { max_past, zone } => {
                let past = random.below(max_past.unsigned_abs().saturating_add(1)).cast_signed();
                let form = if *zone { "%Y-%m-%dT%H:%M:%S%.3fZ" } else { "%Y-%m-%dT%H:%M:%S%.3f" };
                write!(out, "\"{}\"", at(now - past, form))
            }
            Self::Date => write!(out, "\"{}\"", at(now, "%Y-%m-%d")),
            Self::Time => write!(out, "\"{}\"", at(now, "%H:%M:%S")),
        };
    }
}

/// SplitMix64, seeded by row and column.
struct Random(u64);

impl Random {
    fn new(row: i64, column: usize) -> Self {
        let column = u64::try_from(column).unwrap_or(0);
        let mut random =
            Self(row.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ column.rotate_left(32));
        random.next();
        random
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::testing::table;

    #[test]
    fn rows_depend_on_their_number() {
        let options = [
            ("number-of-rows", "50"),
            ("fields.id.kind", "sequence"),
            ("fields.id.start", "7"),
            ("fields.id.end", "16"),
            ("fields.name.length", "5"),
        ];
        let generator = Generator::new(&table("t", &options)).unwrap();
        assert_eq!(generator.rows, Some(10));
        let row = |n| {
            let mut out = String::new();
            generator.row(n, 0, &mut out);
            serde_json::from_str::<serde_json::Value>(&out).unwrap()
        };
        assert_eq!(row(0)["id"], 7);
        assert_eq!(row(9)["id"], 16);
        assert_eq!(row(3), row(3));
        assert_ne!(row(3)["name"], row(4)["name"]);
        assert_eq!(row(3)["name"].as_str().unwrap().len(), 5);
    }

    #[test]
    fn wrong_options_are_refused() {
        let error = |options: &[(&str, &str)]| Generator::new(&table("t", options)).unwrap_err().screen();
        assert!(error(&[("fields.id.kind", "sequence")]).contains("'fields.id.start' is missing"));
        assert!(error(&[("fields.id.kind", "made-up")]).contains("random"));
        assert!(error(&[("fields.id.mean", "1")]).contains("null-rate"));
        assert!(error(&[("rows-per-second", "0")]).contains("not positive"));
        assert!(error(&[("fields.id.min", "x")]).contains("cannot be generated"));
    }
}
