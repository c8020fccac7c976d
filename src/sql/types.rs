//! Flink's typing rules: numeric promotion, DECIMAL derivation, common types, what converts by itself.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};

const MAX_PRECISION: i32 = 38;
const MIN_ADJUSTED_SCALE: i32 = 6;

/// What the length of STRING and BYTES is.
pub const UNBOUNDED: u32 = i32::MAX as u32;

/// CHAR, VARCHAR, STRING.
pub fn is_string(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Char(_) | TypeKind::Varchar(_))
}

/// BINARY, VARBINARY, BYTES.
pub fn is_binary(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Binary(_) | TypeKind::Varbinary(_))
}

/// TINYINT to BIGINT.
pub fn is_integer(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int | TypeKind::BigInt)
}

/// Any number.
pub fn is_numeric(kind: &TypeKind) -> bool {
    is_integer(kind) || matches!(kind, TypeKind::Decimal(..) | TypeKind::Float | TypeKind::Double)
}

/// FLOAT, DOUBLE.
pub fn is_approximate(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Float | TypeKind::Double)
}

/// An interval.
pub fn is_interval(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::IntervalMillis | TypeKind::IntervalMonths)
}

/// DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ.
pub fn is_temporal(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Date | TypeKind::Time(_) | TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_))
}

/// ARRAY, MAP, MULTISET, ROW: they have no order.
pub fn is_nested(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_) | TypeKind::Row(_))
}

/// TIMESTAMP, TIMESTAMP_LTZ.
pub fn is_timestamp(kind: &TypeKind) -> bool {
    matches!(kind, TypeKind::Timestamp(_) | TypeKind::TimestampLtz(_))
}

/// The type's family as Calcite's messages write it.
pub fn family(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Char(_) => "CHAR".to_owned(),
        TypeKind::Varchar(_) => "VARCHAR".to_owned(),
        TypeKind::Int => "INTEGER".to_owned(),
        TypeKind::Decimal(..) => "DECIMAL".to_owned(),
        TypeKind::Timestamp(_) => "TIMESTAMP".to_owned(),
        TypeKind::TimestampLtz(_) => "TIMESTAMP_WITH_LOCAL_TIME_ZONE".to_owned(),
        TypeKind::Time(_) => "TIME".to_owned(),
        other => other.to_string(),
    }
}

/// A kind as Calcite's messages write it, with its precision.
pub fn calcite(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Int => "INTEGER".to_owned(),
        TypeKind::Varchar(n) => format!("VARCHAR({n})"),
        TypeKind::TimestampLtz(p) => format!("TIMESTAMP_WITH_LOCAL_TIME_ZONE({p})"),
        other => other.to_string(),
    }
}

/// Integers and DECIMALs as (precision, scale).
pub fn decimal_of(kind: &TypeKind) -> Option<(i32, i32)> {
    Some(match kind {
        TypeKind::TinyInt => (3, 0),
        TypeKind::SmallInt => (5, 0),
        TypeKind::Int => (10, 0),
        TypeKind::BigInt => (19, 0),
        TypeKind::Decimal(p, s) => (i32::from(*p), i32::from(*s)),
        _ => return None,
    })
}

/// Cuts an over-long result: digits before the point win.
fn adjusted(precision: i32, scale: i32) -> TypeKind {
    let (p, s) = if precision > MAX_PRECISION {
        let digits = precision - scale;
        (MAX_PRECISION, (MAX_PRECISION - digits).max(scale.min(MIN_ADJUSTED_SCALE)))
    } else {
        (precision, scale)
    };
    TypeKind::Decimal(u8::try_from(p).unwrap_or(38), u8::try_from(s.max(0)).unwrap_or(0))
}

/// The result type of `+ - * / %` on exact numbers of which at least one is a DECIMAL.
pub fn decimal_result(op: &str, (p1, s1): (i32, i32), (p2, s2): (i32, i32)) -> TypeKind {
    match op {
        "*" => adjusted(p1 + p2 + 1, s1 + s2),
        "/" => {
            let scale = MIN_ADJUSTED_SCALE.max(s1 + p2 + 1);
            adjusted(p1 - s1 + s2 + scale, scale)
        }
        "%" => {
            let scale = s1.max(s2);
            adjusted((p1 - s1).min(p2 - s2) + scale, scale)
        }
        _ => {
            let scale = s1.max(s2);
            adjusted((p1 - s1).max(p2 - s2) + scale + 1, scale)
        }
    }
}

fn integer_rank(kind: &TypeKind) -> u8 {
    match kind {
        TypeKind::TinyInt => 1,
        TypeKind::SmallInt => 2,
        TypeKind::Int => 3,
        _ => 4,
    }
}

/// The type that holds both; `None` when there is none.
pub fn common_kind(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    use TypeKind as T;
    if a == b {
        return Some(a.clone());
    }
    Some(match (a, b) {
        (T::Null, other) | (other, T::Null) => other.clone(),
        (a, b) if is_integer(a) && is_integer(b) => {
            if integer_rank(a) >= integer_rank(b) {
                a.clone()
            } else {
                b.clone()
            }
        }
        (a, b) if is_numeric(a) && is_numeric(b) => {
            if is_approximate(a) || is_approximate(b) {
                let decimal = matches!(a, T::Decimal(..)) || matches!(b, T::Decimal(..));
                if *a == T::Double || *b == T::Double || decimal { T::Double } else { T::Float }
            } else {
                let (p1, s1) = decimal_of(a)?;
                let (p2, s2) = decimal_of(b)?;
                let scale = s1.max(s2);
                let digits = (p1 - s1).max(p2 - s2);
                T::Decimal(
                    u8::try_from((digits + scale).min(MAX_PRECISION)).ok()?,
                    u8::try_from(scale.min(MAX_PRECISION)).ok()?,
                )
            }
        }
        (T::Char(n) | T::Varchar(n), T::Char(m) | T::Varchar(m)) => T::Varchar(*n.max(m)),
        (T::Binary(n) | T::Varbinary(n), T::Binary(m) | T::Varbinary(m)) => T::Varbinary(*n.max(m)),
        (T::Timestamp(p), T::Timestamp(q)) => T::Timestamp(*p.max(q)),
        (T::TimestampLtz(p), T::TimestampLtz(q)) => T::TimestampLtz(*p.max(q)),
        // the first wins
        (T::TimestampLtz(p), T::Timestamp(q)) => T::TimestampLtz(*p.max(q)),
        (T::Timestamp(p), T::TimestampLtz(q)) => T::Timestamp(*p.max(q)),
        (T::Time(p), T::Time(q)) => T::Time(*p.max(q)),
        (T::Array(x), T::Array(y)) => T::Array(Box::new(common(x, y)?)),
        (T::Map(k, v), T::Map(l, w)) => T::Map(Box::new(common(k, l)?), Box::new(common(v, w)?)),
        (T::Row(x), T::Row(y)) if x.len() == y.len() => T::Row(
            x.iter()
                .zip(y)
                .map(|(f, g)| {
                    Some(crate::engine::types::Field {
                        name: f.name.clone(),
                        data_type: common(&f.data_type, &g.data_type)?,
                    })
                })
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

/// The type COALESCE gives two arguments: Flink's own merging of types, which differs from Calcite's
/// ([`common_kind`], for CASE and set operations) where an approximate number follows a DECIMAL, and where types of
/// time meet.
pub fn merged_kind(a: &TypeKind, b: &TypeKind) -> Option<TypeKind> {
    use TypeKind as T;
    match (a, b) {
        (T::Decimal(..), T::Float) => Some(T::Float),
        (T::Date, T::Timestamp(_)) | (T::Timestamp(_), T::Date) => Some(T::Date),
        (T::Time(p), T::Timestamp(_)) | (T::Timestamp(_), T::Time(p)) => Some(T::Time(*p)),
        (T::TimestampLtz(p), T::Timestamp(q)) | (T::Timestamp(q), T::TimestampLtz(p)) => {
            Some(T::TimestampLtz(*p.max(q)))
        }
        _ => common_kind(a, b),
    }
}

/// The type that holds both, nullable if either is.
pub fn common(a: &DataType, b: &DataType) -> Option<DataType> {
    Some(DataType { kind: common_kind(&a.kind, &b.kind)?, nullable: a.nullable || b.nullable })
}

/// Whether a query's column goes into a sink's column without a CAST: Flink's implicit casts, which widen numbers
/// and never narrow them.
pub fn assignable(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind as T;
    let width = |kind: &TypeKind| match kind {
        T::TinyInt => Some(8),
        T::SmallInt => Some(16),
        T::Int => Some(32),
        T::BigInt => Some(64),
        _ => None,
    };
    match (from, to) {
        (a, T::TinyInt | T::SmallInt | T::Int | T::BigInt) if is_numeric(a) => {
            width(a).is_some_and(|from| Some(from) <= width(to))
        }
        (T::Double, T::Float) => false,
        (T::Varchar(_), T::Char(_)) | (T::Varbinary(_), T::Binary(_)) => false,
        (T::Date, T::Timestamp(_) | T::TimestampLtz(_)) => false,
        (T::TimestampLtz(_), T::Date | T::Time(_)) => false,
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => assignable(&a.kind, &b.kind),
        (T::Map(k, v), T::Map(l, w)) => assignable(&k.kind, &l.kind) && assignable(&v.kind, &w.kind),
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|(f, g)| assignable(&f.data_type.kind, &g.data_type.kind))
        }
        _ => converts(from, to),
    }
}

/// Whether two types are of one family, so that a CAST between them only changes width, length or precision.
fn converts(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind as T;
    if from == to || *from == T::Null {
        return true;
    }
    match (from, to) {
        (a, b) if is_numeric(a) && is_numeric(b) => true,
        (a, b) if is_string(a) && is_string(b) => true,
        (a, b) if is_binary(a) && is_binary(b) => true,
        (T::Timestamp(_) | T::TimestampLtz(_), T::Timestamp(_) | T::TimestampLtz(_)) => true,
        (T::Date, T::Timestamp(_) | T::TimestampLtz(_)) => true,
        (T::Timestamp(_) | T::TimestampLtz(_), T::Date | T::Time(_)) => true,
        (T::Time(_), T::Time(_)) => true,
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => converts(&a.kind, &b.kind),
        (T::Map(k, v), T::Map(l, w)) => converts(&k.kind, &l.kind) && converts(&v.kind, &w.kind),
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(f, g)| converts(&f.data_type.kind, &g.data_type.kind))
        }
        _ => false,
    }
}

/// Whether CAST takes this.
pub fn castable(from: &TypeKind, to: &TypeKind) -> bool {
    use TypeKind as T;
    if converts(from, to) {
        return true;
    }
    match (from, to) {
        (T::Array(a), T::Array(b)) | (T::Multiset(a), T::Multiset(b)) => castable(&a.kind, &b.kind),
        (T::Map(k, v), T::Map(l, w)) => castable(&k.kind, &l.kind) && castable(&v.kind, &w.kind),
        (T::Row(a), T::Row(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(f, g)| castable(&f.data_type.kind, &g.data_type.kind))
        }
        (_, b) if is_string(b) => true,
        (a, _) if is_string(a) => !is_nested(to) && !is_interval(to),
        (a, T::Boolean) | (T::Boolean, a) => is_numeric(a),
        (a, b) if is_interval(b) => is_integer(a),
        (T::Time(_), T::Timestamp(_) | T::TimestampLtz(_)) => true,
        (a, b) if is_numeric(a) && is_timestamp(b) => false,
        _ => false,
    }
}

/// A literal.
pub fn literal(value: Value, kind: TypeKind) -> Expr {
    let nullable = value == Value::Null;
    Expr { node: ExprNode::Literal(value), data_type: DataType { kind, nullable } }
}

/// A string literal, CHAR(n).
pub fn string_literal(text: &str) -> Expr {
    let length = u32::try_from(text.chars().count()).unwrap_or(UNBOUNDED);
    literal(Value::Str(text.into()), TypeKind::Char(length))
}

/// NULL of a kind.
pub fn null_of(kind: TypeKind) -> Expr {
    literal(Value::Null, kind)
}

/// The expression as this kind: unchanged where it is one already, a typed NULL, or a CAST.
pub fn cast_to(expr: Expr, kind: &TypeKind) -> Expr {
    if expr.data_type.kind == *kind {
        return expr;
    }
    if expr.data_type.kind == TypeKind::Null {
        return null_of(kind.clone());
    }
    let nullable = expr.data_type.nullable;
    if let ExprNode::Literal(value) = &expr.node
        && let Some(value) = folded(value, &expr.data_type.kind, kind)
    {
        return literal(value, kind.clone());
    }
    Expr {
        node: ExprNode::Cast { input: Box::new(expr), lenient: false },
        data_type: DataType { kind: kind.clone(), nullable },
    }
}

/// Casts of literals that lose nothing.
fn folded(value: &Value, from: &TypeKind, to: &TypeKind) -> Option<Value> {
    match (value, from, to) {
        (Value::Null, ..) => Some(Value::Null),
        (Value::Str(text), TypeKind::Char(_) | TypeKind::Varchar(_), TypeKind::Varchar(n)) => {
            (u32::try_from(text.chars().count()).ok()? <= *n).then(|| value.clone())
        }
        (Value::Int(_), from, to)
            if is_integer(from) && is_integer(to) && integer_rank(from) <= integer_rank(to) =>
        {
            Some(value.clone())
        }
        (Value::Int(number), from, TypeKind::Decimal(p, 0))
            if decimal_of(from).is_some_and(|(q, _)| q <= i32::from(*p)) =>
        {
            Some(Value::Decimal(crate::engine::row::Decimal::new(i128::from(*number), 0)))
        }
        _ => None,
    }
}

/// A call.
pub fn call(function: &'static str, args: Vec<Expr>, data_type: DataType) -> Expr {
    Expr { node: ExprNode::Call { function, args }, data_type }
}

/// A column.
pub fn column(index: usize, data_type: DataType) -> Expr {
    Expr { node: ExprNode::Column(index), data_type }
}

/// The conjunction; `None` of none.
pub fn and_all(mut conjuncts: Vec<Expr>) -> Option<Expr> {
    if conjuncts.is_empty() {
        return None;
    }
    let mut out = conjuncts.remove(0);
    for next in conjuncts {
        let nullable = out.data_type.nullable || next.data_type.nullable;
        out = call("AND", vec![out, next], DataType { kind: TypeKind::Boolean, nullable });
    }
    Some(out)
}

/// The parts of a conjunction.
pub fn conjuncts(expr: Expr, out: &mut Vec<Expr>) {
    match expr.node {
        ExprNode::Call { function: "AND", args } => {
            for arg in args {
                conjuncts(arg, out);
            }
        }
        node => out.push(Expr { node, data_type: expr.data_type }),
    }
}

/// Calls `each` for every sub-expression, the expression itself first.
pub fn walk(expr: &Expr, each: &mut dyn FnMut(&Expr)) {
    each(expr);
    match &expr.node {
        ExprNode::Column(_) | ExprNode::Literal(_) => {}
        ExprNode::Cast { input, .. } | ExprNode::Field { input, .. } => walk(input, each),
        ExprNode::Case { branches, otherwise } => {
            for (condition, result) in branches {
                walk(condition, each);
                walk(result, each);
            }
            walk(otherwise, each);
        }
        ExprNode::Call { args, .. } => args.iter().for_each(|arg| walk(arg, each)),
    }
}

/// Rewrites columns: `map` gives the replacement of a column.
pub fn rewrite(expr: &Expr, map: &dyn Fn(usize, &DataType) -> Expr) -> Expr {
    let node = match &expr.node {
        ExprNode::Column(index) => return map(*index, &expr.data_type),
        ExprNode::Literal(value) => ExprNode::Literal(value.clone()),
        ExprNode::Cast { input, lenient } => {
            ExprNode::Cast { input: Box::new(rewrite(input, map)), lenient: *lenient }
        }
        ExprNode::Field { input, index } => {
            ExprNode::Field { input: Box::new(rewrite(input, map)), index: *index }
        }
        ExprNode::Case { branches, otherwise } => ExprNode::Case {
            branches: branches.iter().map(|(c, r)| (rewrite(c, map), rewrite(r, map))).collect(),
            otherwise: Box::new(rewrite(otherwise, map)),
        },
        ExprNode::Call { function, args } => {
            ExprNode::Call { function, args: args.iter().map(|arg| rewrite(arg, map)).collect() }
        }
    };
    Expr { node, data_type: expr.data_type.clone() }
}

/// Columns an expression reads.
pub fn columns_of(expr: &Expr, out: &mut std::collections::BTreeSet<usize>) {
    walk(expr, &mut |e| {
        if let ExprNode::Column(index) = e.node {
            out.insert(index);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimal_derivation_as_flink_has_it() {
        let d = |op, a, b| decimal_result(op, a, b);
        assert_eq!(d("+", (10, 2), (10, 2)), TypeKind::Decimal(11, 2));
        assert_eq!(d("*", (10, 2), (10, 2)), TypeKind::Decimal(21, 4));
        assert_eq!(d("/", (10, 2), (5, 0)), TypeKind::Decimal(16, 8));
        assert_eq!(d("%", (10, 2), (5, 0)), TypeKind::Decimal(7, 2));
        assert_eq!(d("*", (38, 18), (38, 18)), TypeKind::Decimal(38, 6));
        assert_eq!(d("+", (38, 18), (38, 18)), TypeKind::Decimal(38, 17));
        assert_eq!(d("/", (38, 18), (10, 0)), TypeKind::Decimal(38, 18));
    }

    #[test]
    fn common_types() {
        assert_eq!(common_kind(&TypeKind::Int, &TypeKind::Decimal(10, 2)), Some(TypeKind::Decimal(12, 2)));
        assert_eq!(common_kind(&TypeKind::Float, &TypeKind::Int), Some(TypeKind::Float));
        assert_eq!(common_kind(&TypeKind::Char(3), &TypeKind::Char(5)), Some(TypeKind::Varchar(5)));
        assert_eq!(common_kind(&TypeKind::Char(3), &TypeKind::Int), None);
    }
}
