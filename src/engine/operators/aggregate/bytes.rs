//! Bytes of accumulators in the state.

use super::super::super::codec::{self, CodecError, Reader};
use super::super::super::row::Value;
use super::accumulator::Accumulator;

/// Appends an accumulator.
pub(in super::super) fn put(out: &mut Vec<u8>, accumulator: &Accumulator) {
    let double = |out: &mut Vec<u8>, value: &f64| codec::put_value(out, &Value::Double(*value));
    match accumulator {
        Accumulator::Count(count) => {
            out.push(0);
            codec::put_signed(out, *count);
        }
        Accumulator::Whole { sum, count } => {
            out.push(1);
            codec::put_signed(out, *sum);
            codec::put_signed(out, *count);
        }
        Accumulator::Double { sum, count } => {
            out.push(2);
            double(out, sum);
            codec::put_signed(out, *count);
        }
        Accumulator::Decimal { sum, count } => {
            out.push(3);
            codec::put_value(out, &sum.map_or(Value::Null, Value::Decimal));
            codec::put_signed(out, *count);
        }
        Accumulator::Moments { count, mean, squares } => {
            out.push(4);
            codec::put_signed(out, *count);
            double(out, mean);
            double(out, squares);
        }
        Accumulator::Value { value, count } => {
            out.push(5);
            codec::put_value(out, value);
            codec::put_signed(out, *count);
        }
    }
}

/// Reads an accumulator.
pub(in super::super) fn get(reader: &mut Reader<'_>) -> Result<Accumulator, CodecError> {
    let double = |reader: &mut Reader<'_>| match reader.value()? {
        Value::Double(value) => Ok(value),
        _ => Err(CodecError::Damaged("an aggregate's sum")),
    };
    Ok(match reader.bytes(1)? {
        [0] => Accumulator::Count(reader.signed()?),
        [1] => Accumulator::Whole { sum: reader.signed()?, count: reader.signed()? },
        [2] => Accumulator::Double { sum: double(reader)?, count: reader.signed()? },
        [3] => Accumulator::Decimal {
            sum: match reader.value()? {
                Value::Decimal(sum) => Some(sum),
                Value::Null => None,
                _ => return Err(CodecError::Damaged("an aggregate's sum")),
            },
            count: reader.signed()?,
        },
        [4] => {
            Accumulator::Moments { count: reader.signed()?, mean: double(reader)?, squares: double(reader)? }
        }
        [5] => Accumulator::Value { value: reader.value()?, count: reader.signed()? },
        _ => return Err(CodecError::Damaged("an aggregate's kind")),
    })
}
