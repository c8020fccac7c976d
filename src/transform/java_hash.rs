//! Java's `hashCode` and Debezium's MurmurHash3 of values, on which chosen partitions depend.

use num_bigint::BigInt;

use crate::event::datum::Datum;
use crate::event::schema::{Kind, Schema};

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Folds 64 bits as `Long.hashCode` does.
fn fold(bits: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
    u32::from_be_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h])
}

fn mul31(hash: u32, next: u32) -> u32 {
    hash.wrapping_mul(31).wrapping_add(next)
}

/// The low 32 bits.
fn low(n: i64) -> u32 {
    let [.., a, b, c, d] = n.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// `hashCode()` of a value as Kafka Connect holds it.
///
/// # Errors
/// For structs: theirs depends on the running JVM.
pub(super) fn java(schema: &Schema, datum: &Datum<'_>) -> Result<u32, String> {
    let element = |schema: &Schema, datum: &Datum<'_>| match datum {
        Datum::Null => Ok(0),
        datum => java(schema, datum),
    };
    Ok(match datum {
        Datum::Null => 0,
        Datum::Bool(true) => 1231,
        Datum::Bool(false) => 1237,
        // dates of Kafka Connect are held as milliseconds
        Datum::Int(n) => match schema.name.as_deref() {
            Some("org.apache.kafka.connect.data.Date") => fold(n.wrapping_mul(86_400_000).cast_unsigned()),
            Some("org.apache.kafka.connect.data.Time" | "org.apache.kafka.connect.data.Timestamp") => {
                fold(n.cast_unsigned())
            }
            _ if schema.kind == Kind::Int64 => fold(n.cast_unsigned()),
            _ => low(*n),
        },
        Datum::F32(n) if n.is_nan() => 0x7FC0_0000,
        Datum::F32(n) => n.to_bits(),
        Datum::F64(n) if n.is_nan() => fold(0x7FF8_0000_0000_0000),
        Datum::F64(n) => fold(n.to_bits()),
        Datum::Array(items) => {
            let Kind::Array(of) = &schema.kind else { return Err("an array without a schema".into()) };
            let mut hash = 1;
            for item in items {
                hash = mul31(hash, element(of, item)?);
            }
            hash
        }
        Datum::Map(pairs) => {
            let Kind::Map(keys, values) = &schema.kind else { return Err("a map without a schema".into()) };
            let mut hash = 0u32;
            for (k, v) in pairs {
                hash = hash.wrapping_add(element(keys, k)? ^ element(values, v)?);
            }
            hash
        }
        Datum::Struct(_) => {
            return Err("a struct has no hash that stays the same: name one of its fields".into());
        }
        other => match other.as_str() {
            Some(text) => text.encode_utf16().fold(0, |h, unit| mul31(h, u32::from(unit))),
            None => bytes(schema, &other.to_bytes().unwrap_or_default()),
        },
    })
}

fn bytes(schema: &Schema, bytes: &[u8]) -> u32 {
    if schema.name.as_deref() != Some(DECIMAL) {
        // ByteBuffer.hashCode: from the end, signed
        return bytes.iter().rev().fold(1, |h, b| mul31(h, low(i64::from(b.cast_signed()))));
    }
    // BigDecimal.hashCode
    let unscaled = BigInt::from_signed_bytes_be(bytes);
    let (sign, mut digits) = unscaled.to_u32_digits();
    digits.reverse();
    let magnitude = digits.iter().fold(0, |h, d| mul31(h, *d));
    let hash = if sign == num_bigint::Sign::Minus { magnitude.wrapping_neg() } else { magnitude };
    let scale: i64 = schema.get_parameter("scale").and_then(|s| s.parse().ok()).unwrap_or(0);
    mul31(hash, low(scale))
}

struct State {
    h1: u64,
    h2: u64,
    c1: u64,
    c2: u64,
}

impl State {
    fn mix(&mut self, mut k1: u64, mut k2: u64) {
        k1 = k1.wrapping_mul(self.c1).rotate_left(23).wrapping_mul(self.c2);
        self.h1 = (self.h1 ^ k1).wrapping_add(self.h2);
        self.h2 = self.h2.rotate_left(41);
        k2 = k2.wrapping_mul(self.c2).rotate_left(23).wrapping_mul(self.c1);
        self.h2 = (self.h2 ^ k2).wrapping_add(self.h1);
        self.h1 = self.h1.wrapping_mul(3).wrapping_add(0x52DC_E729);
        self.h2 = self.h2.wrapping_mul(3).wrapping_add(0x3849_5AB5);
        self.c1 = self.c1.wrapping_mul(5).wrapping_add(0x7B7D_159C);
        self.c2 = self.c2.wrapping_mul(5).wrapping_add(0x6BCE_6396);
    }

    fn finish(mut self, len: usize) -> u32 {
        fn last(mut k: u64) -> u64 {
            k = (k ^ (k >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
            k = (k ^ (k >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
            k ^ (k >> 33)
        }
        self.h2 ^= u64::try_from(len).unwrap_or(0);
        self.h1 = self.h1.wrapping_add(self.h2);
        self.h2 = self.h2.wrapping_add(self.h1);
        let hash = last(self.h1).wrapping_add(last(self.h2));
        let [a, b, c, d, ..] = hash.to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }
}

/// Debezium's MurmurHash3: of a text its UTF-8 bytes, of everything else its `hashCode`.
///
/// # Errors
/// As [`java`].
pub(super) fn murmur3(schema: &Schema, datum: &Datum<'_>) -> Result<u32, String> {
    const SEED: u64 = 9001;
    let (h1, h2) = (0x9368_E53C_2F6A_F274, 0x586D_CD20_8F7C_D3FD);
    let (c1, c2) = (0x87C3_7B91_1142_53D5, 0x4CF5_AD43_2745_937F);
    let Some(text) = datum.as_str() else {
        let hash = java(schema, datum)?;
        // the bytes are widened with their sign
        let widened = hash
            .to_le_bytes()
            .iter()
            .enumerate()
            .fold(0u64, |k, (i, b)| k ^ (i64::from(b.cast_signed()).cast_unsigned() << (8 * i)));
        let mut state = State { h1: h1 ^ SEED, h2: h2 ^ SEED, c1, c2 };
        state.mix(widened, 0);
        return Ok(state.finish(4));
    };
    let mut state = State { h1: h1 ^ SEED, h2: h2 ^ SEED, c1, c2 };
    let mut blocks = text.as_bytes().chunks_exact(16);
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |k, b| k << 8 | u64::from(*b));
    for block in &mut blocks {
        let (a, b) = block.split_at(8);
        state.mix(word(a), word(b));
    }
    let rest = blocks.remainder();
    if !rest.is_empty() {
        // the bytes of what is left are widened with their sign
        let signed = |bytes: &[u8]| {
            bytes
                .iter()
                .enumerate()
                .fold(0u64, |k, (i, b)| k ^ (i64::from(b.cast_signed()).cast_unsigned() << (8 * i)))
        };
        let (a, b) = rest.split_at(rest.len().min(8));
        state.mix(signed(a), signed(b));
    }
    Ok(state.finish(text.len()))
}
