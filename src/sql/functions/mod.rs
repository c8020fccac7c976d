//! Functions: names, argument coercion and result types. The engine evaluates them by canonical name.

pub mod aggregates;
mod arrays;
mod collections;
mod json;
pub mod operators;
pub mod signatures;
mod table;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};

use super::error::{Span, SqlError, SqlResult, nearest};
use super::types::{
    UNBOUNDED, calcite, call, cast_to, common, common_kind, is_binary, is_integer, is_interval, is_nested,
    is_numeric, is_string, is_temporal, is_timestamp, merged_kind, null_of, string_literal,
};
use operators::{arithmetic, compare};

pub use table::names;

/// Whether any argument may be NULL.
pub fn any_nullable(args: &[Expr]) -> bool {
    args.iter().any(|arg| arg.data_type.nullable)
}

/// The error Calcite gives for a name it does not know.
pub fn unknown(name: &str, args: &[Expr], span: Span) -> Box<SqlError> {
    let known = names().chain(aggregates::NAMES.iter().copied()).any(|n| n.eq_ignore_ascii_case(name));
    if known && args.iter().any(|arg| arg.data_type.kind == TypeKind::Null) {
        return SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one");
    }
    if let Some(error) = signatures::refusal(&name.to_uppercase(), args, span) {
        return error;
    }
    let types = signatures::families(args);
    let shown = if known { name.to_uppercase() } else { name.to_owned() };
    let error = SqlError::plan(span, format!("No match found for function signature {shown}({types})"));
    match nearest(name, names().chain(aggregates::NAMES.iter().copied())) {
        Some(near) if !near.eq_ignore_ascii_case(name) => error.help(format!("did you mean {near}?")),
        _ => error,
    }
}

/// The error Calcite gives for arguments that do not fit.
pub fn misfit(name: &str, args: &[Expr], forms: &str, span: Span) -> Box<SqlError> {
    if let Some(error) = signatures::refusal(name, args, span) {
        return error;
    }
    let types: Vec<String> = args.iter().map(|arg| format!("<{}>", calcite(&arg.data_type.kind))).collect();
    SqlError::plan(
        span,
        format!(
            "Cannot apply '{name}' to arguments of type '{name}({})'. Supported form(s): '{forms}'",
            types.join(", ")
        ),
    )
}

/// Resolves a scalar function call.
pub fn resolve(name: &str, args: Vec<Expr>, returning: Option<DataType>, span: Span) -> SqlResult<Expr> {
    let upper = name.to_uppercase();
    let upper = upper.as_str();
    let arity = args.len();
    let nullable = any_nullable(&args);
    let first = args.first().map(|arg| arg.data_type.clone());
    let kind = first.as_ref().map(|t| t.kind.clone()).unwrap_or(TypeKind::Null);
    let wrong = |args: &[Expr], forms: &str| Err(misfit(upper, args, forms, span));
    match (upper, arity) {
        ("COALESCE", 1..) => coalesce(args, span),
        ("IFNULL", 2) => {
            let second = args.get(1).is_some_and(|a| a.data_type.nullable);
            let mut out = coalesce(args, span)?;
            out.data_type.nullable = nullable && second;
            Ok(out)
        }
        ("NULLIF", 2) => {
            let [a, b] = pair(args)?;
            let kind = a.data_type.kind.clone();
            let condition = compare("=", a.clone(), b, span)?;
            Ok(case(vec![(condition, null_of(kind.clone()))], a, DataType::new(kind)))
        }
        ("IF", 3) => {
            let mut args = args.into_iter();
            let (Some(condition), Some(yes), Some(no)) = (args.next(), args.next(), args.next()) else {
                return Err(unknown(name, &[], span));
            };
            if [&condition, &yes, &no].iter().any(|e| e.data_type.kind == TypeKind::Null) {
                return Err(
                    SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one")
                );
            }
            if condition.data_type.kind != TypeKind::Boolean {
                return wrong(&[condition, yes, no], "IF(<BOOLEAN>, <ANY>, <ANY>)");
            }
            if is_nested(&yes.data_type.kind) || is_nested(&no.data_type.kind) {
                return wrong(&[condition, yes, no], "IF(<ANY_TYPE>, <NUMERIC_TYPE>, <NUMERIC_TYPE>)");
            }
            let Some(mut target) = common(&yes.data_type, &no.data_type) else {
                return wrong(&[condition, yes, no], "IF(<BOOLEAN>, <ANY>, <ANY>)");
            };
            target.nullable = true;
            let (yes, no) = (cast_to(yes, &target.kind), cast_to(no, &target.kind));
            Ok(case(vec![(condition, yes)], no, target))
        }
        ("GREATEST" | "LEAST", 1..) => {
            let Some(target) =
                args.iter().skip(1).try_fold(kind, |k, arg| merged_kind(&k, &arg.data_type.kind))
            else {
                let mut kinds = args.iter().map(|arg| &arg.data_type.kind);
                let first = kinds.next().unwrap_or(&TypeKind::Null);
                let other = kinds.find(|kind| merged_kind(first, kind).is_none()).unwrap_or(first);
                return Err(SqlError::plan(
                    span,
                    format!(
                        "All types in a comparison should support both 'EQUALS' and 'ORDER' comparison with each other. Can not compare {first} with {other}"
                    ),
                ));
            };
            // Flink takes DATE for it and then cannot compare
            let mixed = |a: &Expr| is_timestamp(&a.data_type.kind) && !is_timestamp(&target);
            if args.iter().any(mixed) {
                return wrong(&args, "<FUNCTION>(<COMPARABLE_TYPE>...)");
            }
            if is_nested(&target) {
                return Err(SqlError::plan(span, format!("Comparable type expected, but was '{target}'.")));
            }
            if args.iter().any(|arg| arg.data_type.kind == TypeKind::Null) {
                return Err(SqlError::plan(span, format!("Unsupported casting from NULL to {target}."))
                    .help("CAST(NULL AS type) gives it one"));
            }
            let function = if upper == "GREATEST" { "GREATEST" } else { "LEAST" };
            let args = args.into_iter().map(|arg| cast_to(arg, &target)).collect();
            Ok(call(function, args, DataType { kind: target, nullable }))
        }
        ("MOD", 2) => {
            let [a, b] = pair(args)?;
            arithmetic("%", a, b, span)
        }
        ("ABS" | "SIGN", 1) if is_numeric(&kind) => {
            let function = if upper == "ABS" { "ABS" } else { "SIGN" };
            Ok(call(function, args, DataType { kind, nullable }))
        }
        ("FLOOR" | "CEIL" | "CEILING", 1) if is_numeric(&kind) => {
            let function = if upper == "FLOOR" { "FLOOR" } else { "CEIL" };
            let kind = match kind {
                TypeKind::Decimal(p, _) => TypeKind::Decimal(p, 0),
                other => other,
            };
            Ok(call(function, args, DataType { kind, nullable }))
        }
        ("FLOOR_TO" | "CEIL_TO", 2) => {
            let function = if upper == "FLOOR_TO" { "FLOOR" } else { "CEIL" };
            match args.get(1).map(|arg| arg.data_type.clone()) {
                Some(t) if is_temporal(&t.kind) => {
                    // the engine takes the value first, then the unit
                    let mut args = args;
                    args.swap(0, 1);
                    Ok(call(function, args, t))
                }
                _ => wrong(&args, "FLOOR(<DATETIME> TO <TIME_UNIT>)"),
            }
        }
        ("ROUND" | "TRUNCATE", 1 | 2) if is_numeric(&kind) => {
            no_bare_null(&args, span)?;
            if !args.iter().skip(1).all(|digits| is_integer(&digits.data_type.kind)) {
                return wrong(&args, &format!("{upper}(<NUMERIC>, <INTEGER>)"));
            }
            let function = if upper == "ROUND" { "ROUND" } else { "TRUNCATE" };
            let kind = match kind {
                TypeKind::Decimal(p, s) => {
                    let digits = match args.get(1).map(|arg| &arg.node) {
                        None => Some(0),
                        Some(ExprNode::Literal(Value::Int(n))) => Some(*n),
                        Some(_) => None,
                    };
                    match digits {
                        Some(r) if r < i64::from(s) => {
                            let r = u8::try_from(r.max(0)).unwrap_or(0);
                            TypeKind::Decimal((p - s + r + 1).clamp(1, 38), r)
                        }
                        _ => TypeKind::Decimal(p, s),
                    }
                }
                other => other,
            };
            let mut args = args;
            if let Some(digits) = args.pop_if(|_| arity == 2) {
                args.push(cast_to(digits, &TypeKind::Int));
            }
            Ok(call(function, args, DataType { kind, nullable }))
        }
        ("TO_TIMESTAMP_LTZ", 2..)
            if is_string(&kind) && !args.iter().all(|arg| is_string(&arg.data_type.kind)) =>
        {
            Err(unknown(name, &args, span))
        }
        ("LOG", 1) => resolve("LN", args, None, span),
        ("UPPER" | "LOWER" | "INITCAP", 1) if is_string(&kind) => {
            let function = match upper {
                "UPPER" => "UPPER",
                "LOWER" => "LOWER",
                _ => "INITCAP",
            };
            Ok(call(function, args, DataType { kind, nullable }))
        }
        ("TRIM", 3) => {
            let Some(text) = args.get(2).map(|arg| arg.data_type.kind.clone()) else {
                return wrong(&args, "TRIM(<CHARACTER>)");
            };
            if !is_string(&text) {
                return wrong(
                    args.get(2..).unwrap_or_default(),
                    "TRIM([BOTH|LEADING|TRAILING] <STRING1> FROM <STRING2>)",
                );
            }
            let kind = match text {
                TypeKind::Char(n) | TypeKind::Varchar(n) => TypeKind::Varchar(n),
                other => other,
            };
            Ok(call("TRIM", args, DataType { kind, nullable }))
        }
        ("OVERLAY", 3 | 4) if is_string(&kind) => {
            let length = args
                .iter()
                .take(2)
                .map(|arg| string_length(&arg.data_type.kind))
                .fold(0_u32, u32::saturating_add);
            let kind = TypeKind::Varchar(length.min(UNBOUNDED));
            Ok(call("OVERLAY", args, DataType { kind, nullable }))
        }
        ("SHA2", 2) if is_string(&kind) || is_binary(&kind) => {
            no_bare_null(&args, span)?;
            if !args.iter().skip(1).all(|bits| is_integer(&bits.data_type.kind)) {
                return wrong(&args, "SHA2(<STRING>, <INTEGER>)");
            }
            Ok(call("SHA2", args, DataType { kind: TypeKind::Varchar(128), nullable }))
        }
        ("ELT", 2..) => {
            if kind == TypeKind::Null {
                return Err(
                    SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one")
                );
            }
            if !is_integer(&kind) {
                return Err(SqlError::plan(span, "Index can only be an INTEGER NUMERIC type."));
            }
            let target =
                args.iter().skip(2).try_fold(
                    args.get(1).map_or(TypeKind::Null, |arg| arg.data_type.kind.clone()),
                    |k, arg| common_kind(&k, &arg.data_type.kind),
                );
            match target {
                Some(kind) => Ok(call("ELT", args, DataType::new(kind))),
                None => wrong(&args, "ELT(<INTEGER_NUMERIC>, <CHARACTER_STRING>...)"),
            }
        }
        ("TYPEOF", 1 | 2) => {
            let text = first.map(|t| t.to_string()).unwrap_or_default();
            let mut out = cast_to(string_literal(&text), &TypeKind::Varchar(UNBOUNDED));
            out.data_type.nullable = true;
            if matches!(args.first().map(|arg| &arg.node), Some(ExprNode::Call { function: "PROCTIME", .. }))
            {
                return Err(SqlError::plan(
                    span,
                    "Mismatch of function's argument data type 'TIMESTAMP_LTZ(3) NOT NULL' and actual argument type 'TIMESTAMP_LTZ(3)'.",
                ));
            }
            Ok(out)
        }
        ("EXTRACT", 2) => match args.get(1).map(|arg| arg.data_type.kind.clone()) {
            Some(k) if is_temporal(&k) || is_interval(&k) => {
                if let Some(ExprNode::Literal(Value::Str(unit))) = args.first().map(|arg| &arg.node) {
                    let tiny = matches!(&**unit, "MICROSECOND" | "NANOSECOND");
                    let of_time = tiny || matches!(&**unit, "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND");
                    let variable = match &k {
                        TypeKind::Time(_) if !of_time => Some("time".to_owned()),
                        TypeKind::Time(_) | TypeKind::Date if tiny => Some(k.to_string()),
                        _ => None,
                    };
                    if let Some(variable) = variable {
                        let message = format!("unit {unit} can not be applied to {variable} variable");
                        return Err(SqlError::plan(span, message));
                    }
                }
                Ok(call("EXTRACT", args, DataType { kind: TypeKind::BigInt, nullable }))
            }
            _ => wrong(&args, "EXTRACT(<DATETIME_INTERVAL> FROM <DATETIME>)"),
        },
        (
            "YEAR" | "QUARTER" | "MONTH" | "WEEK" | "DAYOFYEAR" | "DAYOFMONTH" | "DAYOFWEEK" | "HOUR"
            | "MINUTE" | "SECOND",
            1,
        ) => {
            let unit = match upper {
                "DAYOFYEAR" => "DOY",
                "DAYOFMONTH" => "DAY",
                "DAYOFWEEK" => "DOW",
                other => other,
            };
            let mut with_unit = vec![string_literal(unit)];
            with_unit.extend(args);
            resolve("EXTRACT", with_unit, None, span)
        }
        ("TIMESTAMPDIFF", 3) => {
            let kinds: Vec<TypeKind> = args.iter().skip(1).map(|arg| arg.data_type.kind.clone()).collect();
            if let [a, b] = kinds.as_slice() {
                let ltz = |kind: &TypeKind| matches!(kind, TypeKind::TimestampLtz(_));
                if is_temporal(a) && is_temporal(b) && ltz(a) != ltz(b) {
                    return Err(SqlError::plan(
                        span,
                        "TIMESTAMP_LTZ only supports diff between the same type.",
                    ));
                }
                if is_temporal(a) && is_temporal(b) {
                    return Ok(call("TIMESTAMPDIFF", args, DataType { kind: TypeKind::Int, nullable }));
                }
            }
            wrong(&args, "TIMESTAMPDIFF(<ANY>, <DATETIME>, <DATETIME>)")
        }
        ("TIMESTAMPADD", 3) => {
            let Some(target) = args.get(2).map(|arg| arg.data_type.clone()).filter(|t| is_temporal(&t.kind))
            else {
                return wrong(&args, "TIMESTAMPADD(<ANY>, <INTEGER>, <DATETIME>)");
            };
            let small = matches!(&args.first().map(|arg| &arg.node),
                Some(ExprNode::Literal(Value::Str(unit))) if matches!(&**unit, "HOUR" | "MINUTE" | "SECOND"));
            let kind = match target.kind {
                TypeKind::Date if small => TypeKind::Timestamp(6),
                other => other,
            };
            if !args.get(1).is_some_and(|count| is_integer(&count.data_type.kind)) {
                return wrong(&args, "TIMESTAMPADD(<ANY>, <INTEGER>, <DATETIME>)");
            }
            Ok(call("TIMESTAMPADD", args, DataType { kind, nullable }))
        }
        ("CURRENT_WATERMARK", 1) => {
            if !is_timestamp(&kind) {
                return Err(SqlError::plan(
                    span,
                    format!(
                        "CURRENT_WATERMARK() must be called with a single rowtime attribute argument, but '{kind}' cannot be a time attribute."
                    ),
                ));
            }
            Ok(call("CURRENT_WATERMARK", args, DataType::new(kind)))
        }
        ("ARRAY" | "MAP" | "ROW" | "ITEM" | "CARDINALITY" | "ELEMENT", _) => {
            collections::resolve(upper, args, span)
        }
        (name, _) if name.starts_with("MAP_") => collections::resolve(name, args, span),
        ("MINUS_MONTHS" | "MINUS_MILLIS", 2) => {
            let kind =
                if upper == "MINUS_MONTHS" { TypeKind::IntervalMonths } else { TypeKind::IntervalMillis };
            if args.iter().all(|arg| is_temporal(&arg.data_type.kind)) {
                return Ok(call("-", args, DataType { kind, nullable }));
            }
            wrong(&args, "(<DATETIME> - <DATETIME>) <UNIT>")
        }
        (name, 1..) if name.starts_with("ARRAY_") => arrays::resolve(name, args, span),
        (name, _) if name.starts_with("JSON_") => json::resolve(name, args, returning, span),
        _ => match table::resolve(upper, args, span)? {
            Ok(expr) => Ok(expr),
            Err(args) => Err(unknown(name, &args, span)),
        },
    }
}

/// Refuses NULL without a type.
fn no_bare_null(args: &[Expr], span: Span) -> SqlResult<()> {
    if args.iter().all(|arg| arg.data_type.kind != TypeKind::Null) {
        return Ok(());
    }
    Err(SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one"))
}

fn pair(args: Vec<Expr>) -> SqlResult<[Expr; 2]> {
    args.try_into().map_err(|_| SqlError::plan(Span::default(), "two arguments are needed"))
}

/// A searched CASE.
pub fn case(branches: Vec<(Expr, Expr)>, otherwise: Expr, data_type: DataType) -> Expr {
    Expr { node: ExprNode::Case { branches, otherwise: Box::new(otherwise) }, data_type }
}

fn coalesce(args: Vec<Expr>, span: Span) -> SqlResult<Expr> {
    let nullable = args.iter().all(|arg| arg.data_type.nullable);
    let target = args
        .iter()
        .skip(1)
        .try_fold(args.first().map_or(TypeKind::Null, |arg| arg.data_type.kind.clone()), |k, arg| {
            merged_kind(&k, &arg.data_type.kind)
        });
    let Some(target) = target else {
        let mut error = misfit("COALESCE", &args, "COALESCE(<ANY>...)", span);
        error.message = format!("Invalid input arguments. {}", error.message);
        return Err(error);
    };
    let args = args.into_iter().map(|arg| cast_to(arg, &target)).collect();
    Ok(call("COALESCE", args, DataType { kind: target, nullable }))
}

fn string_length(kind: &TypeKind) -> u32 {
    match kind {
        TypeKind::Char(n) | TypeKind::Varchar(n) => *n,
        _ => UNBOUNDED,
    }
}

/// The kinds of numbers as DOUBLE; anything else is refused by the caller.
fn to_double(expr: Expr) -> Expr {
    cast_to(expr, &TypeKind::Double)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_functions_are_named_with_their_arguments() {
        let error = resolve("CONV", vec![string_literal("ff")], None, Span::default()).unwrap_err();
        assert_eq!(error.message, "No match found for function signature CONV(<CHARACTER>)");
        let error = resolve("UPER", vec![string_literal("ff")], None, Span::default()).unwrap_err();
        assert_eq!(error.help.as_deref(), Some("did you mean UPPER?"));
    }
}
