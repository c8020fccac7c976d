//! Sessions recorded from Flink 2.3 (tests/goldens/statements): what each statement prints, or why it is refused.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;

use super::compile::Session;
use super::parser::parse_script;

fn words(text: &str) -> BTreeSet<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| w.len() > 3)
        .map(str::to_owned)
        .collect()
}

/// What is wrong with the answer to a statement.
fn fault(session: &mut Session, statement: &str, want: &str) -> Option<String> {
    let have = match parse_script(statement).and_then(|all| all.iter().try_for_each(|s| session.run(s))) {
        Ok(()) => Ok(session.take_outputs().join("\n")),
        Err(error) => Err(error.message.clone()),
    };
    let want = want.trim_end();
    match (want.strip_prefix("ERROR"), have) {
        (Some(_), Ok(have)) => Some(format!("accepted: {have}")),
        (None, Err(message)) => Some(format!("refused: {message}")),
        (Some(chain), Err(message)) => {
            let reason = chain.lines().last().unwrap_or_default().trim();
            if reason.starts_with("Encountered") || reason.starts_with("Incorrect syntax") {
                return None;
            }
            let wanted = words(reason);
            let found = wanted.intersection(&words(&message)).count();
            (found * 10 < wanted.len() * 8).then(|| format!("want {reason}\nhave {message}"))
        }
        (None, Ok(have)) => {
            if matches!(want, "OK" | "planned" | "-1" | "+I[1]\n-1") {
                return None;
            }
            // a view's query is shown as it was written
            let same = match want.split_once("\nAS ") {
                Some((head, _)) if want.starts_with("CREATE ") => have.starts_with(head),
                _ => have.trim_end() == want,
            };
            (!same).then(|| format!("want\n{want}\nhave\n{have}"))
        }
    }
}

#[test]
fn statements_answer_as_in_flink() {
    let folder = std::env::var("MILLSTREAM_STATEMENTS")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/statements").to_owned());
    let mut faults = Vec::new();
    let mut count = 0;
    let mut files: Vec<_> =
        std::fs::read_dir(Path::new(&folder)).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "txt"));
    files.sort();
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut session = Session::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let Some(first) = line.strip_prefix("> ") else { continue };
            let mut statement = first.to_owned();
            while let Some(more) = lines.next_if(|l| l.starts_with("> ")) {
                statement.push('\n');
                statement.push_str(more.trim_start_matches("> "));
            }
            let mut want = String::new();
            while let Some(more) = lines.next_if(|l| !l.starts_with("> ")) {
                want.push_str(more);
                want.push('\n');
            }
            count += 1;
            if let Some(fault) = fault(&mut session, &statement, &want) {
                faults.push(format!("{}: {statement}\n{fault}\n", path.display()));
            }
        }
    }
    assert!(count > 0, "no statements in {folder}");
    assert!(faults.is_empty(), "{} of {count} statements differ\n{}", faults.len(), faults.join("\n"));
}
