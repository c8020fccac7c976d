//! No SQL text makes the planner panic: the golden scripts, cut and mixed at random.

use std::path::Path;

use millstream::sql::compile;
use proptest::prelude::*;

/// Words and signs of all golden scripts, script by script.
fn scripts() -> Vec<Vec<String>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/flinksql");
    let mut scripts: Vec<Vec<String>> = std::fs::read_dir(folder)
        .expect("goldens")
        .flatten()
        .flat_map(|case| {
            let text = |name: &str| std::fs::read_to_string(case.path().join(name)).ok();
            let sheet = text("exprs.txt").map(|sheet| {
                let exprs: Vec<&str> = sheet.lines().filter(|l| !l.starts_with("COLUMN")).take(40).collect();
                format!("SELECT {}", exprs.join(", "))
            });
            text("job.sql").into_iter().chain(sheet)
        })
        .map(|text| tokens(&text))
        .collect();
    scripts.sort();
    scripts
}

/// Words, numbers, quoted texts and single signs.
fn tokens(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let mut token = String::from(c);
        if c.is_alphanumeric() || c == '_' {
            while let Some(next) = chars.next_if(|n| n.is_alphanumeric() || *n == '_') {
                token.push(next);
            }
        } else if c == '\'' {
            for next in chars.by_ref() {
                token.push(next);
                if next == '\'' {
                    break;
                }
            }
        } else if c == '-' && chars.peek() == Some(&'-') {
            while chars.next_if(|n| *n != '\n').is_some() {}
            continue;
        }
        out.push(token);
    }
    out
}

#[derive(Clone, Debug)]
enum Change {
    Drop(usize, usize),
    Double(usize, usize),
    Swap(usize, usize),
    Put(usize, usize, usize),
    Text(usize, String),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>;
    prop_oneof![
        (at(), 1..6_usize).prop_map(|(a, n)| Change::Drop(a, n)),
        (at(), 1..40_usize).prop_map(|(a, n)| Change::Double(a, n)),
        (at(), at()).prop_map(|(a, b)| Change::Swap(a, b)),
        (at(), at(), at()).prop_map(|(a, s, b)| Change::Put(a, s, b)),
        (
            at(),
            prop_oneof![
                Just("("),
                Just(")"),
                Just("'"),
                Just("`"),
                Just("NULL"),
                Just("-1"),
                Just("*"),
                Just("1e999"),
                Just("\u{0}"),
                Just("ä"),
                Just("/*+"),
                Just("OVER ()"),
                Just("[0]"),
                Just("SELECT")
            ]
        )
            .prop_map(|(a, t)| Change::Text(a, t.to_owned())),
        at().prop_map(Change::Cut),
    ]
}

fn apply(tokens: &mut Vec<String>, change: &Change, scripts: &[Vec<String>]) {
    let len = tokens.len().max(1);
    match change {
        Change::Drop(at, n) => {
            let at = (at % len).min(tokens.len());
            tokens.drain(at..(at + n).min(tokens.len()));
        }
        Change::Double(at, n) => {
            let at = (at % len).min(tokens.len());
            let part: Vec<String> = tokens.iter().skip(at).take(*n).cloned().collect();
            tokens.splice(at..at, part);
        }
        Change::Swap(a, b) if !tokens.is_empty() => tokens.swap(a % len, b % len),
        Change::Put(at, script, from) => {
            if let Some(other) = scripts.get(script % scripts.len().max(1))
                && let Some(token) = other.get(from % other.len().max(1))
                && let Some(slot) = tokens.get_mut(at % len)
            {
                slot.clone_from(token);
            }
        }
        Change::Text(at, text) => tokens.insert((at % len).min(tokens.len()), text.clone()),
        Change::Cut(at) => tokens.truncate(at % len),
        Change::Swap(..) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_planner_panic(script in any::<usize>(), changes in prop::collection::vec(change(), 1..8)) {
        static SCRIPTS: std::sync::OnceLock<Vec<Vec<String>>> = std::sync::OnceLock::new();
        let scripts = SCRIPTS.get_or_init(scripts);
        let mut tokens = scripts[script % scripts.len()].clone();
        changes.iter().for_each(|change| apply(&mut tokens, change, scripts));
        let text = tokens.concat();
        if let Err(error) = compile(&text) {
            // messages can be rendered, whatever the place they name
            prop_assert!(!error.render(&text, "job.sql").is_empty());
        }
    }
}
