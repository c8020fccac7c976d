//! Floating point numbers as Java 17's `Double.toString` and `Float.toString` print them.
//!
//! Java before 19 does not always print the shortest digits that read back as the same number
//! (`1.17549435E-38`, `1.9999999999999998E23`), and the goldens and all consumers' fixtures hold what it prints. This is
//! the digit generation its class library documents: Steele and White's free-format algorithm with a fixed
//! estimate of the decimal exponent, a cut of digits beyond the precision for whole numbers, and at least two
//! digits in scientific notation.

use num_bigint::BigUint;
use smallvec::SmallVec;

/// Significant digits as ASCII; at most 17, without trailing zeros except the second of two.
pub type Digits = SmallVec<[u8; 24]>;
/// A whole number in text, ASCII: the longest is `-2.2250738585072014E-308`.
pub type Text = SmallVec<[u8; 32]>;

/// Bits of a double's fraction.
const FRACTION: i32 = 52;
/// The bit above the fraction.
const HIDDEN: u64 = 1 << FRACTION;

/// `Double.toString`: plain from 10^-3 up to 10^7, else with an exponent; always a digit after the point; `NaN`,
/// `Infinity`, `-Infinity`.
pub fn double(n: f64) -> Text {
    if n.is_finite() { number(n.is_sign_negative(), of_f64(n)) } else { special(n.is_nan(), n > 0.0) }
}

/// `Float.toString`, as [`double`].
pub fn float(n: f32) -> Text {
    if n.is_finite() { number(n.is_sign_negative(), of_f32(n)) } else { special(n.is_nan(), n > 0.0) }
}

/// As [`double`], behind a text.
pub fn push_double(text: &mut String, n: f64) {
    text.extend(double(n).iter().map(|byte| char::from(*byte)));
}

/// As [`float`], behind a text.
pub fn push_float(text: &mut String, n: f32) {
    text.extend(float(n).iter().map(|byte| char::from(*byte)));
}

fn special(nan: bool, positive: bool) -> Text {
    Text::from_slice(match (nan, positive) {
        (true, _) => b"NaN".as_slice(),
        (_, true) => b"Infinity",
        _ => b"-Infinity",
    })
}

/// The layout of `0.d1d2d3… × 10^exponent`.
fn number(negative: bool, (digits, exponent): (Digits, i32)) -> Text {
    let mut out = Text::new();
    if negative {
        out.push(b'-');
    }
    match usize::try_from(exponent) {
        Ok(point @ 1..=7) => {
            for i in 0..point.max(digits.len()) {
                if i == point {
                    out.push(b'.');
                }
                out.push(digits.get(i).copied().unwrap_or(b'0'));
            }
            if digits.len() <= point {
                out.extend_from_slice(b".0");
            }
        }
        _ if (-2..=0).contains(&exponent) => {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', usize::try_from(-exponent).unwrap_or(0)));
            out.extend_from_slice(&digits);
        }
        _ => {
            let (first, rest) = digits.split_at(1);
            out.extend_from_slice(first);
            out.push(b'.');
            out.extend_from_slice(if rest.is_empty() { b"0" } else { rest });
            out.push(b'E');
            out.extend_from_slice(itoa::Buffer::new().format(exponent - 1).as_bytes());
        }
    }
    out
}

/// Digits and decimal exponent of a finite positive double: the value is `0.digits × 10^exponent`.
pub fn of_f64(n: f64) -> (Digits, i32) {
    let bits = n.to_bits() & (u64::MAX >> 1);
    let fraction = bits & (HIDDEN - 1);
    let exponent = i32::try_from(bits >> FRACTION).unwrap_or(0);
    match (exponent, fraction) {
        (0, 0) => zero(),
        (0, _) => {
            let shift = fraction.leading_zeros() - 11;
            let significant = 64 - fraction.leading_zeros();
            digits(1 - signed(shift) - 1023, fraction << shift, signed(significant))
        }
        _ => digits(exponent - 1023, fraction | HIDDEN, FRACTION + 1),
    }
}

/// As [`of_f64`] for single precision.
pub fn of_f32(n: f32) -> (Digits, i32) {
    const SINGLE: i32 = 23;
    let bits = n.to_bits() & (u32::MAX >> 1);
    let fraction = bits & ((1 << SINGLE) - 1);
    let exponent = i32::try_from(bits >> SINGLE).unwrap_or(0);
    let widened = |fraction: u32| u64::from(fraction) << (FRACTION - SINGLE);
    match (exponent, fraction) {
        (0, 0) => zero(),
        (0, _) => {
            let shift = fraction.leading_zeros() - 8;
            let significant = 32 - fraction.leading_zeros();
            digits(1 - signed(shift) - 127, widened(fraction << shift), signed(significant))
        }
        _ => digits(exponent - 127, widened(fraction | 1 << SINGLE), SINGLE + 1),
    }
}

fn zero() -> (Digits, i32) {
    (SmallVec::from_slice(b"0"), 1)
}

fn signed(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(0)
}

/// The value is `fraction × 2^(exponent - 52)`, the hidden bit set; `significant` bits of it were given.
fn digits(exponent: i32, fraction: u64, significant: i32) -> (Digits, i32) {
    let tail = signed(fraction.trailing_zeros());
    let fraction_bits = FRACTION + 1 - tail;
    // bits to the right of the binary point
    let tiny = (fraction_bits - exponent - 1).max(0);
    if tiny == 0 && (0..=62).contains(&exponent) {
        let whole = if exponent >= FRACTION {
            fraction << (exponent - FRACTION)
        } else {
            fraction >> (FRACTION - exponent)
        };
        let beyond = exponent - significant - 1;
        return whole_digits(whole, if beyond > 1 { powers_of_ten_in(beyond) } else { 0 });
    }
    let decimal = estimate(fraction, exponent);
    let (b5, s5) = ((-decimal).max(0), decimal.max(0));
    let (mut b2, mut s2) = (b5 + tiny + exponent, s5 + tiny);
    let mut m2 = b2 - significant;
    b2 -= fraction_bits - 1;
    let common = b2.min(s2);
    (b2, s2, m2) = (b2 - common, s2 - common, m2 - common);
    if fraction_bits == 1 {
        // below a power of two the next number is half as far away
        m2 -= 1;
    }
    if m2 < 0 {
        (b2, s2, m2) = (b2 - m2, s2 - m2, 0);
    }
    let fraction = fraction >> tail;
    let powers = Powers { b2, b5, s2, s5, m2 };
    let bits = (fraction_bits + b2 + bits_of_5(b5)).max(s2 + 1 + bits_of_5(s5 + 1));
    if bits < 64 { small(fraction, &powers, decimal, bits < 32) } else { big(fraction, &powers, decimal) }
}

/// How many low decimal digits of a number are noise when this many low bits are.
fn powers_of_ten_in(bits: i32) -> u32 {
    // floor(bits × log10 2), exact for 0 to 64
    u32::try_from(bits * 1233 / 4096).unwrap_or(0)
}

fn whole_digits(mut n: u64, noise: u32) -> (Digits, i32) {
    let mut exponent = 0;
    if noise > 0 {
        let power = 10u64.pow(noise);
        let rest = n % power;
        n = n / power + u64::from(rest >= power / 2);
        exponent = signed(noise);
    }
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(n).as_bytes();
    let significant = text.iter().rposition(|d| *d != b'0').map_or(1, |last| last + 1);
    exponent += i32::try_from(text.len()).unwrap_or(0);
    (SmallVec::from_slice(text.get(..significant).unwrap_or(text)), exponent)
}

/// The decimal exponent, or one more: a linear estimate of the logarithm.
fn estimate(fraction: u64, exponent: i32) -> i32 {
    let mantissa = f64::from_bits((1023 << FRACTION) | (fraction & (HIDDEN - 1)));
    let log =
        (mantissa - 1.5) * 0.289_529_654 + 0.176_091_259 + f64::from(exponent) * std::f64::consts::LOG10_2;
    #[expect(clippy::cast_possible_truncation, reason = "between -325 and 309")]
    let floor = log.floor() as i32;
    floor
}

/// Bits of `5^n`, as far as they are tabulated; a bound beyond.
fn bits_of_5(n: i32) -> i32 {
    match u32::try_from(n) {
        Ok(0) => 0,
        Ok(n @ 1..=26) => signed(64 - 5u64.pow(n).leading_zeros()),
        _ => n * 3,
    }
}

/// `b = fraction × 5^b5 × 2^b2`, `s = 5^s5 × 2^s2`, `m = 5^b5 × 2^m2`.
struct Powers {
    b2: i32,
    b5: i32,
    s2: i32,
    s5: i32,
    m2: i32,
}

/// How the loop ended, and how the rest compares with half a digit.
struct End {
    low: bool,
    high: bool,
    rest: std::cmp::Ordering,
}

fn rounded(mut digits: Digits, mut decimal: i32, end: &End) -> (Digits, i32) {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let odd = digits.last().is_some_and(|d| d & 1 != 0);
    let up = end.high
        && (!end.low
            || match end.rest {
                Less => false,
                Equal => odd,
                Greater => true,
            });
    if up {
        let nines = digits.iter().rev().take_while(|d| **d == b'9').count();
        let kept = digits.len() - nines;
        digits.iter_mut().skip(kept).for_each(|d| *d = b'0');
        match kept.checked_sub(1).and_then(|at| digits.get_mut(at)) {
            Some(d) => *d += 1,
            None => {
                decimal += 1;
                if let Some(first) = digits.first_mut() {
                    *first = b'1';
                }
            }
        }
    }
    (digits, decimal + 1)
}

/// Scientific notation has a digit after the point, so that the first may not end the loop.
fn scientific(decimal: i32) -> bool {
    !(-3..8).contains(&decimal)
}

fn digit(quotient: u64) -> u8 {
    b'0' + u8::try_from(quotient % 10).unwrap_or(0)
}

/// All numbers fit into 64 bits, or 32 where `narrow`. Java's sums wrap there, which decides some last digits.
fn small(fraction: u64, p: &Powers, mut decimal: i32, narrow: bool) -> (Digits, i32) {
    #[expect(clippy::cast_possible_truncation, reason = "Java's arithmetic of int")]
    let wrap = |n: i64| if narrow { i64::from(n as i32) } else { n };
    let shifted = |five: i32, two: i32| {
        let power = 5i64.wrapping_pow(u32::try_from(five).unwrap_or(0));
        wrap(u32::try_from(two).ok().and_then(|two| power.checked_shl(two)).unwrap_or(0))
    };
    let mut b = fraction.cast_signed().wrapping_mul(shifted(p.b5, p.b2));
    let s = shifted(p.s5, p.s2);
    let mut m = shifted(p.b5, p.m2);
    let tens = wrap(s.wrapping_mul(10));
    let mut out = Digits::new();
    let mut first = true;
    loop {
        // The caller has seen to it that `s` has fewer than 64 bits: it is positive.
        let quotient = b.checked_div(s).unwrap_or(0);
        b = wrap(b.checked_rem(s).unwrap_or(0).wrapping_mul(10));
        m = wrap(m.wrapping_mul(10));
        let ends = (m <= 0 || b < m, m <= 0 || wrap(b.wrapping_add(m)) > tens);
        let quotient = u64::try_from(quotient).unwrap_or(0);
        let (low, high) = put(&mut out, &mut decimal, quotient, ends, std::mem::take(&mut first));
        if low || high {
            let rest = wrap(b.wrapping_mul(2).wrapping_sub(tens)).cmp(&0);
            return rounded(out, decimal, &End { low, high, rest });
        }
    }
}

/// Takes the next digit. `ends` says whether what is out names the number already, rounded down or up; so does
/// what this gives. The first digit may be a nought that is left out, and moves the point then.
fn put(out: &mut Digits, decimal: &mut i32, quotient: u64, ends: (bool, bool), first: bool) -> (bool, bool) {
    if first && quotient == 0 && !ends.1 {
        *decimal -= 1;
    } else {
        out.push(digit(quotient));
    }
    // Java wants a second digit in scientific notation.
    if first && scientific(*decimal) { (false, false) } else { ends }
}

/// Numbers far from one: exact arithmetic of any length.
fn big(fraction: u64, p: &Powers, mut decimal: i32) -> (Digits, i32) {
    let shifted = |five: i32, two: i32| {
        BigUint::from(5u8).pow(u32::try_from(five).unwrap_or(0)) << usize::try_from(two).unwrap_or(0)
    };
    let mut b = shifted(p.b5, p.b2) * fraction;
    let s = shifted(p.s5, p.s2);
    let mut m = shifted(p.b5, p.m2) * 10u8;
    let tens = &s * 10u8;
    let mut out = Digits::new();
    let mut first = true;
    loop {
        let quotient = &b / &s;
        b = (b % &s) * 10u8;
        if !first {
            m *= 10u8;
        }
        let quotient = quotient.iter_u64_digits().next().unwrap_or(0);
        let ends = (b < m, &b + &m >= tens);
        let (low, high) = put(&mut out, &mut decimal, quotient, ends, std::mem::take(&mut first));
        if low || high {
            return rounded(out, decimal, &End { low, high, rest: (b * 2u8).cmp(&tens) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text((digits, exponent): (Digits, i32)) -> String {
        format!("0.{}e{exponent}", String::from_utf8(digits.to_vec()).unwrap())
    }

    #[test]
    fn numbers_are_laid_out_as_java_does() {
        for (n, expected) in [
            (1.0, "1.0"),
            (-2.0, "-2.0"),
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.5, "1.5"),
            (123.456, "123.456"),
            (0.001, "0.001"),
            (0.000_999, "9.99E-4"),
            (0.00123, "0.00123"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (123_456_789.5, "1.234567895E8"),
            (1.234_567_89e12, "1.23456789E12"),
            (1e300, "1.0E300"),
            (5e-324, "4.9E-324"),
            (1.797_693_134_862_315_7e308, "1.7976931348623157E308"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "Infinity"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            let mut text = String::new();
            push_double(&mut text, n);
            assert_eq!(text, expected);
        }
        let mut text = String::new();
        push_float(&mut text, -3.4e38);
        assert_eq!(text, "-3.4E38");
    }

    #[test]
    fn digits_are_those_of_java_17() {
        // printed by OpenJDK 17
        for (n, expected) in [
            (2.0e-3, "0.2e-2"),
            (1.1e23, "0.11e24"),
            (2.0e23, "0.19999999999999998e24"),
            (8.41e21, "0.8409999999999999e22"),
            (8.409_999_999_999_99e21, "0.840999999999999e22"),
            (2.225_073_858_507_201_4e-308, "0.22250738585072014e-307"),
            (5e-324, "0.49e-323"),
            (2e-323, "0.20e-322"),
            (9_007_199_254_740_993.0, "0.9007199254740992e16"),
            (1e18, "0.1e19"),
            (0.1, "0.1e0"),
            (100.0, "0.1e3"),
        ] {
            assert_eq!(text(of_f64(n)), expected, "{n:e}");
        }
        assert_eq!(text(of_f32(1.175_494_4e-38)), "0.117549435e-37");
        assert_eq!(text(of_f32(3.402_823_5e38)), "0.34028235e39");
        assert_eq!(text(of_f32(1.4e-45)), "0.14e-44");
    }
}
