//! Values of `SET` options.

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

#[cfg(test)]
mod tests {
    use super::millis;

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
