//! ARRAY_* functions.

use crate::engine::expr::Expr;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::{UNBOUNDED, assignable, call, cast_to, common, is_nested, is_string};

use super::{any_nullable, misfit, pair, unknown};

/// ARRAY_* functions: the first argument is the array; elements are brought to a common type.
pub(super) fn resolve(name: &str, args: Vec<Expr>, span: Span) -> SqlResult<Expr> {
    let nullable = any_nullable(&args);
    let Some(TypeKind::Array(element)) = args.first().map(|arg| arg.data_type.kind.clone()) else {
        return Err(misfit(name, &args, &format!("{name}(<ARRAY>, …)"), span));
    };
    let array_nullable = args.first().is_some_and(|arg| arg.data_type.nullable);
    let same = |element: DataType| TypeKind::Array(Box::new(element));
    let arity = args.len();
    let fail = |args: &[Expr]| Err(misfit(name, args, &format!("{name}(<ARRAY<T>>, <T>)"), span));
    let (function, args, result) = match (name, arity) {
        ("ARRAY_CONTAINS" | "ARRAY_POSITION" | "ARRAY_REMOVE" | "ARRAY_APPEND" | "ARRAY_PREPEND", 2) => {
            let [array, value] = pair(args)?;
            // the array's element type stands; the value is brought to it (a text is cut), never the other way round
            if !assignable(&value.data_type.kind, &element.kind) {
                return fail(&[array, value]);
            }
            let kind = element.kind.clone();
            let value_nullable = value.data_type.nullable;
            let args = vec![array, cast_to(value, &kind)];
            let grown = DataType { kind, nullable: element.nullable || value_nullable };
            match name {
                "ARRAY_CONTAINS" => {
                    ("ARRAY_CONTAINS", args, DataType { kind: TypeKind::Boolean, nullable: array_nullable })
                }
                "ARRAY_POSITION" => ("ARRAY_POSITION", args, DataType { kind: TypeKind::Int, nullable }),
                "ARRAY_REMOVE" => {
                    ("ARRAY_REMOVE", args, DataType { kind: same(*element), nullable: array_nullable })
                }
                "ARRAY_APPEND" => {
                    ("ARRAY_APPEND", args, DataType { kind: same(grown), nullable: array_nullable })
                }
                _ => ("ARRAY_PREPEND", args, DataType { kind: same(grown), nullable: array_nullable }),
            }
        }
        ("ARRAY_DISTINCT" | "ARRAY_REVERSE", 1) | ("ARRAY_SORT" | "ARRAY_SLICE", 1..=3) => {
            let function = match name {
                "ARRAY_DISTINCT" => "ARRAY_DISTINCT",
                "ARRAY_REVERSE" => "ARRAY_REVERSE",
                "ARRAY_SORT" => "ARRAY_SORT",
                _ => "ARRAY_SLICE",
            };
            let fits = args.iter().skip(1).all(|arg| match (name, &arg.data_type.kind) {
                (_, TypeKind::Null) => true,
                ("ARRAY_SORT", kind) => *kind == TypeKind::Boolean,
                (_, kind) => matches!(kind, TypeKind::TinyInt | TypeKind::SmallInt | TypeKind::Int),
            });
            if !fits {
                return fail(&args);
            }
            if name == "ARRAY_SORT" && !ordered(&element.kind) {
                return fail(&args);
            }
            (function, args, DataType { kind: same(*element), nullable })
        }
        ("ARRAY_MAX" | "ARRAY_MIN", 1) => {
            if !ordered(&element.kind) {
                return Err(SqlError::plan(
                    span,
                    format!(
                        "Type '{element}' should support both 'EQUALS' and 'ORDER' comparison with itself."
                    ),
                ));
            }
            let function = if name == "ARRAY_MAX" { "ARRAY_MAX" } else { "ARRAY_MIN" };
            (function, args, DataType::new(element.kind))
        }
        ("ARRAY_CONCAT", 1..) | ("ARRAY_UNION" | "ARRAY_EXCEPT" | "ARRAY_INTERSECT", 2) => {
            if args.iter().any(|arg| arg.data_type.kind == TypeKind::Null) {
                return Err(
                    SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one")
                );
            }
            let target = args
                .iter()
                .skip(1)
                .try_fold(DataType::not_null(same(*element)), |t, arg| common(&t, &arg.data_type));
            let Some(target) = target else { return fail(&args) };
            let args: Vec<Expr> = args.into_iter().map(|arg| cast_to(arg, &target.kind)).collect();
            let function = match name {
                "ARRAY_CONCAT" => "ARRAY_CONCAT",
                "ARRAY_UNION" => "ARRAY_UNION",
                "ARRAY_EXCEPT" => "ARRAY_EXCEPT",
                _ => "ARRAY_INTERSECT",
            };
            (function, args, DataType { kind: target.kind, nullable })
        }
        ("ARRAY_JOIN", 2 | 3) => {
            if !is_string(&element.kind)
                || args
                    .iter()
                    .skip(1)
                    .any(|arg| !is_string(&arg.data_type.kind) && arg.data_type.kind != TypeKind::Null)
            {
                return fail(&args);
            }
            ("ARRAY_JOIN", args, DataType { kind: TypeKind::Varchar(UNBOUNDED), nullable })
        }
        _ => return Err(unknown(name, &args, span)),
    };
    Ok(call(function, args, result))
}

/// Whether Flink orders values of this kind.
fn ordered(kind: &TypeKind) -> bool {
    !is_nested(kind) && *kind != TypeKind::Boolean
}
