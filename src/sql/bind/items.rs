//! The select list: wildcards, names, hints, and what it takes of the grouping.

use std::collections::BTreeMap;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::WindowKind;
use crate::engine::types::TypeKind;
use crate::sql::ast::{self, ExprKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::rel::{Rel, RelNode};
use crate::sql::types::{columns_of, rewrite};

use super::{OUTER, Scope};

/// The select list with the columns that `*` stands for.
pub(super) fn expand_wildcards(
    items: &[(ast::Expr, Option<ast::Ident>)],
    scope: &Scope,
) -> SqlResult<Vec<(ast::Expr, Option<ast::Ident>)>> {
    let mut out = Vec::new();
    for (expr, alias) in items {
        let ExprKind::Wildcard(path) = &expr.kind else {
            out.push((expr.clone(), alias.clone()));
            continue;
        };
        let table = match path.as_slice() {
            [] => None,
            [table] if scope.tables().any(|name| name == table.value) => Some(table),
            path => {
                for field in fields_of(path, scope)? {
                    let parts = path.iter().cloned().chain([ast::Ident { value: field, span: expr.span }]);
                    out.push((ast::Expr { kind: ExprKind::Name(parts.collect()), span: expr.span }, None));
                }
                continue;
            }
        };
        let before = out.len();
        for col in &scope.cols {
            if col.hidden && table.is_none() || table.is_some_and(|t| col.table.as_deref() != Some(&t.value))
            {
                continue;
            }
            let ident = |value: &str| ast::Ident { value: value.to_owned(), span: expr.span };
            let mut parts: Vec<ast::Ident> = col.table.as_deref().map(ident).into_iter().collect();
            parts.push(ident(&col.name));
            out.push((ast::Expr { kind: ExprKind::Name(parts), span: expr.span }, None));
        }
        if out.len() == before {
            return Err(match table {
                Some(table) => {
                    let mut error = scope.missing(Some(table), table);
                    error.message = format!("Unknown identifier '{}'", table.value);
                    error
                }
                None => SqlError::plan(expr.span, "SELECT * needs a FROM clause"),
            });
        }
    }
    Ok(out)
}

/// The names of the fields of a column of rows, or of a row in it: `row.*`, `table.row.*`.
fn fields_of(path: &[ast::Ident], scope: &Scope) -> SqlResult<Vec<String>> {
    let unknown = |at: &ast::Ident| {
        let mut error = scope.missing(None, at);
        error.message = format!("Unknown identifier '{}'", at.value);
        error
    };
    let (col, rest) = match path {
        [table, column, rest @ ..] if scope.tables().any(|name| name == table.value) => {
            (scope.find(Some(&table.value), column)?.ok_or_else(|| scope.missing(Some(table), column))?, rest)
        }
        [column, rest @ ..] => (scope.find(None, column)?.ok_or_else(|| unknown(column))?, rest),
        [] => return Ok(Vec::new()),
    };
    let mut kind = &col.data_type.kind;
    for field in rest {
        let TypeKind::Row(fields) = kind else { return Err(unknown(field)) };
        kind = &fields.iter().find(|f| f.name == field.value).ok_or_else(|| unknown(field))?.data_type.kind;
    }
    match (kind, path.last()) {
        (TypeKind::Row(fields), _) => Ok(fields.iter().map(|f| f.name.clone()).collect()),
        (_, Some(last)) => Err(unknown(last).help("only a ROW has fields: row.*")),
        (_, None) => Ok(Vec::new()),
    }
}

/// The names of the select list's columns.
pub(super) fn names_of(items: &[(ast::Expr, Option<ast::Ident>)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (i, (expr, alias)) in items.iter().enumerate() {
        let name = match (alias, &expr.kind) {
            (Some(alias), _) => alias.value.clone(),
            (None, ExprKind::Name(parts)) => parts.last().map_or_else(String::new, |p| p.value.clone()),
            _ => format!("EXPR${i}"),
        };
        // a name that is taken gets a number, as Calcite does it
        let mut unique = name.clone();
        let mut n = 0;
        while names.contains(&unique) {
            unique = format!("{name}{n}");
            n += 1;
        }
        names.push(unique);
    }
    names
}

/// Hints that a table or a query may have.
const HINTS: [&str; 9] = [
    "OPTIONS",
    "STATE_TTL",
    "LOOKUP",
    "BROADCAST",
    "SHUFFLE_HASH",
    "SHUFFLE_MERGE",
    "NEST_LOOP",
    "MULTI_JOIN",
    "ALIAS",
];

/// A hint is a known one.
///
/// # Errors
/// Flink's, which names it.
pub(in crate::sql) fn check_hint(hint: &ast::Hint, span: Span) -> SqlResult<()> {
    if HINTS.contains(&hint.name.as_str()) {
        return Ok(());
    }
    let error =
        SqlError::plan(span, format!("Hint: {} should be registered in the HintStrategyTable", hint.name));
    Err(error.help(format!("known hints: {}", HINTS.join(", "))))
}

/// The hints of a query are known ones, and name tables of its FROM. Gives what has no effect.
pub(super) fn check_hints(select: &ast::Select) -> SqlResult<Vec<String>> {
    let mut inputs: Vec<String> = Vec::new();
    if let Some(from) = &select.from {
        names_in(from, &mut inputs);
    }
    let mut strangers: Vec<String> = Vec::new();
    let mut warnings = Vec::new();
    for hint in &select.hints {
        check_hint(hint, select.span)?;
        let named: Vec<&str> = match hint.name.as_str() {
            "LOOKUP" => {
                let Some((_, table)) = hint.options.iter().find(|(key, _)| key == "table") else {
                    return Err(SqlError::plan(
                        select.span,
                        "Invalid LOOKUP hint: incomplete required option(s): [Key: 'table' , default: null (fallback keys: [])]",
                    ));
                };
                if hint.options.iter().any(|(key, _)| key == "retry-predicate") {
                    warnings.push(format!(
                        "LOOKUP({table}): 'retry-predicate' has no effect: a key that is not found is not looked up \
                         again, and a database that is away is waited for"
                    ));
                }
                vec![table]
            }
            "STATE_TTL" | "BROADCAST" | "SHUFFLE_HASH" | "SHUFFLE_MERGE" | "NEST_LOOP" | "MULTI_JOIN" => {
                hint.options.iter().map(|(key, _)| key.as_str()).collect()
            }
            _ => Vec::new(),
        };
        for table in named {
            let last = table.rsplit('.').next().unwrap_or(table);
            if !inputs.iter().any(|input| input == last) {
                strangers.push(format!("`{table}` in `{}`", hint.name));
            }
        }
    }
    if strangers.is_empty() {
        return Ok(warnings);
    }
    Err(SqlError::plan(
        select.span,
        format!(
            "The options of following hints cannot match the name of input tables or views: \n{}",
            strangers.join(", ")
        ),
    ))
}

/// Names and aliases of the tables in FROM.
fn names_in(from: &ast::TableExpr, out: &mut Vec<String>) {
    use ast::TableExpr;
    let (alias, name) = match from {
        TableExpr::Table { name, alias, .. } => (alias, name.last()),
        TableExpr::Derived { alias, .. } | TableExpr::Unnest { alias, .. } => (alias, None),
        TableExpr::Window { input, alias, .. } => {
            names_in(input, out);
            (alias, None)
        }
        TableExpr::Join { left, right, .. } => {
            names_in(left, out);
            names_in(right, out);
            return;
        }
    };
    out.extend(alias.iter().map(|alias| alias.name.value.clone()));
    out.extend(name.map(|name| name.value.clone()));
}

/// What the hints `STATE_TTL` of a query say: milliseconds by table.
pub(super) fn state_ttls(select: &ast::Select) -> SqlResult<BTreeMap<String, i64>> {
    let mut ttls = BTreeMap::new();
    for (table, text) in select.hints.iter().filter(|h| h.name == "STATE_TTL").flat_map(|h| &h.options) {
        let ttl = crate::engine::options::millis(text).ok_or_else(|| {
            SqlError::plan(
                select.span,
                if text.is_empty() {
                    "Invalid list options in STATE_TTL hint, only support key-value options.".to_owned()
                } else {
                    format!(
                        "Invalid STATE_TTL hint value: text does not start with a number, and is not a valid ISO-8601 duration format: {text}"
                    )
                },
            )
        })?;
        ttls.insert(table.clone(), ttl);
    }
    Ok(ttls)
}

/// An aggregation of hopping windows is put together of slices: a window holds a whole number of them.
pub(super) fn even_hops(rel: &Rel, span: Span) -> SqlResult<()> {
    let RelNode::Aggregate(aggregate) = &rel.node else { return Ok(()) };
    let window = aggregate.group.iter().filter_map(|c| aggregate.input.cols.get(*c)?.role.as_ref()).next();
    match window.map(|role| &role.window.window.kind) {
        Some(WindowKind::Hop { slide, size, .. }) if *slide > 0 && size % slide != 0 => Err(SqlError::plan(
            span,
            format!(
                "HOP table function based aggregate requires size must be an integral multiple of slide, but got size {size} ms and slide {slide} ms"
            ),
        )),
        _ => Ok(()),
    }
}

/// Conditions on columns of the query around, where these are grouped: on the groups.
pub(super) fn of_groups(conditions: &[Expr], groups: &[Expr], span: Span) -> SqlResult<Vec<Expr>> {
    let mut lost = false;
    let place = |index: usize| {
        groups.iter().position(|group| group.node == ExprNode::Column(index)).map(|group| OUTER + group)
    };
    for condition in conditions {
        let mut columns = std::collections::BTreeSet::new();
        columns_of(condition, &mut columns);
        lost |= columns.into_iter().any(|c| (OUTER..2 * OUTER).contains(&c) && place(c - OUTER).is_none());
    }
    if lost {
        return Err(SqlError::plan(span, "the subquery depends on a column that is not being grouped")
            .help("put the column into GROUP BY"));
    }
    let moved = |index: usize| if index < OUTER { None } else { place(index - OUTER) };
    Ok(conditions
        .iter()
        .map(|e| rewrite(e, &|c, t| crate::sql::types::column(moved(c).unwrap_or(c), t.clone())))
        .collect())
}
