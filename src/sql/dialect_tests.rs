//! Statements of the dialect beside queries, and what is said about a plan.

#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;

fn run(sql: &str) -> Result<Script, Box<SqlError>> {
    compile(sql)
}

const TABLE: &str = "CREATE TABLE t (a INT, b STRING, ts TIMESTAMP(3), m STRING METADATA FROM 'value.source.table', c AS a + 1, PRIMARY KEY (a) NOT ENFORCED, WATERMARK FOR ts AS ts) WITH ('connector'='kafka', 'topic'='t', 'properties.bootstrap.servers'='h', 'format'='debezium-json');";

fn schema_after(alter: &str) -> String {
    let script = run(&format!("{TABLE}{alter}")).unwrap();
    script.tables.into_iter().map(|t| t.schema).collect()
}

#[test]
fn tables_are_altered() {
    assert_eq!(
        schema_after("ALTER TABLE t ADD (x INT FIRST, y DECIMAL(5, 2) AFTER a); ALTER TABLE t DROP (b, m)"),
        "t(x INT, a INT NOT NULL, y DECIMAL(5, 2), ts TIMESTAMP(3) *ROWTIME*, c INT NOT NULL)"
    );
    assert_eq!(
        schema_after(
            "ALTER TABLE t MODIFY b BIGINT COMMENT 'n'; ALTER TABLE t RENAME b TO d; ALTER TABLE t DROP WATERMARK; ALTER TABLE t DROP PRIMARY KEY; ALTER TABLE t MODIFY a INT"
        ),
        "t(a INT, d BIGINT, ts TIMESTAMP(3), m STRING, c INT)"
    );
    assert_eq!(
        schema_after(
            "ALTER TABLE t RENAME TO u; ALTER TABLE u SET ('topic'='v'); ALTER TABLE u RESET ('topic')"
        ),
        "u(a INT NOT NULL, b STRING, ts TIMESTAMP(3) *ROWTIME*, m STRING, c INT NOT NULL)"
    );
    for (alter, message) in [
        ("ADD a INT", "Column `a` already exists in the table."),
        ("MODIFY z INT", "Column `z` does not exist in the table."),
        ("DROP a", "The column `a` is referenced by computed column `c`."),
        ("DROP (a, c)", "The column `a` is used as the primary key."),
        ("DROP ts", "The column `ts` is referenced by watermark expression."),
        ("RENAME b TO a", "The column `a` already existed in table schema."),
    ] {
        let found = run(&format!("{TABLE}ALTER TABLE t {alter}")).unwrap_err().message;
        assert_eq!(found.lines().last(), Some(message), "{alter}");
    }
}

#[test]
fn statements_of_old_and_new_clients_are_taken() {
    for statement in [
        "SHOW TABLES LIKE 't%'",
        "SHOW TABLES FROM default_database",
        "SHOW CREATE TABLE t",
        "SHOW COLUMNS FROM t",
        "SHOW CURRENT CATALOG",
        "SHOW JOBS",
        "DESC EXTENDED t",
        "USE CATALOG default_catalog",
        "CREATE DATABASE IF NOT EXISTS d COMMENT 'x' WITH ('a'='b')",
        "SET table.local-time-zone = UTC",
        "SET 'sql-client.execution.result-mode' = 'tableau'",
        "RESET",
        "CREATE OR REPLACE TABLE t (z INT) WITH ('connector'='print')",
        "CREATE VIEW v AS SELECT a FROM t; ALTER VIEW v RENAME TO w; ALTER VIEW w AS SELECT b FROM t",
        "CREATE TABLE p WITH ('connector'='print') AS SELECT a, b FROM t",
        "CREATE TABLE q (LIKE_ INT) WITH ('connector'='print'); EXPLAIN STATEMENT SET BEGIN INSERT INTO q SELECT a FROM t; END",
        "BEGIN STATEMENT SET; END",
    ] {
        if let Err(error) = run(&format!("{TABLE}{statement}")) {
            panic!("{statement}: {error}");
        }
    }
}

#[test]
fn what_is_not_supported_is_said() {
    for (statement, words) in [
        ("CREATE FUNCTION f AS 'x.F'", "user-defined functions"),
        (
            "CREATE MATERIALIZED TABLE m FRESHNESS = INTERVAL '1' MINUTE AS SELECT a FROM t",
            "MATERIALIZED TABLE",
        ),
        ("UPDATE t SET b = 'x'", "UPDATE statement is not supported"),
        ("DELETE FROM t", "DELETE statement is not supported"),
        ("COMPILE PLAN 'x' FOR INSERT INTO t SELECT * FROM t", "COMPILE is not supported"),
        ("EXECUTE PLAN 'x'", "EXECUTE PLAN"),
        ("SELECT * FROM t MATCH_RECOGNIZE (PARTITION BY a)", "MATCH_RECOGNIZE is not supported"),
        ("SELECT * FROM ML_PREDICT(TABLE t)", "the table function ML_PREDICT"),
    ] {
        let error = run(&format!("{TABLE}{statement}")).unwrap_err();
        assert!(error.message.contains(words), "{statement}: {error}");
    }
}

const STREAMS: &str = "CREATE TABLE a (k INT, v INT) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='h', 'format'='json');
CREATE TABLE f (k INT, v INT) WITH ('connector'='filesystem', 'path'='/x', 'format'='json');
CREATE TABLE c (k INT, v INT, p AS PROCTIME()) WITH ('connector'='kafka', 'topic'='a', 'properties.bootstrap.servers'='h', 'format'='json');
CREATE TABLE o (k INT, v INT) WITH ('connector'='print');";

#[test]
fn state_without_bound_is_named() {
    let warnings = |sql: &str| run(&format!("{STREAMS}{TABLE}{sql}")).unwrap().plan.warnings;
    let join = "INSERT INTO o SELECT a.k, t.a FROM a JOIN t ON a.k = t.a";
    assert!(
        warnings(join).iter().any(|w| w.starts_with("the join keeps every row of a:")),
        "{:?}",
        warnings(join)
    );
    assert!(warnings(&format!("SET 'table.exec.state.ttl' = '1 d'; {join}")).is_empty());
    assert!(warnings("INSERT INTO o SELECT x.a, y.a FROM t x JOIN t y ON x.b = y.b").is_empty());
    assert!(warnings("INSERT INTO o SELECT f.k, t.a FROM f JOIN t ON f.k = t.a").is_empty());
    assert_eq!(warnings("INSERT INTO o SELECT k, MAX(v) FROM a GROUP BY k").len(), 1);
    assert!(warnings("INSERT INTO o SELECT a, a FROM t").is_empty());
    for (over, state) in [
        ("PARTITION BY k ORDER BY p", "OVER keeps what it has aggregated for every value of (k) in c:"),
        (
            "PARTITION BY k ORDER BY p ROWS BETWEEN 3 PRECEDING AND CURRENT ROW",
            "OVER keeps the last 3 rows for every value of (k) in c:",
        ),
        ("PARTITION BY k ORDER BY p RANGE BETWEEN INTERVAL '1' HOUR PRECEDING AND CURRENT ROW", ""),
        ("ORDER BY p", ""),
    ] {
        let over = format!("INSERT INTO o SELECT k, SUM(v) OVER ({over}) FROM c");
        let found = warnings(&over);
        assert_eq!(found.len(), usize::from(!state.is_empty()), "{over}: {found:?}");
        assert!(found.iter().all(|warning| warning.starts_with(state)), "{over}: {found:?}");
        assert!(warnings(&format!("SET 'table.exec.state.ttl' = '1 d'; {over}")).is_empty());
    }
    let distinct = warnings("INSERT INTO o SELECT k, SUM(DISTINCT v) OVER (ORDER BY p) FROM c");
    assert!(distinct.concat().contains("OVER keeps every value that it aggregates in c:"), "{distinct:?}");
    let explained = run(&format!("{STREAMS}{TABLE}EXPLAIN {join}")).unwrap().outputs.concat();
    assert!(explained.contains("grows without bound"), "{explained}");
}

#[test]
fn is_not_distinct_from_is_a_key_of_a_join() {
    for condition in ["l.b IS NOT DISTINCT FROM r.b", "(l.b IS NULL AND r.b IS NULL) OR l.b = r.b"] {
        let explained = run(&format!("{TABLE}EXPLAIN SELECT l.a, r.a FROM t l JOIN t r ON {condition}"));
        let explained = explained.unwrap().outputs.concat();
        assert!(explained.contains("where=[IS NOT DISTINCT FROM(b, b)]"), "{explained}");
        assert!(explained.contains("Exchange(distribution=[hash[b]])"), "{explained}");
    }
}

#[test]
fn a_condition_of_unnest_may_name_the_left_side_but_not_when_strict() {
    let job = "CREATE TABLE n (id INT, xs ARRAY<INT>) WITH ('connector'='datagen');
CREATE TABLE o (id INT, x INT) WITH ('connector'='print');
INSERT INTO o SELECT id, x FROM n LEFT JOIN UNNEST(xs) AS t(x) ON ";
    assert!(run(&format!("{job} t.x > n.id")).is_ok());
    let strict = format!("SET 'millstream.compat.strict' = 'true';{job}");
    assert!(run(&format!("{strict} t.x > 3")).is_ok());
    let refused = run(&format!("{strict} t.x > n.id")).unwrap_err();
    assert_eq!(refused.message, "unexpected correlate variable $cor0 in the plan");
}

#[test]
fn a_catalog_is_dropped_with_its_own_tables_only() {
    let make = "CREATE CATALOG c WITH ('type'='generic_in_memory'); CREATE DATABASE c; CREATE TABLE c.kept (a INT) WITH ('connector'='print'); USE CATALOG c; CREATE TABLE gone (a INT) WITH ('connector'='print'); USE CATALOG default_catalog;";
    let left = |sql: &str| -> Vec<String> {
        run(&format!("{make}{sql}")).unwrap().tables.into_iter().map(|t| t.name).collect()
    };
    assert_eq!(left("DROP CATALOG c"), ["kept"]);
    assert_eq!(left("DROP DATABASE c CASCADE"), ["gone"]);
}

#[test]
fn a_catalog_of_a_databases_tables_is_refused_with_the_way_to_declare_them() {
    let refused =
        run("CREATE CATALOG pg WITH ('type'='jdbc', 'base-url'='jdbc:postgresql://h')").unwrap_err();
    assert!(refused.help.unwrap().contains("'connector'='jdbc'"));
}

/// What another option of a table, another hint or another key of SET would do is done, said or refused.
#[test]
fn options_have_an_effect_or_are_told() {
    let plan = |sql: &str| run(&format!("{STREAMS}{TABLE}{sql}")).map(|script| script.plan);
    let sources = |sql: &str| {
        plan(sql).unwrap().nodes.iter().filter(|n| matches!(n.op, crate::engine::plan::Op::Source(_))).count()
    };
    let hinted = |a: &str, b: &str| {
        sources(&format!("INSERT INTO o SELECT k, v FROM a{a} UNION ALL SELECT k, v FROM a{b}"))
    };
    assert_eq!(hinted("", ""), 1);
    let earliest = " /*+ OPTIONS('scan.startup.mode'='earliest-offset') */";
    assert_eq!(hinted(earliest, earliest), 1);
    assert_eq!(hinted("", earliest), 2);
    let refused = |sql: &str| plan(sql).unwrap_err().to_string();
    assert!(refused("INSERT INTO o SELECT k, v FROM a /*+ BOGUS('x'='y') */").contains("Hint: BOGUS"));
    let with = |option: &str| {
        format!(
            "CREATE TABLE s (k BIGINT, v BIGINT) WITH ('connector'='kafka', 'topic'='s', 'format'='json', \
             'properties.bootstrap.servers'='b:9092', {option}); INSERT INTO s SELECT k, v FROM a"
        )
    };
    for wrong in [
        "'sink.parallelism'='many'",
        "'value.fields-include'='nonsense'",
        "'json.ignore-parse-errors'='maybe'",
    ] {
        assert!(refused(&with(wrong)).contains("Invalid value for option"), "{wrong}");
    }
    assert!(plan(&with("'value.fields-include'='all'")).is_ok());
    let file = |option: &str| {
        format!(
            "CREATE TABLE s (k BIGINT, v BIGINT) WITH ('connector'='filesystem', 'path'='/x', 'format'='json', \
             {option}); INSERT INTO s SELECT k, v FROM a"
        )
    };
    assert!(
        refused(&file("'sink.rolling-policy.filesize'='1 mb'"))
            .contains("did you mean 'sink.rolling-policy.file-size'")
    );
    let told = plan(&file("'auto-compaction'='true'")).unwrap().warnings;
    assert!(told.iter().any(|w| w.contains("'auto-compaction' has no effect")), "{told:?}");
    let insert = "INSERT INTO o SELECT k, v FROM a; ";
    let letters =
        plan("SET 'millstream.dead-letter.topic' = 'd'; INSERT INTO o SELECT k, v FROM a").unwrap().warnings;
    assert!(
        letters.iter().any(|w| w.contains("'millstream.dead-letter.topic' has no effect")),
        "{letters:?}"
    );
    let avro = plan(
        "CREATE TABLE e (k BIGINT, t STRING METADATA FROM 'value.source.table') WITH ('connector'='kafka', 'topic'='e', \
         'format'='debezium-avro-confluent', 'debezium-avro-confluent.url'='http://r', \
         'properties.bootstrap.servers'='h'); INSERT INTO o SELECT k, k FROM e",
    );
    assert!(avro.unwrap_err().to_string().contains("Invalid metadata key 'value.source.table'"));
    let late = plan(&format!("{insert}SET 'table.exec.state.ttl' = '1 h'; {insert}")).unwrap().warnings;
    assert!(
        late.iter().any(|w| w.contains("'table.exec.state.ttl' is changed behind an INSERT")),
        "{late:?}"
    );
}

const NESTED: &str = "CREATE TABLE n (id INT, r ROW<a INT, c ROW<d DOUBLE>>, rs ARRAY<ROW<p INT>>) WITH ('connector'='datagen');";

#[test]
fn the_fields_of_a_row_are_listed_by_a_star() {
    let schema = |query: &str| {
        let script = run(&format!("{NESTED}CREATE VIEW v AS SELECT {query} FROM n")).unwrap();
        script.tables.into_iter().find(|t| t.view).unwrap().schema
    };
    assert_eq!(schema("r.*"), "v(a INT, c ROW<`d` DOUBLE>)");
    assert_eq!(schema("n.r.*, id"), "v(a INT, c ROW<`d` DOUBLE>, id INT)");
    assert_eq!(schema("r.c.*"), "v(d DOUBLE)");
    // only a plain path has the field's name
    assert_eq!(schema("r.a, rs[1].p, (r).a"), "v(a INT, EXPR$1 INT, EXPR$2 INT)");
    let refused = |query: &str| run(&format!("{NESTED}CREATE VIEW v AS SELECT {query} FROM n")).unwrap_err();
    assert_eq!(refused("id.*").message, "Unknown identifier 'id'");
    assert_eq!(refused("nope.*").message, "Unknown identifier 'nope'");
    assert_eq!(refused("r.A").message, "Column 'r.A' not found in table 'n'");
}

#[test]
fn a_target_is_looked_for_in_the_database_that_is_named() {
    let job = "CREATE TABLE o (a INT) WITH ('connector'='print'); CREATE DATABASE d;";
    assert!(run(&format!("{job}INSERT INTO default_database.o SELECT 1")).is_ok());
    for wrong in ["x.o", "d.o"] {
        let message = run(&format!("{job}INSERT INTO {wrong} SELECT 1")).unwrap_err().message;
        assert!(message.starts_with("Cannot find table '`default_catalog`.`"), "{message}");
    }
}

#[test]
fn a_processing_time_has_no_watermark() {
    let made = run("CREATE TABLE p (p AS PROCTIME(), WATERMARK FOR p AS p) WITH ('connector'='datagen')");
    assert_eq!(made.unwrap_err().message, "A watermark can not be defined for a processing-time attribute.");
}
