//! Constructors of arrays, maps and rows, access to their elements, MAP_* functions.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::{call, cast_to, common, common_kind, is_integer};

use super::{any_nullable, misfit, pair, unknown};

/// Resolves a call by its name in upper case.
pub(super) fn resolve(upper: &str, args: Vec<Expr>, span: Span) -> SqlResult<Expr> {
    let arity = args.len();
    let nullable = any_nullable(&args);
    let first = args.first().map(|arg| arg.data_type.clone());
    let kind = first.as_ref().map_or(TypeKind::Null, |t| t.kind.clone());
    let wrong = |args: &[Expr], forms: &str| Err(misfit(upper, args, forms, span));
    match (upper, arity) {
        ("ARRAY", 0) => Err(SqlError::plan(span, "Require at least 1 argument")),
        ("MAP", 0) => Err(SqlError::plan(span, "Map requires at least 2 arguments")),
        ("ARRAY", _) => {
            let element = args
                .iter()
                .skip(1)
                .try_fold(first.clone().unwrap_or(DataType::new(TypeKind::Null)), |t, arg| {
                    common(&t, &arg.data_type)
                });
            let Some(element) = element.filter(|element| element.kind != TypeKind::Null) else {
                return Err(SqlError::plan(span, "Parameters must be of the same type"));
            };
            let args = args.into_iter().map(|arg| cast_to(arg, &element.kind)).collect();
            Ok(call("ARRAY", args, DataType::not_null(TypeKind::Array(Box::new(element)))))
        }
        ("MAP", _) if !arity.is_multiple_of(2) => {
            Err(SqlError::plan(span, "Map requires an even number of arguments"))
        }
        ("MAP", _) => {
            let side = |parity: usize| {
                let mut types =
                    args.iter().enumerate().filter(|(i, _)| i % 2 == parity).map(|(_, a)| &a.data_type);
                let head = types.next().cloned().unwrap_or(DataType::new(TypeKind::Null));
                types.try_fold(head, |t, other| common(&t, other))
            };
            let (Some(key), Some(mut value)) = (side(0), side(1)) else {
                return Err(SqlError::plan(span, "Parameters must be of the same type"));
            };
            if key.kind == TypeKind::Null {
                return Err(SqlError::plan(span, "Parameters must be of the same type"));
            }
            if value.kind == TypeKind::Null {
                value.kind = key.kind.clone();
            }
            let args = args
                .into_iter()
                .enumerate()
                .map(|(i, arg)| cast_to(arg, if i % 2 == 0 { &key.kind } else { &value.kind }))
                .collect();
            Ok(call("MAP", args, DataType::not_null(TypeKind::Map(Box::new(key), Box::new(value)))))
        }
        ("ROW", 1..) => {
            if args.iter().any(|arg| arg.data_type.kind == TypeKind::Null) {
                return Err(
                    SqlError::plan(span, "Illegal type: NULL").help("CAST(NULL AS type) gives it one")
                );
            }
            let fields = args
                .iter()
                .enumerate()
                .map(|(i, arg)| Field { name: format!("EXPR${i}"), data_type: arg.data_type.clone() })
                .collect();
            Ok(call("ROW", args, DataType::not_null(TypeKind::Row(fields))))
        }
        ("ITEM", 2) => {
            let [base, index] = pair(args)?;
            let (kind, index) = match &base.data_type.kind {
                TypeKind::Row(fields) => {
                    let at = match &index.node {
                        ExprNode::Literal(Value::Str(name)) => fields.iter().position(|f| *f.name == **name),
                        ExprNode::Literal(Value::Int(at)) => usize::try_from(at - 1).ok(),
                        _ => None,
                    };
                    let Some((index, field)) = at.and_then(|at| fields.get(at).map(|field| (at, field)))
                    else {
                        return wrong(&[base, index], "<ROW>[<field name or position>]");
                    };
                    let nullable = base.data_type.nullable || field.data_type.nullable;
                    let data_type = field.data_type.clone().with_nullable(nullable);
                    return Ok(Expr { node: ExprNode::Field { input: Box::new(base), index }, data_type });
                }
                TypeKind::Array(element) if is_integer(&index.data_type.kind) => {
                    if let ExprNode::Literal(Value::Int(at)) = &index.node
                        && *at < 1
                    {
                        return Err(SqlError::plan(
                            span,
                            format!("Array element access needs an index starting at 1 but was {at}."),
                        ));
                    }
                    (element.kind.clone(), cast_to(index, &TypeKind::Int))
                }
                TypeKind::Map(..) if index.data_type.kind == TypeKind::Null => {
                    let error = SqlError::plan(span, "Illegal use of 'NULL'");
                    return Err(error.help("CAST(NULL AS type) gives it one"));
                }
                TypeKind::Map(key, value) if common_kind(&key.kind, &index.data_type.kind).is_some() => {
                    (value.kind.clone(), cast_to(index, &key.kind))
                }
                _ => return wrong(&[base, index], "<ARRAY>[<INTEGER>] <MAP>[<ANY>]"),
            };
            Ok(call("ITEM", vec![base, index], DataType::new(kind)))
        }
        ("CARDINALITY", 1)
            if matches!(kind, TypeKind::Array(_) | TypeKind::Map(..) | TypeKind::Multiset(_)) =>
        {
            Ok(call("CARDINALITY", args, DataType { kind: TypeKind::Int, nullable }))
        }
        ("ELEMENT", 1) => match kind {
            TypeKind::Array(element) | TypeKind::Multiset(element) => {
                let nullable = nullable || element.nullable;
                Ok(call("ELEMENT", args, DataType { kind: element.kind, nullable }))
            }
            _ => wrong(&args, "ELEMENT(<ARRAY>)"),
        },
        ("MAP_KEYS" | "MAP_VALUES" | "MAP_ENTRIES", 1) => match kind {
            TypeKind::Map(key, value) => {
                let (function, element) = match upper {
                    "MAP_KEYS" => ("MAP_KEYS", *key),
                    "MAP_VALUES" => ("MAP_VALUES", *value),
                    _ => (
                        "MAP_ENTRIES",
                        DataType::new(TypeKind::Row(vec![
                            Field { name: "key".to_owned(), data_type: *key },
                            Field { name: "value".to_owned(), data_type: *value },
                        ])),
                    ),
                };
                Ok(call(function, args, DataType { kind: TypeKind::Array(Box::new(element)), nullable }))
            }
            _ => wrong(&args, "<FUNCTION>(<MAP>)"),
        },
        ("MAP_FROM_ARRAYS", 2) => match (&kind, args.get(1).map(|arg| arg.data_type.kind.clone())) {
            (TypeKind::Array(key), Some(TypeKind::Array(value))) => {
                let kind = TypeKind::Map(key.clone(), value);
                Ok(call("MAP_FROM_ARRAYS", args, DataType { kind, nullable }))
            }
            _ => wrong(&args, "MAP_FROM_ARRAYS(<ARRAY>, <ARRAY>)"),
        },
        ("MAP_UNION", 1..) if matches!(kind, TypeKind::Map(..)) => {
            let target =
                args.iter().skip(1).try_fold(DataType::not_null(kind), |t, arg| common(&t, &arg.data_type));
            match target {
                Some(target) => {
                    let args = args.into_iter().map(|arg| cast_to(arg, &target.kind)).collect();
                    Ok(call("MAP_UNION", args, DataType { kind: target.kind, nullable }))
                }
                None => wrong(&args, "MAP_UNION(<MAP>, …)"),
            }
        }
        _ => Err(unknown(upper, &args, span)),
    }
}
