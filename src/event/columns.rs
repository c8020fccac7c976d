//! Column rules: truncation, masks, hashes, propagated source types.

use std::borrow::Cow;

use openssl::hash::MessageDigest;

use super::EventError;
use super::datum::Datum;
use super::options::{ColumnAction, EventOptions};
use super::schema::Schema;
use crate::java::regex_list::RegexList;

/// What is done to a column's values.
#[derive(Clone, Debug, PartialEq)]
pub enum Mask {
    /// Cut to this many UTF-16 units.
    Truncate(usize),
    /// Replaced by this text, nulls too.
    Replace(String),
    /// Replaced by a digest.
    Hash {
        /// Java's name of the algorithm.
        algorithm: String,
        /// Salt.
        salt: String,
        /// Over the plain bytes instead of Java's serialised form.
        v2: bool,
        /// Cut to this many characters.
        length: usize,
    },
}

/// A column as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct ColumnName<'a> {
    /// Schema.
    pub schema: &'a str,
    /// Table.
    pub table: &'a str,
    /// Column.
    pub column: &'a str,
}

impl ColumnName<'_> {
    /// `schema.table.column`.
    pub fn qualified(&self) -> String {
        format!("{}.{}.{}", self.schema, self.table, self.column)
    }
}

/// Whether `column.include.list` and `column.exclude.list` let a column's value through.
pub fn included(options: &EventOptions, name: &ColumnName<'_>) -> bool {
    let qualified = name.qualified();
    let hit = |p: &RegexList| p.matches(&qualified);
    match (&options.column_include, &options.column_exclude) {
        (Some(include), _) => hit(include),
        (None, Some(exclude)) => !hit(exclude),
        (None, None) => true,
    }
}

/// Applies the first rule that matches: gives the mask of its values and adds its parameters to the schema. Masks and
/// hashes change values of `characters` only.
pub fn apply(
    options: &EventOptions,
    name: &ColumnName<'_>,
    type_name: &str,
    characters: bool,
    length: i32,
    scale: Option<i32>,
    schema: &mut Schema,
) -> Option<Mask> {
    let qualified = name.qualified();
    let typed = format!("{}.{}.{type_name}", name.schema, name.table);
    let rule = options.column_rules.iter().find(|r| match r.action {
        ColumnAction::PropagateType => r.patterns.matches(&typed),
        _ => r.patterns.matches(&qualified),
    })?;
    let parameters = &mut schema.parameters;
    match &rule.action {
        ColumnAction::Truncate(n) => {
            // nothing where the column cannot be longer
            if usize::try_from(length).is_ok_and(|length| length <= *n) {
                return None;
            }
            parameters.push(("truncateLength".into(), n.to_string()));
            Some(Mask::Truncate(*n))
        }
        ColumnAction::Mask(n) => {
            parameters.push(("masked".into(), "true".into()));
            characters.then(|| Mask::Replace("*".repeat(*n)))
        }
        ColumnAction::Hash { algorithm, salt, v2 } => {
            parameters.push(("masked".into(), "true".into()));
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            characters.then(|| Mask::Hash {
                algorithm: algorithm.clone(),
                salt: salt.clone(),
                v2: *v2,
                length,
            })
        }
        ColumnAction::Propagate | ColumnAction::PropagateType => {
            let prefix = "__debezium.source.column";
            parameters.push((format!("{prefix}.type"), type_name.to_uppercase()));
            parameters.push((format!("{prefix}.length"), length.to_string()));
            if let Some(scale) = scale {
                parameters.push((format!("{prefix}.scale"), scale.to_string()));
            }
            parameters.push((format!("{prefix}.name"), name.column.to_owned()));
            None
        }
    }
}

fn digest(algorithm: &str) -> Option<MessageDigest> {
    Some(match algorithm.to_ascii_uppercase().as_str() {
        "MD5" => MessageDigest::md5(),
        "SHA" | "SHA1" | "SHA-1" => MessageDigest::sha1(),
        "SHA-224" => MessageDigest::sha224(),
        "SHA-256" => MessageDigest::sha256(),
        "SHA-384" => MessageDigest::sha384(),
        "SHA-512" => MessageDigest::sha512(),
        "SHA3-224" => MessageDigest::sha3_224(),
        "SHA3-256" => MessageDigest::sha3_256(),
        "SHA3-384" => MessageDigest::sha3_384(),
        "SHA3-512" => MessageDigest::sha3_512(),
        _ => return None,
    })
}

/// Refuses an unknown hash algorithm when the options are read.
pub(super) fn check_hash(name: &str, action: &ColumnAction) -> Result<(), EventError> {
    match action {
        ColumnAction::Hash { algorithm, .. } if digest(algorithm).is_none() => Err(EventError::Option {
            name: name.into(),
            value: algorithm.clone(),
            expected: "MD5, SHA-1, SHA-224, SHA-256, SHA-384, SHA-512 or a SHA3 of these lengths".into(),
        }),
        _ => Ok(()),
    }
}

impl Mask {
    /// The value to write instead.
    pub fn apply<'a>(&self, datum: Datum<'a>) -> Datum<'a> {
        match self {
            Mask::Replace(text) => Datum::string(text.clone()),
            Mask::Truncate(n) => match datum {
                Datum::Str(Cow::Borrowed(s)) => Datum::str(truncated(s, *n)),
                Datum::Str(Cow::Owned(s)) => Datum::string(truncated(&s, *n)),
                Datum::Bytes(Cow::Borrowed(b)) => Datum::Bytes(Cow::Borrowed(b.get(..*n).unwrap_or(b))),
                Datum::Hex(h) => Datum::Hex(h.get(..*n * 2).unwrap_or(h)),
                other => other,
            },
            Mask::Hash { algorithm, salt, v2, length } => {
                let Some(text) = datum.as_str() else { return datum };
                let mut input = salt.as_bytes().to_vec();
                if *v2 {
                    input.extend_from_slice(text.as_bytes());
                } else {
                    java_serialized(&mut input, text);
                }
                let Some(algorithm) = digest(algorithm) else { return Datum::Null };
                let Ok(hash) = openssl::hash::hash(algorithm, &input) else { return Datum::Null };
                let hex = super::convert::encode(&hash, super::options::BinaryMode::Hex);
                match hex.as_str() {
                    Some(hex) => Datum::string(hex.get(..*length).unwrap_or(hex)),
                    None => Datum::Null,
                }
            }
        }
    }
}

/// The first `n` UTF-16 units, as Java's `substring` cuts; a split pair is left out.
fn truncated(text: &str, n: usize) -> &str {
    let mut units = 0;
    for (i, c) in text.char_indices() {
        units += c.len_utf16();
        if units > n {
            return &text[..i];
        }
    }
    text
}

/// What `ObjectOutputStream.writeObject(String)` writes.
fn java_serialized(out: &mut Vec<u8>, text: &str) {
    let mut modified = Vec::with_capacity(text.len());
    for unit in text.encode_utf16() {
        let [hi, lo] = unit.to_be_bytes();
        match unit {
            1..=0x7F => modified.push(lo),
            0 | 0x80..=0x7FF => {
                modified.extend_from_slice(&[0xC0 | (hi << 2) | (lo >> 6), 0x80 | (lo & 0x3F)])
            }
            _ => modified.extend_from_slice(&[
                0xE0 | (hi >> 4),
                0x80 | ((hi & 0x0F) << 2) | (lo >> 6),
                0x80 | (lo & 0x3F),
            ]),
        }
    }
    out.extend_from_slice(&[0xAC, 0xED, 0x00, 0x05]);
    match u16::try_from(modified.len()) {
        Ok(len) => {
            out.push(0x74);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(0x7C);
            out.extend_from_slice(&u64::try_from(modified.len()).unwrap_or(u64::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(&modified);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_the_golden() {
        let v1 =
            Mask::Hash { algorithm: "SHA-256".into(), salt: "CzQMA0cB5K".into(), v2: false, length: 100 };
        assert_eq!(
            v1.apply(Datum::str("bob@x.org")).as_str(),
            Some("7bb3370c50a7b6099554f0c0aaa08d5fea9ecf1a74814fc19184c90c81f271dd")
        );
        let v2 = Mask::Hash { algorithm: "SHA-512".into(), salt: "salty".into(), v2: true, length: 30 };
        assert_eq!(v2.apply(Datum::str("C-1")).as_str(), Some("db884946dec5111c8bf67c2b6ec02f"));
        assert_eq!(v2.apply(Datum::Null), Datum::Null);
    }

    #[test]
    fn truncation_counts_utf16_units() {
        assert_eq!(truncated("ñandú 😀 text", 6), "ñandú ");
        assert_eq!(truncated("short", 6), "short");
    }
}
