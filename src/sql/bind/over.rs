//! OVER.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::plan::{AggregateCall, Frame, SortKey};
use crate::engine::row::Value;
use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::ast::{self, FrameStart};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::functions::aggregates;
use crate::sql::rel::{Col, OverRel, Rel, RelNode};
use crate::sql::types::column;

use super::{Binder, Env};

/// Columns from here on stand for OVER calls until their operators are built.
pub(super) const OVERS: usize = 1 << 32;

/// OVER calls gathered while the select list is bound.
#[derive(Debug, Default)]
pub(in crate::sql) struct Overs {
    calls: Vec<Pending>,
}

#[derive(Clone, Debug, PartialEq)]
struct Pending {
    function: &'static str,
    args: Vec<Expr>,
    distinct: bool,
    filter: Option<Expr>,
    data_type: DataType,
    partition: Vec<Expr>,
    order: Vec<(Expr, bool, bool)>,
    frame: Frame,
}

/// A window that starts from a named one: what it says itself goes before.
fn refine(base: &ast::WindowSpec, own: &ast::WindowSpec) -> ast::WindowSpec {
    let mut spec = base.clone();
    if !own.partition.is_empty() {
        spec.partition.clone_from(&own.partition);
    }
    if !own.order.is_empty() {
        spec.order.clone_from(&own.order);
    }
    if own.frame.is_some() {
        spec.frame.clone_from(&own.frame);
    }
    spec
}

impl Overs {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}

impl Binder<'_> {
    /// A call with OVER.
    pub(super) fn over_call(&self, ast_call: &ast::Call, env: Env<'_>, span: Span) -> SqlResult<Expr> {
        let Some(cell) = env.over else {
            return Err(SqlError::plan(span, format!("Windowed aggregate expression is illegal in {} clause", env.clause))
                .help("filter its result in a query around: SELECT … FROM (SELECT …, ROW_NUMBER() OVER (…) AS rn FROM t) WHERE rn = 1"));
        };
        let name = ast_call.name.value.as_str();
        let Some(function) = aggregates::canonical(name).or(aggregates::over_only(name)) else {
            let inner = Env { over: None, ..env };
            let args =
                ast_call.args.iter().map(|arg| self.expr(arg, inner)).collect::<SqlResult<Vec<_>>>()?;
            return Err(crate::sql::functions::unknown(name, &args, ast_call.name.span)
                .help(format!("{name} is no aggregate function and takes no OVER")));
        };
        let named = |wanted: &ast::Ident| {
            env.windows
                .iter()
                .find(|(name, _)| name.value == wanted.value)
                .map(|(_, spec)| spec)
                .ok_or_else(|| SqlError::plan(wanted.span, format!("Window '{}' not found", wanted.value)))
        };
        let refined;
        let spec = match &ast_call.over {
            Some(ast::Over::Spec(spec)) => match &spec.base {
                Some(base) => {
                    refined = refine(named(base)?, spec);
                    &refined
                }
                None => spec,
            },
            Some(ast::Over::Named(wanted)) => named(wanted)?,
            None => return Err(SqlError::plan(span, "OVER is missing")),
        };
        if let Some(filter) = &ast_call.filter {
            return Err(SqlError::plan(filter.span, "OVER must be applied to aggregate function")
                .help("FILTER does not stand with OVER: aggregate CASE WHEN … THEN … END"));
        }
        let inner = Env { over: None, ..env };
        let args = ast_call.args.iter().map(|arg| self.expr(arg, inner)).collect::<SqlResult<Vec<_>>>()?;
        // A frame is known to have rows where its bounds are words, not numbers.
        let filled = !matches!(spec.frame, Some((_, FrameStart::Preceding(_))));
        if let ("STDDEV_POP" | "STDDEV_SAMP" | "VAR_POP" | "VAR_SAMP", [arg]) = (function, args.as_slice()) {
            let to =
                aggregates::result_type(function, std::slice::from_ref(&arg.data_type), filled, false, span)?;
            let mut moments = self.expr(&of_moments(function, ast_call, to.clone(), span), env)?;
            if function.ends_with("_POP") {
                moments.data_type = to;
            }
            return Ok(moments);
        }
        if let ("AVG", [arg]) = (function, args.as_slice()) {
            let to =
                aggregates::result_type(function, std::slice::from_ref(&arg.data_type), filled, false, span)?;
            let mut mean = self.expr(&of_sum(ast_call, to.clone(), span), env)?;
            mean.data_type = to;
            return Ok(mean);
        }
        if matches!(function, "NTILE" | "CUME_DIST" | "PERCENT_RANK" | "LEAD") {
            return Err(SqlError::plan(
                span,
                format!("{function} Function is not supported in stream mode."),
            ));
        }
        let filter: Option<Expr> = None;
        let partition = spec.partition.iter().map(|e| self.expr(e, inner)).collect::<SqlResult<Vec<_>>>()?;
        let mut order = Vec::new();
        for item in &spec.order {
            let bound = self.expr(&item.expr, inner)?;
            order.push((bound, item.descending, item.nulls_first.unwrap_or(!item.descending)));
        }
        if spec.frame.is_some() && matches!(function, "ROW_NUMBER" | "RANK" | "DENSE_RANK" | "LAG") {
            return Err(SqlError::plan(
                span,
                "ROW/RANGE not allowed with RANK, DENSE_RANK or ROW_NUMBER functions",
            ));
        }
        let frame = match &spec.frame {
            None if function == "ROW_NUMBER" => Frame::Rows(None),
            None => Frame::Range(None),
            Some((true, FrameStart::Unbounded)) => Frame::Rows(None),
            Some((true, FrameStart::Current)) => Frame::Rows(Some(0)),
            Some((false, FrameStart::Unbounded)) => Frame::Range(None),
            Some((false, FrameStart::Current)) => Frame::Range(Some(0)),
            Some((rows, FrameStart::Preceding(bound))) => {
                let bound_at = bound.span;
                let bound = self.expr(bound, inner)?;
                if bound.data_type.kind == TypeKind::IntervalMonths {
                    return Err(SqlError::plan(
                        bound_at,
                        "INTERVAL_YEAR_MONTH type is not allowed for window boundary",
                    )
                    .help(
                        "months differ in length: RANGE BETWEEN INTERVAL '30' DAY PRECEDING AND CURRENT ROW",
                    ));
                }
                match (rows, bound.node) {
                    (true, ExprNode::Literal(Value::Int(n))) => {
                        Frame::Rows(Some(u64::try_from(n).map_err(|_| {
                            SqlError::plan(bound_at, "ROWS value must be a non-negative integral constant")
                        })?))
                    }
                    (false, ExprNode::Literal(Value::Interval(millis))) if millis < 0 => {
                        return Err(SqlError::plan(bound_at, "RANGE takes an interval that is not negative"));
                    }
                    (false, ExprNode::Literal(Value::Interval(millis))) => Frame::Range(Some(millis)),
                    (false, ExprNode::Literal(_)) => {
                        return Err(SqlError::plan(
                            bound_at,
                            "Data Type mismatch between ORDER BY and RANGE clause",
                        )
                        .help("RANGE takes an interval: RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW"));
                    }
                    _ => {
                        return Err(SqlError::plan(
                            bound_at,
                            "ROWS takes a constant number, RANGE a constant interval",
                        ));
                    }
                }
            }
        };
        if let ("LAG", Some(value), Some(default)) = (function, args.first(), args.get(2))
            && default.data_type.kind != TypeKind::Null
            && !crate::sql::types::assignable(&default.data_type.kind, &value.data_type.kind)
        {
            return Err(SqlError::plan(
                span,
                format!("Please explicitly cast default value {} to {}.", default.data_type, value.data_type),
            ));
        }
        let args = aggregates::arguments(function, args, span)?;
        let arg_types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
        let data_type = aggregates::result_type(function, &arg_types, filled, filter.is_some(), span)?;
        let pending = Pending {
            function,
            args,
            distinct: ast_call.distinct,
            filter,
            data_type: data_type.clone(),
            partition,
            order,
            frame,
        };
        let mut state = cell.borrow_mut();
        let index = match state.calls.iter().position(|c| *c == pending) {
            Some(index) => index,
            None => {
                state.calls.push(pending);
                state.calls.len() - 1
            }
        };
        Ok(column(OVERS + index, data_type))
    }

    /// Puts the OVER operators on the relation; gives for each call its column. `map` brings other placeholders home.
    pub(super) fn build_overs(
        &self,
        mut rel: Rel,
        state: Overs,
        map: &dyn Fn(&Expr) -> Expr,
    ) -> (Rel, Vec<usize>) {
        let mut places = vec![0; state.calls.len()];
        let mut done = vec![false; state.calls.len()];
        for first in 0..state.calls.len() {
            if done.get(first) == Some(&true) {
                continue;
            }
            let Some(head) = state.calls.get(first).cloned() else { continue };
            let together: Vec<usize> = (first..state.calls.len())
                .filter(|i| {
                    state.calls.get(*i).is_some_and(|c| {
                        c.partition == head.partition && c.order == head.order && c.frame == head.frame
                    })
                })
                .collect();
            // columns that the operator needs and the input does not have yet
            let mut exprs: Vec<Expr> = (0..rel.cols.len()).map(|i| rel.col(i)).collect();
            let mut cols = rel.cols.clone();
            let width = exprs.len();
            let mut place = |expr: &Expr| -> usize {
                let expr = map(expr);
                if let ExprNode::Column(index) = expr.node
                    && index < width
                {
                    return index;
                }
                if let Some(i) = exprs.iter().position(|e| *e == expr) {
                    return i;
                }
                cols.push(Col::new(format!("$o{}", exprs.len()), expr.data_type.clone()));
                exprs.push(expr);
                exprs.len() - 1
            };
            let partition: Vec<usize> = head.partition.iter().map(&mut place).collect();
            let order: Vec<SortKey> = head
                .order
                .iter()
                .map(|(expr, descending, nulls_first)| SortKey {
                    column: place(expr),
                    descending: *descending,
                    nulls_first: *nulls_first,
                })
                .collect();
            let mut calls = Vec::new();
            for i in &together {
                let Some(pending) = state.calls.get(*i) else { continue };
                let args = pending.args.iter().map(&mut place).collect();
                let filter = pending.filter.as_ref().map(|f| {
                    place(&crate::sql::types::call(
                        "IS TRUE",
                        vec![f.clone()],
                        DataType::not_null(TypeKind::Boolean),
                    ))
                });
                calls.push(AggregateCall {
                    function: pending.function,
                    args,
                    distinct: pending.distinct,
                    filter,
                    output: Field { name: format!("$w{i}"), data_type: pending.data_type.clone() },
                });
            }
            if exprs.len() > width {
                rel = rel.project(exprs, cols);
            }
            let base = rel.cols.len();
            let mut out_cols = rel.cols.clone();
            for (n, i) in together.iter().enumerate() {
                if let (Some(place), Some(done), Some(call)) =
                    (places.get_mut(*i), done.get_mut(*i), calls.get(n))
                {
                    *place = base + n;
                    *done = true;
                    out_cols.push(Col::new(call.output.name.clone(), call.output.data_type.clone()));
                }
            }
            let over = OverRel { input: rel, partition, order, frame: head.frame, calls };
            rel = Rel { node: RelNode::Over(Box::new(over)), cols: out_cols };
        }
        (rel, places)
    }
}

/// Makes expressions of calls over the same window.
struct Rewrite<'a> {
    call: &'a ast::Call,
    to: DataType,
    span: Span,
}

impl Rewrite<'_> {
    fn make(&self, kind: ast::ExprKind) -> ast::Expr {
        ast::Expr { kind, span: self.span }
    }

    fn binary(&self, op: &'static str, a: ast::Expr, b: ast::Expr) -> ast::Expr {
        self.make(ast::ExprKind::Binary(op, Box::new(a), Box::new(b)))
    }

    fn number(&self, text: &str) -> ast::Expr {
        self.make(ast::ExprKind::Number(text.to_owned()))
    }

    fn cast(&self, e: ast::Expr) -> ast::Expr {
        self.make(ast::ExprKind::Cast(Box::new(e), self.to.clone().with_nullable(true), false))
    }

    fn argument(&self) -> ast::Expr {
        self.call.args.first().cloned().unwrap_or_else(|| self.make(ast::ExprKind::Null))
    }

    fn over(&self, name: &str, arg: ast::Expr) -> ast::Expr {
        let name = ast::Ident { value: name.to_owned(), span: self.span };
        self.make(ast::ExprKind::Call(Box::new(ast::Call { name, args: vec![arg], ..self.call.clone() })))
    }
}

/// The mean of a frame as Flink computes it: by a sum in the type of the values, which wraps around or overflows where
/// that of groups does not.
fn of_sum(call: &ast::Call, to: DataType, span: Span) -> ast::Expr {
    let rewrite = Rewrite { call, to, span };
    let sum = rewrite.over("SUM", rewrite.argument());
    let sum = if matches!(rewrite.to.kind, TypeKind::Decimal(..)) { rewrite.cast(sum) } else { sum };
    rewrite.cast(rewrite.binary("/", sum, rewrite.over("COUNT", rewrite.argument())))
}

/// Variance and deviation of a frame as Flink computes them: by sums of the values and of their squares, in the type of
/// the result. (Groups keep Welford's sum instead.)
fn of_moments(function: &str, call: &ast::Call, to: DataType, span: Span) -> ast::Expr {
    use ast::ExprKind;
    let rewrite = Rewrite { call, to, span };
    let Rewrite { to, .. } = &rewrite;
    let decimal = matches!(to.kind, TypeKind::Decimal(..));
    let value = || if decimal { rewrite.cast(rewrite.argument()) } else { rewrite.argument() };
    let count = || rewrite.over("COUNT", value());
    let counted = |e: ast::Expr| if decimal { rewrite.cast(e) } else { e };
    let sum = || rewrite.over("SUM", value());
    let squares = rewrite.over("SUM", rewrite.binary("*", value(), value()));
    let square = rewrite.binary("*", sum(), sum());
    let distance = rewrite.binary("-", squares, rewrite.binary("/", square, rewrite.cast(count())));
    let divisor = if function.ends_with("_POP") {
        counted(count())
    } else {
        rewrite.make(ExprKind::Case {
            operand: None,
            branches: vec![(
                rewrite.binary("=", count(), rewrite.number("1")),
                rewrite.make(ExprKind::Cast(
                    Box::new(rewrite.make(ExprKind::Null)),
                    DataType::new(TypeKind::BigInt),
                    false,
                )),
            )],
            otherwise: Some(Box::new(rewrite.binary("-", count(), rewrite.number("1")))),
        })
    };
    let variance = rewrite.cast(rewrite.binary("/", distance, divisor));
    if function.starts_with("VAR") {
        return variance;
    }
    let name = ast::Ident { value: "POWER".to_owned(), span };
    let root = ast::Call {
        name,
        args: vec![variance, rewrite.number("0.5")],
        over: None,
        filter: None,
        distinct: false,
        star: false,
        returning: None,
    };
    rewrite.cast(rewrite.make(ExprKind::Call(Box::new(root))))
}
