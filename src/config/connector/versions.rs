//! Versions of plugins as Kafka Connect asks for them: one, `latest`, or a range in Maven's notation.

use std::cmp::Ordering;

/// What Connect says where the version that is there is not the one wanted; none where it is.
pub fn refusal(class: &str, wanted: &str, there: &str) -> Option<String> {
    let wanted = wanted.trim();
    if wanted == "latest" || wanted == there {
        return None;
    }
    let (fits, range) = match range(wanted) {
        Some((lower, upper)) => (above(there, lower) && below(there, upper), wanted.replace(' ', "")),
        // One version alone is shown as a range from it to itself.
        None => (false, format!("[{wanted},{wanted}]")),
    };
    let range = if wanted.is_empty() { "[,]".to_owned() } else { range };
    (!fits).then(|| {
        format!(
            "Plugin {class} not found that matches the version range {range}, available versions: [{there}]"
        )
    })
}

/// A bound and whether it belongs to the range; an empty one bounds nothing.
type Bound<'a> = (&'a str, bool);

/// `[a,b)` and its like; `[a]` is `[a,a]`.
fn range(text: &str) -> Option<(Bound<'_>, Bound<'_>)> {
    let lower_in = match text.chars().next()? {
        '[' => true,
        '(' => false,
        _ => return None,
    };
    let upper_in = match text.chars().last()? {
        ']' => true,
        ')' => false,
        _ => return None,
    };
    let inner = text.get(1..text.len().checked_sub(1)?)?;
    let (lower, upper) = inner.split_once(',').unwrap_or((inner, inner));
    Some(((lower.trim(), lower_in), (upper.trim(), upper_in)))
}

fn above(version: &str, (bound, included): Bound<'_>) -> bool {
    bound.is_empty()
        || match compare(version, bound) {
            Ordering::Less => false,
            Ordering::Equal => included,
            Ordering::Greater => true,
        }
}

fn below(version: &str, (bound, included): Bound<'_>) -> bool {
    bound.is_empty()
        || match compare(version, bound) {
            Ordering::Less => true,
            Ordering::Equal => included,
            Ordering::Greater => false,
        }
}

/// By their numbers, then by what else stands in them; `Final` is nothing, a missing number is 0.
fn compare(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> Vec<(u64, String)> {
        let part = |p: &str| p.parse().map_or_else(|_| (0, p.to_lowercase()), |n| (n, String::new()));
        let mut parts: Vec<_> =
            text.split(['.', '-']).filter(|p| !p.eq_ignore_ascii_case("final")).map(part).collect();
        while parts.last().is_some_and(|(n, rest)| *n == 0 && rest.is_empty()) {
            parts.pop();
        }
        parts
    };
    parts(a).cmp(&parts(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_ranges() {
        for wanted in
            ["3.6.3.Final", "latest", "[3.0,4.0)", "[3.6.3.Final]", "[3.6.3,]", "(,3.6.3.Final]", "(,)"]
        {
            assert_eq!(refusal("C", wanted, "3.6.3.Final"), None, "{wanted}");
        }
        for (wanted, shown) in [
            ("1", "[1,1]"),
            ("[1,2]", "[1,2]"),
            ("[3.0,3.6.3.Final)", "[3.0,3.6.3.Final)"),
            ("(3.6.3.Final,)", "(3.6.3.Final,)"),
            ("", "[,]"),
            ("x", "[x,x]"),
        ] {
            let said = refusal("C", wanted, "3.6.3.Final").unwrap_or_default();
            assert!(said.contains(&format!("version range {shown}, available")), "{wanted}: {said}");
        }
    }
}
