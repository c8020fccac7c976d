//! Queries: SELECT, VALUES, set operations, ORDER BY.

use std::cell::RefCell;

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::SortKey;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::ast::{self, ExprKind, SetExpr};
use crate::sql::error::{SqlError, SqlResult};
use crate::sql::functions::operators;
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode, TimeAttribute};
use crate::sql::types::{cast_to, common, rewrite};

use super::aggregate::{Aggregates, PROPERTIES};
use super::items::{check_hints, even_hops, expand_wildcards, names_of, of_groups, state_ttls};
use super::over::{OVERS, Overs};
use super::visit::{has_aggregate, has_over, visit};
use super::{Binder, Env, OUTER, Scope};

/// Columns from here on stand for scalar subqueries of the select list until they are joined.
const SCALARS: usize = 1 << 31;

impl Binder<'_> {
    /// Binds a query.
    pub fn query(&self, query: &ast::Query) -> SqlResult<Rel> {
        self.query_in(query, None)
    }

    /// Binds a query that may refer to columns of the one around.
    pub(super) fn query_in(&self, query: &ast::Query, outer: Option<&Scope>) -> SqlResult<Rel> {
        let before = self.ctes.borrow().len();
        let out = self.query_with(query, outer);
        self.ctes.borrow_mut().truncate(before);
        out
    }

    fn query_with(&self, query: &ast::Query, outer: Option<&Scope>) -> SqlResult<Rel> {
        for (name, columns, inner) in &query.ctes {
            let rel = self.query_in(inner, None)?;
            if !columns.is_empty() && columns.len() != rel.cols.len() {
                return Err(SqlError::plan(
                    name.span,
                    "Number of columns must match number of query columns",
                )
                .help(format!(
                    "'{}' names {}, the query has {}",
                    name.value,
                    columns.len(),
                    rel.cols.len()
                )));
            }
            let rel = renamed(rel, columns, name)?;
            self.ctes.borrow_mut().push((name.value.clone(), rel));
        }
        let (rel, order, visible) = match &query.body {
            SetExpr::Select(select) => self.select(select, &query.order, outer)?,
            other => {
                let rel = self.set_expr(other, outer)?;
                let scope = Scope::of(&rel, None);
                let mut order = Vec::new();
                for item in &query.order {
                    let column = match self.output_column(&item.expr, &rel)? {
                        Some(column) => column,
                        None => match self.expr(&item.expr, Env::plain(&scope))?.node {
                            ExprNode::Column(column) => column,
                            _ => {
                                return Err(SqlError::plan(
                                    item.expr.span,
                                    "ORDER BY of a set operation takes its columns",
                                ));
                            }
                        },
                    };
                    order.push(sort_key(item, column));
                }
                let visible = rel.cols.len();
                (rel, order, visible)
            }
        };
        if order.is_empty() && query.limit.is_none() && query.offset.is_none() {
            return Ok(rel);
        }
        let cols = rel.cols.clone();
        let rel = Rel {
            node: RelNode::Sort {
                input: Box::new(rel),
                order,
                offset: query.offset.unwrap_or(0),
                limit: query.limit,
            },
            cols,
        };
        if visible == rel.cols.len() {
            return Ok(rel);
        }
        let exprs = (0..visible).map(|i| rel.col(i)).collect();
        let cols = rel.cols.iter().take(visible).cloned().collect();
        Ok(rel.project(exprs, cols))
    }

    fn set_expr(&self, body: &SetExpr, outer: Option<&Scope>) -> SqlResult<Rel> {
        match body {
            SetExpr::Select(select) => Ok(self.select(select, &[], outer)?.0),
            SetExpr::Query(query) => self.query_in(query, outer),
            SetExpr::Values(rows) => self.values(rows),
            SetExpr::SetOp(op, all, left, right, span) => {
                let (left, right) = (self.set_expr(left, outer)?, self.set_expr(right, outer)?);
                let words = if *all { format!("{op} ALL") } else { (*op).to_string() };
                if left.cols.len() != right.cols.len() {
                    return Err(SqlError::plan(
                        *span,
                        format!(
                            "Column count mismatch in {words}: {} and {}",
                            left.cols.len(),
                            right.cols.len()
                        ),
                    ));
                }
                let mut cols = Vec::new();
                for (i, (a, b)) in left.cols.iter().zip(&right.cols).enumerate() {
                    self.typed(&left.col(i), *span)?;
                    self.typed(&right.col(i), *span)?;
                    let Some(data_type) = common(&a.data_type, &b.data_type) else {
                        return Err(SqlError::plan(
                            *span,
                            format!("Type mismatch in column {} of {words}", i + 1),
                        )
                        .help(format!(
                            "{} and {} have no common type: CAST one side",
                            a.data_type, b.data_type
                        )));
                    };
                    let mut col = Col::new(a.name.clone(), data_type);
                    if a.time == b.time && *op == "UNION" && *all {
                        col.time = a.time;
                    }
                    if let (Some(one), Some(other), "UNION", true) = (&a.role, &b.role, *op, *all)
                        && one.is_like(other)
                    {
                        col.role = Some(one.clone());
                    }
                    cols.push(col);
                }
                let left = converted(left, &cols);
                let right = converted(right, &cols);
                if *op == "UNION" {
                    let union = Rel { node: RelNode::Union(vec![left, right]), cols };
                    return Ok(if *all { union } else { distinct(union) });
                }
                let (left, right) = (Box::new(left), Box::new(right));
                Ok(Rel {
                    node: RelNode::SetOp { intersect: *op == "INTERSECT", all: *all, left, right },
                    cols,
                })
            }
        }
    }

    fn values(&self, rows: &[Vec<ast::Expr>]) -> SqlResult<Rel> {
        let scope = Scope::default();
        let mut bound: Vec<Vec<Expr>> = Vec::new();
        let mut types: Vec<DataType> = Vec::new();
        for row in rows {
            let row_at = row.first().map(|e| e.span).unwrap_or_default();
            let exprs =
                row.iter().map(|e| self.expr(e, Env::plain(&scope))).collect::<SqlResult<Vec<_>>>()?;
            exprs.iter().zip(row).try_for_each(|(expr, e)| self.typed(expr, e.span))?;
            if bound.is_empty() {
                types = exprs.iter().map(|e| e.data_type.clone()).collect();
            } else if exprs.len() != types.len() {
                return Err(SqlError::plan(
                    row_at,
                    "Values passed to VALUES operator must have compatible types",
                ));
            } else {
                for (t, e) in types.iter_mut().zip(&exprs) {
                    *t = common(t, &e.data_type).ok_or_else(|| {
                        SqlError::plan(row_at, "Values passed to VALUES operator must have compatible types")
                    })?;
                }
            }
            bound.push(exprs);
        }
        let bound = bound
            .into_iter()
            .map(|row| row.into_iter().zip(&types).map(|(e, t)| cast_to(e, &t.kind)).collect())
            .collect();
        let cols = types.into_iter().enumerate().map(|(i, t)| Col::new(format!("EXPR${i}"), t)).collect();
        Ok(Rel { node: RelNode::Values(bound), cols })
    }

    /// An ORDER BY item that names an output column or counts to it.
    fn output_column(&self, expr: &ast::Expr, rel: &Rel) -> SqlResult<Option<usize>> {
        match &expr.kind {
            ExprKind::Number(text) => match text.parse::<usize>() {
                Ok(n) if n >= 1 && n <= rel.cols.len() => Ok(Some(n - 1)),
                _ => Err(SqlError::plan(expr.span, "Ordinal out of range")),
            },
            ExprKind::Name(parts) => match parts.as_slice() {
                [name] => Ok(rel.cols.iter().position(|col| col.name == name.value)),
                _ => Ok(None),
            },
            _ => Ok(None),
        }
    }

    fn select(
        &self,
        select: &ast::Select,
        order: &[ast::OrderItem],
        outer: Option<&Scope>,
    ) -> SqlResult<(Rel, Vec<SortKey>, usize)> {
        self.warnings.borrow_mut().append(&mut check_hints(select)?);
        self.ttls.borrow_mut().push(state_ttls(select)?);
        let from = match &select.from {
            Some(from) => self.from(from, outer),
            None => Ok((Rel { node: RelNode::Values(vec![Vec::new()]), cols: Vec::new() }, Scope::default())),
        };
        // Of what is below the grouping, while the hint is that of this query.
        let ttl = from.as_ref().ok().and_then(|(_, scope)| self.ttl(scope));
        let hinted = self.ttls.borrow_mut().pop().unwrap_or_default();
        let (mut rel, mut scope) = from?;
        scope.around = super::correlate::around(outer);
        for name in hinted.keys().filter(|name| !scope.tables().any(|table| table == name.as_str())) {
            let warning =
                format!("the hint STATE_TTL has no effect on '{name}', which is no table of its FROM");
            self.warnings.borrow_mut().push(warning);
        }
        if let Some(filter) = &select.filter {
            rel = self.condition(rel, &scope, filter)?;
        }
        for (i, (name, _)) in select.windows.iter().enumerate() {
            if select.windows.iter().take(i).any(|(before, _)| before.value == name.value) {
                return Err(SqlError::plan(name.span, "Duplicate window names not allowed"));
            }
        }
        // also of windows that no call refers to
        for (_, window) in &select.windows {
            for expr in window.partition.iter().chain(window.order.iter().map(|item| &item.expr)) {
                if let ExprKind::Name(_) = expr.kind {
                    self.expr(expr, Env::plain(&scope))?;
                }
            }
        }
        let items = expand_wildcards(&select.items, &scope)?;
        let grouped = select.group.is_some()
            || select.having.is_some()
            || items.iter().any(|(e, _)| has_aggregate(e))
            || order.iter().any(|o| has_aggregate(&o.expr));
        let base = Env { windows: &select.windows, clause: "this", ..Env::plain(&scope) };
        let aggregates = match (&select.group, grouped) {
            (Some(group), _) => Some(RefCell::new(self.group_by(group, base)?)),
            (None, true) => Some(RefCell::new(Aggregates::default())),
            (None, false) => None,
        };
        // scalar subqueries become columns
        let mut queries: Vec<&ast::Query> = Vec::new();
        for (e, _) in &items {
            visit(e, &mut |e| {
                if let ExprKind::Subquery(q) = &e.kind {
                    queries.push(q);
                }
            });
        }
        if let Some(having) = &select.having {
            visit(having, &mut |e| {
                if let ExprKind::Subquery(q) = &e.kind {
                    queries.push(q);
                }
            });
        }
        let mut scalars = Vec::new();
        if !grouped {
            for (e, _) in &items {
                let bound;
                (rel, bound) = self.memberships(rel, &scope, e)?;
                scalars.extend(bound);
            }
        }
        let mut joined = Vec::new();
        for (i, query) in queries.iter().enumerate() {
            let (inner, correlated, empty) = self.scalar(query, &scope, &rel)?;
            let data_type = inner
                .cols
                .first()
                .map(|c| c.data_type.clone().with_nullable(true))
                .unwrap_or(DataType::new(TypeKind::Null));
            scalars.push((
                std::ptr::from_ref(*query) as usize,
                super::subquery::or_empty(crate::sql::types::column(SCALARS + i, data_type), empty),
            ));
            joined.push((inner, correlated));
        }
        let overs = RefCell::new(Overs::default());
        let env = Env { scalars: &scalars, aggregates: aggregates.as_ref(), over: Some(&overs), ..base };
        let mut exprs = Vec::with_capacity(items.len());
        for (expr, _) in &items {
            exprs.push(self.expr(expr, env)?);
        }
        let having = match &select.having {
            Some(having) => {
                Some(operators::clause("HAVING", self.expr(having, Env { over: None, ..env })?, having.span)?)
            }
            None => None,
        };
        let qualify = match &select.qualify {
            Some(qualify) if !has_over(qualify) => {
                return Err(SqlError::plan(
                    qualify.span,
                    "QUALIFY expression must contain a window function",
                )
                .help("a condition on columns stands in WHERE"));
            }
            Some(qualify) => Some(operators::clause("QUALIFY", self.expr(qualify, env)?, qualify.span)?),
            None => None,
        };
        let names = names_of(&items);
        // ORDER BY: an output column, or a hidden one
        let mut keys = Vec::new();
        let visible = exprs.len();
        for item in order {
            let place = match &item.expr.kind {
                ExprKind::Number(text) => match text.parse::<usize>() {
                    Ok(n) if n >= 1 && n <= visible => Some(n - 1),
                    _ => return Err(SqlError::plan(item.expr.span, "Ordinal out of range")),
                },
                ExprKind::Name(parts) if parts.len() == 1 => {
                    names.iter().position(|name| parts.first().is_some_and(|p| p.value == *name))
                }
                _ => None,
            };
            let place = match place {
                Some(place) => place,
                None => {
                    let bound = self.expr(&item.expr, env)?;
                    match exprs.iter().position(|e| *e == bound) {
                        Some(place) => place,
                        None if select.distinct => {
                            return Err(SqlError::plan(
                                item.expr.span,
                                match &item.expr.kind {
                                    ExprKind::Name(parts) => format!(
                                        "Expression '{}' is not in the select clause",
                                        parts.iter().map(|p| p.value.as_str()).collect::<Vec<_>>().join(".")
                                    ),
                                    _ => "Expression of ORDER BY is not in the select clause".to_owned(),
                                },
                            ));
                        }
                        None => {
                            exprs.push(bound);
                            exprs.len() - 1
                        }
                    }
                }
            };
            keys.push(sort_key(item, place));
        }
        // bring the placeholders home
        let mut properties_at = 0;
        if let Some(cell) = aggregates {
            let state = cell.into_inner();
            for (query, (_, correlated)) in queries.iter().zip(&mut joined) {
                *correlated = of_groups(correlated, &state.groups, query.span)?;
            }
            (rel, properties_at) = self.build_aggregate(rel, state);
            even_hops(&rel, select.span)?;
            if let RelNode::Aggregate(aggregate) = &mut rel.node {
                aggregate.ttl = ttl;
            }
        }
        let scalars_at = rel.cols.len();
        for (inner, correlated) in joined {
            rel = self.join_scalar(rel, inner, correlated);
        }
        let home = move |expr: &Expr| {
            rewrite(expr, &|index, data_type| {
                let index = if (SCALARS..OVERS).contains(&index) {
                    index - SCALARS + scalars_at
                } else if (PROPERTIES..SCALARS).contains(&index) {
                    index - PROPERTIES + properties_at
                } else {
                    index
                };
                crate::sql::types::column(index, data_type.clone())
            })
        };
        if let Some(having) = having {
            rel = rel.filter(home(&having));
        }
        let overs = overs.into_inner();
        let mut places = Vec::new();
        if !overs.is_empty() {
            (rel, places) = self.build_overs(rel, overs, &home);
        }
        let placed = |expr: &Expr| {
            rewrite(&home(expr), &|index, data_type| {
                let index = if (OVERS..OUTER).contains(&index) {
                    places.get(index - OVERS).copied().unwrap_or(0)
                } else {
                    index
                };
                crate::sql::types::column(index, data_type.clone())
            })
        };
        if let Some(qualify) = qualify {
            rel = rel.filter(placed(&qualify));
        }
        let exprs: Vec<Expr> = exprs.iter().map(placed).collect();
        let cols = exprs
            .iter()
            .enumerate()
            .map(|(i, expr)| {
                let name = names.get(i).cloned().unwrap_or_else(|| format!("$s{i}"));
                projected(expr, &rel, name)
            })
            .collect();
        let mut rel = rel.project(exprs, cols);
        if select.distinct {
            rel = distinct(rel);
        }
        Ok((rel, keys, visible))
    }
}

/// The column that an expression makes of a relation's columns.
pub(super) fn projected(expr: &Expr, input: &Rel, name: String) -> Col {
    let mut col = Col::new(name, expr.data_type.clone());
    col.role = crate::sql::planner::role(expr, &input.cols);
    match &expr.node {
        ExprNode::Column(index) => {
            if let Some(from) = input.cols.get(*index) {
                col.time = from.time;
            }
        }
        ExprNode::Call { function: "PROCTIME", .. } => col.time = TimeAttribute::Proctime,
        _ => {}
    }
    col
}

fn sort_key(item: &ast::OrderItem, column: usize) -> SortKey {
    SortKey { column, descending: item.descending, nulls_first: item.nulls_first.unwrap_or(!item.descending) }
}

/// DISTINCT: a group of all columns.
fn distinct(rel: Rel) -> Rel {
    let cols = rel.cols.iter().cloned().map(Col::materialized).collect();
    let group = (0..rel.cols.len()).collect();
    let node = RelNode::Aggregate(Box::new(AggregateRel {
        input: rel,
        group,
        calls: Vec::new(),
        window: None,
        ttl: None,
    }));
    Rel { node, cols }
}

/// The relation with its columns converted to these types.
pub(super) fn converted(rel: Rel, cols: &[Col]) -> Rel {
    if rel.cols.iter().zip(cols).all(|(a, b)| a.data_type.kind == b.data_type.kind) {
        return rel;
    }
    let exprs = cols.iter().enumerate().map(|(i, col)| cast_to(rel.col(i), &col.data_type.kind)).collect();
    rel.project(exprs, cols.to_vec())
}

/// The relation with these column names.
pub(super) fn renamed(mut rel: Rel, columns: &[ast::Ident], name: &ast::Ident) -> SqlResult<Rel> {
    if columns.is_empty() {
        return Ok(rel);
    }
    if columns.len() != rel.cols.len() {
        return Err(SqlError::plan(
            name.span,
            format!(
                "VIEW definition and input fields not match: Def fields: [{}]. Input fields: [{}].",
                columns.iter().map(|c| c.value.as_str()).collect::<Vec<_>>().join(", "),
                rel.cols.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        )
        .help(format!(
            "'{}' names {} columns, the query has {}",
            name.value,
            columns.len(),
            rel.cols.len()
        )));
    }
    for (col, ident) in rel.cols.iter_mut().zip(columns) {
        col.name.clone_from(&ident.value);
    }
    Ok(rel)
}
