//! Comparison of changelogs, as `compare.py` beside the cases does it.

use std::collections::{BTreeMap, BTreeSet};

/// How the case is compared: `-- compare:` of the job.
pub fn rule(job: &str) -> &str {
    job.lines()
        .find_map(|l| l.strip_prefix("-- compare:"))
        .map_or("exact", |rest| rest.trim().split(|c: char| !c.is_alphanumeric()).next().unwrap_or("exact"))
}

/// `{b=1, a=2}` as `{a=2, b=1}`: the order of map entries is free.
fn unordered_maps(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(open) = rest.find('{') {
        let (before, tail) = rest.split_at(open);
        out.push_str(before);
        match tail[1..].find(['{', '}', '[', ']', '"']) {
            Some(close) if tail.as_bytes().get(close + 1) == Some(&b'}') => {
                let mut entries: Vec<&str> = tail[1..=close].split(", ").collect();
                entries.sort_unstable();
                out.push('{');
                out.push_str(&entries.join(", "));
                out.push('}');
                rest = &tail[close + 2..];
            }
            _ => {
                out.push('{');
                rest = &tail[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// Columns of a printed row.
fn split(row: &str) -> Vec<String> {
    let (mut out, mut depth, mut current) = (Vec::new(), 0_i32, String::new());
    let mut chars = row.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth <= 0 && chars.peek() == Some(&' ') => {
                out.push(std::mem::take(&mut current));
                chars.next();
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    out.push(current);
    out
}

/// Materialised tables of all sinks.
#[derive(Clone, Default, PartialEq, Debug)]
struct State {
    tables: BTreeMap<(String, Vec<String>), String>,
    bag: BTreeMap<(String, String), i64>,
}

struct Sinks<'a> {
    keys: &'a BTreeMap<String, Vec<usize>>,
    state: State,
    faults: BTreeSet<String>,
}

impl Sinks<'_> {
    fn add(&mut self, line: &str) {
        let line = unordered_maps(line);
        let Some((sink, body)) = line.split_once("> ") else {
            self.faults.insert(line);
            return;
        };
        let sink = sink.to_owned();
        if let Some(rest) = body.strip_prefix("key=")
            && let Some((key, value)) = rest.split_once(" value=")
        {
            if key == "null" {
                *self.state.bag.entry((sink, format!("value={value}"))).or_default() += 1;
            } else if value == "null" {
                self.state.tables.remove(&(sink, vec![key.to_owned()]));
            } else {
                self.state.tables.insert((sink, vec![key.to_owned()]), body.to_owned());
            }
            return;
        }
        let (sign, row) = (body.starts_with('+'), body.get(3..).and_then(|r| r.strip_suffix(']')));
        let Some(row) = row else {
            self.faults.insert(line.clone());
            return;
        };
        match self.keys.get(&sink) {
            Some(key) if !key.is_empty() => {
                let fields = split(row);
                let key: Vec<String> = key.iter().filter_map(|i| fields.get(*i).cloned()).collect();
                if sign {
                    self.state.tables.insert((sink, key), row.to_owned());
                } else {
                    self.state.tables.remove(&(sink, key));
                }
            }
            _ => {
                let count = self.state.bag.entry((sink.clone(), row.to_owned())).or_default();
                *count += if sign { 1 } else { -1 };
                if *count < 0 {
                    self.faults.insert(line.clone());
                }
                if *count == 0 {
                    self.state.bag.remove(&(sink, row.to_owned()));
                }
            }
        }
    }
}

fn plain(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|l| !l.starts_with("# ")).map(|l| unordered_maps(l)).collect()
}

fn finals(lines: &[String], keys: &BTreeMap<String, Vec<usize>>) -> State {
    let mut sinks = Sinks { keys, state: State::default(), faults: BTreeSet::new() };
    plain(lines).iter().for_each(|l| sinks.add(l));
    sinks.state
}

fn steps(lines: &[String], keys: &BTreeMap<String, Vec<usize>>) -> BTreeMap<i64, State> {
    let mut sinks = Sinks { keys, state: State::default(), faults: BTreeSet::new() };
    let mut out = BTreeMap::new();
    let mut step = -1;
    for line in lines {
        if let Some(name) = line.strip_prefix("# ") {
            step = match name {
                "start" => -1,
                "end" => i64::MAX,
                n => n.parse().unwrap_or(i64::MAX),
            };
            continue;
        }
        sinks.add(line);
        out.insert(step, sinks.state.clone());
    }
    out
}

/// Equal under the rule, or what differs.
pub fn compare(
    rule: &str,
    want: &[String],
    have: &[String],
    keys: &BTreeMap<String, Vec<usize>>,
) -> Result<(), String> {
    // A recording is a text of lines: a row with a line break in it is two of them there.
    let have: Vec<String> = have.iter().flat_map(|row| row.split('\n')).map(str::to_owned).collect();
    let have = have.as_slice();
    if rule == "exact" {
        let names: BTreeSet<String> = plain(want)
            .into_iter()
            .chain(plain(have))
            .filter_map(|l| l.split_once("> ").map(|(n, _)| n.to_owned()))
            .collect();
        for name in names {
            let of = |lines: &[String]| -> Vec<String> {
                plain(lines).into_iter().filter(|l| l.starts_with(&format!("{name}> "))).collect()
            };
            let (want, have) = (of(want), of(have));
            if want != have {
                let at =
                    want.iter().zip(&have).position(|(a, b)| a != b).unwrap_or(want.len().min(have.len()));
                return Err(format!(
                    "sink {name} differs at line {}: want {:?}, have {:?}",
                    at + 1,
                    want.get(at),
                    have.get(at)
                ));
            }
        }
    }
    if rule == "steps" {
        let (want, have) = (steps(want, keys), steps(have, keys));
        let order: BTreeSet<i64> = want.keys().chain(have.keys()).copied().collect();
        let (mut a, mut b) = (State::default(), State::default());
        for step in order {
            a = want.get(&step).cloned().unwrap_or(a);
            b = have.get(&step).cloned().unwrap_or(b);
            if a != b {
                return Err(format!("tables differ after step {step}: {}", difference(&a, &b)));
            }
        }
    }
    if rule == "multiset" {
        let count = |lines: &[String]| {
            let mut out: BTreeMap<String, i64> = BTreeMap::new();
            plain(lines).into_iter().for_each(|l| *out.entry(l).or_default() += 1);
            out
        };
        let (want, have) = (count(want), count(have));
        if want != have {
            let missing: Vec<&String> =
                want.iter().filter(|(l, n)| have.get(*l).unwrap_or(&0) < *n).map(|(l, _)| l).collect();
            let extra: Vec<&String> =
                have.iter().filter(|(l, n)| want.get(*l).unwrap_or(&0) < *n).map(|(l, _)| l).collect();
            return Err(format!("changelogs differ as multisets: missing {missing:?}, extra {extra:?}"));
        }
    }
    let (want, have) = (finals(want, keys), finals(have, keys));
    if want != have {
        return Err(format!("final tables differ: {}", difference(&want, &have)));
    }
    Ok(())
}

fn difference(want: &State, have: &State) -> String {
    let mut out = Vec::new();
    for (key, row) in &want.tables {
        if have.tables.get(key) != Some(row) {
            out.push(format!("{}: want [{row}], have {:?}", key.0, have.tables.get(key)));
        }
    }
    for (key, row) in &have.tables {
        if !want.tables.contains_key(key) {
            out.push(format!("{}: extra [{row}]", key.0));
        }
    }
    for (key, n) in &want.bag {
        let m = have.bag.get(key).copied().unwrap_or(0);
        if m != *n {
            out.push(format!("{}: [{}] want {n}x, have {m}x", key.0, key.1));
        }
    }
    for (key, n) in &have.bag {
        if !want.bag.contains_key(key) {
            out.push(format!("{}: extra [{}] {n}x", key.0, key.1));
        }
    }
    out.truncate(6);
    out.join("; ")
}

/// Whether a message carries the essential words of Flink's: of one of the lines of its chain.
pub fn same_words(want: &str, have: &str) -> bool {
    let have = words(have);
    let lines: Vec<&str> = want.lines().filter(|l| !l.starts_with("phase:")).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let last = at + 1 == lines.len();
        let text = match line.split_once(": ") {
            Some((class, rest)) if !class.contains(' ') => rest,
            _ => *line,
        };
        // what Flink adds below its first sentence (options, the whole plan) is no part of the reason
        let text = text.split(" | ").next().unwrap_or(text);
        let text = text.split("The physical plan").next().unwrap_or(text);
        let wanted = words(text);
        let found = wanted.iter().filter(|w| have.contains(*w)).count();
        // the last line is the reason itself, however short
        (wanted.len() >= 3 || last && !wanted.is_empty()) && found * 10 >= wanted.len() * 8
    })
}

fn words(text: &str) -> BTreeSet<String> {
    text.to_lowercase()
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| w.len() > 3 && !w.chars().all(|c| c.is_ascii_digit()))
        .map(str::to_owned)
        .collect()
}
