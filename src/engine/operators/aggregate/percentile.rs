//! PERCENTILE: values by how often they are in a group, and places between them.

use super::super::super::codec;
use super::super::super::error::EngineError;
use super::super::super::row::{Row, Value};
use super::accumulator::{Accumulator, Call, count_key};
use super::counts::Counts;

/// A number of the argument, which the planner has made a DOUBLE.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Double(number) => Some(*number),
        _ => None,
    }
}

/// The percentages: one, or an array of them.
fn percentages(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().filter_map(number).collect(),
        one => number(one).into_iter().collect(),
    }
}

impl Call {
    /// Takes a value in, or out again, as often as its frequency says.
    pub(super) fn count_value(
        &self,
        at: u8,
        accumulator: &mut Accumulator,
        [value, wanted, frequency]: [&Value; 3],
        add: bool,
        counts: &mut dyn Counts,
    ) -> Result<(), EngineError> {
        // The percentages of the first row hold for all.
        if let Accumulator::Value { value: kept, count: count @ 0 } = accumulator {
            if let Some(bad) = percentages(wanted).into_iter().find(|p| !(0.0..=1.0).contains(p)) {
                return Err(EngineError::Constraint(format!(
                    "Percentage of PERCENTILE should be between [0.0, 1.0], but was '{bad:?}'."
                )));
            }
            *kept = wanted.clone();
            *count = 1;
        }
        let often = if self.args.len() > 2 { frequency.as_int().unwrap_or(0) } else { 1 };
        if often <= 0 {
            return Ok(());
        }
        let sign = if add { 1 } else { -1 };
        let mut key = count_key(at);
        codec::put_key_value(&mut key, value);
        if self.distinct {
            codec::put_key_value(&mut key, frequency);
            let pair = Value::Row(Row::from(vec![value.clone(), Value::Int(often)]));
            counts.add(&key, &pair, sign)?;
        } else {
            counts.add(&key, value, often.saturating_mul(sign))?;
        }
        Ok(())
    }

    /// The values at the percentages, between two neighbours in proportion.
    pub(super) fn percentile(
        &self,
        at: u8,
        wanted: &Value,
        counts: &mut dyn Counts,
    ) -> Result<Value, EngineError> {
        let mut values: Vec<(f64, i64)> = counts
            .signed(at)?
            .into_iter()
            .filter_map(|entry| match entry {
                // DISTINCT: once, with its frequency
                (Value::Row(pair), count) if count.as_int()? > 0 => {
                    Some((number(pair.first()?)?, pair.get(1)?.as_int()?))
                }
                (Value::Row(_), _) => None,
                (value, count) => Some((number(&value)?, count.as_int()?)),
            })
            .collect();
        values.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let total = values.iter().fold(0_i64, |sum, (_, count)| sum.saturating_add(*count));
        if total <= 0 {
            return Ok(Value::Null);
        }
        let place = |percentage: f64| Value::Double(between(&values, percentage, total));
        let wanted_places = percentages(wanted);
        Ok(match wanted {
            Value::Array(_) if wanted_places.is_empty() => Value::Null,
            Value::Array(_) => {
                Value::Array(wanted_places.into_iter().map(place).collect::<Vec<_>>().as_slice().into())
            }
            _ => wanted_places.into_iter().next().map_or(Value::Null, place),
        })
    }
}

#[allow(clippy::cast_precision_loss, reason = "places are computed as DOUBLE")]
fn between(values: &[(f64, i64)], percentage: f64, total: i64) -> f64 {
    let position = percentage * (total - 1) as f64 + 1.0;
    let (lower, higher) = (position.floor(), position.ceil());
    let mut passed = 0_i64;
    let mut all = values.iter();
    for (value, count) in all.by_ref() {
        passed = passed.saturating_add(*count);
        if passed as f64 >= higher {
            return *value;
        }
        if passed as f64 >= lower {
            let next = all.next().map_or(*value, |(next, _)| *next);
            return (higher - position) * value + (position - lower) * next;
        }
    }
    values.last().map_or(f64::NAN, |(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::between;

    #[test]
    fn places_between_two_values_are_proportional() {
        let values = [(-3.0, 1), (10.0, 1), (1000.0, 1)];
        assert_eq!(between(&values, 0.0, 3), -3.0);
        assert_eq!(between(&values, 0.5, 3), 10.0);
        assert_eq!(between(&values, 1.0, 3), 1000.0);
        assert_eq!(between(&values, 0.25, 3), 3.5);
        assert_eq!(between(&[(1.0, 3), (2.0, 1)], 0.75, 4), 1.25);
        assert_eq!(between(&[(1.0, 3), (2.0, 1)], 0.5, 4), 1.0);
    }
}
