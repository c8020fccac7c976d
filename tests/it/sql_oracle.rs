//! PostgreSQL as the oracle: whatever order random changes come in, and wherever the job stops and goes on, the
//! result of a streaming query is what PostgreSQL gives for the tables as they are at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::engine::graph::{Environment, Graph, NoLookup, Output, SystemClock};
use millstream::engine::plan::{NodeId, Op, Plan};
use millstream::engine::print;
use millstream::engine::row::{Change, RowKind, Value};
use millstream::sql::compile;
use millstream::state::MemoryState;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

const TABLES: &str = "
CREATE TABLE a (id INT, k STRING, v INT, s STRING, PRIMARY KEY (id) NOT ENFORCED)
  WITH ('connector'='filesystem', 'path'='a', 'format'='debezium-json');
CREATE TABLE b (id INT, k STRING, v INT, s STRING, PRIMARY KEY (id) NOT ENFORCED)
  WITH ('connector'='filesystem', 'path'='b', 'format'='debezium-json');
";

/// Columns of the result, the query, and how PostgreSQL writes it where the two differ.
const QUERIES: &[(usize, &str, &str)] = &[
    // Aggregates. AVG of INT is INT in Flink, and cut.
    (
        7,
        "SELECT k, COUNT(*), COUNT(v), SUM(v), AVG(v), MIN(v), MAX(v) FROM a GROUP BY k",
        "SELECT k, COUNT(*), COUNT(v), SUM(v), trunc(AVG(v))::int, MIN(v), MAX(v) FROM a GROUP BY k",
    ),
    (4, "SELECT k, COUNT(DISTINCT v), SUM(DISTINCT v), MAX(s) FROM a GROUP BY k", ""),
    (3, "SELECT k, COUNT(*) FILTER (WHERE v > 2), MIN(v) FILTER (WHERE s = 'x') FROM a GROUP BY k", ""),
    (2, "SELECT k, COUNT(*) FROM a GROUP BY k HAVING COUNT(*) > 1 AND MIN(v) < 3", ""),
    // Sums of squares differ in their last digits: thousandths, cut where no result lies.
    (
        3,
        "SELECT k, CAST(ROUND(VAR_POP(CAST(v AS DOUBLE)) * 1000 + 0.1) AS BIGINT),
           CAST(ROUND(STDDEV_SAMP(CAST(v AS DOUBLE)) * 1000 + 0.1) AS BIGINT) FROM a GROUP BY k",
        "SELECT k, round(var_pop(v) * 1000 + 0.1)::bigint, round(stddev_samp(v) * 1000 + 0.1)::bigint FROM a GROUP BY k",
    ),
    (
        4,
        "SELECT s, SUM(d), AVG(d), MIN(d) FROM (SELECT s, CAST(v AS DECIMAL(10, 2)) * 0.25 AS d FROM a) GROUP BY s",
        "SELECT s, SUM(d), round(AVG(d), 6), MIN(d) FROM (SELECT s, v::numeric(10, 2) * 0.25 AS d FROM a) q GROUP BY s",
    ),
    (
        4,
        "SELECT k, CARDINALITY(COLLECT(v)), COUNT(DISTINCT s) FILTER (WHERE v > 1), SUM(DISTINCT v) FILTER (WHERE s <> 'x')
           FROM a GROUP BY k",
        "SELECT k, COUNT(DISTINCT v), COUNT(DISTINCT s) FILTER (WHERE v > 1), SUM(DISTINCT v) FILTER (WHERE s <> 'x')
           FROM a GROUP BY k",
    ),
    (2, "SELECT COUNT(*), MAX(v) FROM a", "SELECT COUNT(*), MAX(v) FROM a HAVING COUNT(*) > 0"),
    (
        4,
        "SELECT k, s, GROUPING_ID(k, s), COUNT(DISTINCT v) FROM a GROUP BY ROLLUP (k, s)",
        "SELECT k, s, GROUPING(k, s), COUNT(DISTINCT v) FROM a GROUP BY ROLLUP (k, s) HAVING COUNT(*) > 0",
    ),
    // The empty set of no rows is a row in PostgreSQL only.
    (
        3,
        "SELECT k, s, SUM(v) FROM a GROUP BY GROUPING SETS ((k, s), (k), ())",
        "SELECT k, s, SUM(v) FROM a GROUP BY GROUPING SETS ((k, s), (k), ()) HAVING COUNT(*) > 0",
    ),
    (
        3,
        "SELECT k, s, COUNT(*) FROM a GROUP BY CUBE (k, s)",
        "SELECT k, s, COUNT(*) FROM a GROUP BY CUBE (k, s) HAVING COUNT(*) > 0",
    ),
    (
        2,
        "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) GROUP BY n",
        "SELECT n, COUNT(*) FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) q GROUP BY n",
    ),
    (2, "SELECT DISTINCT k, s FROM a", ""),
    // Joins: both sides change.
    (3, "SELECT a.id, b.id, b.s FROM a JOIN b ON a.k = b.k", ""),
    (2, "SELECT a.id, b.id FROM a JOIN b ON a.k = b.k AND a.v < b.v", ""),
    (2, "SELECT a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND a.s = b.s", ""),
    (2, "SELECT a.id, b.id FROM a LEFT JOIN b ON a.v = b.id", ""),
    (2, "SELECT a.id, b.id FROM a RIGHT JOIN b ON a.k = b.k AND a.v >= b.v", ""),
    (3, "SELECT a.id, b.id, b.v FROM a FULL JOIN b ON a.k = b.k", ""),
    (2, "SELECT a.id, b.id FROM a FULL JOIN b ON a.id = b.id AND a.v < b.v", ""),
    (2, "SELECT a.id, b.id FROM a LEFT JOIN b ON a.k = b.k AND a.v + b.v > 4 AND a.s <> b.s", ""),
    (2, "SELECT a.id, b.id FROM a JOIN b ON a.v > b.v + 2", ""),
    (2, "SELECT a.id, b.id FROM a LEFT JOIN b ON a.k = b.k WHERE b.id IS NULL OR b.v IS NULL", ""),
    (
        3,
        "SELECT x.k, x.n, y.m FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) x
           FULL JOIN (SELECT k, MIN(v) AS m FROM b GROUP BY k) y ON x.k = y.k",
        "",
    ),
    (2, "SELECT x.id, y.id FROM a x JOIN a y ON x.v = y.id AND x.id <> y.id", ""),
    (2, "SELECT id, k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.v <= a.v AND b.s = a.s)", ""),
    (2, "SELECT id, k FROM a WHERE (k, s) IN (SELECT k, s FROM b)", ""),
    (3, "SELECT a.v, b.v, a.s FROM a FULL JOIN b ON a.id = b.id", ""),
    (3, "SELECT x.id, y.id, z.id FROM a x JOIN b y ON x.k = y.k LEFT JOIN a z ON y.v = z.id", ""),
    (2, "SELECT id, k FROM a WHERE k IN (SELECT k FROM b WHERE v > 2)", ""),
    (2, "SELECT id, k FROM a WHERE EXISTS (SELECT 1 FROM b WHERE b.k = a.k AND b.v > a.v)", ""),
    (2, "SELECT id, k FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE b.k = a.k)", ""),
    (2, "SELECT id, v FROM a WHERE v NOT IN (SELECT v FROM b)", ""),
    (2, "SELECT id, v FROM a WHERE v NOT IN (SELECT id FROM b)", ""),
    (2, "SELECT a.k, COUNT(b.id) FROM a LEFT JOIN b ON a.k = b.k GROUP BY a.k", ""),
    (2, "SELECT id, v - (SELECT MAX(v) FROM b) FROM a", ""),
    // Set operations.
    (2, "SELECT k, v FROM a UNION SELECT k, v FROM b", ""),
    (2, "SELECT k, v FROM a UNION ALL SELECT k, v FROM b", ""),
    (2, "SELECT k, v FROM a INTERSECT SELECT k, v FROM b", ""),
    (2, "SELECT k, v FROM a INTERSECT ALL SELECT k, v FROM b", ""),
    (2, "SELECT k, v FROM a EXCEPT SELECT k, v FROM b", ""),
    (2, "SELECT k, v FROM a EXCEPT ALL SELECT k, v FROM b", ""),
    // Top-N. NULL is the smallest value in Flink.
    (
        4,
        "SELECT k, id, v, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, id) AS n FROM a) WHERE n <= 2",
        "SELECT k, id, v, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST, id) AS n FROM a) q WHERE n <= 2",
    ),
    (
        3,
        "SELECT k, id, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, id DESC) AS n FROM a) WHERE n <= 3",
        "SELECT k, id, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v NULLS FIRST, id DESC) AS n FROM a) q WHERE n <= 3",
    ),
    (
        3,
        "SELECT k, id, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, id) AS n FROM a) WHERE n BETWEEN 2 AND 3",
        "SELECT k, id, n FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v NULLS FIRST, id) AS n FROM a) q WHERE n BETWEEN 2 AND 3",
    ),
    (
        2,
        "SELECT id, v FROM a ORDER BY v DESC, id LIMIT 3",
        "SELECT id, v FROM a ORDER BY v DESC NULLS LAST, id LIMIT 3",
    ),
    (
        2,
        "SELECT k, n FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC, k) AS rn FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k)) WHERE rn <= 2",
        "SELECT k, n FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY n DESC, k NULLS FIRST) AS rn FROM (SELECT k, COUNT(*) AS n FROM a GROUP BY k) p) q WHERE rn <= 2",
    ),
];

type Columns = (Option<String>, Option<i64>, Option<String>);
type Rows = BTreeMap<i64, Columns>;

#[derive(Clone, Debug)]
enum Step {
    Row { table: usize, id: i64, columns: Columns, delete: bool },
    Flush,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let word = |words: &'static [&'static str]| {
        prop::option::weighted(0.85, prop::sample::select(words).prop_map(str::to_owned))
    };
    let columns = (word(&["a", "b", "c"]), prop::option::weighted(0.85, 0..6_i64), word(&["x", "y", "z"]));
    let row = (0..2_usize, 0..25_i64, columns, prop::bool::weighted(0.35));
    let step = prop_oneof![
        20 => row.prop_map(|(table, id, columns, delete)| Step::Row { table, id, columns, delete }),
        1 => Just(Step::Flush),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..180)
}

/// Keeps what the sink's table holds.
#[derive(Default)]
struct Result {
    plan: Plan,
    rows: BTreeMap<String, i64>,
}

impl Output for Result {
    fn rows(&mut self, sink: NodeId, rows: &mut Vec<Change>) {
        let schema = &self.plan.nodes[sink].schema;
        for change in rows.drain(..) {
            let mut line = String::new();
            for (value, field) in change.row.iter().zip(schema) {
                print::value(&mut line, value, &field.data_type);
                line.push('|');
            }
            let count = self.rows.entry(line).or_default();
            *count += if change.kind.is_add() { 1 } else { -1 };
        }
        self.rows.retain(|_, count| *count != 0);
    }
}

fn start(plan: &Plan, state: &mut MemoryState, out: &mut Result) -> Graph {
    let environment = Environment { clock: Arc::new(SystemClock), lookup: &mut NoLookup };
    let mut graph = Graph::build(plan, state, environment).expect("the graph");
    graph.start(out).expect("the start");
    graph
}

fn values(id: i64, (k, v, s): &Columns, names: &[String]) -> Vec<Value> {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::str);
    let column = |name: &String| match name.as_str() {
        "id" => Value::Int(id),
        "k" => text(k),
        "v" => v.map_or(Value::Null, Value::Int),
        "s" => text(s),
        other => panic!("column {other}"),
    };
    names.iter().map(column).collect()
}

/// What a query gives for the changes.
fn stream(plan: &Plan, steps: &[Step]) -> BTreeMap<String, i64> {
    let mut state = MemoryState::new();
    let mut out = Result { plan: plan.clone(), ..Result::default() };
    let mut graph = start(plan, &mut state, &mut out);
    let mut tables = [Rows::new(), Rows::new()];
    for step in steps {
        match step {
            Step::Flush => graph.flush().expect("a flush"),
            Step::Restart => {
                graph.flush().expect("a flush");
                drop(graph);
                graph = start(plan, &mut state, &mut out);
            }
            Step::Row { table, id, columns, delete } => {
                let old = tables[*table].remove(id);
                if !delete {
                    tables[*table].insert(*id, columns.clone());
                }
                for (at, node) in plan.nodes.iter().enumerate() {
                    let Op::Source(source) = &node.op else { continue };
                    if source.name != ["a", "b"][*table] {
                        continue;
                    }
                    let names: Vec<String> = node.schema.iter().map(|field| field.name.clone()).collect();
                    let mut changes = Vec::new();
                    let (before, after) = if *delete {
                        (RowKind::Delete, None)
                    } else {
                        (RowKind::UpdateBefore, Some(columns))
                    };
                    if let Some(old) = &old {
                        changes.push(Change::new(before, values(*id, old, &names)));
                    }
                    if let Some(new) = after {
                        let kind = if old.is_some() { RowKind::UpdateAfter } else { RowKind::Insert };
                        changes.push(Change::new(kind, values(*id, new, &names)));
                    }
                    graph.push(at, &mut changes, &mut out).expect("a change");
                }
            }
        }
    }
    graph.end(&mut out).expect("the end");
    out.rows
}

/// The tables at the end, as PostgreSQL's.
fn load(steps: &[Step]) -> String {
    let mut tables = [Rows::new(), Rows::new()];
    for step in steps {
        if let Step::Row { table, id, columns, delete } = step {
            tables[*table].remove(id);
            if !delete {
                tables[*table].insert(*id, columns.clone());
            }
        }
    }
    let text = |text: &Option<String>| text.as_ref().map_or("NULL".to_owned(), |text| format!("'{text}'"));
    let mut sql = String::from("BEGIN; DELETE FROM a; DELETE FROM b;");
    for (name, table) in ["a", "b"].iter().zip(&tables) {
        for (id, (k, v, s)) in table {
            let v = v.map_or("NULL".to_owned(), |v| v.to_string());
            sql.push_str(&format!("INSERT INTO {name} VALUES ({id}, {}, {v}, {});", text(k), text(s)));
        }
    }
    sql
}

#[test]
fn streaming_results_are_postgresqls() {
    let postgres = TemporaryPostgres::start(&PostgresOptions::default()).expect("PostgreSQL");
    let create = ["a", "b"].map(|t| format!("CREATE TABLE {t} (id int PRIMARY KEY, k text, v int, s text);"));
    postgres.psql("postgres", &create.concat()).expect("the tables");
    let plans = |threads: usize| -> Vec<Plan> {
        let plan = |(_, query, _): &(usize, &str, &str)| {
            let script = format!("SET 'parallelism.default' = '{threads}';{TABLES}{query};");
            let script = compile(&script);
            script.unwrap_or_else(|error| panic!("{query}: {error}")).plan
        };
        QUERIES.iter().map(plan).collect()
    };
    let (on_one, on_three) = (plans(1), plans(3));
    // All queries as one script: `number>columns|`.
    let mut asked = String::new();
    for (at, (width, query, other)) in QUERIES.iter().enumerate() {
        let names: Vec<String> = (0..*width).map(|n| format!("c{n}")).collect();
        let texts: Vec<String> =
            names.iter().map(|n| format!("coalesce({n}::text, 'null') || '|'")).collect();
        let query = if other.is_empty() { query } else { other };
        asked.push_str(&format!(
            "SELECT '{at}>' || {} FROM ({query}) AS q({});",
            texts.join(" || "),
            names.join(", ")
        ));
    }
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&steps(), |steps| {
        let answer =
            postgres.psql("postgres", &format!("{}{asked}ROLLBACK;", load(&steps))).expect("PostgreSQL");
        let mut expected: Vec<BTreeMap<String, i64>> = vec![BTreeMap::new(); QUERIES.len()];
        for line in answer.lines() {
            if let Some((at, row)) = line.split_once('>')
                && let Ok(at) = at.parse::<usize>()
            {
                *expected[at].entry(row.to_owned()).or_default() += 1;
            }
        }
        let plans = if steps.len() % 2 == 0 { &on_one } else { &on_three };
        for ((plan, (_, query, _)), expected) in plans.iter().zip(QUERIES).zip(&expected) {
            prop_assert_eq!(&stream(plan, &steps), expected, "{}", query);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
