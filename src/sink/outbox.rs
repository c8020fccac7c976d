//! An epoch's output as bytes: what the state store keeps until the target holds it.
//!
//! One part or several, so that no entry of the store grows with what one record or one window gives:
//! `version (1) | [of version 2: parts (u32 LE)] | count (u32 LE) | per change: kind (1), length (u32 LE), row in the
//! engine's codec`. One part alone is version 1; the first of several is version 2, which older versions refuse, and those
//! behind it are version 1.

use crate::engine::codec;
use crate::engine::row::{Change, RowKind};
use crate::error::{Error, Result};

use super::Output;

const WHOLE: u8 = 1;
const FIRST: u8 = 2;
/// A part ends behind the row that makes it this long.
const PART: usize = 16 << 20;

/// An output's bytes, in parts.
///
/// # Errors
/// [`crate::Kind::Data`] where a row is 4 GiB or longer.
pub fn encode(output: &Output) -> Result<Vec<Vec<u8>>> {
    encode_in(output, PART)
}

fn encode_in(output: &Output, length: usize) -> Result<Vec<Vec<u8>>> {
    const COUNT: std::ops::Range<usize> = 1..5;
    let mut parts: Vec<Vec<u8>> = Vec::new();
    let (mut part, mut count) = (vec![WHOLE, 0, 0, 0, 0], 0_u32);
    for change in &output.changes {
        if part.len() >= length {
            set(&mut part, COUNT, count);
            parts.push(std::mem::replace(&mut part, vec![WHOLE, 0, 0, 0, 0]));
            count = 0;
        }
        part.push(change.kind as u8);
        let start = part.len();
        part.extend_from_slice(&[0; 4]);
        codec::put_row(&mut part, &change.row);
        let bytes = part.len() - start - 4;
        let row = u32::try_from(bytes).map_err(|_| {
            Error::data("a row is too long for the state")
                .because(format!("it has {bytes} bytes; the most is 4 GiB"))
        })?;
        set(&mut part, start..start + 4, row);
        count += 1;
    }
    set(&mut part, COUNT, count);
    parts.push(part);
    if let (Ok(number @ 2..), Some(first)) = (u32::try_from(parts.len()), parts.first_mut()) {
        first.splice(..1, std::iter::once(FIRST).chain(number.to_le_bytes()));
    }
    Ok(parts)
}

fn set(bytes: &mut [u8], at: std::ops::Range<usize>, number: u32) {
    if let Some(place) = bytes.get_mut(at) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Reads an output back; `None` where the parts are not one, or not all of one.
pub fn decode(parts: &[Vec<u8>]) -> Option<Output> {
    let mut changes = Vec::new();
    for (place, part) in parts.iter().enumerate() {
        let (&version, mut rest) = part.split_first()?;
        let several = parts.len() > 1 && place == 0;
        if version != if several { FIRST } else { WHOLE } {
            return None;
        }
        if several && usize::try_from(take_u32(&mut rest)?).ok()? != parts.len() {
            return None;
        }
        let count = take_u32(&mut rest)?;
        for _ in 0..count {
            let (&kind, behind) = rest.split_first()?;
            rest = behind;
            let length = usize::try_from(take_u32(&mut rest)?).ok()?;
            let row = rest.get(..length)?;
            rest = rest.get(length..)?;
            let kind = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete]
                .into_iter()
                .find(|k| *k as u8 == kind)?;
            changes.push(Change { kind, row: codec::get_row(row).ok()? });
        }
        if !rest.is_empty() {
            return None;
        }
    }
    (!parts.is_empty()).then_some(Output { changes })
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, behind) = rest.split_at_checked(4)?;
    *rest = behind;
    head.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::row::{Row, Value};

    fn output(rows: i64) -> Output {
        let change = |n| Change { kind: RowKind::Insert, row: Row::from(vec![Value::Int(n)]) };
        Output { changes: (0..rows).map(change).collect() }
    }

    #[test]
    fn outputs_of_any_length_are_read_back() {
        for rows in [0, 1, 7, 100] {
            let output = output(rows);
            assert_eq!(decode(&encode(&output).unwrap()).as_ref(), Some(&output));
            let parts = encode_in(&output, 64).unwrap();
            assert_eq!(parts.len() > 1, rows > 7, "{rows}");
            assert!(parts.iter().all(|part| part.len() < 128));
            assert_eq!(decode(&parts), Some(output));
        }
    }

    #[test]
    fn what_lacks_a_part_is_no_output() {
        let parts = encode_in(&output(100), 64).unwrap();
        assert_eq!(decode(&[]), None);
        assert_eq!(decode(parts.get(..1).unwrap()), None);
        assert_eq!(decode(parts.get(..parts.len() - 1).unwrap()), None);
        assert_eq!(decode(parts.get(1..).unwrap()), None);
        let mut damaged = parts;
        damaged.last_mut().unwrap().pop();
        assert_eq!(decode(&damaged), None);
    }
}
