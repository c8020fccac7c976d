use super::*;

#[test]
fn a_script_with_all_sorts_of_statements() {
    let script = "SET 'a' = 'b'; -- comment\nCREATE TABLE t (id INT, `order` STRING COMMENT 'x', ts TIMESTAMP(3) METADATA FROM 'timestamp' VIRTUAL,
        twice AS id * 2, m MAP<STRING, ARRAY<ROW<a INT, b DECIMAL(10,2)>>>, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND,
        PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka');
        EXECUTE STATEMENT SET BEGIN INSERT INTO x SELECT * FROM t /*+ OPTIONS('k'='v') */; INSERT INTO y (a, b) SELECT 1, 2 ON CONFLICT DO NOTHING; END;
        SELECT a, COUNT(*) FILTER (WHERE b > 1) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY a, window_start, window_end;
        SELECT * FROM o LEFT JOIN r FOR SYSTEM_TIME AS OF o.ts AS r ON o.c = r.c WHERE x NOT IN (SELECT y FROM z) AND j IS NOT JSON OBJECT";
    let statements = parse_script(script).unwrap();
    assert_eq!(statements.len(), 5);
}

#[test]
fn errors_name_the_place_and_the_remedy() {
    let error = parse_script("SELECT user FROM t").unwrap_err();
    assert_eq!((error.span.line, error.span.column), (1, 8));
    assert!(error.help.unwrap().contains("`user`"));
    let error = parse_script("CREATE TABLE b (id INT, PRIMARY KEY (id)) WITH ()").unwrap_err();
    assert!(error.message.contains("doesn't support ENFORCED mode for PRIMARY KEY"));
    assert!(parse_script("SELEC 1").unwrap_err().help.unwrap().contains("SELECT"));
}

#[test]
fn deep_nesting_is_an_error_not_an_overflow() {
    let text = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(parse_script(&text).is_err());
}

/// What a newcomer forgets, and what is said about it.
#[test]
fn a_mark_that_is_missing_is_named() {
    let table = "CREATE TABLE t (a INT) WITH ('connector'='print')";
    for (text, message, help) in [
        (
            format!("{table}\nINSERT INTO t SELECT 1;"),
            "Was expecting: \";\"",
            "a ';' is missing before INSERT",
        ),
        (format!("{table} SET 'a' = 'b'"), "Was expecting: \";\"", "a ';' is missing before SET"),
        (
            "CREATE TABLE t (a INT b STRING) WITH ('connector'='print')".to_owned(),
            "Was expecting: \",\" or \")\"",
            "is a ',' missing before b?",
        ),
        (
            "CREATE TABLE t (a INT) WITH ('connector'='print' 'x'='y')".to_owned(),
            "Was expecting: \",\" or \")\"",
            "is a ',' missing before x?",
        ),
        (
            "CREATE TABLE t (a INT DEFAULT 0) WITH ('connector'='print')".to_owned(),
            "Was expecting: \",\" or \")\"",
            "Flink's tables know no DEFAULT: leave it out",
        ),
        (
            "SELECT \"customerName\" FROM t".to_owned(),
            "Lexical error: encountered \"customerName\" in double quotes",
            "a name stands in backticks: `customerName`; a text in single quotes: 'customerName'",
        ),
        (
            "SET execution.checkpointing.interval = 3s;\nSELECT 1;".to_owned(),
            "Was expecting: a string in single quotes",
            "quote both: SET 'execution.checkpointing.interval' = '3s'",
        ),
    ] {
        let error = parse_script(&text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {}", error.message);
        assert_eq!(error.help.as_deref(), Some(help), "{text}: {}", error.message);
    }
}
