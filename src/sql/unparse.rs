//! Expressions as text, as Flink writes them in DESCRIBE and SHOW CREATE TABLE.

use crate::engine::types::{DataType, TypeKind};

use super::ast::{Call, Expr, ExprKind, Ident};

/// How tight operators bind; operands that bind less stand in parentheses.
mod level {
    pub(super) const OR: u8 = 1;
    pub(super) const AND: u8 = 2;
    pub(super) const NOT: u8 = 3;
    pub(super) const COMPARE: u8 = 4;
    pub(super) const ADD: u8 = 5;
    pub(super) const MULTIPLY: u8 = 6;
    pub(super) const SIGN: u8 = 7;
    pub(super) const ATOM: u8 = 9;
}

/// A name in backticks.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in single quotes.
pub(super) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An expression as text.
pub(super) fn expression(expr: &Expr) -> String {
    text(expr).0
}

/// An operand of an operator that binds this tight.
fn operand(expr: &Expr, least: u8) -> String {
    let (text, level) = text(expr);
    if level < least { format!("({text})") } else { text }
}

fn list(exprs: &[Expr]) -> String {
    exprs.iter().map(expression).collect::<Vec<_>>().join(", ")
}

fn names(parts: &[Ident]) -> String {
    parts.iter().map(|part| quoted(&part.value)).collect::<Vec<_>>().join(".")
}

fn not(negated: bool) -> &'static str {
    if negated { "NOT " } else { "" }
}

fn text(expr: &Expr) -> (String, u8) {
    use level::{ADD, AND, ATOM, COMPARE, MULTIPLY, NOT, OR, SIGN};
    let compare = |expr: &Expr| operand(expr, COMPARE + 1);
    match &expr.kind {
        ExprKind::Name(parts) => (names(parts), ATOM),
        ExprKind::Number(number) => (number.clone(), ATOM),
        ExprKind::Str(text) => (literal(text), ATOM),
        ExprKind::Bytes(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            (format!("X'{digits}'"), ATOM)
        }
        ExprKind::Bool(value) => (if *value { "TRUE" } else { "FALSE" }.to_owned(), ATOM),
        ExprKind::Null => ("NULL".to_owned(), ATOM),
        ExprKind::Typed(word, text) => (format!("{word} {}", literal(text)), ATOM),
        ExprKind::Interval(interval) => {
            let mut out = "INTERVAL ".to_owned();
            if interval.negative {
                out.push('-');
            }
            out.push_str(&literal(&interval.text));
            out.push(' ');
            out.push_str(&interval.from);
            if let Some(precision) = interval.precision {
                out.push_str(&format!("({precision})"));
            }
            if let Some(to) = &interval.to {
                out.push_str(&format!(" TO {to}"));
            }
            (out, ATOM)
        }
        ExprKind::Keyword(word) => (word.clone(), ATOM),
        ExprKind::Unary("NOT", inner) => (format!("NOT {}", operand(inner, NOT + 1)), NOT),
        ExprKind::Unary(sign, inner) => (format!("{sign} {}", operand(inner, SIGN)), SIGN),
        ExprKind::Binary(op, left, right) => {
            let level = match *op {
                "OR" => OR,
                "AND" => AND,
                "+" | "-" => ADD,
                "*" | "/" | "%" | "||" => MULTIPLY,
                _ => COMPARE,
            };
            let op = if *op == "!=" { "<>" } else { op };
            (format!("{} {op} {}", operand(left, level), operand(right, level + 1)), level)
        }
        ExprKind::Is(inner, what, negated) => {
            (format!("{} IS {}{what}", compare(inner), not(*negated)), COMPARE)
        }
        ExprKind::IsJson(inner, what, negated) => {
            (format!("{} IS {}JSON {what}", compare(inner), not(*negated)), COMPARE)
        }
        ExprKind::IsDistinct(left, right, negated) => {
            (format!("{} IS {}DISTINCT FROM {}", compare(left), not(*negated), compare(right)), COMPARE)
        }
        ExprKind::Between { expr, low, high, negated, symmetric } => {
            let how = if *symmetric { "SYMMETRIC" } else { "ASYMMETRIC" };
            let not = not(*negated);
            (format!("{} {not}BETWEEN {how} {} AND {}", compare(expr), compare(low), compare(high)), COMPARE)
        }
        ExprKind::InList(inner, items, negated) => {
            (format!("{} {}IN ({})", compare(inner), not(*negated), list(items)), COMPARE)
        }
        ExprKind::Like { expr, pattern, escape, similar, negated } => {
            let word = if *similar { "SIMILAR TO" } else { "LIKE" };
            let mut out = format!("{} {}{word} {}", compare(expr), not(*negated), compare(pattern));
            if let Some(escape) = escape {
                out.push_str(&format!(" ESCAPE {}", expression(escape)));
            }
            (out, COMPARE)
        }
        ExprKind::Case { operand: of, branches, otherwise } => {
            let mut out = "CASE".to_owned();
            for (condition, result) in branches {
                let condition = match of {
                    Some(of) => format!("{} = {}", compare(of), compare(condition)),
                    None => expression(condition),
                };
                out.push_str(&format!(" WHEN {condition} THEN {}", expression(result)));
            }
            let otherwise = otherwise.as_ref().map_or_else(|| "NULL".to_owned(), |expr| expression(expr));
            (format!("{out} ELSE {otherwise} END"), ATOM)
        }
        ExprKind::Cast(inner, to, lenient) => {
            let word = if *lenient { "TRY_CAST" } else { "CAST" };
            (format!("{word}({} AS {})", expression(inner), cast_type(to)), ATOM)
        }
        ExprKind::Call(inner) => (call(inner), ATOM),
        ExprKind::Item(base, index) => (format!("{}[{}]", operand(base, ATOM), expression(index)), ATOM),
        ExprKind::Field(base, field) => (format!("({}).{}", expression(base), quoted(&field.value)), ATOM),
        ExprKind::Row(items) => (format!("ROW({})", list(items)), ATOM),
        ExprKind::Overlaps(ends) => {
            let [a, b, c, d] = &**ends;
            let of = expression;
            (format!("({}, {}) OVERLAPS ({}, {})", of(a), of(b), of(c), of(d)), COMPARE)
        }
        ExprKind::Wildcard(of) if of.is_empty() => ("*".to_owned(), ATOM),
        ExprKind::Wildcard(of) => (format!("{}.*", names(of)), ATOM),
        // a column's definition holds no queries
        ExprKind::InQuery(..) | ExprKind::Exists(_) | ExprKind::Subquery(_) => ("(…)".to_owned(), ATOM),
    }
}

fn call(call: &Call) -> String {
    let name = call.name.value.to_uppercase();
    let of = expression;
    match (name.as_str(), call.args.as_slice()) {
        ("ARRAY" | "MAP", args) => format!("{name}[{}]", list(args)),
        ("EXTRACT", [unit, from]) => format!("EXTRACT({} FROM {})", of(unit), of(from)),
        ("FLOOR_TO", [unit, inner]) => format!("FLOOR({} TO {})", of(inner), of(unit)),
        ("CEIL_TO", [unit, inner]) => format!("CEIL({} TO {})", of(inner), of(unit)),
        ("TRIM", [flag, what, from]) => format!("TRIM({} {} FROM {})", of(flag), of(what), of(from)),
        ("POSITION", [needle, inner]) => format!("POSITION({} IN {})", of(needle), of(inner)),
        ("CURRENT_TIMESTAMP" | "CURRENT_DATE" | "CURRENT_TIME" | "LOCALTIME" | "LOCALTIMESTAMP", []) => name,
        ("JSON_VALUE", [json, path, ..]) if call.returning.is_some() => {
            let to = call.returning.as_ref().map(cast_type).unwrap_or_default();
            format!("JSON_VALUE({}, {} RETURNING {to})", of(json), of(path))
        }
        (_, args) => format!("{name}({})", if call.star { "*".to_owned() } else { list(args) }),
    }
}

/// A type as Calcite writes it in CAST.
fn cast_type(data_type: &DataType) -> String {
    match data_type.kind {
        TypeKind::Int => "INTEGER".to_owned(),
        _ => data_type.kind.to_string(),
    }
}

/// A type as SHOW CREATE TABLE writes it.
pub(super) fn full_type(data_type: &DataType) -> String {
    let of = full_type;
    let text = match &data_type.kind {
        TypeKind::Varchar(n) => format!("VARCHAR({n})"),
        TypeKind::Varbinary(n) => format!("VARBINARY({n})"),
        TypeKind::TimestampLtz(p) => format!("TIMESTAMP({p}) WITH LOCAL TIME ZONE"),
        TypeKind::Array(inner) => format!("ARRAY<{}>", of(inner)),
        TypeKind::Multiset(inner) => format!("MULTISET<{}>", of(inner)),
        TypeKind::Map(key, value) => format!("MAP<{}, {}>", of(key), of(value)),
        TypeKind::Row(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("{} {}", quoted(&f.name), of(&f.data_type))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        kind => kind.to_string(),
    };
    if data_type.nullable { text } else { format!("{text} NOT NULL") }
}
