//! Decimals: text to unscaled big-endian bytes, and back as Java's `BigDecimal` prints them.

use num_bigint::{BigInt, Sign};

use crate::event::datum::Inline;

/// A decimal text taken apart: sign, digits and scale.
#[derive(Clone, Copy, Debug)]
pub struct Decimal<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

/// Reads PostgreSQL's text of a `numeric`: `-123.450`; `None` for NaN and infinities.
pub fn parse(text: &[u8]) -> Option<Decimal<'_>> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let (whole, fraction) = match memchr::memchr(b'.', rest) {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &[][..]),
    };
    let digits = whole.iter().chain(fraction);
    if whole.len() + fraction.len() == 0 || !digits.clone().all(u8::is_ascii_digit) {
        return None;
    }
    Some(Decimal { negative, whole, fraction })
}

impl Decimal<'_> {
    /// The unscaled value at this scale, as minimal big-endian two's complement; digits past the scale are
    /// rounded half up.
    pub fn unscaled(&self, scale: usize) -> Inline {
        let kept = self.fraction.len().min(scale);
        let zeros = scale - kept;
        let round_up = self.fraction.get(scale).is_some_and(|d| *d >= b'5');
        if self.whole.len() + scale <= 37 {
            let mut n = 0i128;
            for d in self.whole.iter().chain(&self.fraction[..kept]) {
                n = n * 10 + i128::from(d - b'0');
            }
            for _ in 0..zeros {
                n *= 10;
            }
            n += i128::from(round_up);
            return minimal(&(if self.negative { -n } else { n }).to_be_bytes());
        }
        let mut digits = Vec::with_capacity(self.whole.len() + scale);
        digits.extend_from_slice(self.whole);
        digits.extend_from_slice(&self.fraction[..kept]);
        digits.resize(digits.len() + zeros, b'0');
        let mut n = BigInt::parse_bytes(&digits, 10).unwrap_or_default();
        if round_up {
            n += 1;
        }
        if self.negative {
            n = -n;
        }
        Inline::from_slice(&n.to_signed_bytes_be())
    }

    /// Digits after the point, as written.
    pub fn scale(&self) -> usize {
        self.fraction.len()
    }

    /// Scale and unscaled value without trailing zeros; the scale is at least 0.
    pub fn stripped(&self) -> (i32, Inline) {
        let scale = self.fraction.iter().rposition(|d| *d != b'0').map_or(0, |p| p + 1);
        (i32::try_from(scale).unwrap_or(i32::MAX), self.unscaled(scale))
    }

    /// Plain text with exactly this many digits after the point, rounded half up.
    pub fn plain(&self, scale: usize) -> String {
        let bytes = self.unscaled(scale);
        plain_string(&BigInt::from_signed_bytes_be(&bytes), scale)
    }
}

/// Strips what two's complement does not need.
fn minimal(bytes: &[u8]) -> Inline {
    let mut start = 0;
    while start + 1 < bytes.len()
        && ((bytes[start] == 0 && bytes[start + 1] < 0x80)
            || (bytes[start] == 0xFF && bytes[start + 1] >= 0x80))
    {
        start += 1;
    }
    Inline::from_slice(&bytes[start..])
}

fn plain_string(n: &BigInt, scale: usize) -> String {
    let mut digits = n.magnitude().to_string();
    if digits.len() <= scale {
        digits.insert_str(0, &"0".repeat(scale + 1 - digits.len()));
    }
    if scale > 0 {
        digits.insert(digits.len() - scale, '.');
    }
    if n.sign() == Sign::Minus {
        digits.insert(0, '-');
    }
    digits
}

/// `BigDecimal.toString()` of an unscaled value: scientific where the exponent is below -6.
pub fn to_java_string(unscaled: &[u8], scale: i32) -> String {
    let n = BigInt::from_signed_bytes_be(unscaled);
    let digits = n.magnitude().to_string();
    let len = i64::try_from(digits.len()).unwrap_or(i64::MAX);
    let adjusted = len - 1 - i64::from(scale);
    if scale == 0 {
        return n.to_string();
    }
    if scale > 0 && adjusted >= -6 {
        return plain_string(&n, usize::try_from(scale).unwrap_or(0));
    }
    let mut out = String::new();
    if n.sign() == Sign::Minus {
        out.push('-');
    }
    out.push_str(&digits[..1]);
    if digits.len() > 1 {
        out.push('.');
        out.push_str(&digits[1..]);
    }
    if adjusted != 0 {
        out.push_str(&format!("E{adjusted:+}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unscaled_bytes() {
        assert_eq!(parse(b"1.10").unwrap().unscaled(2).as_slice(), [0x6e]);
        assert_eq!(parse(b"-999.99").unwrap().unscaled(2).as_slice(), [0xfe, 0x79, 0x61]);
        assert_eq!(parse(b"0").unwrap().unscaled(2).as_slice(), [0]);
        assert_eq!(parse(b"128").unwrap().unscaled(0).as_slice(), [0, 0x80]);
        assert_eq!(parse(b"-128").unwrap().unscaled(0).as_slice(), [0x80]);
        let (scale, value) = parse(b"1.10").unwrap().stripped();
        assert_eq!((scale, value.as_slice()), (1, &[11][..]));
        let big = b"99999999999999999999999999999999999999999999";
        assert_eq!(
            BigInt::from_signed_bytes_be(&parse(big).unwrap().unscaled(0)).to_string().as_bytes(),
            big
        );
        assert!(parse(b"NaN").is_none());
    }

    #[test]
    fn java_text() {
        for (n, scale, text) in [
            (15_000i64, 4, "1.5000"),
            (-1, 4, "-0.0001"),
            (0, 0, "0"),
            (1, 10, "1E-10"),
            (0, 3, "0.000"),
            (12, 8, "1.2E-7"),
        ] {
            assert_eq!(to_java_string(&n.to_be_bytes(), scale), text);
        }
    }
}
