//! Operators: arithmetic, comparison, logic, concatenation.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::functions::pattern;
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError, SqlResult};
use crate::sql::types::{
    UNBOUNDED, calcite, call, cast_to, common_kind, decimal_of, decimal_result, family, is_approximate,
    is_binary, is_integer, is_interval, is_nested, is_numeric, is_string, is_temporal, is_timestamp, literal,
    null_of,
};

/// `a op b` does not fit.
fn misfit(op: &str, a: &Expr, b: &Expr, forms: &str, span: Span) -> Box<SqlError> {
    SqlError::plan(
        span,
        format!(
            "Cannot apply '{op}' to arguments of type '<{}> {op} <{}>'. Supported form(s): {forms}",
            calcite(&a.data_type.kind),
            calcite(&b.data_type.kind)
        ),
    )
}

/// The expression as a condition.
pub fn boolean(expr: Expr, span: Span) -> SqlResult<Expr> {
    match expr.data_type.kind {
        TypeKind::Boolean => Ok(expr),
        TypeKind::Null => Ok(null_of(TypeKind::Boolean)),
        ref kind => Err(SqlError::plan(span, format!("Expected a boolean type, this is {}", calcite(kind)))),
    }
}

/// The expression as the condition of a clause.
pub fn clause(name: &str, expr: Expr, span: Span) -> SqlResult<Expr> {
    boolean(expr, span).map_err(|error| {
        let kind = error.message.clone();
        SqlError::plan(span, format!("{name} clause must be a condition")).help(kind)
    })
}

/// AND, OR.
pub fn logic(op: &'static str, a: Expr, b: Expr, span: Span) -> SqlResult<Expr> {
    let fits = |e: &Expr| matches!(e.data_type.kind, TypeKind::Boolean | TypeKind::Null);
    if !fits(&a) || !fits(&b) {
        return Err(misfit(op, &a, &b, &format!("'<BOOLEAN> {op} <BOOLEAN>'"), span));
    }
    let (a, b) = (boolean(a, span)?, boolean(b, span)?);
    let nullable = a.data_type.nullable || b.data_type.nullable;
    Ok(call(op, vec![a, b], DataType { kind: TypeKind::Boolean, nullable }))
}

/// NOT.
pub fn negate(expr: Expr, span: Span) -> SqlResult<Expr> {
    if !matches!(expr.data_type.kind, TypeKind::Boolean | TypeKind::Null) {
        return Err(SqlError::plan(
            span,
            format!(
                "Cannot apply 'NOT' to arguments of type 'NOT<{}>'. Supported form(s): 'NOT<BOOLEAN>'",
                calcite(&expr.data_type.kind)
            ),
        ));
    }
    let expr = boolean(expr, span)?;
    let nullable = expr.data_type.nullable;
    Ok(call("NOT", vec![expr], DataType { kind: TypeKind::Boolean, nullable }))
}

/// `= <> < <= > >=`, and IS [NOT] DISTINCT FROM.
pub fn compare(op: &'static str, a: Expr, b: Expr, span: Span) -> SqlResult<Expr> {
    let kinds = [&a.data_type.kind, &b.data_type.kind];
    if matches!(op, "=" | "<>") && kinds.contains(&&TypeKind::Boolean) && kinds.iter().any(|k| is_string(k)) {
        // as in Flink a BOOLEAN never equals a text, not even 'true'
        return Ok(never_equal(op, a, b));
    }
    let (a, b) = comparable(op, a, b, span)?;
    let nullable = !op.starts_with("IS ") && (a.data_type.nullable || b.data_type.nullable);
    Ok(call(op, vec![a, b], DataType { kind: TypeKind::Boolean, nullable }))
}

/// `=` of what cannot be equal: FALSE, or NULL where a side is; `<>` the other way round.
fn never_equal(op: &str, a: Expr, b: Expr) -> Expr {
    let boolean = DataType::new(TypeKind::Boolean);
    let known = |e: Expr| call("IS NOT NULL", vec![e], DataType::not_null(TypeKind::Boolean));
    let both = call("AND", vec![known(a), known(b)], DataType::not_null(TypeKind::Boolean));
    let result = literal(Value::Bool(op == "<>"), TypeKind::Boolean);
    super::case(vec![(both, result)], null_of(TypeKind::Boolean), boolean)
}

/// Both sides in one type.
pub fn comparable(op: &str, a: Expr, b: Expr, span: Span) -> SqlResult<(Expr, Expr)> {
    use TypeKind as T;
    let (x, y) = (a.data_type.kind.clone(), b.data_type.kind.clone());
    if x == y && !is_nested(&x) {
        return Ok((a, b));
    }
    if decimal_of(&x).is_some() && decimal_of(&y).is_some() && !(is_integer(&x) && is_integer(&y)) {
        // DECIMALs of any scale compare as they are; integers come in exactly
        let exact = |e: Expr| match decimal_of(&e.data_type.kind) {
            Some((p, _)) if is_integer(&e.data_type.kind) => {
                cast_to(e, &TypeKind::Decimal(u8::try_from(p).unwrap_or(19), 0))
            }
            _ => e,
        };
        return Ok((exact(a), exact(b)));
    }
    if is_approximate(&x) && is_approximate(&y) {
        // compared as DOUBLEs; as the keys of a join in the type of the left side
        return Ok((a, b));
    }
    // `<` converts a text beside a number, `=` does not
    let ordering = matches!(op, "<" | "<=" | ">" | ">=");
    if ordering && (is_nested(&x) || is_nested(&y)) {
        return Err(SqlError::plan(span, format!("Comparable type expected, but was '{}'.", a.data_type)));
    }
    let target = match (&x, &y) {
        (TypeKind::Date, t) | (t, TypeKind::Date) if is_timestamp(t) => None,
        // a DECIMAL takes a text that holds a number; integers do not (as in Flink)
        (TypeKind::Decimal(..), s) | (s, TypeKind::Decimal(..)) if is_string(s) && ordering => {
            Some(TypeKind::Decimal(38, 18))
        }
        (T::Timestamp(p), T::TimestampLtz(q)) | (T::TimestampLtz(q), T::Timestamp(p)) => {
            Some(T::Timestamp(*p.max(q)))
        }
        (t, s) | (s, t) if is_string(s) && is_temporal(t) => Some(t.clone()),
        (s, n) | (n, s) if is_string(s) && ordering && (is_numeric(n) || *n == T::Boolean) => Some(n.clone()),
        (s, n) | (n, s) if is_string(s) && is_numeric(n) => {
            let (l, r) = (family(&x), family(&y));
            return Err(SqlError::plan(
                span,
                format!("implicit type conversion between {l} and {r} is not supported now"),
            )
            .help(format!("CAST one side: CAST(… AS {n})")));
        }
        _ => common_kind(&x, &y),
    };
    match target {
        // a text that holds no time makes `=` NULL; `<` and a literal fail
        Some(kind) if !ordering && is_temporal(&kind) => {
            Ok((lenient_text(a, &kind, span)?, lenient_text(b, &kind, span)?))
        }
        Some(kind) => Ok((cast_to(a, &kind), cast_to(b, &kind))),
        None => {
            let forms = format!("'<COMPARABLE_TYPE> {op} <COMPARABLE_TYPE>'");
            Err(misfit(op, &a, &b, &forms, span).help("CAST one side to the other's type"))
        }
    }
}

/// The expression as this kind of time. A text that does not hold one becomes NULL; a literal is refused.
fn lenient_text(expr: Expr, kind: &TypeKind, span: Span) -> SqlResult<Expr> {
    if !is_string(&expr.data_type.kind) {
        return Ok(cast_to(expr, kind));
    }
    if let ExprNode::Literal(Value::Str(text)) = &expr.node {
        let reads = match kind {
            TypeKind::Date => pattern::parse_date(text).is_some(),
            TypeKind::Time(_) => pattern::parse_time(text).is_some(),
            _ => pattern::parse_timestamp(text).is_some(),
        };
        if !reads {
            return Err(SqlError::plan(
                span,
                format!("Text '{text}' could not be parsed at index 0: it is no {kind}"),
            ));
        }
        return Ok(cast_to(expr, kind));
    }
    Ok(Expr {
        node: ExprNode::Cast { input: Box::new(expr), lenient: true },
        data_type: DataType::new(kind.clone()),
    })
}

/// `+ - * / %` on numbers, times and intervals.
pub fn arithmetic(op: &'static str, a: Expr, b: Expr, span: Span) -> SqlResult<Expr> {
    let nullable = a.data_type.nullable || b.data_type.nullable;
    let (x, y) = (a.data_type.kind.clone(), b.data_type.kind.clone());
    let done = |a, b, kind| Ok(call(op, vec![a, b], DataType { kind, nullable }));
    match (&x, &y) {
        (TypeKind::Null, _) | (_, TypeKind::Null) => {
            return Err(SqlError::plan(span, "Illegal use of 'NULL'").help("CAST(NULL AS type) gives it one"));
        }
        (t, i) if is_temporal(t) && is_interval(i) && matches!(op, "+" | "-") => {
            let kind = t.clone();
            return done(a, b, kind);
        }
        (i, t) if is_interval(i) && is_temporal(t) && op == "+" => {
            let kind = t.clone();
            return done(b, a, kind);
        }
        (i, j) if is_interval(i) && i == j && matches!(op, "+" | "-") => return done(a, b, x),
        (i, n) if is_interval(i) && is_numeric(n) && op == "*" => return done(a, b, x),
        (i, n) if is_interval(i) && is_numeric(n) && op == "/" => {
            return Err(SqlError::plan(span, format!("Unsupported call: /({x}, {y})")));
        }
        (n, i) if is_numeric(n) && is_interval(i) && op == "*" => return done(b, a, y),
        _ => {}
    }
    if !is_numeric(&x) || !is_numeric(&y) {
        let forms = format!("'<NUMERIC> {op} <NUMERIC>'");
        return Err(misfit(op, &a, &b, &forms, span));
    }
    if op == "%" && (is_approximate(&x) || is_approximate(&y)) {
        return Err(misfit(op, &a, &b, "'<EXACT_NUMERIC> % <EXACT_NUMERIC>'", span));
    }
    let constant = |e: &Expr| match &e.node {
        ExprNode::Literal(Value::Int(n)) => Some(*n),
        ExprNode::Literal(Value::Decimal(d)) => Some(i64::from(d.unscaled() != 0)),
        _ => None,
    };
    if matches!(op, "/" | "%") && constant(&a).is_some() && constant(&b) == Some(0) {
        return Err(SqlError::plan(span, "Division by zero"));
    }
    if is_integer(&x) && is_integer(&y) || is_approximate(&x) || is_approximate(&y) {
        let kind = match (&x, &y) {
            // of FLOAT and DOUBLE the first wins
            (TypeKind::Float, TypeKind::Double) => TypeKind::Float,
            _ => common_kind(&x, &y).unwrap_or(TypeKind::Double),
        };
        if op == "%" {
            // the divisor's type, as Calcite's MOD has it
            let out = call(op, vec![cast_to(a, &kind), cast_to(b, &kind)], DataType { kind, nullable });
            return Ok(cast_to(out, &y));
        }
        return done(cast_to(a, &kind), cast_to(b, &kind), kind);
    }
    let (Some(left), Some(right)) = (decimal_of(&x), decimal_of(&y)) else {
        return Err(misfit(op, &a, &b, "'<NUMERIC>'", span));
    };
    let exact = |e: Expr, (p, _): (i32, i32)| {
        if is_integer(&e.data_type.kind) {
            cast_to(e, &TypeKind::Decimal(u8::try_from(p).unwrap_or(19), 0))
        } else {
            e
        }
    };
    let kind = decimal_result(op, left, right);
    if op == "%" && left.1 == 0 && right.1 == 0 {
        // of whole numbers the divisor's type, as Calcite's MOD has it
        let out = call(op, vec![exact(a, left), exact(b, right)], DataType { kind, nullable });
        return Ok(cast_to(out, &y));
    }
    done(exact(a, left), exact(b, right), kind)
}

/// Unary minus.
pub fn negative(expr: Expr, span: Span) -> SqlResult<Expr> {
    let data_type = expr.data_type.clone();
    if is_numeric(&data_type.kind) || is_interval(&data_type.kind) {
        return Ok(call("NEGATE", vec![expr], data_type));
    }
    if data_type.kind == TypeKind::Null {
        return Ok(expr);
    }
    Err(SqlError::plan(
        span,
        format!(
            "Cannot apply '-' to arguments of type '-<{}>'. Supported form(s): '-<NUMERIC>' '-<DATETIME_INTERVAL>'",
            calcite(&data_type.kind)
        ),
    ))
}

/// `||`
pub fn concat(a: Expr, b: Expr, span: Span) -> SqlResult<Expr> {
    let nullable = a.data_type.nullable || b.data_type.nullable;
    let text =
        |e: Expr| if e.data_type.kind == TypeKind::Null { null_of(TypeKind::Varchar(UNBOUNDED)) } else { e };
    let (a, b) = (text(a), text(b));
    let kind = match (&a.data_type.kind, &b.data_type.kind) {
        (TypeKind::Char(n), TypeKind::Char(m)) => TypeKind::Char(n.saturating_add(*m).min(UNBOUNDED)),
        (TypeKind::Char(n) | TypeKind::Varchar(n), TypeKind::Char(m) | TypeKind::Varchar(m)) => {
            TypeKind::Varchar(n.saturating_add(*m).min(UNBOUNDED))
        }
        (x, y) if is_binary(x) && is_binary(y) => {
            return Err(SqlError::plan(span, "String expression type expected."));
        }
        _ => {
            return Err(misfit("||", &a, &b, "'<STRING> || <STRING>'", span).help("CAST(… AS STRING)"));
        }
    };
    Ok(call("||", vec![a, b], DataType { kind, nullable }))
}
