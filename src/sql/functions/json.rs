//! JSON_* functions.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::{UNBOUNDED, call, cast_to, is_numeric, is_string};

use super::{any_nullable, misfit, unknown};

const STRING: TypeKind = TypeKind::Varchar(UNBOUNDED);

/// Resolves a JSON function; the parser has filled in the behaviours.
pub fn resolve(name: &str, mut args: Vec<Expr>, returning: Option<DataType>, span: Span) -> SqlResult<Expr> {
    let nullable = any_nullable(&args);
    if !matches!(name, "JSON_OBJECT" | "JSON_ARRAY")
        && args.iter().any(|arg| matches!(arg.node, ExprNode::Call { function: "JSON", .. }))
    {
        return Err(SqlError::plan(
            span,
            "The JSON() function is currently only supported inside JSON_ARRAY() or as the VALUE param of JSON_OBJECT(). Example: JSON_OBJECT('a', JSON('{\"key\": \"value\"}')) or JSON_ARRAY(JSON('{\"key\": \"value\"}')).",
        ));
    }
    let text = args
        .first()
        .is_some_and(|arg| is_string(&arg.data_type.kind) || arg.data_type.kind == TypeKind::Null);
    Ok(match (name, args.len()) {
        ("JSON_VALUE", 6) if text => {
            let target = returning.map_or(STRING, |t| t.kind);
            if !matches!(
                target,
                TypeKind::Varchar(_)
                    | TypeKind::Char(_)
                    | TypeKind::Boolean
                    | TypeKind::Int
                    | TypeKind::Double
            ) {
                return Err(SqlError::plan(span, format!("JSON_VALUE cannot return {target}"))
                    .help("RETURNING takes STRING, BOOLEAN, INT or DOUBLE"));
            }
            for default in [3, 5] {
                if let Some(arg) = args.get_mut(default) {
                    *arg = cast_to(arg.clone(), &target);
                }
            }
            call("JSON_VALUE", args, DataType::new(target))
        }
        ("JSON_QUERY", 5) if text => {
            if let Some(TypeKind::Array(element)) = returning.as_ref().map(|t| &t.kind)
                && !is_string(&element.kind)
            {
                let element = crate::sql::types::calcite(&element.kind);
                return Err(SqlError::plan(
                    span,
                    format!(
                        "Unsupported array element type '{element}' for RETURNING ARRAY in JSON_QUERY()."
                    ),
                ));
            }
            call("JSON_QUERY", args, DataType::new(returning.map_or(STRING, |t| t.kind)))
        }
        ("JSON_EXISTS", 3) if text => call("JSON_EXISTS", args, DataType::new(TypeKind::Boolean)),
        ("JSON_OBJECT", _) => {
            for key in args.iter().skip(1).step_by(2) {
                if !is_string(&key.data_type.kind) {
                    return Err(SqlError::plan(span, "Expected a character type"));
                }
                if key.data_type.nullable {
                    return Err(SqlError::plan(span, "Argument to function JSON_OBJECT must not be NULL")
                        .help("COALESCE(key, '…') never is"));
                }
            }
            check_values(args.iter().skip(2).step_by(2), span)?;
            call("JSON_OBJECT", args, DataType::not_null(STRING))
        }
        ("JSON_ARRAY", _) => {
            check_values(args.iter().skip(1), span)?;
            call("JSON_ARRAY", args, DataType::not_null(STRING))
        }
        ("JSON_STRING", 1)
            if args.first().is_some_and(|arg| match &arg.data_type.kind {
                TypeKind::Date | TypeKind::Time(_) | TypeKind::IntervalMillis | TypeKind::IntervalMonths => {
                    true
                }
                TypeKind::Map(key, _) => !is_string(&key.kind),
                _ => false,
            }) =>
        {
            return Err(misfit(name, &args, "JSON_STRING(<CHARACTER>)", span));
        }
        // what is JSON already stays what it is
        ("JSON_STRING", 1)
            if args.first().is_some_and(|arg| {
                matches!(arg.node, ExprNode::Call { function: "JSON_OBJECT" | "JSON_ARRAY", .. })
            }) =>
        {
            args.remove(0)
        }
        ("JSON_STRING", 1) => call("JSON_STRING", args, DataType { kind: STRING, nullable }),
        ("JSON_QUOTE", 1) if text => call("JSON_QUOTE", args, DataType { kind: STRING, nullable }),
        ("JSON_UNQUOTE", 1) if text => call("JSON_UNQUOTE", args, DataType { kind: STRING, nullable }),
        ("JSON_VALUE" | "JSON_QUERY" | "JSON_EXISTS" | "JSON_QUOTE" | "JSON_UNQUOTE", _) => {
            return Err(misfit(name, &args, &format!("{name}(<CHARACTER>, <CHARACTER>)"), span));
        }
        _ => return Err(unknown(name, &args, span)),
    })
}

fn check_values<'a>(values: impl Iterator<Item = &'a Expr>, span: Span) -> SqlResult<()> {
    for value in values {
        let kind = &value.data_type.kind;
        let scalar = is_string(kind)
            || is_numeric(kind)
            || matches!(
                kind,
                TypeKind::Boolean
                    | TypeKind::Timestamp(_)
                    | TypeKind::TimestampLtz(_)
                    | TypeKind::Array(_)
                    | TypeKind::Map(..)
                    | TypeKind::Row(_)
            )
            || crate::sql::types::is_binary(kind);
        if !scalar {
            return Err(SqlError::plan(
                span,
                format!("Type '{}' is not scalar or cannot be converted into JSON.", value.data_type),
            )
            .help("CAST(… AS STRING)"));
        }
    }
    Ok(())
}
