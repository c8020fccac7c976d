//! Aggregate functions: names and result types.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::{
    UNBOUNDED, calcite, cast_to, decimal_of, is_approximate, is_integer, is_numeric, is_string,
};

/// All aggregate functions.
pub const NAMES: &[&str] = &[
    "COUNT",
    "SUM",
    "SUM0",
    "AVG",
    "MIN",
    "MAX",
    "STDDEV_POP",
    "STDDEV_SAMP",
    "VAR_POP",
    "VAR_SAMP",
    "LISTAGG",
    "FIRST_VALUE",
    "LAST_VALUE",
    "COLLECT",
    "ARRAY_AGG",
    "JSON_OBJECTAGG",
    "JSON_ARRAYAGG",
    "PERCENTILE",
    "SINGLE_VALUE",
    "APPROX_COUNT_DISTINCT",
];

/// Functions that only stand with OVER.
pub const OVER_ONLY: &[&str] =
    &["ROW_NUMBER", "RANK", "DENSE_RANK", "LAG", "LEAD", "NTILE", "CUME_DIST", "PERCENT_RANK"];

/// The canonical name of an aggregate function, if it is one.
pub fn canonical(name: &str) -> Option<&'static str> {
    let upper = name.to_uppercase();
    let upper = match upper.as_str() {
        "STDDEV" => "STDDEV_SAMP",
        "VARIANCE" => "VAR_SAMP",
        "$SUM0" => "SUM0",
        other => other,
    };
    NAMES.iter().find(|n| **n == upper).copied()
}

/// What computes AVG where Flink makes SUM / COUNT of it: the sum of integers is of their type, and wraps.
pub fn average_of_sum(function: &'static str, argument: &TypeKind) -> &'static str {
    if function == "AVG" && is_integer(argument) { "AVG_OF_SUM" } else { function }
}

/// The canonical name of a function that needs OVER, if it is one.
pub fn over_only(name: &str) -> Option<&'static str> {
    OVER_ONLY.iter().find(|n| n.eq_ignore_ascii_case(name)).copied()
}

/// The arguments as the engine takes them: those of PERCENTILE are DOUBLE, and BIGINT where they count.
pub fn arguments(function: &str, args: Vec<Expr>, span: Span) -> SqlResult<Vec<Expr>> {
    if function != "PERCENTILE" {
        return Ok(args);
    }
    let refused = |args: &[Expr]| super::misfit(function, args, "PERCENTILE(<NUMERIC>, <NUMERIC>)", span);
    let [value, percentage, frequency @ ..] = args.as_slice() else { return Err(refused(&args)) };
    if frequency.len() > 1 {
        return Err(refused(&args));
    }
    let double = DataType::not_null(TypeKind::Double);
    let wanted = match &percentage.data_type.kind {
        TypeKind::Array(element) if is_numeric(&element.kind) && !element.nullable => {
            TypeKind::Array(Box::new(double))
        }
        kind if is_numeric(kind) => TypeKind::Double,
        _ => return Err(refused(&args)),
    };
    let cast = cast_to(percentage.clone(), &wanted);
    let outside = match &percentage.node {
        ExprNode::Literal(constant) => {
            crate::engine::functions::arithmetic::to_f64(constant).is_some_and(|p| !(0.0..=1.0).contains(&p))
        }
        _ => false,
    };
    let counts = frequency.iter().all(|f| is_integer(&f.data_type.kind));
    if percentage.data_type.nullable || outside || !is_numeric(&value.data_type.kind) || !counts {
        return Err(refused(&args));
    }
    let mut out = vec![cast_to(value.clone(), &TypeKind::Double), cast];
    out.extend(frequency.iter().map(|f| cast_to(f.clone(), &TypeKind::BigInt)));
    Ok(out)
}

/// The result type; `grouped` says that a group is never empty.
pub fn result_type(
    function: &str,
    args: &[DataType],
    grouped: bool,
    filtered: bool,
    span: Span,
) -> SqlResult<DataType> {
    if let Some(error) = super::signatures::wrong_number(function, args.len(), span) {
        // COUNT(*) comes without arguments
        if !(function == "COUNT" && args.is_empty()) {
            return Err(error);
        }
    }
    let first = args.first();
    let kind = first.map_or(TypeKind::Null, |t| t.kind.clone());
    let misfit = |forms: &str| {
        let types: Vec<String> = args.iter().map(|t| format!("<{}>", calcite(&t.kind))).collect();
        let forms = super::signatures::forms(function).map_or_else(|| format!("'{forms}'"), str::to_owned);
        SqlError::plan(
            span,
            format!(
                "Cannot apply '{function}' to arguments of type '{function}({})'. Supported form(s): {forms}",
                types.join(", ")
            ),
        )
    };
    // NULL comes of an empty group only
    let nullable = !grouped || filtered || first.is_some_and(|t| t.nullable);
    Ok(match function {
        "COUNT" | "APPROX_COUNT_DISTINCT" => DataType::not_null(TypeKind::BigInt),
        "ROW_NUMBER" | "RANK" | "DENSE_RANK" => DataType::not_null(TypeKind::BigInt),
        "NTILE" => DataType::not_null(TypeKind::BigInt),
        "CUME_DIST" | "PERCENT_RANK" => DataType::not_null(TypeKind::Double),
        "SUM" | "SUM0" => {
            let kind = match &kind {
                TypeKind::Decimal(_, s) => TypeKind::Decimal(38, *s),
                k if is_numeric(k) => k.clone(),
                _ => return Err(misfit("SUM(<NUMERIC>)")),
            };
            DataType { kind, nullable }
        }
        "AVG" => {
            let kind = match &kind {
                TypeKind::Decimal(_, s) => TypeKind::Decimal(38, (*s).max(6)),
                k if is_numeric(k) => k.clone(),
                _ => return Err(misfit("AVG(<NUMERIC>)")),
            };
            DataType { kind, nullable }
        }
        "STDDEV_POP" | "STDDEV_SAMP" | "VAR_POP" | "VAR_SAMP" => {
            let kind = match &kind {
                k if is_integer(k) || is_approximate(k) => k.clone(),
                k => match decimal_of(k) {
                    Some((_, s)) => TypeKind::Decimal(38, u8::try_from(s.max(6)).unwrap_or(6)),
                    None => return Err(misfit(&format!("{function}(<NUMERIC>)"))),
                },
            };
            DataType { kind, nullable }
        }
        "MIN" | "MAX" => {
            if matches!(
                kind,
                TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Row(_) | TypeKind::Multiset(_)
            ) || args.len() != 1
            {
                return Err(misfit(&format!("{function}(<COMPARABLE_TYPE>)")));
            }
            DataType { kind, nullable }
        }
        "LISTAGG" => {
            if !is_string(&kind) || !args.iter().all(|t| is_string(&t.kind)) {
                return Err(misfit("LISTAGG(<CHARACTER>)").help("LISTAGG(CAST(… AS STRING))"));
            }
            DataType { kind: TypeKind::Varchar(UNBOUNDED), nullable }
        }
        "FIRST_VALUE" | "LAST_VALUE" => DataType { kind, nullable },
        "SINGLE_VALUE" => DataType::new(kind),
        // The default also stands for a NULL that is there.
        "LAG" | "LEAD" => DataType { kind, nullable: args.get(2).is_none_or(|default| default.nullable) },
        "COLLECT" => DataType::not_null(TypeKind::Multiset(Box::new(DataType {
            kind,
            nullable: first.is_some_and(|t| t.nullable),
        }))),
        "PERCENTILE" => {
            let many = args.get(1).is_some_and(|t| matches!(t.kind, TypeKind::Array(_)));
            let double = DataType::new(TypeKind::Double);
            if many { DataType::new(TypeKind::Array(Box::new(double))) } else { double }
        }
        "ARRAY_AGG" => DataType::new(TypeKind::Array(Box::new(DataType {
            kind,
            nullable: first.is_some_and(|t| t.nullable),
        }))),
        _ => DataType::not_null(TypeKind::Varchar(UNBOUNDED)),
    })
}
