//! An epoch's output as bytes: what the state store keeps until the target holds it.
//!
//! `version (1) | count (u32 LE) | per change: kind (1), length (u32 LE), row in the engine's codec`.

use crate::engine::codec;
use crate::engine::row::{Change, RowKind};

use super::Output;

const VERSION: u8 = 1;

/// Appends an output's bytes.
pub fn encode(output: &Output, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend_from_slice(&u32::try_from(output.changes.len()).unwrap_or(u32::MAX).to_le_bytes());
    for change in &output.changes {
        out.push(change.kind as u8);
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        codec::put_row(out, &change.row);
        let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
        if let Some(place) = out.get_mut(start..start + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }
}

/// Reads an output back; `None` where the bytes are not one.
pub fn decode(bytes: &[u8]) -> Option<Output> {
    let (&version, mut rest) = bytes.split_first()?;
    if version != VERSION {
        return None;
    }
    let count = take_u32(&mut rest)?;
    let mut changes = Vec::new();
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
    rest.is_empty().then_some(Output { changes })
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (head, behind) = rest.split_at_checked(4)?;
    *rest = behind;
    head.try_into().ok().map(u32::from_le_bytes)
}
