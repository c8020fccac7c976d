//! Values of `SET` options.

use std::collections::BTreeMap;

/// Whether what Flink rejects is rejected: `millstream.compat.strict`.
pub fn strict(options: &BTreeMap<String, String>) -> bool {
    flag(options, "millstream.compat.strict", false)
}

/// A boolean option, in any case of letters.
pub fn flag(options: &BTreeMap<String, String>, key: &str, default: bool) -> bool {
    options.get(key).map_or(default, |value| value.eq_ignore_ascii_case("true"))
}

/// The milliseconds of a duration as Flink writes it: `10 min`, `1h`, `500` (milliseconds). `None`: it is none.
pub fn millis(text: &str) -> Option<i64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let unit = unit.trim().to_ascii_lowercase();
    let singular = unit.strip_suffix('s').filter(|rest| rest.len() > 2).unwrap_or(&unit);
    let factor = match singular {
        "d" | "day" => 86_400_000,
        "h" | "hour" => 3_600_000,
        "m" | "min" | "minute" => 60_000,
        "s" | "sec" | "second" => 1000,
        "" | "ms" | "milli" | "millisecond" => 1,
        "µs" | "micro" | "microsecond" => return Some(number / 1000),
        "ns" | "nano" | "nanosecond" => return Some(number / 1_000_000),
        _ => return None,
    };
    number.checked_mul(factor)
}

/// The bytes of a size as Flink writes it: `128MB`, `64 kb`, `1g`, `500` (bytes); a kilobyte has 1024. `None`: it is
/// none.
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gibibytes" => 1 << 30,
        "t" | "tb" | "tebibytes" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::{bytes, millis};

    #[test]
    fn sizes_are_read_as_flink_writes_them() {
        for (text, expected) in [
            ("128MB", Some(128 << 20)),
            ("64 kb", Some(64 << 10)),
            ("500", Some(500)),
            ("1 g", Some(1 << 30)),
            ("x", None),
            ("1 pb", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn durations_are_read_as_flink_writes_them() {
        for (text, expected) in [
            ("10 min", Some(600_000)),
            ("1h", Some(3_600_000)),
            ("2 days", Some(172_800_000)),
            ("500", Some(500)),
            ("5 s", Some(5000)),
            ("20 ms", Some(20)),
            ("3000 micros", Some(3)),
            ("0", Some(0)),
            ("h", None),
            ("1 week", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
