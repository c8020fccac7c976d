//! JSON paths as Flink's JsonPath library reads them: names, indexes, unions, slices, wildcards, filters.

use std::cmp::Ordering;

use super::json_tree::Json;

/// What a JSON path finds.
pub(crate) enum Found {
    /// One place: what stands there, or nothing.
    One(Option<Json>),
    /// A path with wildcards finds a list.
    Many(Vec<Json>),
    /// The path is not valid.
    Invalid,
}

enum Step {
    Name(String),
    Index(i64),
    Names(Vec<String>),
    Indexes(Vec<i64>),
    Slice(Option<i64>, Option<i64>),
    Wildcard,
    Descend(String),
    Filter(Filter),
    Length,
    Keys,
}

/// `?(@.x > 1 && @.y)`
enum Filter {
    Any(Vec<Filter>),
    All(Vec<Filter>),
    Not(Box<Filter>),
    Test(Operand, &'static str, Operand),
    Exists(Operand),
}

enum Operand {
    Path(Vec<Step>),
    Literal(Json),
}

impl Step {
    /// Whether a path with this step finds a list.
    fn is_many(&self) -> bool {
        matches!(
            self,
            Self::Wildcard | Self::Descend(_) | Self::Filter(_) | Self::Slice(..) | Self::Indexes(_)
        )
    }
}

/// Follows a JSON path (`$.a[1].b`, `$['x']`, `$..k`, `$[*]`, `$[0:2]`, `$[?(@.a > 1)]`).
pub(crate) fn find(json: &Json, path: &str) -> Found {
    let path = path.trim();
    let parsed = match path.strip_prefix(['$', '@']) {
        Some(rest) => steps(rest),
        None if path.is_empty() => None,
        // a path without a root begins there
        None if path.starts_with('[') => steps(path),
        None => steps(&format!(".{path}")),
    };
    let Some(steps) = parsed else { return Found::Invalid };
    let many = steps.iter().any(Step::is_many);
    let mut found = follow(json, &steps);
    if many {
        Found::Many(found)
    } else {
        Found::One(if found.is_empty() { None } else { Some(found.swap_remove(0)) })
    }
}

fn follow(json: &Json, steps: &[Step]) -> Vec<Json> {
    let Some((step, rest)) = steps.split_first() else { return vec![json.clone()] };
    let mut found = Vec::new();
    let mut go = |place: &Json| found.extend(follow(place, rest));
    match (step, json) {
        (Step::Name(name), Json::Object(entries)) => {
            entries.iter().filter(|entry| entry.0 == *name).for_each(|entry| go(&entry.1));
        }
        (Step::Names(names), Json::Object(entries)) => {
            let kept = entries.iter().filter(|entry| names.contains(&entry.0)).cloned().collect();
            go(&Json::Object(kept));
        }
        (Step::Index(index), Json::Array(items)) => {
            if let Some(item) = at(items, *index) {
                go(item);
            }
        }
        (Step::Indexes(indexes), Json::Array(items)) => {
            indexes.iter().filter_map(|index| at(items, *index)).for_each(go);
        }
        (Step::Slice(from, to), Json::Array(items)) => {
            let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let place =
                |index: i64| (if index < 0 { len.saturating_add(index) } else { index }).clamp(0, len);
            let (from, to) = (from.map_or(0, place), to.map_or(len, place));
            let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
            items.get(range).unwrap_or_default().iter().for_each(go);
        }
        (Step::Wildcard, Json::Array(items)) => items.iter().for_each(go),
        (Step::Wildcard, Json::Object(entries)) => entries.iter().for_each(|entry| go(&entry.1)),
        (Step::Descend(name), place) => {
            let mut places = Vec::new();
            descend(place, name, &mut places);
            places.into_iter().for_each(go);
        }
        (Step::Filter(filter), Json::Array(items)) => {
            items.iter().filter(|item| filter.holds(item)).for_each(go);
        }
        (Step::Filter(filter), place) if filter.holds(place) => go(place),
        (Step::Length, Json::Array(items)) => go(&Json::Number(items.len().to_string())),
        (Step::Keys, Json::Object(entries)) => {
            go(&Json::Array(entries.iter().map(|entry| Json::String(entry.0.clone())).collect()));
        }
        (Step::Length, Json::Object(entries)) => go(&Json::Number(entries.len().to_string())),
        _ => {}
    }
    found
}

fn at(items: &[Json], index: i64) -> Option<&Json> {
    let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
    usize::try_from(if index < 0 { len + index } else { index }).ok().and_then(|index| items.get(index))
}

fn descend<'a>(json: &'a Json, name: &str, found: &mut Vec<&'a Json>) {
    match json {
        Json::Object(entries) => {
            for (key, value) in entries {
                if key == name || name == "*" {
                    found.push(value);
                }
                descend(value, name, found);
            }
        }
        Json::Array(items) => items.iter().for_each(|item| descend(item, name, found)),
        _ => {}
    }
}

impl Filter {
    fn holds(&self, item: &Json) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(item)),
            Self::All(parts) => parts.iter().all(|part| part.holds(item)),
            Self::Not(part) => !part.holds(item),
            Self::Exists(operand) => operand.value(item).is_some(),
            Self::Test(left, op, right) => {
                let (Some(left), Some(right)) = (left.value(item), right.value(item)) else {
                    return *op == "!=";
                };
                let order = compare(&left, &right);
                match *op {
                    "==" => order == Some(Ordering::Equal),
                    "!=" => order != Some(Ordering::Equal),
                    "<" => order == Some(Ordering::Less),
                    "<=" => matches!(order, Some(Ordering::Less | Ordering::Equal)),
                    ">" => order == Some(Ordering::Greater),
                    _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
                }
            }
        }
    }
}

impl Operand {
    fn value(&self, item: &Json) -> Option<Json> {
        match self {
            Self::Literal(json) => Some(json.clone()),
            Self::Path(steps) => follow(item, steps).into_iter().next(),
        }
    }
}

fn compare(left: &Json, right: &Json) -> Option<Ordering> {
    match (left, right) {
        // a text beside a number counts as the number in it
        (Json::Number(l) | Json::String(l), Json::Number(r)) | (Json::Number(l), Json::String(r)) => {
            l.parse::<f64>().ok()?.partial_cmp(&r.parse::<f64>().ok()?)
        }
        (Json::String(l), Json::String(r)) => Some(l.cmp(r)),
        _ => (left == right).then_some(Ordering::Equal),
    }
}

/// The steps behind `$` or `@`.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut rest = path;
    let mut steps = Vec::new();
    let name = |rest: &str| rest.find(['.', '[']).unwrap_or(rest.len());
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("..") {
            let end = name(tail);
            steps.push(Step::Descend(tail.get(..end).filter(|name| !name.is_empty())?.to_owned()));
            rest = tail.get(end..)?;
        } else if let Some(tail) = rest.strip_prefix('.') {
            let end = name(tail);
            steps.push(match tail.get(..end)? {
                "" => return None,
                "*" => Step::Wildcard,
                "length()" | "size()" => Step::Length,
                "keys()" => Step::Keys,
                name if name.contains([' ', '(', ')']) => return None,
                name => Step::Name(name.to_owned()),
            });
            rest = tail.get(end..)?;
        } else {
            let tail = rest.strip_prefix('[')?;
            let end = closing(tail)?;
            steps.push(bracket(tail.get(..end)?.trim())?);
            rest = tail.get(end + 1..)?;
        }
    }
    Some(steps)
}

/// Where the bracket closes that the text stands in; brackets and parentheses inside and quoted texts are passed.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[' | '(') => {
                depth += 1;
                if depth > 64 {
                    return None;
                }
            }
            (None, ']') if depth == 0 => return Some(at),
            (None, ']' | ')') => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    None
}

fn bracket(body: &str) -> Option<Step> {
    if body == "*" {
        return Some(Step::Wildcard);
    }
    if let Some(filter) = body.strip_prefix('?') {
        return Some(Step::Filter(any(filter.trim().strip_prefix('(')?.strip_suffix(')')?)?));
    }
    if body.starts_with(['\'', '"']) {
        let mut names: Vec<String> =
            split(body, ",").iter().map(|name| unquoted(name)).collect::<Option<_>>()?;
        return Some(if names.len() == 1 { Step::Name(names.swap_remove(0)) } else { Step::Names(names) });
    }
    let number = |text: &str| text.trim().parse::<i64>().ok();
    if let Some((from, to)) = body.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Some(None),
            text => number(text).map(Some),
        };
        return Some(Step::Slice(bound(from)?, bound(to)?));
    }
    let indexes: Vec<i64> = body.split(',').map(number).collect::<Option<_>>()?;
    Some(match indexes.as_slice() {
        [one] => Step::Index(*one),
        _ => Step::Indexes(indexes),
    })
}

fn unquoted(text: &str) -> Option<String> {
    let text = text.trim();
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text.strip_prefix(quote)?.strip_suffix(quote).filter(|inner| !inner.contains(quote)).map(str::to_owned)
}

/// Splits at a separator outside of quotes and parentheses.
fn split<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut depth, mut quote, mut start) = (0_i32, None, 0);
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[') => depth += 1,
            (None, ')' | ']') => depth -= 1,
            _ if depth == 0
                && at >= start
                && text.get(at..).is_some_and(|rest| rest.starts_with(separator)) =>
            {
                parts.push(text.get(start..at).unwrap_or(""));
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(text.get(start..).unwrap_or(""));
    parts
}

fn any(text: &str) -> Option<Filter> {
    let mut parts: Vec<Filter> = split(text, "||").into_iter().map(all).collect::<Option<_>>()?;
    Some(if parts.len() == 1 { parts.swap_remove(0) } else { Filter::Any(parts) })
}

fn all(text: &str) -> Option<Filter> {
    let mut parts: Vec<Filter> = split(text, "&&").into_iter().map(test).collect::<Option<_>>()?;
    Some(if parts.len() == 1 { parts.swap_remove(0) } else { Filter::All(parts) })
}

fn test(text: &str) -> Option<Filter> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        return any(inner);
    }
    for op in ["==", "!=", "<=", ">=", "<", ">"] {
        if let [left, right] = *split(text, op) {
            return Some(Filter::Test(operand(left)?, op, operand(right)?));
        }
    }
    // counted, not nested: a path may come out of data
    let (mut rest, mut negated) = (text, false);
    while let Some(tail) = rest.strip_prefix('!') {
        (rest, negated) = (tail.trim_start(), !negated);
    }
    let found = match rest.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        Some(inner) => any(inner)?,
        None => Filter::Exists(operand(rest)?),
    };
    Some(if negated { Filter::Not(Box::new(found)) } else { found })
}

fn operand(text: &str) -> Option<Operand> {
    let text = text.trim();
    match text.strip_prefix('@') {
        Some(path) => steps(path).map(Operand::Path),
        None => match unquoted(text) {
            Some(text) => Some(Operand::Literal(Json::String(text))),
            None => Json::parse(text).ok().map(Operand::Literal),
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn text(path: &str) -> String {
        let json = Json::parse(r#"[{"id":1,"t":["x","y"]},{"id":2,"t":[]},{"id":3}]"#).unwrap();
        let mut out = String::new();
        match find(&json, path) {
            Found::One(None) => "nothing".clone_into(&mut out),
            Found::One(Some(found)) => found.write(&mut out),
            Found::Many(found) => Json::Array(found).write(&mut out),
            Found::Invalid => "invalid".clone_into(&mut out),
        }
        out
    }

    #[test]
    fn paths() {
        assert_eq!(text("$[0].t[1]"), r#""y""#);
        assert_eq!(text("$[*].id"), "[1,2,3]");
        assert_eq!(text("$[0,2].id"), "[1,3]");
        assert_eq!(text("$[-2:].id"), "[2,3]");
        assert_eq!(text("$[?(@.id > 1 && @.t)].id"), "[2]");
        assert_eq!(text("$[?(@['id'] == 9)]"), "[]");
        assert_eq!(text("$[?(!@.t)].id"), "[3]");
        assert_eq!(text("$[?(! !(@.id > 2))].id"), "[3]");
        assert_eq!(text("$[0]['id','t']"), r#"{"id":1,"t":["x","y"]}"#);
        assert_eq!(text("$[?(@.id == '2')].id"), "[2]");
        assert_eq!(text("$.length()"), "3");
        assert_eq!(text("$[0].keys()"), r#"["id","t"]"#);
        assert_eq!(text("[1].id"), "2");
        assert_eq!(text("@[1].id"), "2");
        assert_eq!(text("id"), "nothing");
        assert_eq!(text("$..id"), "[1,2,3]");
        assert_eq!(text("$[9].id"), "nothing");
        assert_eq!(text("$[0].a b"), "invalid");
        for broken in ["", "$[", "$['a", "$[?(@.a", "$.", "$[a]", "$)", "$[?(]", "a("] {
            assert_eq!(text(broken), "invalid", "{broken}");
        }
    }

    #[test]
    fn a_path_of_any_length_is_read() {
        let path = |count: usize| format!("$[?({}@.t)].id", "!".repeat(count));
        assert_eq!(text(&path(200_000)), "[1,2]");
        assert_eq!(text(&path(200_001)), "[3]");
    }
}
