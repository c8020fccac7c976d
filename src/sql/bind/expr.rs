//! Scalar expressions.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::ast::{self, ExprKind};
use crate::sql::error::{SqlError, SqlResult};
use crate::sql::functions::{self, aggregates, operators};
use crate::sql::types::{self, call, cast_to, common, common_kind, literal, null_of, string_literal};

use super::{Binder, Env, OUTER, Scope, literal as text};

impl Binder<'_> {
    /// Binds an expression.
    pub(in crate::sql) fn expr(&self, ast: &ast::Expr, env: Env<'_>) -> SqlResult<Expr> {
        if let Some(bound) = self.grouped_expr(ast, env)? {
            return Ok(bound);
        }
        let span = ast.span;
        match &ast.kind {
            ExprKind::Name(parts) => self.name(parts, env),
            ExprKind::Number(number) => text::number(number, span),
            ExprKind::Str(value) => Ok(if value.is_empty() {
                // CHAR(0) does not exist
                literal(Value::Str("".into()), TypeKind::Char(1))
            } else {
                string_literal(value)
            }),
            ExprKind::Bytes(bytes) => {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).max(1);
                Ok(literal(Value::Bytes(bytes.as_slice().into()), TypeKind::Binary(length)))
            }
            ExprKind::Bool(value) => Ok(literal(Value::Bool(*value), TypeKind::Boolean)),
            ExprKind::Null => Ok(null_of(TypeKind::Null)),
            ExprKind::Typed(keyword, value) => text::typed(keyword, value, span),
            ExprKind::Interval(interval) => text::interval(interval, span),
            ExprKind::Keyword(word) => Ok(string_literal(word)),
            ExprKind::Unary(op, inner) => {
                let inner = self.expr(inner, env)?;
                self.typed(&inner, span)?;
                match *op {
                    "NOT" => operators::negate(inner, span),
                    "-" => operators::negative(inner, span),
                    _ => Ok(inner),
                }
            }
            ExprKind::Binary(op, left, right) => {
                // long chains of AND, OR and || nest to the left
                let left = self.expr(left, env)?;
                let right = self.expr(right, env)?;
                match *op {
                    "AND" | "OR" => operators::logic(op, left, right, span),
                    "||" => {
                        self.typed(&left, span)?;
                        self.typed(&right, span)?;
                        operators::concat(left, right, span)
                    }
                    "+" | "-" | "*" | "/" | "%" => operators::arithmetic(op, left, right, span),
                    "!=" if self.strict() => Err(SqlError::plan(
                        span,
                        "Bang equal '!=' is not allowed under the current SQL conformance level",
                    )
                    .help("write <>")),
                    "!=" => operators::compare("<>", left, right, span),
                    _ => operators::compare(op, left, right, span),
                }
            }
            ExprKind::Is(inner, what, negated) => {
                let inner = self.expr(inner, env)?;
                let function = match (*what, *negated) {
                    ("NULL" | "UNKNOWN", false) => "IS NULL",
                    ("NULL" | "UNKNOWN", true) => "IS NOT NULL",
                    ("TRUE", false) => "IS TRUE",
                    ("TRUE", true) => "IS NOT TRUE",
                    ("FALSE", false) => "IS FALSE",
                    _ => "IS NOT FALSE",
                };
                let inner = if *what == "NULL" { inner } else { operators::boolean(inner, span)? };
                Ok(call(function, vec![inner], DataType::not_null(TypeKind::Boolean)))
            }
            ExprKind::IsJson(inner, what, negated) => {
                let inner = self.expr(inner, env)?;
                let test =
                    call("IS JSON", vec![inner, string_literal(what)], DataType::not_null(TypeKind::Boolean));
                if *negated { operators::negate(test, span) } else { Ok(test) }
            }
            ExprKind::IsDistinct(left, right, negated) => {
                let op = if *negated { "IS NOT DISTINCT FROM" } else { "IS DISTINCT FROM" };
                operators::compare(op, self.expr(left, env)?, self.expr(right, env)?, span)
            }
            ExprKind::Between { expr, low, high, negated, symmetric } => {
                let (value, low, high) = (self.expr(expr, env)?, self.expr(low, env)?, self.expr(high, env)?);
                let within = |low: &Expr, high: &Expr| {
                    operators::logic(
                        "AND",
                        operators::compare(">=", value.clone(), low.clone(), span)?,
                        operators::compare("<=", value.clone(), high.clone(), span)?,
                        span,
                    )
                };
                let mut out = within(&low, &high)?;
                if *symmetric {
                    out = operators::logic("OR", out, within(&high, &low)?, span)?;
                }
                if *negated { operators::negate(out, span) } else { Ok(out) }
            }
            ExprKind::InList(value, list, negated) => {
                let value = self.expr(value, env)?;
                let list = list.iter().map(|item| self.expr(item, env)).collect::<SqlResult<Vec<_>>>()?;
                let out = in_list(value, list, span)?;
                if *negated { operators::negate(out, span) } else { Ok(out) }
            }
            ExprKind::InQuery(_, query, _) | ExprKind::Exists(query) => {
                let key = std::ptr::from_ref(&**query) as usize;
                match env.scalars.iter().find(|(k, _)| *k == key) {
                    Some((_, bound)) => Ok(bound.clone()),
                    None => {
                        Err(SqlError::plan(span, "IN (query) and EXISTS are not supported at this place")
                            .help("write the query as a join, or move the condition to WHERE"))
                    }
                }
            }
            ExprKind::Subquery(query) => {
                let key = std::ptr::from_ref(&**query) as usize;
                match env.scalars.iter().find(|(k, _)| *k == key) {
                    Some((_, bound)) => Ok(bound.clone()),
                    None => Err(SqlError::plan(span, "a subquery is not supported at this place")),
                }
            }
            ExprKind::Like { expr, pattern, escape, similar, negated } => {
                let mut args = vec![self.expr(expr, env)?, self.expr(pattern, env)?];
                if let Some(escape) = escape {
                    args.push(self.expr(escape, env)?);
                }
                let function = if *similar { "SIMILAR" } else { "LIKE" };
                if !args
                    .iter()
                    .all(|a| types::is_string(&a.data_type.kind) || a.data_type.kind == TypeKind::Null)
                {
                    let name = if *similar { "SIMILAR TO" } else { "LIKE" };
                    return Err(functions::misfit(name, &args, "LIKE(<STRING>, <STRING>, <STRING>)", span));
                }
                let string = TypeKind::Varchar(types::UNBOUNDED);
                let args: Vec<Expr> = args
                    .into_iter()
                    .map(|a| if a.data_type.kind == TypeKind::Null { null_of(string.clone()) } else { a })
                    .collect();
                check_escape(&args, *similar, span)?;
                let nullable = functions::any_nullable(&args);
                let out = call(function, args, DataType { kind: TypeKind::Boolean, nullable });
                if *negated { operators::negate(out, span) } else { Ok(out) }
            }
            ExprKind::Case { operand, branches, otherwise } => {
                let operand = operand.as_ref().map(|o| self.expr(o, env)).transpose()?;
                let mut bound = Vec::with_capacity(branches.len());
                for (condition, result) in branches {
                    let condition_at = condition.span;
                    let condition = self.expr(condition, env)?;
                    let condition = match &operand {
                        Some(operand) => operators::compare("=", operand.clone(), condition, condition_at)?,
                        None => operators::boolean(condition, condition_at)?,
                    };
                    bound.push((condition, self.expr(result, env)?));
                }
                let otherwise = match otherwise {
                    Some(otherwise) => self.expr(otherwise, env)?,
                    None => null_of(TypeKind::Null),
                };
                let none = DataType::not_null(TypeKind::Null);
                let target = bound
                    .iter()
                    .map(|(_, result)| &result.data_type)
                    .chain(std::iter::once(&otherwise.data_type))
                    .try_fold(none, |t, result| common(&t, result));
                let Some(target) = target else {
                    return Err(SqlError::plan(
                        span,
                        "Illegal mixing of types in CASE or COALESCE statement",
                    )
                    .help("CAST the results to one type"));
                };
                let bound = bound.into_iter().map(|(c, r)| (c, cast_to(r, &target.kind))).collect();
                Ok(functions::case(bound, cast_to(otherwise, &target.kind), target))
            }
            ExprKind::Cast(inner, target, lenient) => {
                let inner = self.expr(inner, env)?;
                explicit_cast(inner, target, *lenient, span)
            }
            ExprKind::Call(ast_call) => self.call(ast_call, env, span),
            ExprKind::Item(base, index) => {
                let args = vec![self.expr(base, env)?, self.expr(index, env)?];
                functions::resolve("ITEM", args, None, span)
            }
            ExprKind::Field(base, field) => field_of(self.expr(base, env)?, field),
            ExprKind::Row(items) => {
                let items = items.iter().map(|item| self.expr(item, env)).collect::<SqlResult<Vec<_>>>()?;
                functions::resolve("ROW", items, None, span)
            }
            ExprKind::Overlaps(parts) => {
                let [a, b, c, d] = &**parts;
                let bound = |start: &ast::Expr, end: &ast::Expr| -> SqlResult<(Expr, Expr)> {
                    let start = self.expr(start, env)?;
                    let end = self.expr(end, env)?;
                    let end = if types::is_interval(&end.data_type.kind) {
                        operators::arithmetic("+", start.clone(), end, span)?
                    } else {
                        end
                    };
                    Ok((start, end))
                };
                let ((a, b), (c, d)) = (bound(a, b)?, bound(c, d)?);
                operators::logic(
                    "AND",
                    operators::compare("<=", a, d, span)?,
                    operators::compare("<=", c, b, span)?,
                    span,
                )
            }
            ExprKind::Wildcard(_) => Err(SqlError::plan(span, "'*' stands alone in the select list")),
        }
    }

    fn name(&self, parts: &[ast::Ident], env: Env<'_>) -> SqlResult<Expr> {
        let mut failure = match lookup(env.scope, parts, 0) {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        for (level, cols) in env.scope.around.iter().enumerate() {
            let scope = Scope { cols: cols.clone(), around: Vec::new() };
            match lookup(&scope, parts, (level + 1) * OUTER) {
                Ok(found) => return Ok(found),
                // the table is known there: what is missing is the column
                Err(error)
                    if parts.len() > 1
                        && parts.first().is_some_and(|t| scope.tables().any(|n| n == t.value)) =>
                {
                    failure = error;
                }
                Err(_) => {}
            }
        }
        match parts {
            // a function that may stand without parentheses
            [word] if word.value.eq_ignore_ascii_case("PI") => {
                functions::resolve("PI", Vec::new(), None, word.span)
            }
            _ => Err(failure),
        }
    }

    fn call(&self, ast_call: &ast::Call, env: Env<'_>, span: crate::sql::error::Span) -> SqlResult<Expr> {
        if ast_call.over.is_some() {
            return self.over_call(ast_call, env, span);
        }
        let name = ast_call.name.value.as_str();
        if ["GROUPING", "GROUPING_ID", "GROUP_ID"].iter().any(|g| name.eq_ignore_ascii_case(g)) {
            return Err(SqlError::plan(
                span,
                format!("{} operator may only occur in an aggregate query", name.to_uppercase()),
            ));
        }
        if let Some(function) = aggregates::canonical(name) {
            return Err(SqlError::plan(
                span,
                if env.clause == "an aggregate" {
                    "Aggregate expressions cannot be nested".to_owned()
                } else {
                    format!("Aggregate expression is illegal in {} clause: {function}", env.clause)
                },
            )
            .help("aggregates stand in the select list, in HAVING, or in a query around"));
        }
        if aggregates::over_only(name).is_some() {
            return Err(SqlError::plan(
                span,
                format!("OVER clause is necessary for window functions: {name}"),
            )
            .help(format!("{name}() OVER (PARTITION BY … ORDER BY …)")));
        }
        if ast_call.star || ast_call.distinct || ast_call.filter.is_some() {
            return Err(SqlError::plan(
                span,
                format!("'*', DISTINCT and FILTER are for aggregate functions, {name} is none"),
            ));
        }
        let args = ast_call.args.iter().map(|arg| self.expr(arg, env)).collect::<SqlResult<Vec<_>>>()?;
        functions::resolve(name, args, ast_call.returning.clone(), span)
    }
}

fn lookup(scope: &super::Scope, parts: &[ast::Ident], base: usize) -> SqlResult<Expr> {
    let make = |col: &super::ScopeCol| types::column(col.index + base, col.data_type.clone());
    let Some((first, rest)) = parts.split_first() else {
        return Err(SqlError::plan(crate::sql::error::Span::default(), "a name is missing"));
    };
    // t.column[.field…] first, then column[.field…], then [catalog.]database.table.column
    if let Some((second, fields)) = rest.split_first()
        && let Some(col) = scope.find(Some(&first.value), second)?
    {
        return fields.iter().try_fold(make(col), field_of).map_err(|error| in_path(error, scope, parts));
    }
    if let Some(col) = scope.find(None, first)?
        && (rest.is_empty() || matches!(col.data_type.kind, TypeKind::Row(_)))
    {
        return rest.iter().try_fold(make(col), field_of).map_err(|error| in_path(error, scope, parts));
    }
    if parts.len() > 2
        && let Some(col) = parts.get(parts.len() - 2..).and_then(|tail| match tail {
            [table, column] => scope.find(Some(&table.value), column).ok().flatten(),
            _ => None,
        })
    {
        return Ok(make(col));
    }
    match rest.first() {
        Some(column) => Err(scope.missing(Some(first), column)),
        None => Err(scope.missing(None, first)),
    }
}

/// The error of a field that is not there, by the name that was asked for.
fn in_path(mut error: Box<SqlError>, scope: &super::Scope, parts: &[ast::Ident]) -> Box<SqlError> {
    let mut tables: Vec<&str> = scope.tables().collect();
    tables.dedup();
    if let [table] = tables.as_slice() {
        let path: Vec<&str> = parts.iter().map(|part| part.value.as_str()).collect();
        let name = path.join(".");
        let name = name.strip_prefix(&format!("{table}.")).unwrap_or(&name);
        error.message = format!("Column '{name}' not found in table '{table}'");
    }
    error
}

/// `row.field`
fn field_of(base: Expr, field: &ast::Ident) -> SqlResult<Expr> {
    let TypeKind::Row(fields) = &base.data_type.kind else {
        return Err(SqlError::plan(
            field.span,
            format!("'{}' is a field of what is not a ROW but {}", field.value, base.data_type.kind),
        ));
    };
    match fields.iter().enumerate().find(|(_, f)| f.name == field.value) {
        Some((index, found)) => {
            let nullable = base.data_type.nullable || found.data_type.nullable;
            let data_type = found.data_type.clone().with_nullable(nullable);
            Ok(Expr { node: ExprNode::Field { input: Box::new(base), index }, data_type })
        }
        None => {
            let names = fields.iter().map(|f| f.name.as_str());
            let error =
                SqlError::plan(field.span, format!("Column '{}' not found in any table", field.value));
            Err(match crate::sql::error::nearest(&field.value, names) {
                Some(near) => error.help(format!("did you mean '{near}'?")),
                None => error,
            })
        }
    }
}

/// A constant LIKE pattern escapes only `%`, `_` and the escape character.
fn check_escape(args: &[Expr], similar: bool, span: crate::sql::error::Span) -> SqlResult<()> {
    let constant = |at: usize| match args.get(at).map(|arg| &arg.node) {
        Some(ExprNode::Literal(Value::Str(text))) => Some(text.to_string()),
        _ => None,
    };
    let mut columns = std::collections::BTreeSet::new();
    args.iter().for_each(|arg| types::columns_of(arg, &mut columns));
    if let (Some(escape), true) = (constant(2), columns.is_empty())
        && !similar
        && escape.chars().count() != 1
    {
        return Err(SqlError::plan(span, format!("Invalid escape character '{escape}'")));
    }
    let (Some(pattern), Some(escape), false) = (constant(1), constant(2), similar) else { return Ok(()) };
    let Some(escape) = escape.chars().next() else { return Ok(()) };
    let mut chars = pattern.chars().enumerate();
    while let Some((at, c)) = chars.next() {
        if c == escape && !chars.next().is_some_and(|(_, next)| next == '%' || next == '_' || next == escape)
        {
            return Err(SqlError::plan(span, format!("Invalid escape sequence '{pattern}', {at}")));
        }
    }
    Ok(())
}

/// CAST and TRY_CAST.
fn explicit_cast(
    inner: Expr,
    target: &DataType,
    lenient: bool,
    span: crate::sql::error::Span,
) -> SqlResult<Expr> {
    let (from, to) = (&inner.data_type.kind, &target.kind);
    if types::is_timestamp(from) && types::is_numeric(to) {
        return Err(SqlError::plan(
            span,
            "The cast from TIMESTAMP type to NUMERIC type is not allowed. It's recommended to use UNIX_TIMESTAMP(CAST(timestamp_col AS STRING)) instead.",
        ));
    }
    if !types::castable(from, to) {
        return Err(SqlError::plan(
            span,
            format!(
                "Cast function cannot convert value of type {} to type {}",
                types::calcite(from),
                types::calcite(to)
            ),
        ));
    }
    if let TypeKind::Row(fields) = from
        && fields.iter().any(|f| f.data_type.kind == TypeKind::Null)
    {
        return Err(SqlError::plan(span, "Illegal type: NULL"));
    }
    if *from == TypeKind::Null {
        return Ok(null_of(to.clone()));
    }
    let nullable = lenient || inner.data_type.nullable;
    // a CAST to the same type stays: it makes a plain column of a time attribute
    let keep = from != to || matches!(inner.node, ExprNode::Column(_));
    if !keep && !lenient {
        return Ok(inner);
    }
    Ok(Expr {
        node: ExprNode::Cast { input: Box::new(inner), lenient },
        data_type: DataType { kind: to.clone(), nullable },
    })
}

/// Literals as Flink takes them beside an integer or a text: in the type of the value, so that 2.5 is 2 there.
fn of_the_values_type(kind: &TypeKind, list: &[Expr]) -> Option<Vec<Expr>> {
    list.iter()
        .map(|item| {
            let ExprNode::Literal(literal) = &item.node else { return None };
            let numeric = types::is_numeric(&item.data_type.kind);
            let fits = match (types::is_integer(kind), literal) {
                (true, Value::Str(text)) => text.trim().parse::<i64>().is_ok(),
                (true, _) => numeric,
                (false, _) => types::is_string(kind) && numeric,
            };
            fits.then(|| cast_to(item.clone(), kind))
        })
        .collect()
}

fn in_list(value: Expr, mut list: Vec<Expr>, span: crate::sql::error::Span) -> SqlResult<Expr> {
    let incompatible = || SqlError::plan(span, "Values in expression list must have compatible types");
    // the list has one type, and what `=` refuses, IN refuses
    let of_list = list
        .iter()
        .try_fold(TypeKind::Null, |kind, item| common_kind(&kind, &item.data_type.kind))
        .ok_or_else(incompatible)?;
    if let Some(literals) = of_the_values_type(&value.data_type.kind, &list) {
        list = literals;
    }
    for item in &list {
        operators::comparable("=", value.clone(), item.clone(), span)
            .map_err(|error| incompatible().help(error.message.clone()))?;
    }
    let kind = common_kind(&value.data_type.kind, &of_list);
    if let Some(kind) = kind.filter(|_| !types::is_temporal(&value.data_type.kind)) {
        let nullable = value.data_type.nullable || functions::any_nullable(&list);
        let mut args = vec![cast_to(value, &kind)];
        args.extend(list.into_iter().map(|item| cast_to(item, &kind)));
        return Ok(call("IN", args, DataType { kind: TypeKind::Boolean, nullable }));
    }
    let mut out: Option<Expr> = None;
    for item in list {
        let next = operators::compare("=", value.clone(), item, span)?;
        out = Some(match out {
            Some(before) => operators::logic("OR", before, next, span)?,
            None => next,
        });
    }
    out.ok_or_else(|| SqlError::plan(span, "IN needs a list"))
}
