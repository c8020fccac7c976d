//! What `mask.py` beside the cases does: masks what differs from run to run, compares, and checks the relations
//! that must hold anyway.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;

use super::json::Json;

static FLAT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^(?:__|_|meta_|dbz\.|x-)?(?:source[._])?(ts_ms|ts_us|ts_ns|lsn|txId|sequence|xmin)$")
        .unwrap()
});
static UUID: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap());
static INSTANT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap());
static TXID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^(\d+):(\d+)$").unwrap());

const TS: [&str; 3] = ["ts_ms", "ts_us", "ts_ns"];

/// `case.json`, as far as comparing goes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub volatile_columns: Vec<String>,
    pub compare: String,
    pub drop_topics: Vec<Regex>,
    pub mask_uuids: bool,
}

impl Options {
    pub fn from_case(case: &serde_json::Value) -> Self {
        let texts = |name: &str| -> Vec<String> {
            case.get(name)
                .and_then(|v| v.as_array())
                .map(|a| a.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
                .unwrap_or_default()
        };
        Self {
            volatile_columns: texts("volatile_columns"),
            compare: case.get("compare").and_then(|v| v.as_str()).unwrap_or("exact").to_owned(),
            drop_topics: texts("drop_topics").iter().map(|t| Regex::new(t).unwrap()).collect(),
            mask_uuids: case.get("mask_uuids").and_then(serde_json::Value::as_bool).unwrap_or(false),
        }
    }
}

struct Masker<'o> {
    tx: HashMap<String, String>,
    anonymous: bool,
    columns: &'o [String],
}

fn hash() -> Json {
    Json::text("#")
}

fn hidden(v: &Json) -> Json {
    if v.is_null() { Json::Null } else { hash() }
}

impl Masker<'_> {
    fn txid(&mut self, v: &Json) -> Json {
        let key = match v {
            Json::Null => return Json::Null,
            Json::Number(n) => n.clone(),
            Json::Text(t) => t.clone(),
            other => other.to_string(),
        };
        if self.anonymous {
            return Json::text("tx");
        }
        let next = format!("tx{}", self.tx.len());
        Json::text(self.tx.entry(key).or_insert(next))
    }

    fn is_column(&self, name: &str) -> bool {
        self.columns.iter().any(|c| c == name)
    }

    fn source(&mut self, source: &Json) -> Json {
        let Json::Object(fields) = source else { return source.clone() };
        let mut out = Vec::new();
        for (k, v) in fields {
            let v = match k.as_str() {
                "lsn" | "xmin" | "origin_lsn" => hidden(v),
                k if TS.contains(&k) => hidden(v),
                "txId" => self.txid(v),
                "version" => hash(),
                "sequence" if !v.is_null() => {
                    let parts = v.as_str().and_then(|t| Json::parse(t).ok());
                    match parts {
                        Some(Json::Array(parts)) => {
                            let masked = parts
                                .iter()
                                .map(|p| if p.is_null() && !self.anonymous { Json::Null } else { hash() });
                            Json::Text(Json::Array(masked.collect()).to_string())
                        }
                        _ => v.clone(),
                    }
                }
                _ => v.clone(),
            };
            out.push((k.clone(), v));
        }
        Json::Object(out)
    }

    fn transaction_id(&mut self, v: &Json) -> Json {
        let Some(text) = v.as_str() else { return v.clone() };
        match TXID.captures(text) {
            Some(c) => {
                let id = self.txid(&Json::text(&c[1]));
                Json::Text(format!("{}:#", id.as_str().unwrap_or("")))
            }
            None => hash(),
        }
    }

    fn transaction_block(&mut self, block: &Json) -> Json {
        let mut block = block.clone();
        if let Some(id) = block.get("id").filter(|i| i.as_str().is_some()).cloned() {
            let id = self.transaction_id(&id);
            block.set("id", id);
        }
        block
    }

    fn payload(&mut self, payload: &Json) -> Json {
        let Json::Object(fields) = payload else { return payload.clone() };
        let envelope = payload.get("op").is_some() && payload.get("source").is_some();
        let mut out = Vec::new();
        for (k, v) in fields {
            let scalar = !matches!(v, Json::Object(_) | Json::Array(_));
            let v = if k == "source" && v.is_object() {
                self.source(v)
            } else if k == "transaction" {
                self.transaction_block(v)
            } else if (TS.contains(&k.as_str()) && scalar && (envelope || k == "ts_ms")) || self.is_column(k)
            {
                hidden(v)
            } else if (k == "before" || k == "after") && v.is_object() {
                let Json::Object(row) = v else { unreachable!() };
                Json::Object(
                    row.iter()
                        .map(|(a, b)| (a.clone(), if self.is_column(a) { hidden(b) } else { b.clone() }))
                        .collect(),
                )
            } else if !envelope && k.ends_with("transaction_id") && v.as_str().is_some() {
                self.transaction_id(v)
            } else if !envelope && FLAT.is_match(k) {
                if k.ends_with("txId") { self.txid(v) } else { hidden(v) }
            } else if k == "timestamp" && payload.get("aggregate_type").is_some() {
                hash()
            } else if k == "additional_data" && v.is_object() {
                let Json::Object(map) = v else { unreachable!() };
                let mut map = map.clone();
                map.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(map)
            } else if k == "id" && payload.get("status").is_some() && v.as_str().is_some() {
                self.transaction_id(v)
            } else {
                v.clone()
            };
            out.push((k.clone(), v));
        }
        let mut out = Json::Object(out);
        // END's list follows Java's HashMap: compared as a set
        if let (Some(_), Some(Json::Array(list))) = (payload.get("status"), payload.get("data_collections")) {
            let mut list = list.clone();
            list.sort_by_key(Json::to_string);
            out.set("data_collections", Json::Array(list));
        }
        out
    }

    fn side(&mut self, side: &Json) -> Json {
        if side.has_only(&["schema", "payload"]) {
            let (schema, payload) = (side.get("schema").unwrap().clone(), side.get("payload").unwrap());
            return Json::Object(vec![("schema".into(), schema), ("payload".into(), self.payload(payload))]);
        }
        self.payload(side)
    }

    fn record(&mut self, r: &Json) -> Json {
        let mut out = vec![
            ("topic".to_owned(), r.get("topic").cloned().unwrap_or(Json::Null)),
            ("partition".to_owned(), r.get("partition").cloned().unwrap_or(Json::Null)),
        ];
        if r.get("timestamp").is_some() {
            out.push(("timestamp".into(), hash()));
        }
        let null = Json::Null;
        let mut key = self.side(r.get("key").unwrap_or(&null));
        let value = self.side(r.get("value").unwrap_or(&null));
        self.mask_key(&mut key);
        out.push(("key".into(), key));
        out.push(("value".into(), value));
        let mut headers = Vec::new();
        if let Some(Json::Array(list)) = r.get("headers") {
            for h in list {
                let mut h = h.clone();
                let name = h.get("key").and_then(Json::as_str).unwrap_or("").to_owned();
                if name == "__debezium.context.runId" || FLAT.is_match(&name) {
                    if let Some(v) = h.get("value").cloned() {
                        let masked = match v.get("payload") {
                            Some(_) => Json::Object(vec![
                                ("schema".into(), v.get("schema").cloned().unwrap_or(Json::Null)),
                                ("payload".into(), hash()),
                            ]),
                            None => hash(),
                        };
                        h.set("value", masked);
                    }
                    if h.get("simple").is_some() {
                        h.set("simple", hash());
                    }
                }
                headers.push(h);
            }
        }
        out.push(("headers".into(), Json::Array(headers)));
        Json::Object(out)
    }

    /// The key in the transaction topic.
    fn mask_key(&mut self, key: &mut Json) {
        let payload = if key.has_only(&["schema", "payload"]) {
            key.get("payload").cloned()
        } else {
            Some(key.clone())
        };
        let Some(mut payload) = payload else { return };
        let Some(id) = payload.get("id").cloned().filter(|_| payload.has_only(&["id"])) else { return };
        if !id.as_str().is_some_and(|t| TXID.is_match(t)) {
            return;
        }
        let id = self.transaction_id(&id);
        payload.set("id", id);
        if key.has_only(&["schema", "payload"]) {
            key.set("payload", payload);
        } else {
            *key = payload;
        }
    }
}

/// Masks records in order.
pub fn masked(records: &[Json], options: &Options) -> Vec<Json> {
    let anonymous = matches!(options.compare.as_str(), "distinct" | "final_state");
    let mut masker = Masker { tx: HashMap::new(), anonymous, columns: &options.volatile_columns };
    let mut out: Vec<Json> = records.iter().map(|r| masker.record(r)).collect();
    out.retain(|r| {
        let topic = r.get("topic").and_then(Json::as_str).unwrap_or("");
        !options.drop_topics.iter().any(|d| d.is_match(topic))
    });
    if options.mask_uuids {
        let mask = |t: &str| INSTANT.replace_all(&UUID.replace_all(t, "<uuid>"), "<instant>").into_owned();
        out = out.iter().map(|r| r.map_texts(&mask)).collect();
    }
    out
}

fn final_state(records: &[Json]) -> Vec<(String, String)> {
    let mut state: Vec<(String, Option<String>)> = Vec::new();
    for r in records {
        let value = r.get("value").unwrap();
        let payload =
            if value.has_only(&["schema", "payload"]) { value.get("payload").unwrap() } else { value };
        let after = if payload.is_object() { payload.get("after").unwrap_or(payload) } else { payload };
        let key = format!("{} {}", r.get("topic").unwrap(), r.get("key").unwrap());
        let after = (!after.is_null()).then(|| after.to_string());
        match state.iter_mut().find(|(k, _)| *k == key) {
            Some((_, v)) => *v = after,
            None => state.push((key, after)),
        }
    }
    let mut out: Vec<_> = state.into_iter().filter_map(|(k, v)| Some((k, v?))).collect();
    out.sort();
    out
}

/// Says where two runs differ after masking; `None` where they are equal.
pub fn compare(expected: &[Json], actual: &[Json], options: &Options) -> Option<String> {
    let (mut a, mut b) = (masked(expected, options), masked(actual, options));
    match options.compare.as_str() {
        "final_state" => {
            let (fa, fb) = (final_state(&a), final_state(&b));
            return (fa != fb).then(|| format!("final states differ ({} and {} keys)", fa.len(), fb.len()));
        }
        "distinct" => {
            let unique = |records: &[Json]| {
                let mut texts: Vec<String> = records.iter().map(Json::to_string).collect();
                texts.sort();
                texts.dedup();
                texts
            };
            let (ua, ub) = (unique(&a), unique(&b));
            let extra: Vec<String> = ua
                .iter()
                .filter(|x| !ub.contains(x))
                .map(|x| format!("only expected: {x}"))
                .chain(ub.iter().filter(|x| !ua.contains(x)).map(|x| format!("only ours: {x}")))
                .collect();
            let first: String = extra.first()?.chars().take(700).collect();
            return Some(format!("{} kinds of record on one side only, first {first}", extra.len()));
        }
        "by_topic" => {
            for records in [&mut a, &mut b] {
                records.sort_by_key(|r| r.get("topic").and_then(Json::as_str).unwrap_or("").to_owned());
            }
        }
        _ => {}
    }
    for (i, (x, y)) in a.iter().zip(&b).enumerate() {
        if x != y {
            let topic = x.get("topic").and_then(Json::as_str).unwrap_or("");
            return Some(format!("record {i} ({topic}): {}", first_difference(x, y, "")));
        }
    }
    if a.len() != b.len() {
        let (longer, whose) = if a.len() > b.len() { (&a, "missing") } else { (&b, "extra") };
        let first: String = longer[a.len().min(b.len())].to_string().chars().take(400).collect();
        return Some(format!("{} records and {}; first {whose}: {first}", a.len(), b.len()));
    }
    None
}

fn first_difference(x: &Json, y: &Json, at: &str) -> String {
    match (x, y) {
        (Json::Object(a), Json::Object(b)) => {
            let (an, bn): (Vec<_>, Vec<_>) =
                (a.iter().map(|(n, _)| n).collect(), b.iter().map(|(n, _)| n).collect());
            if an != bn {
                return format!("{at}: fields {an:?} / {bn:?}").chars().take(900).collect();
            }
            for ((n, p), (_, q)) in a.iter().zip(b) {
                if p != q {
                    return first_difference(p, q, &format!("{at}.{n}"));
                }
            }
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            for (i, (p, q)) in a.iter().zip(b).enumerate() {
                if p != q {
                    return first_difference(p, q, &format!("{at}[{i}]"));
                }
            }
        }
        _ => {}
    }
    let cut = |j: &Json| j.to_string().chars().take(400).collect::<String>();
    format!("{at}: {} / {}", cut(x), cut(y))
}

/// The relations between masked fields that a run breaks.
pub fn relations(records: &[Json]) -> Vec<String> {
    let mut bad = Vec::new();
    let mut last_commit = -1;
    let mut transactions: HashMap<i64, (Option<i64>, i64)> = HashMap::new();
    for (i, r) in records.iter().enumerate() {
        let Some(value) = r.get("value") else { continue };
        let p = if value.has_only(&["schema", "payload"]) { value.get("payload").unwrap() } else { value };
        let Some(s) = p.get("source").filter(|s| s.is_object() && p.get("op").is_some()) else { continue };
        let int = |o: &Json, n: &str| o.get(n).and_then(Json::as_i64);
        for block in [s, p] {
            if let (Some(ns), Some(us), Some(ms)) =
                (int(block, "ts_ns"), int(block, "ts_us"), int(block, "ts_ms"))
                && (ns.div_euclid(1000) != us || us.div_euclid(1000) != ms)
            {
                bad.push(format!("{i}: ts_ms, ts_us, ts_ns are not one instant"));
            }
        }
        let snapshot = s.get("snapshot").and_then(Json::as_str);
        if snapshot != Some("incremental") && int(s, "ts_ns").is_some_and(|ns| ns % 1000 != 0) {
            bad.push(format!("{i}: source.ts_ns is not whole microseconds"));
        }
        if let (Some(source), Some(processed)) = (int(s, "ts_ms"), int(p, "ts_ms"))
            && processed < source
        {
            bad.push(format!("{i}: processed before it happened"));
        }
        let lsn = int(s, "lsn");
        let sequence = s.get("sequence").and_then(Json::as_str).and_then(|t| Json::parse(t).ok());
        let mut commit = -1;
        if let Some(Json::Array(parts)) = &sequence {
            if parts.len() != 2 || lsn.is_some_and(|l| parts[1].as_str() != Some(&l.to_string())) {
                bad.push(format!("{i}: sequence does not end in lsn {lsn:?}"));
            }
            match parts.first().and_then(Json::as_str).map(str::parse) {
                Some(Ok(n)) => commit = n,
                Some(Err(_)) => bad.push(format!("{i}: sequence[0] is not a number")),
                None => {}
            }
        }
        if let (Some("false") | None, Some(lsn)) = (snapshot, lsn) {
            if commit < last_commit && commit != -1 {
                bad.push(format!("{i}: last commit {commit} after {last_commit}"));
            }
            last_commit = last_commit.max(commit);
            if let Some(txid) = int(s, "txId") {
                let entry = transactions.entry(txid).or_insert((int(s, "ts_ns"), lsn));
                if entry.0 != int(s, "ts_ns") {
                    bad.push(format!("{i}: one transaction, two commit times"));
                }
                if lsn < entry.1 {
                    bad.push(format!("{i}: lsn goes back within transaction {txid}"));
                }
                entry.1 = lsn;
                if let Some(id) = p.get("transaction").and_then(|t| t.get("id")).and_then(Json::as_str)
                    && id != format!("{txid}:{lsn}")
                {
                    bad.push(format!("{i}: transaction.id {id} is not txId:lsn"));
                }
            }
        }
    }
    bad
}
