//! Aggregate functions: what they keep, and how changes come in and go out again.

use smallvec::SmallVec;

use super::super::super::codec;
use super::super::super::error::EngineError;
use super::super::super::functions::arithmetic;
use super::super::super::plan::AggregateCall;
use super::super::super::row::{Decimal, Row, Value};
use super::super::super::types::{DataType, Field, TypeKind};
use super::counts::{Counts, List};
use super::memory::MemoryCounts;

/// An aggregate function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Count,
    Sum,
    /// SUM of a frame: an overflow stays until the frame is empty.
    SumOfFrame,
    Avg,
    /// AVG of integers whose sum is of their type, and wraps.
    AvgOfSum,
    Min,
    Max,
    /// Variance and deviation: of the sample or the population, square root or not.
    Variance {
        sample: bool,
        root: bool,
    },
    ListAgg,
    First,
    Last,
    Collect,
    ArrayAgg,
    /// Whether NULLs stay out.
    JsonObject {
        absent: bool,
    },
    JsonArray {
        absent: bool,
    },
    Percentile,
    Single,
}

/// One call, resolved.
pub(in super::super) struct Call {
    pub(super) function: Function,
    pub(super) args: Vec<usize>,
    pub(super) distinct: bool,
    pub(super) filter: Option<usize>,
    pub(super) output: DataType,
    /// Types of the arguments.
    pub(super) types: Vec<DataType>,
    /// Whether rows can be taken back.
    pub(super) retract: bool,
}

/// What a call keeps per group, besides its counts.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) enum Accumulator {
    Count(i64),
    Whole {
        sum: i64,
        count: i64,
    },
    Double {
        sum: f64,
        count: i64,
    },
    /// `None`: overflowed.
    Decimal {
        sum: Option<Decimal>,
        count: i64,
    },
    /// Welford's: the mean, and the sum of squared distances from it.
    Moments {
        count: i64,
        mean: f64,
        squares: f64,
    },
    /// MIN, MAX, the first, the last or the single value, of those that were counted. Of a list, how many items it has
    /// ever had.
    Value {
        value: Value,
        count: i64,
    },
}

/// The start of a key of counts, with room for most values.
pub(super) fn count_key(call: u8) -> Vec<u8> {
    let mut key = Vec::with_capacity(24);
    key.push(call);
    key
}

/// Accumulators of one group.
pub(in super::super) type Accumulators = SmallVec<[Accumulator; 4]>;

impl Call {
    /// Resolves a call over an input of these columns.
    pub(in super::super) fn new(
        call: &AggregateCall,
        input: &[Field],
        retract: bool,
    ) -> Result<Self, EngineError> {
        let function = match call.function {
            "COUNT" => Function::Count,
            "SUM" | "$SUM0" => Function::Sum,
            "AVG" => Function::Avg,
            "AVG_OF_SUM" => Function::AvgOfSum,
            "MIN" => Function::Min,
            "MAX" => Function::Max,
            "VAR_POP" => Function::Variance { sample: false, root: false },
            "VAR_SAMP" | "VARIANCE" => Function::Variance { sample: true, root: false },
            "STDDEV_POP" => Function::Variance { sample: false, root: true },
            "STDDEV_SAMP" | "STDDEV" => Function::Variance { sample: true, root: true },
            "LISTAGG" | "STRING_AGG" => Function::ListAgg,
            "FIRST_VALUE" => Function::First,
            "LAST_VALUE" => Function::Last,
            "COLLECT" => Function::Collect,
            "ARRAY_AGG" => Function::ArrayAgg,
            "JSON_OBJECTAGG" | "JSON_OBJECTAGG_NULL_ON_NULL" => Function::JsonObject { absent: false },
            "JSON_OBJECTAGG_ABSENT_ON_NULL" => Function::JsonObject { absent: true },
            "JSON_ARRAYAGG" | "JSON_ARRAYAGG_ABSENT_ON_NULL" => Function::JsonArray { absent: true },
            "JSON_ARRAYAGG_NULL_ON_NULL" => Function::JsonArray { absent: false },
            "PERCENTILE" => Function::Percentile,
            "SINGLE_VALUE" => Function::Single,
            other => return Err(EngineError::Plan(format!("aggregate function {other} is not implemented"))),
        };
        let types = call
            .args
            .iter()
            .map(|&arg| input.get(arg).map(|field| field.data_type.clone()))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| {
                EngineError::Plan(format!("{} takes a column that is not there", call.function))
            })?;
        Ok(Self {
            function,
            args: call.args.clone(),
            // The extremes of a set are those of its elements.
            distinct: call.distinct && !matches!(function, Function::Min | Function::Max),
            filter: call.filter,
            output: call.output.data_type.clone(),
            types,
            retract,
        })
    }

    /// The call as OVER computes it.
    pub(in super::super) fn of_frame(mut self) -> Self {
        if self.function == Function::Sum {
            self.function = Function::SumOfFrame;
        }
        self
    }

    /// Digits after the point of what is added up.
    fn scale(&self) -> u8 {
        match self.types.first().map(|t| &t.kind) {
            Some(TypeKind::Decimal(_, scale)) => *scale,
            _ => 0,
        }
    }

    /// Whether the call keeps counts of values.
    pub(in super::super) fn has_counts(&self) -> bool {
        self.distinct
            || matches!(self.function, Function::Collect | Function::Percentile)
            || self.list(0).is_some()
            || (self.retract && matches!(self.function, Function::Min | Function::Max))
    }

    /// The list of items that the call keeps, if it keeps one.
    pub(super) fn list(&self, at: u8) -> Option<List> {
        let (kept, newest) = match self.function {
            Function::First => (self.retract, false),
            Function::Last => (self.retract, true),
            Function::ListAgg | Function::ArrayAgg => (true, false),
            Function::JsonObject { .. } | Function::JsonArray { .. } => (true, false),
            _ => (false, false),
        };
        let by_first = matches!(self.function, Function::JsonObject { .. });
        kept.then_some(List { call: at, newest, retract: self.retract, by_first })
    }

    /// The accumulator of an empty group.
    pub(in super::super) fn create(&self) -> Accumulator {
        match self.function {
            Function::Count => Accumulator::Count(0),
            Function::Sum | Function::SumOfFrame | Function::Avg | Function::AvgOfSum => {
                match self.types.first().map(|t| &t.kind) {
                    Some(TypeKind::Decimal(_, scale)) => {
                        Accumulator::Decimal { sum: Some(Decimal::new(0, *scale)), count: 0 }
                    }
                    Some(TypeKind::Float | TypeKind::Double) => Accumulator::Double { sum: 0.0, count: 0 },
                    _ => Accumulator::Whole { sum: 0, count: 0 },
                }
            }
            Function::Variance { .. } => Accumulator::Moments { count: 0, mean: 0.0, squares: 0.0 },
            _ => Accumulator::Value { value: Value::Null, count: 0 },
        }
    }

    /// Takes a row in, or out again.
    pub(in super::super) fn apply(
        &self,
        at: u8,
        accumulator: &mut Accumulator,
        row: &[Value],
        add: bool,
        counts: &mut dyn Counts,
    ) -> Result<(), EngineError> {
        const NULL: &Value = &Value::Null;
        if let Some(filter) = self.filter
            && row.get(filter) != Some(&Value::Bool(true))
        {
            return Ok(());
        }
        let arg = |n: usize| self.args.get(n).and_then(|&column| row.get(column)).unwrap_or(NULL);
        let keeps_null = matches!(
            self.function,
            Function::Single | Function::ArrayAgg | Function::JsonObject { .. } | Function::JsonArray { .. }
        );
        let tested = if self.function == Function::Count { self.args.len() } else { self.args.len().min(1) };
        if !keeps_null && (0..tested).any(|n| arg(n).is_null()) {
            return Ok(());
        }
        if self.function == Function::Percentile {
            return self.count_value(at, accumulator, [arg(0), arg(1), arg(2)], add, counts);
        }
        if self.distinct {
            let mut key = count_key(at);
            let arity = if self.function == Function::ListAgg { 1 } else { self.args.len() };
            (0..arity).for_each(|n| codec::put_key_value(&mut key, arg(n)));
            let (before, after) = counts.add(&key, arg(0), if add { 1 } else { -1 })?;
            if (before > 0) == (after > 0) {
                return Ok(());
            }
        }
        self.accumulate(at, accumulator, arg(0), arg(1), add, counts)
    }

    fn accumulate(
        &self,
        at: u8,
        accumulator: &mut Accumulator,
        value: &Value,
        second: &Value,
        add: bool,
        counts: &mut dyn Counts,
    ) -> Result<(), EngineError> {
        let sign = if add { 1 } else { -1 };
        if let (Some(list), Accumulator::Value { value: kept, count }) = (self.list(at), &mut *accumulator) {
            return self.change_list(list, (kept, count), (value, second), add, counts);
        }
        match (accumulator, self.function) {
            (Accumulator::Count(count), _) => *count += sign,
            (Accumulator::Whole { sum, count }, _) => {
                let value = value.as_int().or(if let Value::Interval(v) = value { Some(*v) } else { None });
                *sum = sum.wrapping_add(value.unwrap_or_default().wrapping_mul(sign));
                *count += sign;
            }
            (Accumulator::Double { sum, count }, function) => {
                let value = arithmetic::to_f64(value).unwrap_or_default();
                let value = if add { value } else { -value };
                *sum = if matches!(function, Function::Sum | Function::SumOfFrame)
                    && self.output.kind == TypeKind::Float
                {
                    #[allow(clippy::cast_possible_truncation, reason = "SUM(FLOAT) adds in 32 bits")]
                    f64::from(*sum as f32 + value as f32)
                } else {
                    *sum + value
                };
                *count += sign;
            }
            (Accumulator::Decimal { sum, count }, function) => {
                // SUM of a group begins anew behind an overflow, the others have none any more
                let anew = Decimal::new(0, self.scale());
                let total = sum.or_else(|| (function == Function::Sum).then_some(anew));
                if let (Some(total), Some(value)) = (total, arithmetic::to_decimal(value)) {
                    let value = if add { value } else { Decimal::new(-value.unscaled(), value.scale) };
                    *sum = arithmetic::add_decimals(total, value, 38, total.scale);
                }
                *count += sign;
                if *count == 0 {
                    *sum = Some(Decimal::new(0, self.scale()));
                }
            }
            #[allow(clippy::cast_precision_loss, reason = "a count as divisor of a DOUBLE")]
            (Accumulator::Moments { count, mean, squares }, _) => {
                let value = arithmetic::to_f64(value).unwrap_or_default();
                *count += sign;
                if *count == 0 {
                    (*mean, *squares) = (0.0, 0.0);
                } else {
                    let weight = if add { 1.0 } else { -1.0 };
                    let distance = value - *mean;
                    *mean += weight * distance / *count as f64;
                    *squares += weight * distance * (value - *mean);
                }
            }
            (Accumulator::Value { value: kept, count }, Function::Min | Function::Max) => {
                *count += sign;
                self.extreme(at, kept, value, add, counts)?;
            }
            (Accumulator::Value { .. }, Function::Collect) => {
                let mut key = count_key(at);
                codec::put_key_value(&mut key, value);
                if !self.distinct {
                    counts.add(&key, value, sign)?;
                }
            }
            (Accumulator::Value { value: kept, count }, Function::Single) => {
                *count += sign;
                if *count > 1 {
                    return Err(EngineError::Constraint(
                        "SingleValueAggFunction received more than one element.".into(),
                    ));
                }
                if add {
                    *kept = value.clone();
                } else if *count == 0 {
                    *kept = Value::Null;
                }
            }
            (Accumulator::Value { value: kept, count }, function) => {
                if function == Function::Last || *count == 0 {
                    *kept = value.clone();
                }
                *count = 1;
            }
        }
        Ok(())
    }

    /// Appends an item to a call's list, or takes out the oldest that is the same.
    fn change_list(
        &self,
        list: List,
        (kept, count): (&mut Value, &mut i64),
        (value, second): (&Value, &Value),
        add: bool,
        counts: &mut dyn Counts,
    ) -> Result<(), EngineError> {
        let pair;
        let item = match self.function {
            Function::JsonObject { .. } | Function::ListAgg => {
                pair = Value::Row(Row::from([value.clone(), second.clone()]));
                &pair
            }
            _ => value,
        };
        let shows_one = matches!(self.function, Function::First | Function::Last);
        if add {
            counts.push(list, count.cast_unsigned(), item)?;
            *count = count.wrapping_add(1);
            if shows_one && (list.newest || kept.is_null()) {
                *kept = value.clone();
            }
        } else {
            counts.take(list, item)?;
            if shows_one && kept.is_same(value) {
                *kept = counts.head(list)?.unwrap_or(Value::Null);
            }
        }
        Ok(())
    }

    fn extreme(
        &self,
        at: u8,
        kept: &mut Value,
        value: &Value,
        add: bool,
        counts: &mut dyn Counts,
    ) -> Result<(), EngineError> {
        let max = self.function == Function::Max;
        let better = |kept: &Value| {
            arithmetic::compare(value, kept)
                .is_none_or(|order| if max { order.is_gt() } else { order.is_lt() })
        };
        if !self.retract {
            if better(kept) {
                *kept = value.clone();
            }
            return Ok(());
        }
        let mut key = count_key(at);
        codec::put_key_value(&mut key, value);
        if max {
            // The greatest value comes first.
            key.iter_mut().skip(1).for_each(|byte| *byte = !*byte);
        }
        let (_, after) = counts.add(&key, value, if add { 1 } else { -1 })?;
        if after > 0 {
            if better(kept) {
                *kept = value.clone();
            }
        } else if kept.is_same(value) {
            *kept = counts.first(at)?.unwrap_or(Value::Null);
        }
        Ok(())
    }

    /// Adds another group's accumulator and counts to this one's.
    pub(in super::super) fn merge(
        &self,
        at: u8,
        into: &mut Accumulator,
        into_counts: &mut MemoryCounts,
        from: Accumulator,
        from_counts: &MemoryCounts,
    ) -> Result<(), EngineError> {
        let of_call =
            || from_counts.entries.range(vec![at]..).take_while(|(key, _)| key.first() == Some(&at));
        if self.distinct && self.function != Function::Percentile {
            // The separator of LISTAGG is a literal, the same in every item.
            let first = from_counts.lists.get(&at).and_then(|items| items.front());
            let second = match first {
                Some(Value::Row(item)) => item.get(1).cloned(),
                _ => None,
            };
            let second = second.unwrap_or(Value::Null);
            for (key, (count, value)) in of_call() {
                let (before, after) = into_counts.add(key, value, *count)?;
                if before <= 0 && after > 0 {
                    self.accumulate(at, into, value, &second, true, into_counts)?;
                }
            }
            return Ok(());
        }
        for (key, (count, value)) in of_call() {
            into_counts.add(key, value, *count)?;
        }
        if let Some(list) = self.list(at) {
            let more = from_counts.lists.get(&at).into_iter().flatten().cloned();
            into_counts.lists.entry(at).or_default().extend(more);
            if let Accumulator::Value { value, .. } = into
                && matches!(self.function, Function::First | Function::Last)
            {
                *value = into_counts.head(list)?.unwrap_or(Value::Null);
            }
            return Ok(());
        }
        match (into, from) {
            (Accumulator::Count(count), Accumulator::Count(more)) => *count += more,
            (Accumulator::Whole { sum, count }, Accumulator::Whole { sum: more, count: n }) => {
                *sum = sum.wrapping_add(more);
                *count += n;
            }
            (Accumulator::Double { sum, count }, Accumulator::Double { sum: more, count: n }) => {
                *sum += more;
                *count += n;
            }
            (Accumulator::Decimal { sum, count }, Accumulator::Decimal { sum: more, count: n }) => {
                *sum = match (*sum, more) {
                    (Some(sum), Some(more)) => arithmetic::add_decimals(sum, more, 38, sum.scale),
                    (one, other) if self.function == Function::Sum => one.or(other),
                    _ => None,
                };
                *count += n;
            }
            #[allow(clippy::cast_precision_loss, reason = "counts as factors of a DOUBLE")]
            (
                Accumulator::Moments { count, mean, squares },
                Accumulator::Moments { count: n, mean: m, squares: q },
            ) => {
                let (before, more) = (*count as f64, n as f64);
                *count += n;
                if *count == 0 {
                    (*mean, *squares) = (0.0, 0.0);
                } else {
                    let (distance, all) = (m - *mean, before + more);
                    *mean += distance * more / all;
                    *squares += q + distance * distance * before * more / all;
                }
            }
            (Accumulator::Value { value, count }, Accumulator::Value { value: more, count: n }) => {
                let order = arithmetic::compare(&more, value);
                let replace = match self.function {
                    Function::Min => order.is_none_or(std::cmp::Ordering::is_lt) && !more.is_null(),
                    Function::Max => order.is_none_or(std::cmp::Ordering::is_gt) && !more.is_null(),
                    Function::Last => n > 0,
                    _ => *count == 0,
                };
                if replace {
                    *value = more;
                }
                *count += n;
            }
            _ => return Err(EngineError::Plan("accumulators of different kinds were merged".to_owned())),
        }
        Ok(())
    }
}
