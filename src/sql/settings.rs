//! What `SET` says: the keys that something reads, and which of Flink's others would be missed.

use std::collections::BTreeMap;

use super::error::{Span, SqlError, SqlResult, nearest};
use crate::engine::options::{flag, millis};
use crate::engine::tables::Kind;
use crate::engine::zone::Zone;

/// For how much of a script a key counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// For the INSERTs behind it.
    Query,
    /// For all that runs, whichever SET comes last.
    Job,
}

use Kind::{Duration, Flag, OneOf, Text, Whole};
use Scope::{Job, Query};

const READ: [(&str, Kind, Scope); 16] = [
    ("table.local-time-zone", Text, Job),
    ("table.exec.state.ttl", Duration, Job),
    ("table.exec.source.idle-timeout", Duration, Job),
    ("table.exec.source.cdc-events-duplicate", Flag, Query),
    ("table.exec.sink.not-null-enforcer", Text, Query),
    ("table.exec.sink.upsert-materialize", OneOf(&["AUTO", "FORCE", "NONE"]), Query),
    ("table.exec.sink.require-on-conflict", Flag, Query),
    ("table.exec.interval-join.min-cleanup-interval", Duration, Query),
    ("table.exec.mini-batch.enabled", Flag, Job),
    ("table.exec.mini-batch.allow-latency", Duration, Job),
    ("table.exec.mini-batch.size", Whole(i64::MIN), Job),
    ("table.exec.resource.default-parallelism", Whole(-1), Job),
    ("parallelism.default", Whole(-1), Job),
    ("pipeline.name", Text, Job),
    ("millstream.compat.strict", Flag, Query),
    ("millstream.dead-letter.topic", Text, Job),
];

/// Keys of Flink that change what comes out, and do not here.
const MISSED: [(&str, &str); 12] = [
    (
        "execution.runtime-mode",
        "the query runs as a stream; what it writes at the end of its inputs is the same",
    ),
    ("table.sql-dialect", "there is one dialect, Flink's default"),
    ("table.exec.legacy-cast-behaviour", "a CAST that fails ends the job; TRY_CAST gives NULL"),
    ("table.exec.sink.type-length-enforcer", "texts go out at their length"),
    ("table.exec.sink.nested-constraint-enforcer", "NOT NULL is checked of whole columns"),
    (
        "table.exec.sink.rowtime-inserter",
        "records have the time at which they are written, or that of a metadata column",
    ),
    ("table.exec.emit.early-fire", "a window's rows come when it is complete"),
    ("table.exec.emit.late-fire", "late rows are dropped"),
    ("table.exec.emit.allow-lateness", "late rows are dropped"),
    (
        "table.exec.deduplicate.",
        "the setting changes rows in between only where a later operator would see them",
    ),
    ("table.column-expansion-strategy", "SELECT * names every column"),
    (
        "table.optimizer.nondeterministic-update.strategy",
        "what is not deterministic is kept with its row where a key allows",
    ),
];

/// Beginnings of keys of Flink that tune or name what does not stand here, and change no result.
const HARMLESS: [&str; 32] = [
    "akka.",
    "blob.",
    "classloader.",
    "client.",
    "cluster.",
    "env.",
    "execution.",
    "fs.",
    "heartbeat.",
    "high-availability",
    "historyserver.",
    "io.",
    "jobmanager.",
    "kubernetes.",
    "metrics.",
    "parallelism.",
    "pekko.",
    "pipeline.",
    "python.",
    "queryable-state.",
    "rest.",
    "restart-strategy",
    "s3.",
    "security.",
    "slot.",
    "sql-client.",
    "state.",
    "table.display.",
    "table.dml-sync",
    "table.optimizer.",
    "taskmanager.",
    "web.",
];

/// Parts of Flink's planner and runtime that tune only.
const HARMLESS_OF_TABLES: [&str; 17] = [
    "table.builtin-catalog-name",
    "table.builtin-database-name",
    "table.exec.async-",
    "table.exec.delta-join.",
    "table.exec.disabled-operators",
    "table.exec.legacy-transformation-uids",
    "table.exec.local-hash-agg.",
    "table.exec.operator-fusion-codegen.",
    "table.exec.rank.",
    "table.exec.resource.",
    "table.exec.shuffle-mode",
    "table.exec.simplify-operator-name-enabled",
    "table.exec.sink.keyed-shuffle",
    "table.exec.sort.",
    "table.exec.spill-compression.",
    "table.exec.uid.",
    "table.generated-code.",
];

/// Whether a key counts for the whole job, so that a SET between INSERTs does not do what it does in Flink.
pub fn is_of_job(key: &str) -> bool {
    READ.iter().any(|(name, _, scope)| *name == key && *scope == Job)
}

/// Checks values when a query is planned, as Flink does.
///
/// # Errors
/// The first value that its key cannot have.
pub fn check(options: &BTreeMap<String, String>, span: Span) -> SqlResult<()> {
    let refuse = |message: String, help: &str| Err(SqlError::plan(span, message).help(help));
    let get = |name: &str| options.get(name).map(String::as_str);
    if let Some(text) = get("table.exec.state.ttl").filter(|text| millis(text).is_none()) {
        return refuse(
            format!("text does not start with a number, and is not a valid ISO-8601 duration format: {text}"),
            "SET 'table.exec.state.ttl' = '1 d'",
        );
    }
    if flag(options, "table.exec.mini-batch.enabled", false)
        && get("table.exec.mini-batch.allow-latency").is_none_or(|v| millis(v).is_some_and(|ms| ms <= 0))
    {
        let given = get("table.exec.mini-batch.allow-latency").unwrap_or("null");
        return refuse(
            format!("MiniBatch Latency must be greater than 0 ms. [{given}]"),
            "SET 'table.exec.mini-batch.allow-latency' = '1 s', and 'table.exec.mini-batch.size' = '5000'",
        );
    }
    if get("table.local-time-zone").is_some_and(|zone| Zone::parse(zone).is_none()) {
        return refuse(
            "Invalid time zone. The value should be a Time Zone Database (TZDB) ID such as 'America/Los_Angeles' to include daylight saving time. Fixed offsets are supported using 'GMT-03:00' or 'GMT+03:00'. Or use 'UTC' without time zone and daylight saving time.".to_owned(),
            "SET 'table.local-time-zone' = 'Europe/Berlin'",
        );
    }
    if let Some(value) = get("table.exec.sink.not-null-enforcer")
        && !["error", "drop"].iter().any(|known| value.eq_ignore_ascii_case(known))
    {
        return refuse(
            "Could not parse value for enum class org.apache.flink.table.api.config.ExecutionConfigOptions$NotNullEnforcer. Expected one of: [[ERROR, DROP]]".to_owned(),
            "SET 'table.exec.sink.not-null-enforcer' = 'ERROR'",
        );
    }
    for name in ["parallelism.default", "table.exec.resource.default-parallelism"] {
        if get(name).is_some_and(|value| value.trim() == "0") {
            return refuse(
                format!("'{name}' is 0: a job has 1 thread or more"),
                "SET 'parallelism.default' = '2'",
            );
        }
    }
    for (name, kind, _) in READ {
        if let Some(value) = get(name)
            && let Some(why) = kind.refuses(value)
        {
            return refuse(format!("Could not parse value '{value}' for key '{name}'."), &why);
        }
    }
    Ok(())
}

/// A sentence for each key that nothing reads, and that somebody would miss.
pub fn warnings(options: &BTreeMap<String, String>) -> Vec<String> {
    let names = || READ.iter().map(|(name, ..)| *name);
    let warning = |key: &String| {
        if names().any(|name| name == key) {
            return None;
        }
        if let Some((_, why)) = MISSED.iter().find(|(name, _)| key.starts_with(name)) {
            return Some(format!("SET '{key}' has no effect: {why}"));
        }
        if HARMLESS.iter().chain(&HARMLESS_OF_TABLES).any(|beginning| key.starts_with(beginning)) {
            return None;
        }
        let near = nearest(key, names()).map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
        Some(format!("SET '{key}' has no effect: no key is called so{near}"))
    };
    options.keys().filter_map(warning).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn keys_that_nothing_reads_are_told() {
        let told = |key: &str| warnings(&of(&[(key, "x")])).join("");
        assert!(told("table.exec.stat.ttl").contains("did you mean 'table.exec.state.ttl'?"));
        assert!(told("millstream.compat.strikt").contains("'millstream.compat.strict'"));
        assert!(told("execution.runtime-mode").contains("runs as a stream"));
        for key in
            ["execution.checkpointing.interval", "state.backend.type", "table.exec.state.ttl", "rest.port"]
        {
            assert_eq!(told(key), "", "{key}");
        }
    }

    #[test]
    fn values_that_a_key_cannot_have_are_refused() {
        for (key, value) in [
            ("millstream.compat.strict", "yes"),
            ("table.exec.mini-batch.enabled", "ja"),
            ("table.exec.sink.upsert-materialize", "FORCED"),
            ("table.exec.interval-join.min-cleanup-interval", "blah"),
            ("parallelism.default", "two"),
            ("table.exec.source.idle-timeout", "soon"),
        ] {
            let error = check(&of(&[(key, value)]), Span::default()).unwrap_err().to_string();
            assert!(error.contains(&format!("Could not parse value '{value}' for key '{key}'")), "{error}");
        }
        check(&of(&[("millstream.compat.strict", "TRUE"), ("parallelism.default", "2")]), Span::default())
            .unwrap();
    }
}
