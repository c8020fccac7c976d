//! A query that has changed since its state was computed: whether the state still fits.
//!
//! Operators are named by what they do and by all that comes before them, so an operator of the new query that
//! the old one had as well finds its state. What comes behind the last operator with state (a projection, the
//! options of a sink) may change freely: rows already written stay as they are, and new changes go through the new
//! query. An operator that is new would lack all rows that were read before, and so does one of which a new filter
//! behind it asks other kinds of changes; a target that is new would get changes of rows that it never got: then
//! only starting anew is right.

use std::collections::BTreeMap;

use crate::engine::plan::{NodeId, Op, Plan};
use crate::error::{Error, Result};
use crate::state::Head;

const SINK: &str = "sink ";
const ZONE: &str = "option table.local-time-zone";
const TTL: &str = "option table.exec.state.ttl";
const FOREVER: &str = "kept for ever";

/// Whether state expires: its entries then carry a time, and cannot be read as others, nor others as they. How long it
/// lives may change freely.
pub(super) fn expires(plan: &Plan) -> bool {
    let ttl = plan.options.get("table.exec.state.ttl");
    ttl.and_then(|ttl| crate::engine::options::millis(ttl)).is_some_and(|ttl| ttl > 0)
}

/// Whether any state expires, by the option or by a hint: what the query gives then depends on when it was computed.
pub(crate) fn forgets(plan: &Plan) -> bool {
    let hinted = |node: &crate::engine::plan::Node| match &node.op {
        Op::Join(join) => join.ttl.iter().flatten().any(|ttl| *ttl > 0),
        Op::Aggregate(aggregate) => aggregate.ttl.is_some_and(|ttl| ttl > 0),
        _ => false,
    };
    expires(plan) || plan.nodes.iter().any(hinted)
}

/// What of a plan its state depends on: names of operators with state, of sinks, and the time zone, each with a
/// description.
pub(super) fn shape(plan: &Plan) -> BTreeMap<String, String> {
    let mut shape = BTreeMap::new();
    for (id, node) in plan.nodes.iter().enumerate() {
        if node.op.is_stateful() {
            shape.insert(node.name.clone(), describe(plan, id));
        }
    }
    for (_, name, table) in super::ends::sink_names(plan) {
        let option = |name: &str| table.options.get(name).map_or("", String::as_str);
        let target = ["topic", "table-name", "path"].map(option).concat();
        shape.insert(format!("{SINK}{name}"), format!("{} {target}", option("connector")));
    }
    let zone = plan.options.get("table.local-time-zone").map_or("UTC", String::as_str);
    shape.insert(ZONE.into(), zone.to_owned());
    shape.insert(TTL.into(), if expires(plan) { "given a time to live" } else { FOREVER }.to_owned());
    shape
}

/// `aggregate over orders, customers`.
fn describe(plan: &Plan, id: NodeId) -> String {
    let (mut tables, mut open) = (Vec::new(), vec![id]);
    while let Some(id) = open.pop() {
        let Some(node) = plan.nodes.get(id) else { continue };
        if let Op::Source(table) = &node.op
            && !tables.contains(&table.name)
        {
            tables.push(table.name.clone());
        }
        open.extend(node.inputs.iter().copied());
    }
    tables.sort();
    // Names are a word or two for the operator, and a hash.
    let name = plan.nodes.get(id).map_or("", |node| node.name.as_str());
    let kind = name.split('-').take_while(|part| part.len() != 16).collect::<Vec<_>>().join("-");
    format!("{kind} over {}", tables.join(", "))
}

/// Says whether a state fits a plan: `Some` is a warning to go on with.
///
/// # Errors
/// Where the query has changed so that its state is of no use.
pub(super) fn check(head: &Head, plan: &Plan, fingerprint: &str, name: &str) -> Result<Option<String>> {
    if head.plan.is_empty() || head.plan == fingerprint {
        return Ok(None);
    }
    let new = shape(plan);
    let mut reasons = Vec::new();
    for (key, description) in &new {
        let known = head.nodes.get(key);
        match (key.strip_prefix(SINK), known) {
            (_, Some(known)) if known == description => {}
            (Some(sink), Some(known)) => {
                reasons.push(format!("sink {sink} writes {description}, and wrote {known}"));
            }
            (Some(sink), None) => {
                reasons.push(format!("sink {sink} is new: it would only get what changes from now on"));
            }
            (None, Some(known)) if key == ZONE => {
                reasons.push(format!("the time zone is {description}, and was {known}"));
            }
            (None, known) if key == TTL => {
                let known = known.map_or(FOREVER, String::as_str);
                if known != description {
                    reasons.push(format!("state is to be {description}, and was {known}"));
                }
            }
            // The same operator, described by an earlier version.
            (None, Some(_)) => {}
            (None, None) => {
                reasons.push(format!("new in the query: {description}; it would lack what was read before"));
            }
        }
    }
    if reasons.is_empty() {
        let gone: Vec<&str> =
            head.nodes.iter().filter(|(key, _)| !new.contains_key(*key)).map(|(_, d)| d.as_str()).collect();
        let mut text =
            "the query has changed and its state still fits: rows already written stay as they are until \
                        they change"
                .to_owned();
        if !gone.is_empty() {
            text.push_str(&format!("; no longer in the query: {}", gone.join(", ")));
        }
        return Ok(Some(text));
    }
    Err(Error::config(format!("the query of pipeline {name} is not the one that its state was computed by"))
        .because(format!("the SQL has changed since the last run: {}", reasons.join("; ")))
        .next(format!(
            "start it anew with --fresh or `millstream pipelines reset {name}` (rows that the new query no longer \
             gives stay in the targets), or give the new query another 'pipeline.name'"
        )))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLES: &str = "
        CREATE TABLE orders (id INT, g STRING, v INT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector'='kafka', \
            'topic'='orders', 'properties.bootstrap.servers'='BROKER', 'format'='debezium-json');
        CREATE TABLE totals (g STRING, v BIGINT, PRIMARY KEY (g) NOT ENFORCED) WITH ('connector'='upsert-kafka', \
            'topic'='TOPIC', 'properties.bootstrap.servers'='BROKER', 'key.format'='json', 'value.format'='json');";

    fn plan(script: &str) -> Plan {
        let script = script.replace("BROKER", "a:9092").replace("TOPIC", "totals");
        crate::sql::compile(&script).unwrap().plan
    }

    fn head(plan: &Plan) -> Head {
        Head { plan: super::super::start::fingerprint(plan), nodes: shape(plan), ..Head::default() }
    }

    fn changed(old: &str, new: &str) -> Result<Option<String>> {
        let (old, new) = (plan(&format!("{TABLES}{old}")), plan(&new.replace("TABLES", TABLES)));
        check(&head(&old), &new, &super::super::start::fingerprint(&new), "p")
    }

    const SUM: &str = "INSERT INTO totals SELECT g, SUM(CAST(v AS BIGINT)) FROM orders GROUP BY g;";

    #[test]
    fn what_comes_behind_the_state_may_change() {
        assert_eq!(changed(SUM, &format!("TABLES{SUM}")).unwrap(), None);
        // Another broker, in another script: no other query at all.
        let moved = format!("TABLES{SUM}").replace("TABLES", TABLES).replace("BROKER", "b:9092");
        assert_eq!(changed(SUM, &moved).unwrap(), None);
        // What happens to records that cannot be read is no part of the query either.
        let lenient = format!("TABLES{SUM}").replace("TABLES", TABLES).replace(
            "'format'='debezium-json'",
            "'format'='debezium-json', 'debezium-json.ignore-parse-errors'='true', 'millstream.dead-letter.topic'='d'",
        );
        assert_eq!(changed(SUM, &lenient).unwrap(), None);
        let doubled = "INSERT INTO totals SELECT g, v * 2 FROM (SELECT g, SUM(CAST(v AS BIGINT)) AS v FROM orders GROUP BY g);";
        assert!(changed(SUM, &format!("TABLES{doubled}")).unwrap().is_some());
    }

    #[test]
    fn hints_expire_state_too() {
        assert!(!forgets(&plan(&format!("{TABLES}{SUM}"))));
        let hinted = SUM.replace("SELECT", "SELECT /*+ STATE_TTL('orders' = '1 d') */");
        assert!(forgets(&plan(&format!("{TABLES}{hinted}"))));
        assert!(forgets(&plan(&format!("SET 'table.exec.state.ttl' = '1 h'; {TABLES}{SUM}"))));
    }

    #[test]
    fn what_the_state_holds_may_not() {
        let refused = |new: &str| changed(SUM, new).unwrap_err().screen();
        let max = SUM.replace("SUM(CAST(v AS BIGINT))", "MAX(CAST(v AS BIGINT))");
        let screen = refused(&format!("TABLES{max}"));
        assert!(screen.contains("aggregate over orders") && screen.contains("--fresh"), "{screen}");
        let filtered = SUM.replace("FROM orders", "FROM orders WHERE v > 0");
        assert!(refused(&format!("TABLES{filtered}")).contains("aggregate"));
        let elsewhere = format!("{TABLES}{SUM}").replace("'TOPIC'", "'others'");
        assert!(refused(&elsewhere).contains("wrote upsert-kafka totals"));
        let zone = format!("SET 'table.local-time-zone' = 'Asia/Tokyo'; {TABLES}{SUM}");
        assert!(refused(&zone).contains("Asia/Tokyo"));
        let expiring = |ttl: &str| format!("SET 'table.exec.state.ttl' = '{ttl}'; TABLES{SUM}");
        assert!(refused(&expiring("1 h")).contains("given a time to live, and was kept for ever"));
        let hour = plan(&expiring("1 h").replace("TABLES", TABLES));
        let minute = plan(&expiring("1 min").replace("TABLES", TABLES));
        let fingerprint = super::super::start::fingerprint(&minute);
        assert_eq!(check(&head(&hour), &minute, &fingerprint, "p").unwrap(), None);
    }
}
