//! Positions in PostgreSQL's write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte position in the write-ahead log, written `16/B374D848`. Zero means "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl Lsn {
    /// No position.
    pub const ZERO: Self = Self(0);

    /// The position as the number Debezium writes into `source.lsn`.
    pub fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not an LSN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a WAL position (expected two hexadecimal numbers around a slash, like 16/B374D848)")]
pub struct InvalidLsn;

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(s: &str) -> Result<Self, InvalidLsn> {
        let (hi, lo) = s.split_once('/').ok_or(InvalidLsn)?;
        if hi.is_empty() || lo.is_empty() || hi.len() > 8 || lo.len() > 8 {
            return Err(InvalidLsn);
        }
        let hi = u64::from_str_radix(hi, 16).map_err(|_| InvalidLsn)?;
        let lo = u64::from_str_radix(lo, 16).map_err(|_| InvalidLsn)?;
        Ok(Self(hi << 32 | lo))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trip() {
        let lsn: Lsn = "16/B374D848".parse().unwrap();
        assert_eq!(lsn.to_string(), "16/B374D848");
        assert_eq!(lsn.as_u64(), 0x16_B374_D848);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "1/", "/1", "1", "123456789/0", "x/1", "1/2/3"] {
            assert_eq!(text.parse::<Lsn>(), Err(InvalidLsn), "{text}");
        }
    }
}
