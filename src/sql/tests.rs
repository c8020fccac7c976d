#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::engine::plan::{Node, NormalizeMode, OnConflict, Op};

const TABLES: &str = "
CREATE TABLE orders (id INT, cust INT, amount INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='o', 'properties.bootstrap.servers'='h', 'format'='debezium-json');
CREATE TABLE customers (id INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', 'topic'='c', 'properties.bootstrap.servers'='h', 'format'='debezium-json');
CREATE TABLE prices (id INT, price INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='upsert-kafka', 'topic'='p', 'properties.bootstrap.servers'='h', 'key.format'='json', 'value.format'='json');
CREATE TABLE clicks (k STRING, v INT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH ('connector'='kafka', 'topic'='k', 'properties.bootstrap.servers'='h', 'format'='json');
CREATE TABLE target (id INT, x INT, name STRING, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='jdbc', 'url'='jdbc:postgresql://h/d', 'table-name'='t');
CREATE TABLE by_name (name STRING, id INT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector'='jdbc', 'url'='jdbc:postgresql://h/d', 'table-name'='n');
CREATE TABLE out1 (id INT, x INT) WITH ('connector'='print');
";

fn script(sql: &str) -> Result<Script, Box<SqlError>> {
    compile(&format!("{TABLES}{sql}"))
}

fn kinds(sql: &str) -> Vec<&'static str> {
    script(sql).unwrap().plan.nodes.iter().map(|n| planner::kind(&n.op)).collect()
}

#[test]
fn a_copy_into_an_upsert_sink_keeps_nothing_in_state() {
    assert_eq!(
        kinds("INSERT INTO target (id, x) SELECT id, amount FROM orders"),
        ["source", "drop-update-before", "project", "sink"]
    );
    // duplicates and unknown tombstones pass: nobody needs the old row
    assert_eq!(
        kinds("INSERT INTO target (id, x) SELECT id, price FROM prices"),
        ["source", "project", "sink"]
    );
}

#[test]
fn old_rows_come_from_state_where_an_operator_needs_them() {
    let plan = script("INSERT INTO out1 SELECT cust, COUNT(*) FROM orders GROUP BY cust").unwrap_err();
    assert!(
        plan.message.contains("Incompatible types") || plan.message.contains("BIGINT"),
        "{}",
        plan.message
    );
    let plan = script("INSERT INTO out1 SELECT cust, SUM(amount) FROM orders GROUP BY cust").unwrap().plan;
    assert!(
        plan.nodes.iter().any(|n| matches!(n.op, Op::Normalize { mode: NormalizeMode::Complete { .. }, .. }))
    );
    let strict = compile(
        &format!("{TABLES} SET 'millstream.compat.strict' = 'true'; INSERT INTO out1 SELECT cust, SUM(amount) FROM orders GROUP BY cust"))
    .unwrap()
    .plan;
    assert!(!strict.nodes.iter().any(|n| matches!(n.op, Op::Normalize { .. })));
}

#[test]
fn a_foreign_key_join_is_materialised_and_warned_about() {
    let sql =
        "INSERT INTO target SELECT o.id, o.amount, c.name FROM orders o JOIN customers c ON o.cust = c.id";
    let plan = script(sql).unwrap().plan;
    assert!(
        plan.nodes.iter().any(|n| matches!(n.op, Op::Materialize { conflict: OnConflict::Deduplicate, .. }))
    );
    assert!(plan.warnings.iter().any(|w| w.contains("ON CONFLICT")), "{:?}", plan.warnings);
    let quiet = script(&format!("{sql} ON CONFLICT DO NOTHING")).unwrap().plan;
    assert!(
        quiet.nodes.iter().any(|n| matches!(n.op, Op::Materialize { conflict: OnConflict::Nothing, .. }))
    );
    assert!(quiet.warnings.iter().all(|w| !w.contains("ON CONFLICT")));
}

#[test]
fn the_materializer_is_told_the_querys_key() {
    let key = |query: &str| {
        let plan = script(&format!("INSERT INTO by_name {query}")).unwrap().plan;
        plan.nodes.into_iter().find_map(|n| match n.op {
            Op::Materialize { input_key, .. } => Some(input_key),
            _ => None,
        })
    };
    assert_eq!(key("SELECT name, id FROM customers"), Some(Some(vec![1])));
    // a cast may make two keys one
    assert_eq!(key("SELECT name, CAST(CAST(id AS TINYINT) AS INT) FROM customers"), Some(None));
    // a row that moves up is there twice for a moment
    assert_eq!(
        key(
            "SELECT name, id FROM (SELECT *, ROW_NUMBER() OVER (ORDER BY name) AS rn FROM customers) WHERE rn BETWEEN 2 AND 3"
        ),
        Some(None)
    );
}

#[test]
fn a_join_on_both_primary_keys_needs_no_old_rows() {
    let sql =
        "INSERT INTO target SELECT o.id, o.amount, c.name FROM orders o LEFT JOIN customers c ON o.id = c.id";
    let plan = script(sql).unwrap().plan;
    assert!(!plan.nodes.iter().any(|n| matches!(n.op, Op::Materialize { .. } | Op::Normalize { .. })));
    let join = plan.nodes.iter().find(|n| matches!(n.op, Op::Join(_))).unwrap();
    assert!(!join.changelog.update_before && join.changelog.update_after);
}

#[test]
fn conditions_that_refuse_padded_rows_make_inner_joins() {
    use crate::engine::plan::JoinKind::{self, Full, Inner, Left, Right};
    let joined = |kind: &str, condition: &str| -> JoinKind {
        let sql =
            format!("SELECT o.id, c.v FROM orders o {kind} JOIN clicks c ON o.cust = c.v WHERE {condition}");
        let plan = script(&sql).unwrap().plan;
        let join =
            plan.nodes.iter().find_map(|n| if let Op::Join(join) = &n.op { Some(join.kind) } else { None });
        join.unwrap()
    };
    // as Flink's EXPLAIN has them
    for refuses in [
        "c.k = 'q'",
        "c.k NOT LIKE 'q%'",
        "c.v IS NOT NULL",
        "NOT (c.v IS NULL)",
        "c.v IN (1)",
        "c.v IN (o.id, 1)",
        "c.v > 1 AND c.v > 5",
        "c.v > 1 AND c.v = 5",
        "c.v > 1 AND c.k > 'a'",
        "c.v = 1 OR c.k = 'q'",
        "c.v + o.id > 3",
        "CAST(c.v AS STRING) = '1'",
        "NULLIF(c.v, 1) = 2",
        "(c.v = 1 AND o.id = 1) OR c.v = 2",
        "NOT (c.v = 1 OR c.k = 'a')",
        "(c.v = 1) IS TRUE",
        "c.v IS NOT DISTINCT FROM 1",
        "c.ts + INTERVAL '1' DAY > TIMESTAMP '2020-01-01 00:00:00'",
        "CASE WHEN c.v = 1 THEN TRUE ELSE FALSE END",
    ] {
        assert_eq!(joined("LEFT", refuses), Inner, "{refuses}");
    }
    for takes in [
        "c.v IS NULL",
        "c.v IN (1, 2)",
        "c.v NOT IN (1, 2)",
        "c.v IS NOT NULL AND c.v IN (1, 2)",
        "c.v BETWEEN 1 AND 5",
        "c.v NOT BETWEEN 1 AND 5",
        "c.v > 1 AND o.id > 1 AND c.v < 5",
        "c.v <> 1 AND c.v <> 2",
        "c.v = 1 OR c.v = 2 OR c.k = 'q'",
        "c.v = 1 OR o.id = 2",
        "NOT (c.v = 1 AND o.id = 2)",
        "UPPER(c.k) = 'Q'",
        "COALESCE(c.v, 0) = 1",
        "TRY_CAST(c.k AS INT) = 1",
        "c.v IS DISTINCT FROM 1",
        "(c.v = 1) IS NOT TRUE",
        "o.amount = 1",
    ] {
        assert_eq!(joined("LEFT", takes), Left, "{takes}");
    }
    assert_eq!(joined("RIGHT", "o.amount = 1"), Inner);
    assert_eq!(joined("RIGHT", "c.v = 1"), Right);
    assert_eq!(joined("FULL", "o.amount = 1"), Left);
    assert_eq!(joined("FULL", "c.v = 1"), Right);
    assert_eq!(joined("FULL", "c.v = o.amount"), Inner);
    assert_eq!(joined("FULL", "c.v = 1 OR o.amount = 2"), Full);
    // what becomes insert-only may go where nothing else may
    let json = "CREATE TABLE j (k STRING, v INT) WITH ('connector'='kafka', 'topic'='j', 'properties.bootstrap.servers'='h', 'format'='json');";
    script(&format!(
        "{json} INSERT INTO j SELECT a.k, b.v FROM clicks a LEFT JOIN clicks b ON a.v = b.v WHERE b.k = 'x'"
    ))
    .unwrap();
}

#[test]
fn inner_filters_are_asked_before_outer_ones() {
    let order = |sql: &str| -> Vec<&'static str> {
        let plan = script(sql).unwrap().plan;
        let filters =
            plan.nodes.iter().filter_map(|n| if let Op::Filter(p) = &n.op { Some(p.clone()) } else { None });
        let mut parts = Vec::new();
        filters.for_each(|predicate| types::conjuncts(predicate, &mut parts));
        parts
            .iter()
            .filter_map(|p| match &p.node {
                crate::engine::expr::ExprNode::Call { function, .. } => Some(*function),
                _ => None,
            })
            .collect()
    };
    let view = "CREATE VIEW nums AS SELECT v, k FROM (SELECT * FROM clicks WHERE k = 'num') WHERE v <> 3;";
    assert_eq!(order(&format!("{view} SELECT v FROM nums WHERE CAST(k AS INT) > 5")), ["=", "<>", ">"]);
    assert_eq!(order("SELECT v, COUNT(*) FROM clicks WHERE k = 'num' GROUP BY v HAVING v > 5"), ["=", ">"]);
    // the condition of a join before WHERE
    assert_eq!(
        order(
            "SELECT o.id FROM orders o JOIN clicks c ON o.id = c.v AND c.k = 'num' WHERE CAST(c.k AS INT) > 5"
        ),
        ["=", ">"]
    );
}

#[test]
fn a_hint_says_how_long_state_lives() {
    let plan = script(
        "INSERT INTO target SELECT /*+ STATE_TTL('o' = '1 d', 'c' = '3 h') */ o.id, o.amount, c.name
         FROM orders o LEFT JOIN customers c ON o.cust = c.id;
         INSERT INTO out1 SELECT /*+ STATE_TTL('clicks' = '0') */ v, CAST(COUNT(*) AS INT) FROM clicks GROUP BY v;",
    )
    .unwrap()
    .plan;
    let join = plan.nodes.iter().find_map(|n| if let Op::Join(join) = &n.op { Some(join.ttl) } else { None });
    assert_eq!(join, Some([Some(86_400_000), Some(10_800_000)]));
    let of_group = |n: &Node| if let Op::Aggregate(aggregate) = &n.op { Some(aggregate.ttl) } else { None };
    assert_eq!(plan.nodes.iter().find_map(of_group), Some(Some(0)));
    let error =
        script("SELECT /*+ STATE_TTL('nobody' = '1 s') */ v, COUNT(*) FROM clicks GROUP BY v").unwrap_err();
    assert!(error.message.contains("`nobody` in `STATE_TTL`"), "{}", error.message);
    let error =
        script("SELECT /*+ STATE_TTL('clicks' = 'soon') */ v, COUNT(*) FROM clicks GROUP BY v").unwrap_err();
    assert!(error.message.contains("Invalid STATE_TTL hint value"), "{}", error.message);
}

#[test]
fn a_source_is_read_once_per_script() {
    let names = kinds(
        "INSERT INTO out1 SELECT id, amount FROM orders; INSERT INTO out1 SELECT id, cust FROM orders;",
    );
    assert_eq!(names.iter().filter(|k| **k == "source").count(), 2, "different columns are read: {names:?}");
    let names = kinds(
        "INSERT INTO out1 SELECT id, amount FROM orders; INSERT INTO out1 SELECT id, amount FROM orders WHERE id > 1;",
    );
    assert_eq!(names.iter().filter(|k| **k == "source").count(), 1, "{names:?}");
}

#[test]
fn node_names_do_not_change_with_what_stands_around() {
    let name = |sql: &str| {
        let plan = script(sql).unwrap().plan;
        plan.nodes.iter().find(|n| matches!(n.op, Op::Aggregate(_))).unwrap().name.clone()
    };
    let insert = "INSERT INTO out1 SELECT cust, SUM(amount) FROM orders GROUP BY cust;";
    assert_eq!(name(insert), name(&format!("INSERT INTO out1 SELECT v, v FROM clicks; {insert}")));
}

#[test]
fn errors_name_the_nearest() {
    let error = script("INSERT INTO out1 SELECT id, amuont FROM orders").unwrap_err();
    assert_eq!(error.message, "Column 'amuont' not found in any table");
    assert_eq!(error.help.as_deref(), Some("did you mean 'amount'?"));
    let error = script("SELECT * FROM ordres").unwrap_err();
    assert_eq!(error.help.as_deref(), Some("did you mean 'orders'?"));
    let error = script("CREATE TABLE q (a INT) WITH ('connector'='kafka', 'topc'='q', 'properties.bootstrap.servers'='h', 'format'='json'); SELECT * FROM q").unwrap_err();
    assert!(error.message.contains("Unsupported options: topc"), "{}", error.message);
    assert_eq!(error.help.as_deref(), Some("did you mean 'topic'?"));
    let error = script("INSERT INTO out1 SELECT cust, amount FROM orders GROUP BY cust").unwrap_err();
    assert_eq!(error.message, "Expression 'amount' is not being grouped");
}

#[test]
fn windows_are_cut_below_the_aggregate() {
    let plan = script(
        "CREATE TABLE w (k STRING, ws TIMESTAMP(3), n BIGINT) WITH ('connector'='print');
         INSERT INTO w SELECT k, window_start, COUNT(*) FROM TABLE(HOP(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' SECOND, INTERVAL '1' MINUTE)) WHERE v > 0 GROUP BY k, window_start, window_end",
    )
    .unwrap()
    .plan;
    let aggregate = plan.nodes.iter().find_map(|n| match &n.op {
        Op::WindowAggregate(a) => Some(a),
        _ => None,
    });
    assert!(matches!(aggregate.unwrap().window, crate::engine::plan::WindowInput::Assign(_)));
    assert!(
        !plan.nodes.iter().any(|n| matches!(n.op, Op::WindowTvf(_))),
        "rows are not multiplied by windows"
    );
}

#[test]
fn correlated_subqueries_become_joins() {
    for sql in [
        "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM customers c WHERE c.id = o.cust AND c.name = 'x')",
        "SELECT id FROM orders o WHERE amount > (SELECT AVG(i.amount) FROM orders i WHERE i.cust = o.cust)",
        "SELECT id, (SELECT MAX(amount) FROM orders) FROM customers",
        "SELECT id FROM orders WHERE cust NOT IN (SELECT id FROM customers WHERE name IS NOT NULL)",
    ] {
        assert!(kinds(sql).contains(&"join"), "{sql}");
    }
}

#[test]
fn the_sample_pipelines_compile() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().extension().is_some_and(|e| e == "sql") {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            if let Err(error) = compile(&text) {
                panic!("{}", error.render(&text, &entry.path().to_string_lossy()));
            }
        }
    }
}

mod any_text {
    use proptest::prelude::*;

    use super::*;

    /// Words that scripts are made of.
    const WORDS: &[&str] = &[
        "SELECT",
        "FROM",
        "orders",
        "customers",
        "clicks",
        "o",
        "c",
        "WHERE",
        "GROUP BY",
        "id",
        "cust",
        "amount",
        "name",
        "ts",
        "k",
        "v",
        "(",
        ")",
        ",",
        ".",
        "*",
        "=",
        "<",
        "+",
        "-",
        "||",
        "AND",
        "OR",
        "NOT",
        "IN",
        "EXISTS",
        "JOIN",
        "LEFT JOIN",
        "ON",
        "AS",
        "1",
        "2.5",
        "'x'",
        "NULL",
        "COUNT(*)",
        "SUM(amount)",
        "MAX(v)",
        "CASE WHEN",
        "THEN",
        "ELSE",
        "END",
        "CAST(",
        "AS INT)",
        "AS DECIMAL(10,2))",
        "INTERVAL '1' SECOND",
        "TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))",
        "window_start",
        "window_end",
        "ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts)",
        "OVER (ORDER BY ts)",
        "UNION ALL",
        "INTERSECT",
        "ORDER BY",
        "LIMIT 3",
        "HAVING",
        "DISTINCT",
        "INSERT INTO out1",
        "INSERT INTO target",
        ";",
        "CREATE VIEW z AS",
        "z",
        "WITH",
        "FOR SYSTEM_TIME AS OF",
        "UNNEST(",
        "ARRAY[1]",
        "MAP['a', 1]",
        "[1]",
        "BETWEEN",
        "LIKE",
        "IS NULL",
        "GROUPING SETS",
        "ROLLUP",
        "JSON_VALUE(name, '$.a')",
        "EXPLAIN",
        "`",
        "\u{e9}",
        "/*+ X */",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn never_panics(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40)) {
            let _ = script(&words.join(" "));
        }

        #[test]
        fn queries_never_panic(items in proptest::collection::vec(proptest::sample::select(WORDS), 1..8),
                               tail in proptest::collection::vec(proptest::sample::select(WORDS), 0..16)) {
            let _ = script(&format!("SELECT {} FROM orders o JOIN customers c ON o.cust = c.id {}", items.join(" "), tail.join(" ")));
        }

        #[test]
        fn bytes_never_panic(text in "\\PC{0,60}") {
            let _ = compile(&text);
        }
    }

    #[test]
    fn long_chains_are_refused_or_planned() {
        for (op, n) in [("+", 100_000), ("OR", 5_000), ("AND", 5_000), ("||", 100_000), ("=", 1000)] {
            let text = format!("SELECT 1 FROM orders WHERE {}", vec!["id = 1"; n].join(&format!(" {op} ")));
            let _ = script(&text);
        }
        let _ = script(&format!("SELECT {}1", "-".repeat(10_000)));
        let _ = script(&format!("SELECT {}1", "- ".repeat(10_000)));
        let _ = script(&vec!["SELECT id FROM orders"; 1000].join(" UNION ALL "));
    }
}
