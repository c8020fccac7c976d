//! PostgreSQL as the oracle for scalar functions, wherever it and Flink mean the same: random expressions over random
//! rows give one value in both.

use std::fmt::Write as _;
use std::sync::Arc;

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::engine::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use millstream::engine::plan::{NodeId, Op};
use millstream::engine::print;
use millstream::engine::row::{Change, Instant, RowKind, Value};
use millstream::engine::types::DataType;
use millstream::sql::compile;
use millstream::state::MemoryState;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Expressions per row.
const EXPRESSIONS: usize = 30;

/// Whole numbers.
const INTS: &[&str] = &["i", "j", "k"];
/// DECIMAL(8, 2).
const DECIMALS: &[&str] = &["d", "e"];
/// STRING.
const TEXTS: &[&str] = &["s", "t", "u"];

/// An expression as Flink and as PostgreSQL write it.
type Pair = (String, String);

fn both(text: impl Into<String>) -> Pair {
    let text = text.into();
    (text.clone(), text)
}

/// The same template in both, with its parts.
fn form(template: &str, parts: &[&Pair]) -> Pair {
    split(template, template, parts)
}

/// A template for each: `{0}`, `{1}` are the parts.
fn split(flink: &str, postgres: &str, parts: &[&Pair]) -> Pair {
    let fill = |template: &str, part: fn(&Pair) -> &str| {
        parts
            .iter()
            .enumerate()
            .fold(template.to_owned(), |text, (at, p)| text.replace(&format!("{{{at}}}"), part(p)))
    };
    (fill(flink, |p| &p.0), fill(postgres, |p| &p.1))
}

/// Makes expressions of a sequence of choices, so that proptest can shrink them.
struct Maker<'c> {
    choices: std::slice::Iter<'c, u8>,
}

impl Maker<'_> {
    fn pick(&mut self, count: usize) -> usize {
        usize::from(self.choices.next().copied().unwrap_or(0)) % count
    }

    fn one(&mut self, of: &[&str]) -> Pair {
        let at = self.pick(of.len());
        both(of[at])
    }

    /// A whole number, small enough for sums and products not to overflow.
    fn int(&mut self, depth: usize) -> Pair {
        if depth == 0 {
            return match self.pick(4) {
                0 => both(["0", "1", "-3", "7"][self.pick(4)]),
                _ => self.one(INTS),
            };
        }
        let d = depth - 1;
        match self.pick(20) {
            0 => form("({0} + {1})", &[&self.int(d), &self.int(d)]),
            1 => form("({0} - {1})", &[&self.int(d), &self.int(d)]),
            2 => form("({0} * {1})", &[&self.int(0), &self.int(0)]),
            3 => form("({0} / 7)", &[&self.int(d)]),
            4 => form("({0} / NULLIF({1}, 0))", &[&self.int(d), &self.int(d)]),
            5 => form("MOD({0}, 5)", &[&self.int(d)]),
            6 => form("({0} % NULLIF({1}, 0))", &[&self.int(d), &self.int(d)]),
            7 => form("ABS({0})", &[&self.int(d)]),
            8 => form("(- {0})", &[&self.int(d)]),
            9 => split("SIGN({0})", "SIGN({0})::int", &[&self.int(d)]),
            10 => form("CHAR_LENGTH({0})", &[&self.text(d)]),
            11 => form("POSITION({0} IN {1})", &[&self.text(0), &self.text(d)]),
            12 => form("COALESCE({0}, {1})", &[&self.int(d), &self.int(d)]),
            13 => form("NULLIF({0}, {1})", &[&self.int(d), &self.int(d)]),
            14 => form("CASE WHEN {0} THEN {1} ELSE {2} END", &[&self.truth(d), &self.int(d), &self.int(d)]),
            15 => form(
                "CASE {0} WHEN 1 THEN {1} WHEN 7 THEN {2} END",
                &[&self.int(d), &self.int(d), &self.int(d)],
            ),
            16 => {
                let unit = ["YEAR", "QUARTER", "MONTH", "DAY", "WEEK", "DOY", "HOUR", "MINUTE"][self.pick(8)];
                let time = self.time(d);
                split(
                    &format!("CAST(EXTRACT({unit} FROM {{0}}) AS INT)"),
                    &format!("EXTRACT({unit} FROM {{0}})::int"),
                    &[&time],
                )
            }
            17 => split(
                "CAST(EXTRACT(DOW FROM {0}) AS INT)",
                "(EXTRACT(DOW FROM {0})::int + 1)",
                &[&self.time(d)],
            ),
            18 => split("CAST(FLOOR({0}) AS INT)", "FLOOR({0})::int", &[&self.decimal(0)]),
            _ => split("CAST(CEIL({0}) AS INT)", "CEIL({0})::int", &[&self.decimal(0)]),
        }
    }

    /// A decimal; both keep the scale of sums and products.
    fn decimal(&mut self, depth: usize) -> Pair {
        if depth == 0 {
            return match self.pick(4) {
                0 => both(["0.50", "-1.25", "12.00", "0.01"][self.pick(4)]),
                _ => self.one(DECIMALS),
            };
        }
        let d = depth - 1;
        match self.pick(9) {
            0 => form("({0} + {1})", &[&self.decimal(d), &self.decimal(d)]),
            1 => form("({0} - {1})", &[&self.decimal(d), &self.decimal(d)]),
            2 => form("({0} * {1})", &[&self.decimal(0), &self.decimal(0)]),
            3 => form("ABS({0})", &[&self.decimal(d)]),
            4 => form("(- {0})", &[&self.decimal(d)]),
            5 => form("ROUND({0}, 1)", &[&self.decimal(0)]),
            6 => split("TRUNCATE({0}, 1)", "TRUNC({0}, 1)", &[&self.decimal(0)]),
            7 => form("({0} + {1})", &[&self.decimal(d), &self.int(0)]),
            _ => form("CASE WHEN {0} THEN {1} END", &[&self.truth(d), &self.decimal(d)]),
        }
    }

    fn text(&mut self, depth: usize) -> Pair {
        if depth == 0 {
            return match self.pick(4) {
                0 => both(["''", "'ab'", "' x '", "'é😀'"][self.pick(4)]),
                _ => self.one(TEXTS),
            };
        }
        let d = depth - 1;
        match self.pick(22) {
            0 => form("({0} || {1})", &[&self.text(d), &self.text(d)]),
            1 => form("UPPER({0})", &[&self.text(d)]),
            2 => form("LOWER({0})", &[&self.text(d)]),
            3 => form("TRIM({0})", &[&self.text(d)]),
            4 => form("LTRIM({0})", &[&self.text(d)]),
            5 => form("RTRIM({0})", &[&self.text(d)]),
            6 => form("TRIM(LEADING 'a' FROM {0})", &[&self.text(d)]),
            7 => form("REPLACE({0}, 'a', {1})", &[&self.text(d), &self.text(0)]),
            8 => {
                let (from, count) = (1 + self.pick(6), self.pick(5));
                form(&format!("SUBSTRING({{0}} FROM {from} FOR {count})"), &[&self.text(d)])
            }
            9 => {
                let from = 1 + self.pick(6);
                form(&format!("SUBSTRING({{0}} FROM {from})"), &[&self.text(d)])
            }
            // Flink counts Java's chars here, of which a character beyond the first 65,536 has two.
            10 => {
                let width = self.pick(9);
                form(&format!("LPAD(REPLACE({{0}}, '😀', 'ü'), {width}, '<>')"), &[&self.text(d)])
            }
            11 => {
                let width = self.pick(9);
                form(&format!("RPAD(REPLACE({{0}}, '😀', 'ü'), {width}, '<>')"), &[&self.text(d)])
            }
            12 => {
                let count = self.pick(4);
                form(&format!("REPEAT({{0}}, {count})"), &[&self.text(d)])
            }
            13 => form("REVERSE({0})", &[&self.text(d)]),
            14 => {
                let count = self.pick(5);
                form(&format!("LEFT({{0}}, {count})"), &[&self.text(d)])
            }
            15 => {
                let count = self.pick(5);
                form(&format!("RIGHT({{0}}, {count})"), &[&self.text(d)])
            }
            16 => form("CONCAT_WS('-', {0}, {1}, {2})", &[&self.text(d), &self.text(0), &self.text(0)]),
            17 => split("CAST({0} AS STRING)", "({0})::text", &[&self.int(d)]),
            18 => split("CAST({0} AS STRING)", "({0})::text", &[&self.decimal(0)]),
            19 => form("MD5({0})", &[&self.text(d)]),
            20 => form("COALESCE({0}, {1})", &[&self.text(d), &self.text(d)]),
            _ => split("SHA256({0})", "encode(sha256(convert_to({0}, 'UTF8')), 'hex')", &[&self.text(d)]),
        }
    }

    fn truth(&mut self, depth: usize) -> Pair {
        if depth == 0 {
            return both(["p", "q", "TRUE", "FALSE"][self.pick(4)]);
        }
        let d = depth - 1;
        let comparison = ["=", "<>", "<", "<=", ">", ">="];
        match self.pick(14) {
            0 => form("({0} AND {1})", &[&self.truth(d), &self.truth(d)]),
            1 => form("({0} OR {1})", &[&self.truth(d), &self.truth(d)]),
            2 => form("(NOT {0})", &[&self.truth(d)]),
            3 => form("({0} IS NULL)", &[&self.int(d)]),
            4 => form("({0} IS TRUE)", &[&self.truth(d)]),
            5 => form("({0} IS NOT FALSE)", &[&self.truth(d)]),
            6 => form("({0} IS DISTINCT FROM {1})", &[&self.int(d), &self.int(d)]),
            7 => form("({0} BETWEEN {1} AND {2})", &[&self.int(d), &self.int(0), &self.int(0)]),
            8 => form("({0} IN (1, 2, {1}))", &[&self.int(d), &self.int(0)]),
            9 => form("({0} NOT IN (1, {1}))", &[&self.int(d), &self.int(0)]),
            10 => {
                let pattern = ["a%", "%b%", "_b%", "%", "ab", "é_"][self.pick(6)];
                form(&format!("({{0}} LIKE '{pattern}')"), &[&self.text(d)])
            }
            11 => {
                let op = comparison[self.pick(6)];
                form(&format!("({{0}} {op} {{1}})"), &[&self.int(d), &self.int(d)])
            }
            12 => {
                let op = comparison[self.pick(6)];
                form(&format!("({{0}} {op} {{1}})"), &[&self.decimal(d), &self.decimal(0)])
            }
            _ => {
                let op = comparison[self.pick(6)];
                form(&format!("({{0}} {op} {{1}})"), &[&self.text(d), &self.text(0)])
            }
        }
    }

    /// TIMESTAMP(3).
    fn time(&mut self, depth: usize) -> Pair {
        if depth == 0 {
            return self.one(&["x", "y"]);
        }
        let d = depth - 1;
        match self.pick(6) {
            0 => form("({0} + INTERVAL '25' HOUR)", &[&self.time(d)]),
            1 => form("({0} - INTERVAL '90' SECOND)", &[&self.time(d)]),
            2 => form("({0} + INTERVAL '13' MONTH)", &[&self.time(d)]),
            3 => form("({0} - INTERVAL '1' YEAR)", &[&self.time(d)]),
            4 => {
                let unit = ["YEAR", "MONTH", "DAY", "HOUR", "MINUTE"][self.pick(5)];
                split(
                    &format!("FLOOR({{0}} TO {unit})"),
                    &format!("date_trunc('{unit}', {{0}})"),
                    &[&self.time(d)],
                )
            }
            _ => form("CASE WHEN {0} THEN {1} ELSE {2} END", &[&self.truth(d), &self.time(d), &self.time(d)]),
        }
    }

    /// An expression whose value is text in both.
    fn shown(&mut self) -> Pair {
        match self.pick(5) {
            0 => split("CAST({0} AS STRING)", "({0})::text", &[&self.int(3)]),
            1 => split("CAST({0} AS STRING)", "({0})::text", &[&self.decimal(3)]),
            2 => self.text(3),
            3 => split("CAST({0} AS STRING)", "upper(({0})::text)", &[&self.truth(3)]),
            _ => split(
                "DATE_FORMAT({0}, 'yyyy-MM-dd HH:mm:ss.SSS')",
                "to_char({0}, 'YYYY-MM-DD HH24:MI:SS.MS')",
                &[&self.time(3)],
            ),
        }
    }
}

#[derive(Clone, Debug)]
struct Line {
    ints: Vec<Option<i64>>,
    decimals: Vec<Option<i64>>,
    texts: Vec<Option<String>>,
    truths: Vec<Option<bool>>,
    times: Vec<Option<i64>>,
}

fn line() -> impl Strategy<Value = Line> {
    let maybe = 0.85;
    let text = prop::sample::select(vec!["", "a", "ab", "aab", " b ", "é😀x", "Hello World", "x-y_z%"])
        .prop_map(str::to_owned);
    (
        prop::collection::vec(prop::option::weighted(maybe, -20..50_i64), 3),
        prop::collection::vec(prop::option::weighted(maybe, -99_999..99_999_i64), 2),
        prop::collection::vec(prop::option::weighted(maybe, text), 3),
        prop::collection::vec(prop::option::weighted(maybe, any::<bool>()), 2),
        // from 1976 to 2098: before 1970 Flink's EXTRACT and FLOOR have rounding of their own
        prop::collection::vec(prop::option::weighted(maybe, 200_000_000_000..4_060_000_000_000_i64), 2),
    )
        .prop_map(|(ints, decimals, texts, truths, times)| Line { ints, decimals, texts, truths, times })
}

const TABLE: &str = "CREATE TABLE r (i INT, j INT, k INT, d DECIMAL(8, 2), e DECIMAL(8, 2), s STRING, t STRING, u STRING,
  p BOOLEAN, q BOOLEAN, x TIMESTAMP(3), y TIMESTAMP(3)) WITH ('connector'='filesystem', 'path'='r', 'format'='json');";

impl Line {
    fn value(&self, name: &str) -> Value {
        let at = |names: &[&str]| names.iter().position(|n| *n == name);
        if let Some(at) = at(INTS) {
            return self.ints[at].map_or(Value::Null, Value::Int);
        }
        if let Some(at) = at(DECIMALS) {
            return self.decimals[at].map_or(Value::Null, |n| Value::decimal(i128::from(n), 2));
        }
        if let Some(at) = at(TEXTS) {
            return self.texts[at].as_deref().map_or(Value::Null, Value::str);
        }
        if let Some(at) = at(&["p", "q"]) {
            return self.truths[at].map_or(Value::Null, Value::Bool);
        }
        let at = at(&["x", "y"]).unwrap_or_else(|| panic!("column {name}"));
        self.times[at].map_or(Value::Null, |millis| Value::Timestamp(Instant { millis, nanos: 0 }))
    }

    /// PostgreSQL's row of the same values.
    fn postgres(&self) -> String {
        fn or_null(text: Option<String>) -> String {
            text.unwrap_or_else(|| "NULL".to_owned())
        }
        let mut columns = Vec::new();
        for (name, n) in INTS.iter().zip(&self.ints) {
            columns.push(format!("{}::int AS {name}", or_null(n.map(|n| n.to_string()))));
        }
        for (name, n) in DECIMALS.iter().zip(&self.decimals) {
            let text = n.map(|n| format!("({n} / 100.0)"));
            columns.push(format!("{}::numeric(8,2) AS {name}", or_null(text)));
        }
        for (name, text) in TEXTS.iter().zip(&self.texts) {
            columns.push(format!("{}::text AS {name}", or_null(text.as_ref().map(|t| format!("'{t}'")))));
        }
        for (name, truth) in ["p", "q"].iter().zip(&self.truths) {
            columns.push(format!("{}::boolean AS {name}", or_null(truth.map(|t| t.to_string()))));
        }
        for (name, millis) in ["x", "y"].iter().zip(&self.times) {
            let text = millis.map(|m| format!("(timestamp '1970-01-01' + {m} * interval '1 millisecond')"));
            columns.push(format!("{}::timestamp AS {name}", or_null(text)));
        }
        format!("(SELECT {}) r", columns.join(", "))
    }
}

#[derive(Default)]
struct Texts(Vec<String>);

impl Output for Texts {
    fn rows(&mut self, _: NodeId, rows: &mut Vec<Change>) {
        for change in rows.drain(..) {
            for value in &change.row[..] {
                let mut text = String::new();
                print::value(&mut text, value, &DataType::string());
                self.0.push(text);
            }
        }
    }
}

/// The values of the expressions over the row.
fn ours(line: &Line, expressions: &[Pair]) -> Vec<String> {
    let list: Vec<&str> = expressions.iter().map(|(flink, _)| flink.as_str()).collect();
    let sql = format!("{TABLE} SELECT {} FROM r;", list.join(",\n"));
    let plan = compile(&sql).unwrap_or_else(|error| panic!("{sql}: {error}")).plan;
    let mut state = MemoryState::new();
    let mut out = Texts::default();
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    let mut graph = Graph::build(&plan, &mut state, environment).expect("the graph");
    graph.start(&mut out).expect("the start");
    for (at, node) in plan.nodes.iter().enumerate() {
        if let Op::Source(_) = &node.op {
            let row: Vec<Value> = node.schema.iter().map(|field| line.value(&field.name)).collect();
            graph.push(at, &mut vec![Change::new(RowKind::Insert, row)], &mut out).expect("a row");
        }
    }
    graph.end(&mut out).expect("the end");
    out.0
}

#[test]
fn scalar_functions_are_postgresqls() {
    let postgres = TemporaryPostgres::start(&PostgresOptions::default()).expect("PostgreSQL");
    let choices = prop::collection::vec(prop::collection::vec(any::<u8>(), 60), EXPRESSIONS);
    let config = ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&(line(), choices), |(line, choices)| {
        let expressions: Vec<Pair> =
            choices.iter().map(|choices| Maker { choices: choices.iter() }.shown()).collect();
        let mut asked = String::new();
        let row = line.postgres();
        for (at, (_, expression)) in expressions.iter().enumerate() {
            let _ = write!(asked, "SELECT '{at}>' || coalesce({expression}, 'null') FROM {row};");
        }
        let answer = postgres.psql("postgres", &asked).expect("PostgreSQL");
        let mut expected: Vec<&str> = vec!["missing"; EXPRESSIONS];
        for line in answer.lines() {
            if let Some((at, value)) = line.split_once('>')
                && let Ok(at) = at.parse::<usize>()
            {
                expected[at] = value;
            }
        }
        for ((ours, expected), (expression, _)) in
            ours(&line, &expressions).iter().zip(expected).zip(&expressions)
        {
            prop_assert_eq!(ours, expected, "{} over {:?}", expression, line);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
