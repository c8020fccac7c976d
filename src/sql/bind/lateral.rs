//! LATERAL and UNNEST: relations that depend on the row on their left.

use std::collections::BTreeSet;

use crate::engine::expr::Expr;
use crate::engine::plan::{JoinKind, Unnest};
use crate::engine::types::{DataType, TypeKind};
use crate::sql::ast;
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::operators;
use crate::sql::rel::{Col, Rel, RelNode};
use crate::sql::types::columns_of;

use super::correlate::{at_home, correlate, plain_join};
use super::from::aliased;
use super::{Binder, Env, Scope};

/// A query under LATERAL that reads no table.
enum Inlined {
    /// It stands on the left side's rows, under these names.
    Joined(Rel, Scope),
    /// It reads a table.
    Not(Rel),
}

impl Binder<'_> {
    /// `left [LEFT] JOIN LATERAL (query)`, the query depending on the left side by conditions of its WHERE.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn lateral(
        &self,
        left: Rel,
        left_scope: Scope,
        query: &ast::Query,
        alias: Option<&ast::Alias>,
        kind: JoinKind,
        on: Option<&ast::Expr>,
        span: Span,
    ) -> SqlResult<(Rel, Scope)> {
        if !matches!(kind, JoinKind::Inner | JoinKind::Left) {
            return Err(SqlError::plan(span, "LATERAL stands on the right side of an inner or left join"));
        }
        let inner = self.query_in(query, Some(&left_scope))?;
        let visible = inner.cols.len();
        let inner =
            match self.inline(&left, &left_scope, inner, alias, kind == JoinKind::Left || on.is_some())? {
                Inlined::Joined(rel, scope) => return Ok((rel, scope)),
                Inlined::Not(inner) => inner,
            };
        // an aggregation without groups is joined as it is: as in Flink, a row on the left without rows for it has no
        // partner, and is kept by LEFT JOIN only
        let (mut right, conditions) = correlate(inner, &left, span)?;
        let width = left.cols.len();
        let mut conditions: Vec<Expr> = conditions.iter().map(|e| at_home(e, &|c| c + width)).collect();
        let (shown, mut right_scope) = aliased(
            Rel {
                node: RelNode::Values(Vec::new()),
                cols: right.cols.iter().take(visible).cloned().collect(),
            },
            alias,
        )?;
        for (col, named) in right.cols.iter_mut().zip(&shown.cols) {
            col.name.clone_from(&named.name);
        }
        right_scope.cols.iter_mut().for_each(|col| col.index += width);
        let mut scope = left_scope;
        scope.cols.extend(right_scope.cols);
        if let Some(on) = on {
            let bound = self.expr(on, Env::plain(&scope))?;
            conditions.push(operators::clause("ON", bound, on.span)?);
        }
        let rel = plain_join(left, right, kind, conditions, span);
        let exprs = (0..width + visible).map(|i| rel.col(i)).collect();
        let cols = rel.cols.iter().take(width + visible).cloned().collect();
        let rel = rel.project(exprs, cols);
        scope.refresh(&rel);
        Ok((rel, scope))
    }

    /// Flink joins by a condition on the element alone.
    fn of_the_element(&self, condition: &Expr, width: usize, span: Span) -> SqlResult<()> {
        let mut used = BTreeSet::new();
        columns_of(condition, &mut used);
        if used.iter().all(|c| *c >= width) {
            return Ok(());
        }
        Err(SqlError::plan(span, "unexpected correlate variable $cor0 in the plan")
            .help("Flink takes a condition on the element alone here: move the rest to WHERE"))
    }

    /// `left [LEFT] JOIN UNNEST(expr) [ON condition]`.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn unnest(
        &self,
        left: Rel,
        mut scope: Scope,
        expr: &ast::Expr,
        ordinality: bool,
        alias: Option<&ast::Alias>,
        outer: bool,
        on: Option<&ast::Expr>,
    ) -> SqlResult<(Rel, Scope)> {
        let collection = self.expr(expr, Env::plain(&scope))?;
        // a single column has the name of the whole
        let single = alias.map_or("EXPR$0", |alias| alias.name.value.as_str());
        let fields: Vec<(String, DataType)> = match &collection.data_type.kind {
            TypeKind::Array(element) | TypeKind::Multiset(element) => match &element.kind {
                TypeKind::Row(fields) => {
                    fields.iter().map(|f| (f.name.clone(), f.data_type.clone())).collect()
                }
                _ => vec![(single.to_owned(), (**element).clone())],
            },
            TypeKind::Map(key, value) => {
                vec![("KEY".to_owned(), (**key).clone()), ("VALUE".to_owned(), (**value).clone())]
            }
            other => {
                return Err(SqlError::plan(
                    expr.span,
                    format!(
                        "Cannot apply 'UNNEST' to arguments of type 'UNNEST(<{}>)'. Supported form(s): 'UNNEST(<MULTISET>)' 'UNNEST(<ARRAY>)' 'UNNEST(<MAP>)'",
                        crate::sql::types::calcite(other)
                    ),
                ));
            }
        };
        let mut cols: Vec<Col> = fields.into_iter().map(|(name, t)| Col::new(name, t)).collect();
        if ordinality {
            cols.push(Col::new("ORDINALITY", DataType::not_null(TypeKind::Int)));
        }
        if outer {
            cols.iter_mut().for_each(|col| col.data_type.nullable = true);
        }
        if let Some(alias) = alias
            && !alias.columns.is_empty()
        {
            if alias.columns.len() != cols.len() {
                return Err(SqlError::plan(
                    alias.name.span,
                    format!(
                        "List of column aliases must have same degree as table; table has {} columns ({}), whereas alias list has {} columns",
                        cols.len(),
                        cols.iter().map(|c| format!("'{}'", c.name)).collect::<Vec<_>>().join(", "),
                        alias.columns.len(),
                    ),
                ));
            }
            for (col, name) in cols.iter_mut().zip(&alias.columns) {
                col.name.clone_from(&name.value);
            }
        }
        let width = left.cols.len();
        let right = Rel { node: RelNode::Values(Vec::new()), cols: cols.clone() };
        let mut right_scope = Scope::of(&right, alias.map(|a| a.name.value.as_str()));
        right_scope.cols.iter_mut().for_each(|col| col.index += width);
        scope.cols.extend(right_scope.cols);
        let mut all = left.cols.clone();
        all.extend(cols);
        let condition = match on {
            Some(on) => {
                let bound = self.expr(on, Env::plain(&scope))?;
                let bound = operators::clause("ON", bound, on.span)?;
                if self.strict() {
                    self.of_the_element(&bound, width, on.span)?;
                }
                Some(bound)
            }
            None => None,
        };
        let unnest = Unnest { collection, outer, ordinality, condition };
        Ok((Rel { node: RelNode::Unnest(Box::new(left), unnest), cols: all }, scope))
    }

    /// A query without tables under CROSS JOIN LATERAL (`SELECT … FROM UNNEST(t.items)`, or without FROM) is computed
    /// on the rows of the left side.
    fn inline(
        &self,
        left: &Rel,
        left_scope: &Scope,
        inner: Rel,
        alias: Option<&ast::Alias>,
        joins: bool,
    ) -> SqlResult<Inlined> {
        if joins {
            return Ok(Inlined::Not(inner));
        }
        let Some(rel) = on_left(left, &inner) else { return Ok(Inlined::Not(inner)) };
        let width = left.cols.len();
        let shape = Rel { node: RelNode::Values(Vec::new()), cols: inner.cols };
        let (shown, mut right_scope) = aliased(shape, alias)?;
        let mut rel = rel;
        for (col, named) in rel.cols.iter_mut().skip(width).zip(&shown.cols) {
            col.name.clone_from(&named.name);
        }
        right_scope.cols.iter_mut().for_each(|col| col.index += width);
        let mut scope = left_scope.clone();
        scope.cols.extend(right_scope.cols);
        scope.refresh(&rel);
        Ok(Inlined::Joined(rel, scope))
    }
}

/// The left side's columns, then those of a relation over no table. `None`: it reads one, or does more than to compute
/// and filter.
fn on_left(left: &Rel, inner: &Rel) -> Option<Rel> {
    let width = left.cols.len();
    let moved = |e: &Expr| at_home(e, &|c| c + width);
    match &inner.node {
        RelNode::Values(rows) if matches!(rows.as_slice(), [row] if row.is_empty()) => Some(left.clone()),
        RelNode::Unnest(input, unnest) => {
            let input = on_left(left, input)?;
            let mut cols = input.cols.clone();
            cols.extend(inner.cols.iter().skip(input.cols.len() - width).cloned());
            let (collection, condition) = (moved(&unnest.collection), unnest.condition.as_ref().map(moved));
            let unnest = Unnest { collection, condition, ..unnest.clone() };
            Some(Rel { node: RelNode::Unnest(Box::new(input), unnest), cols })
        }
        RelNode::Filter(input, predicate) => Some(on_left(left, input)?.filter(moved(predicate))),
        RelNode::Project(input, exprs) => {
            let input = on_left(left, input)?;
            let mut all: Vec<Expr> = (0..width).map(|c| input.col(c)).collect();
            all.extend(exprs.iter().map(moved));
            let mut cols = left.cols.clone();
            cols.extend(inner.cols.iter().cloned());
            Some(input.project(all, cols))
        }
        _ => None,
    }
}
