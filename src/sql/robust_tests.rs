//! Any text is a plan or an error with a place: what becomes of good scripts when they are cut, stirred and nested.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;

use super::compile;

/// Says which text it was when a panic passes by.
struct Witness<'t>(&'t str);

impl Drop for Witness<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this text panics:\n{}", self.0);
        }
    }
}

fn survives(text: &str) {
    let _witness = Witness(text);
    if let Err(error) = compile(text) {
        assert!(error.render(text, "job.sql").contains("job.sql"), "an error without a place");
    }
}

/// The scripts of the golden jobs, without their comments.
fn golden_scripts() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/flinksql");
    let mut paths: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path.join("job.sql")).ok());
    let code = |text: String| text.lines().filter(|l| !l.starts_with("--")).collect::<Vec<_>>().join("\n");
    let scripts: Vec<String> = texts.map(code).collect();
    assert!(scripts.len() > 50, "the golden jobs are there");
    scripts
}

/// Words, strings, numbers, symbols and blanks, which together are the text.
fn pieces(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if first == '\'' {
            rest.get(1..).and_then(|tail| tail.find('\'')).map_or(rest.len(), |end| end + 2)
        } else if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
        } else {
            first.len_utf8()
        };
        let (piece, tail) = rest.split_at(length);
        out.push(piece);
        rest = tail;
    }
    out
}

/// A small generator of numbers, the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit.max(1) as u64).unwrap()
    }
}

#[test]
fn scripts_that_end_anywhere() {
    for script in golden_scripts() {
        let pieces = pieces(&script);
        // the declarations stay, so that what is cut is bound
        for end in (pieces.len().saturating_sub(120)..pieces.len()).step_by(4) {
            survives(&pieces.get(..end).unwrap().concat());
        }
    }
}

#[test]
fn scripts_whose_pieces_are_stirred() {
    let scripts = golden_scripts();
    let all: Vec<&str> = scripts.iter().flat_map(|script| pieces(script)).filter(|p| *p != " ").collect();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for script in &scripts {
        for _ in 0..30 {
            let mut pieces = pieces(script);
            let tail = pieces.len().saturating_sub(160);
            for _ in 0..=numbers.below(3) {
                let at = tail + numbers.below(pieces.len() - tail);
                match numbers.below(4) {
                    0 => drop(pieces.remove(at)),
                    1 => pieces.insert(at, all.get(numbers.below(all.len())).unwrap()),
                    2 => {
                        let other = tail + numbers.below(pieces.len() - tail);
                        pieces.swap(at, other);
                    }
                    _ => *pieces.get_mut(at).unwrap() = all.get(numbers.below(all.len())).unwrap(),
                }
            }
            survives(&pieces.concat());
        }
    }
}

#[test]
fn texts_that_nest_and_go_on_without_end() {
    const TABLE: &str = "CREATE TABLE t (a INT, r ROW<a INT>, l ARRAY<INT>) WITH ('connector'='datagen');";
    let times = 2_000;
    let around = |open: &str, inner: &str, close: &str| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    // chains within parentheses: each is short enough, and together they are not
    let mut chains = "a".to_owned();
    for _ in 0..30 {
        chains = format!("({chains}{})", "+a".repeat(45));
    }
    let expressions = [
        around("", "a", " + a"),
        around("", "'a'", " || 'a'"),
        around("(", "a", ")"),
        around("- ", "a", ""),
        around("NOT ", "TRUE", ""),
        around("", "a", " IS NULL"),
        around("", "l", "[1]"),
        around("", "r", ".a"),
        around("ABS(", "a", ")"),
        around("ARRAY[", "a", "]"),
        around("CASE WHEN TRUE THEN ", "a", " END"),
        around("CAST(", "a", " AS INT)"),
        around("a BETWEEN 1 AND ", "a", ""),
        around("a IN (", "a", ")"),
        around("(SELECT ", "a", ")"),
        around("EXISTS (SELECT ", "a", ")"),
        around("", "a", " OR a = 1"),
        around("", "TRUE", " AND a = 1"),
        format!("CAST(a AS {})", around("ARRAY<", "INT", ">")),
        format!("CAST(a AS {})", around("ROW<a ", "INT", ">")),
        format!("a IN (1{})", ", 1".repeat(times)),
        format!("CASE {} END", "WHEN a = 1 THEN 2 ".repeat(times)),
        chains,
    ];
    for expression in &expressions {
        survives(&format!("{TABLE}SELECT {expression} FROM t"));
    }
    for query in [
        around("", "SELECT a FROM t", " UNION ALL SELECT a FROM t"),
        around("", "SELECT t.a FROM t", " JOIN t ON TRUE"),
        around("", "SELECT 1 FROM t", ", t"),
        around("SELECT * FROM (", "SELECT a FROM t", ")"),
        around("WITH x AS (", "SELECT a FROM t", ") SELECT * FROM x"),
        around("(", "SELECT a FROM t", ")"),
        format!("SELECT a{} FROM t", ", a".repeat(times)),
        format!("SELECT a FROM t GROUP BY {}", around("GROUPING SETS (", "a", ")")),
        around("/*", "", ""),
        around("EXECUTE STATEMENT SET BEGIN ", "", ""),
        // queries within queries, each with its joins
        (0..20).fold("t".to_owned(), |inner, _| {
            format!("(SELECT x.a FROM {inner} x{})", " JOIN t ON x.a = t.a".repeat(20))
        }),
    ] {
        survives(&format!("{TABLE}{query}"));
        survives(&format!("{TABLE}SELECT * FROM {query}"));
    }
}
