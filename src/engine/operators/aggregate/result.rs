//! The results of aggregate functions.

use std::collections::BTreeMap;

use super::super::super::error::EngineError;
use super::super::super::eval::Width;
use super::super::super::functions::{arithmetic, cast, json};
use super::super::super::row::{Decimal, Value};
use super::super::super::types::TypeKind;
use super::accumulator::{Accumulator, Call, Function};
use super::counts::Counts;

impl Call {
    /// The result.
    pub(in super::super) fn value(
        &self,
        at: u8,
        accumulator: &Accumulator,
        counts: &mut dyn Counts,
    ) -> Result<Value, EngineError> {
        Ok(match accumulator {
            Accumulator::Count(count) => Value::Int(*count),
            Accumulator::Whole { count: 0, .. }
            | Accumulator::Double { count: 0, .. }
            | Accumulator::Decimal { count: 0, .. } => {
                if self.output.nullable {
                    Value::Null
                } else {
                    self.zero()
                }
            }
            Accumulator::Whole { sum, count } => {
                let value = match self.function {
                    Function::Avg => sum.wrapping_div(*count),
                    Function::AvgOfSum => Width::of(&self.output.kind)
                        .map_or(*sum, |width| width.wrap(*sum))
                        .wrapping_div(*count),
                    _ => *sum,
                };
                match (&self.output.kind, Width::of(&self.output.kind)) {
                    (_, Some(width)) => Value::Int(width.wrap(value)),
                    (TypeKind::IntervalMonths | TypeKind::IntervalMillis, _) => Value::Interval(value),
                    (TypeKind::Decimal(precision, scale), _) => {
                        arithmetic::fit(Decimal::new(i128::from(value), 0), *precision, *scale)
                            .map_or(Value::Null, Value::Decimal)
                    }
                    _ => self.float(arithmetic::to_f64(&Value::Int(value)).unwrap_or_default()),
                }
            }
            #[allow(clippy::cast_precision_loss, reason = "a count as divisor of a DOUBLE")]
            Accumulator::Double { sum, count } => {
                self.float(if self.function == Function::Avg { *sum / *count as f64 } else { *sum })
            }
            Accumulator::Decimal { sum: None, .. } => Value::Null,
            Accumulator::Decimal { sum: Some(sum), count } => {
                let TypeKind::Decimal(precision, scale) = self.output.kind else { return Ok(Value::Null) };
                let value = if self.function == Function::Avg {
                    arithmetic::divide_decimals(*sum, Decimal::new(i128::from(*count), 0), precision, scale)
                } else {
                    arithmetic::fit(*sum, precision, scale)
                };
                value.map_or(Value::Null, Value::Decimal)
            }
            Accumulator::Moments { count, squares, .. } => self.variance(*count, *squares),
            Accumulator::Value { value, .. } => {
                if let Some(list) = self.list(at)
                    && !matches!(self.function, Function::First | Function::Last)
                {
                    self.of_list(&counts.items(list)?)?
                } else if self.function == Function::Percentile {
                    self.percentile(at, value, counts)?
                } else if self.function == Function::Collect {
                    let mut entries = counts.all(at)?;
                    if self.distinct {
                        entries.iter_mut().for_each(|(_, count)| *count = Value::Int(1));
                    }
                    // NULLs are not collected: of nothing else the multiset is empty
                    Value::Map(entries.into())
                } else {
                    value.clone()
                }
            }
        })
    }

    #[allow(clippy::cast_possible_truncation, reason = "a FLOAT result")]
    fn float(&self, value: f64) -> Value {
        if self.output.kind == TypeKind::Float { Value::Float(value as f32) } else { Value::Double(value) }
    }

    fn zero(&self) -> Value {
        match self.output.kind {
            TypeKind::Decimal(_, scale) => Value::decimal(0, scale),
            TypeKind::Float | TypeKind::Double => self.float(0.0),
            _ => Value::Int(0),
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "counts as DOUBLE")]
    fn variance(&self, count: i64, squares: f64) -> Value {
        let Function::Variance { sample, root } = self.function else { return Value::Null };
        let divisor = if sample { count - 1 } else { count };
        if divisor <= 0 {
            return Value::Null;
        }
        let variance = squares / divisor as f64;
        let result = if root { variance.sqrt() } else { variance };
        match self.output.kind {
            TypeKind::Float | TypeKind::Double => self.float(result),
            TypeKind::Decimal(precision, scale) => {
                cast::decimal_of(result, precision, scale).map_or(Value::Null, Value::Decimal)
            }
            #[allow(clippy::cast_possible_truncation, reason = "an integer result is truncated")]
            _ => Value::Int(result as i64),
        }
    }

    fn of_list(&self, items: &[Value]) -> Result<Value, EngineError> {
        let parts = |item: &Value| match item {
            Value::Row(parts) => {
                (parts.first().cloned().unwrap_or(Value::Null), parts.get(1).cloned().unwrap_or(Value::Null))
            }
            other => (other.clone(), Value::Null),
        };
        Ok(match self.function {
            Function::ArrayAgg if items.is_empty() => Value::Null,
            Function::ArrayAgg => Value::Array(items.into()),
            Function::ListAgg if items.is_empty() => Value::Null,
            Function::ListAgg => {
                let mut text = String::new();
                for (at, item) in items.iter().enumerate() {
                    let (value, separator) = parts(item);
                    if at > 0 {
                        text.push_str(separator.as_str().unwrap_or(","));
                    }
                    text.push_str(value.as_str().unwrap_or_default());
                }
                Value::from(text)
            }
            Function::JsonObject { absent } => {
                // Names are sorted, as Flink's writer has them.
                let mut entries = BTreeMap::new();
                for (key, value) in items.iter().map(parts).filter(|(_, value)| !absent || !value.is_null()) {
                    let name = key.as_str().unwrap_or_default().to_owned();
                    if let Some((key, _)) = entries.insert(name, (key, value)) {
                        let key = key.as_str().unwrap_or_default();
                        return Err(EngineError::Constraint(format!(
                            "Key '{key}' is already present. Duplicate keys are not allowed in JSON_OBJECTAGG. Please \
                             ensure that keys are unique."
                        )));
                    }
                }
                json::object_of(entries.into_values(), self.types.get(1), absent)
            }
            Function::JsonArray { absent } => json::array_of(items, self.types.first(), absent),
            _ => Value::Null,
        })
    }
}
