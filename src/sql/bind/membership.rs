//! IN (query) and EXISTS as values: inside OR, CASE or a select list, where they cannot be semi joins.

use std::collections::BTreeSet;

use crate::engine::expr::Expr;
use crate::engine::plan::{AggregateCall, JoinKind};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::ast::{self, ExprKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::{self, operators};
use crate::sql::rel::{AggregateRel, Col, Rel, RelNode};
use crate::sql::types::{call, column, columns_of, literal, null_of};

use super::correlate::{at_home, correlate_by_equality, plain_join};
use super::subquery::{for_exists, is_global_aggregate};
use super::visit::visit;
use super::{Binder, Env, OUTER, Scope};

/// What a subquery stands for, by the address of its syntax tree.
pub(super) type Bound = Vec<(usize, Expr)>;

impl Binder<'_> {
    /// Joins what the IN (query) and EXISTS of an expression need; gives what they are over the joined relation.
    pub(super) fn memberships(
        &self,
        mut rel: Rel,
        scope: &Scope,
        part: &ast::Expr,
    ) -> SqlResult<(Rel, Bound)> {
        let mut tests: Vec<(&ast::Query, Option<&ast::Expr>, bool, Span)> = Vec::new();
        visit(part, &mut |e| match &e.kind {
            ExprKind::InQuery(value, query, negated) => tests.push((query, Some(value), *negated, e.span)),
            ExprKind::Exists(query) => tests.push((query, None, false, e.span)),
            _ => {}
        });
        let mut bound = Vec::new();
        for (query, value, negated, span) in tests {
            let test;
            (rel, test) = self.membership(rel, scope, query, value, span)?;
            let test = if negated { operators::negate(test, span)? } else { test };
            bound.push((std::ptr::from_ref(query) as usize, test));
        }
        Ok((rel, bound))
    }

    fn membership(
        &self,
        left: Rel,
        scope: &Scope,
        query: &ast::Query,
        value: Option<&ast::Expr>,
        span: Span,
    ) -> SqlResult<(Rel, Expr)> {
        let inner = self.query_in(query, Some(scope))?;
        // (a, b) IN (SELECT x, y …) compares pairs
        let values: Vec<&ast::Expr> = match value {
            Some(ast::Expr { kind: ExprKind::Row(items), .. }) => items.iter().collect(),
            Some(value) => vec![value],
            None => Vec::new(),
        };
        if value.is_some() && inner.cols.len() != values.len() {
            return Err(SqlError::plan(span, "Values passed to IN operator must have compatible types")
                .help(format!("the query gives {} columns, {} compared", inner.cols.len(), values.len())));
        }
        let inner = if value.is_none() { for_exists(inner) } else { inner };
        if value.is_none() && is_global_aggregate(&inner) {
            return Ok((left, literal(Value::Bool(true), TypeKind::Boolean)));
        }
        let (right, conditions) = correlate_by_equality(inner, &left, span)?;
        // the columns that decide: those compared with the query around, and the value's
        let mut keys = BTreeSet::new();
        for condition in &conditions {
            let mut columns = BTreeSet::new();
            columns_of(condition, &mut columns);
            keys.extend(columns.into_iter().filter(|c| *c < OUTER));
        }
        let by: Vec<usize> = keys.iter().copied().collect();
        keys.extend(0..values.len());
        if keys.is_empty() {
            let width = left.cols.len();
            let tests = conditions.iter().map(|e| at_home(e, &|c| c + width)).collect();
            let joined = joined(left, counted(right, &[], &[]).0, tests);
            let count = joined.col(width);
            let some = operators::compare(">", count, literal(Value::Int(0), TypeKind::BigInt), span)?;
            return Ok((joined, is("IS TRUE", some)));
        }
        let keys: Vec<usize> = keys.into_iter().collect();
        let width = left.cols.len();
        let place = |c: usize| width + keys.iter().position(|k| *k == c).unwrap_or(0);
        let mut tests: Vec<Expr> = conditions.iter().map(|e| at_home(e, &place)).collect();
        let mut wanted = Vec::new();
        for (at, value) in values.iter().enumerate() {
            let value = self.expr(value, Env::plain(scope))?;
            let element = right.cols.get(at).map_or(DataType::new(TypeKind::Null), |c| c.data_type.clone());
            tests.push(operators::compare("=", value.clone(), column(place(at), element.clone()), span)?);
            wanted.push((value, element));
        }
        let all = right.clone();
        let with_mark = joined(left, marked(right, &keys), tests);
        let found = is("IS NOT NULL", with_mark.col(width + keys.len()));
        if !wanted.iter().any(|(value, element)| value.data_type.nullable || element.nullable) {
            return Ok((with_mark, found));
        }
        // NULLs make the answer unknown: of the value where there are rows, of the query where nothing is found
        let at = with_mark.cols.len();
        let columns: Vec<usize> = (0..wanted.len()).collect();
        let (counts, group) = counted(all, &by, &columns);
        let rel = if conditions.is_empty() {
            // as in Flink, an inner join: while the query has never had a row there is no count, and so no answer
            plain_join(with_mark, counts, JoinKind::Inner, Vec::new(), Span::default())
        } else {
            let place = |c: usize| at + by.iter().position(|k| *k == c).unwrap_or(0);
            let tests = conditions.iter().map(|e| at_home(e, &place)).collect();
            joined(with_mark, counts, tests)
        };
        let (rows, known) = (rel.col(at + group), rel.col(at + group + 1));
        let zero = literal(Value::Int(0), TypeKind::BigInt);
        let boolean = |b: bool| literal(Value::Bool(b), TypeKind::Boolean);
        // without a row for it there is no count either: as in Flink a NULL is unknown even there
        let none = is("IS TRUE", operators::compare("=", rows.clone(), zero, span)?);
        let mut branches = vec![(none, boolean(false))];
        let null = || null_of(TypeKind::Boolean);
        branches.extend(wanted.into_iter().map(|(value, _)| (is("IS NULL", value), null())));
        branches.push((found, boolean(true)));
        branches.push((is("IS TRUE", operators::compare("<", known, rows, span)?), null()));
        let test = functions::case(branches, boolean(false), DataType::new(TypeKind::Boolean));
        Ok((rel, test))
    }
}

fn is(test: &'static str, expr: Expr) -> Expr {
    call(test, vec![expr], DataType::not_null(TypeKind::Boolean))
}

/// The distinct values of these columns, and TRUE behind them.
fn marked(rel: Rel, keys: &[usize]) -> Rel {
    let exprs: Vec<Expr> = keys.iter().map(|k| rel.col(*k)).collect();
    let cols: Vec<Col> =
        keys.iter().filter_map(|k| rel.cols.get(*k).cloned().map(Col::materialized)).collect();
    let input = rel.project(exprs, cols.clone());
    let group = (0..keys.len()).collect();
    let node = RelNode::Aggregate(Box::new(AggregateRel {
        input,
        group,
        calls: Vec::new(),
        window: None,
        ttl: None,
    }));
    let distinct = Rel { node, cols };
    let mut exprs: Vec<Expr> = (0..keys.len()).map(|i| distinct.col(i)).collect();
    let mut cols = distinct.cols.clone();
    exprs.push(literal(Value::Bool(true), TypeKind::Boolean));
    cols.push(Col::new("$i", DataType::not_null(TypeKind::Boolean)));
    distinct.project(exprs, cols)
}

/// Per group the number of rows, and of values that are not NULL in these columns; and how many columns the group has.
fn counted(rel: Rel, group: &[usize], columns: &[usize]) -> (Rel, usize) {
    let count = |args: Vec<usize>, name: &str| AggregateCall {
        function: "COUNT",
        args,
        distinct: false,
        filter: None,
        output: Field { name: name.to_owned(), data_type: DataType::not_null(TypeKind::BigInt) },
    };
    let mut calls = vec![count(Vec::new(), "$c")];
    if !columns.is_empty() {
        calls.push(count(columns.to_vec(), "$ck"));
    }
    let mut cols: Vec<Col> =
        group.iter().filter_map(|k| rel.cols.get(*k).cloned().map(Col::materialized)).collect();
    cols.extend(calls.iter().map(|c| Col::new(c.output.name.clone(), c.output.data_type.clone())));
    let node = RelNode::Aggregate(Box::new(AggregateRel {
        input: rel,
        group: group.to_vec(),
        calls,
        window: None,
        ttl: None,
    }));
    (Rel { node, cols }, group.len())
}

/// LEFT JOIN.
fn joined(left: Rel, right: Rel, conditions: Vec<Expr>) -> Rel {
    plain_join(left, right, JoinKind::Left, conditions, Span::default())
}
