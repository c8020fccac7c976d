//! Transforms and converters against what Kafka Connect and Debezium made of the same records.
//!
//! The cases and their form are in `tests/goldens/transforms/README.md`. Every byte of topic, partition, timestamp,
//! key, value and headers counts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use millstream::config::AddressMap;
use millstream::event::EventOptions;
use millstream::event::datum::Datum;
use millstream::event::record::{Header, Pipeline as _, Record};
use millstream::event::schema::{Field, Kind, Schema};
use millstream::log::Batch;
use millstream::transform::Chain;

use super::json::Json;

/// Schemas by their JSON text, so that records of a table share theirs as they do in the connector.
#[derive(Default)]
pub struct Schemas(BTreeMap<String, Arc<Schema>>);

impl Schemas {
    pub fn read(&mut self, json: &Json) -> Arc<Schema> {
        let text = json.to_string();
        if let Some(schema) = self.0.get(&text) {
            return Arc::clone(schema);
        }
        let schema = Arc::new(self.parse(json));
        self.0.insert(text, Arc::clone(&schema));
        schema
    }

    fn parse(&mut self, json: &Json) -> Schema {
        let part = |name: &str| json.get(name).unwrap_or(&Json::Null);
        let kind = match part("type").as_str().unwrap() {
            "int8" => Kind::Int8,
            "int16" => Kind::Int16,
            "int32" => Kind::Int32,
            "int64" => Kind::Int64,
            "float" => Kind::Float32,
            "double" => Kind::Float64,
            "boolean" => Kind::Boolean,
            "string" => Kind::String,
            "bytes" => Kind::Bytes,
            "array" => Kind::Array(self.read(part("items"))),
            "map" => Kind::Map(self.read(part("keys")), self.read(part("values"))),
            "struct" => {
                let Json::Array(fields) = part("fields") else { panic!("a struct without fields") };
                let fields = fields.iter().map(|f| {
                    let name = f.get("field").and_then(Json::as_str).unwrap().to_owned();
                    Field { name, schema: Arc::new(self.parse(f)) }
                });
                Kind::Struct(fields.collect())
            }
            other => panic!("type {other}"),
        };
        let mut schema = Schema::new(kind);
        schema.optional = *part("optional") == Json::Bool(true);
        schema.name = part("name").as_str().map(str::to_owned);
        schema.version = part("version").as_i64().map(|v| i32::try_from(v).unwrap());
        schema.doc = part("doc").as_str().map(str::to_owned);
        if let Json::Object(parameters) = part("parameters") {
            schema.parameters =
                parameters.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect();
        }
        if let Some(default) = json.get("default") {
            schema.default = Some(datum(&schema, default));
        }
        schema
    }
}

pub fn datum(schema: &Schema, json: &Json) -> Datum<'static> {
    match (&schema.kind, json) {
        (_, Json::Null) => Datum::Null,
        (Kind::Boolean, Json::Bool(b)) => Datum::Bool(*b),
        (Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64, Json::Number(n)) => {
            Datum::Int(n.parse().unwrap())
        }
        (Kind::Float32, Json::Number(n) | Json::Text(n)) => Datum::F32(n.parse().unwrap()),
        (Kind::Float64, Json::Number(n) | Json::Text(n)) => Datum::F64(n.parse().unwrap()),
        (Kind::String, Json::Text(t)) => Datum::string(t.as_str()),
        (Kind::Bytes, Json::Text(t)) => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(t).unwrap();
            Datum::Bytes(bytes.into())
        }
        (Kind::Array(element), Json::Array(items)) => {
            Datum::Array(items.iter().map(|i| datum(element, i)).collect())
        }
        (Kind::Map(keys, values), Json::Object(pairs)) => {
            Datum::Map(pairs.iter().map(|(k, v)| (datum(keys, &Json::text(k)), datum(values, v))).collect())
        }
        (Kind::Map(keys, values), Json::Array(pairs)) => Datum::Map(
            pairs
                .iter()
                .map(|pair| match pair {
                    Json::Array(pair) => (datum(keys, &pair[0]), datum(values, &pair[1])),
                    other => panic!("a pair: {other}"),
                })
                .collect(),
        ),
        (Kind::Struct(fields), Json::Object(_)) => Datum::Struct(
            fields.iter().map(|f| datum(&f.schema, json.get(&f.name).unwrap_or(&Json::Null))).collect(),
        ),
        (kind, json) => panic!("{json} is no {kind:?}"),
    }
}

fn side(schemas: &mut Schemas, json: Option<&Json>) -> (Option<Arc<Schema>>, Datum<'static>) {
    let Some(json) = json.filter(|j| !j.is_null()) else { return (None, Datum::Null) };
    let schema = schemas.read(json.get("schema").unwrap());
    let value = datum(&schema, json.get("payload").unwrap());
    (Some(schema), value)
}

pub fn record(schemas: &mut Schemas, json: &Json) -> Record<'static> {
    let (key_schema, key) = side(schemas, json.get("key"));
    let (value_schema, value) = side(schemas, json.get("value"));
    let Some(Json::Array(headers)) = json.get("headers") else { panic!("no headers") };
    let headers = headers.iter().map(|h| {
        let (schema, value) = side(schemas, h.get("value"));
        Header { name: h.get("key").and_then(Json::as_str).unwrap().to_owned().into(), schema, value }
    });
    Record {
        topic: json.get("topic").and_then(Json::as_str).unwrap().to_owned(),
        partition: json.get("partition").and_then(Json::as_i64).map(|p| i32::try_from(p).unwrap()),
        timestamp: json.get("timestamp").and_then(Json::as_i64),
        key_schema,
        key,
        value_schema,
        value,
        headers: headers.collect(),
    }
}

fn bytes(bytes: Option<&[u8]>) -> Json {
    match bytes {
        None => Json::Null,
        Some(b) => match std::str::from_utf8(b) {
            Ok(text) if b.first() != Some(&0) => Json::text(text),
            _ => {
                let hex: String = b.iter().map(|b| format!("{b:02x}")).collect();
                Json::Object(vec![("hex".into(), Json::Text(hex))])
            }
        },
    }
}

fn number(n: Option<i64>) -> Json {
    n.map_or(Json::Null, |n| Json::Number(n.to_string()))
}

/// What became of the `n`th record.
fn outcome(n: usize, batch: &Batch) -> Option<Json> {
    let r = batch.iter().next()?;
    let headers = r
        .headers()
        .map(|(name, value)| Json::Array(vec![bytes(Some(name)), bytes(value)]))
        .collect::<Vec<_>>();
    Some(Json::Object(vec![
        ("n".into(), Json::Number(n.to_string())),
        ("topic".into(), Json::text(r.topic)),
        ("partition".into(), number(r.partition.map(i64::from))),
        ("timestamp".into(), number(r.timestamp)),
        ("key".into(), bytes(r.key)),
        ("value".into(), bytes(r.value)),
        ("headers".into(), Json::Array(headers)),
    ]))
}

/// Runs one chain over the records and says what is wrong.
pub fn check(records: &[Record<'static>], config: &Json, expected: &[Json]) -> Result<(), String> {
    let Json::Object(config) = config else { panic!("a chain's properties") };
    let mut properties: Vec<(&str, &str)> =
        config.iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
    let only = properties.iter().find(|(n, _)| *n == "only").map(|(_, v)| regex::Regex::new(v).unwrap());
    properties.retain(|(n, _)| *n != "only");
    properties.push(("topic.prefix", "p"));
    let refused = expected.first().and_then(|e| e.get("refused")).and_then(Json::as_str);
    let made = EventOptions::from_properties(properties.iter().copied())
        .and_then(|_| Chain::new(&properties, &AddressMap::default()));
    let mut chain = match (made, refused) {
        (Err(_), Some(_)) => return Ok(()),
        // what fails at every record there may be refused at start here
        (Err(_), None) if expected.first().is_some_and(|e| e.get("error").is_some()) => return Ok(()),
        (Err(e), None) => return Err(format!("refused: {e}")),
        (Ok(_), Some(cause)) => return Err(format!("not refused, but Connect says: {cause}")),
        (Ok(chain), None) => chain,
    };
    let mut expected = expected.iter().filter(|e| e.get("n").is_some()).peekable();
    for (n, record) in records.iter().enumerate() {
        if only.as_ref().is_some_and(|only| !only.is_match(&record.topic)) {
            continue;
        }
        let mut batch = Batch::new();
        let result = chain.process(record.clone(), &mut batch);
        let wanted = expected.next_if(|e| e.get("n").and_then(Json::as_i64) == i64::try_from(n).ok());
        match (result, wanted.and_then(|w| w.get("error")).and_then(Json::as_str)) {
            (Err(_), Some(_)) => {}
            (Err(e), None) => return Err(format!("record {n}: {e}\n  wanted {}", shown(wanted))),
            (Ok(()), Some(e)) => {
                return Err(format!(
                    "record {n}: no error, but Connect says: {e}\n  made {}",
                    shown(outcome(n, &batch).as_ref())
                ));
            }
            (Ok(()), None) => {
                let made = outcome(n, &batch);
                if made.as_ref() != wanted {
                    return Err(format!(
                        "record {n}:\n  made   {}\n  wanted {}",
                        shown(made.as_ref()),
                        shown(wanted)
                    ));
                }
            }
        }
    }
    match expected.next() {
        Some(left) => Err(format!("left over: {left}")),
        None => Ok(()),
    }
}

fn shown(json: Option<&Json>) -> String {
    json.map_or("nothing".into(), ToString::to_string)
}

/// One entry of `expected`, in the form of [`outcome`].
fn expected(entry: &Json, texts: &[String]) -> Json {
    let Json::Array(parts) = entry else { return entry.clone() };
    let text = |at: &Json| texts[usize::try_from(at.as_i64().unwrap()).unwrap()].as_str();
    let bytes = |json: &Json| match json {
        Json::Null => Json::Null,
        Json::Array(envelope) => {
            let (schema, payload) = (text(&envelope[0]), text(&envelope[1]));
            Json::Text(format!("{{\"schema\":{schema},\"payload\":{payload}}}"))
        }
        at => match text(at) {
            hex if hex.starts_with("{\"hex\":") => Json::parse(hex).unwrap(),
            text => Json::text(text),
        },
    };
    let field = |name: &str, value: Json| (name.to_owned(), value);
    match &parts[..] {
        [n, error] => Json::Object(vec![field("n", n.clone()), field("error", error.clone())]),
        [n, topic, partition, timestamp, key, value, headers] => Json::Object(vec![
            field("n", n.clone()),
            field("topic", topic.clone()),
            field("partition", partition.clone()),
            field("timestamp", timestamp.clone()),
            field("key", bytes(key)),
            field("value", bytes(value)),
            field("headers", Json::parse(text(headers)).unwrap()),
        ]),
        _ => panic!("an entry of {} parts", parts.len()),
    }
}

fn folder(name: &str) -> (usize, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/transforms").join(name);
    let lines = |file: &str| -> Vec<Json> {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        text.split('\n').filter(|l| !l.is_empty()).map(|l| Json::parse(l).unwrap()).collect()
    };
    let texts: Vec<String> = lines("texts.jsonl").iter().map(|t| t.as_str().unwrap().to_owned()).collect();
    let records = records(&folder.join("records.jsonl"));
    let mut failed = Vec::new();
    let chains = lines("chains.jsonl");
    for chain in &chains {
        let Some(Json::Array(entries)) = chain.get("expected") else { panic!("a chain without expected") };
        let wanted: Vec<Json> = entries.iter().map(|e| expected(e, &texts)).collect();
        if let Err(e) = check(&records, chain.get("config").unwrap(), &wanted) {
            failed.push(format!("{name} {}: {e}", chain.get("name").and_then(Json::as_str).unwrap()));
        }
    }
    (chains.len(), failed)
}

#[test]
fn every_chain_gives_what_connect_gave() {
    for (name, least) in [("adaptive", 500), ("connect-times", 80), ("cloud-events", 15)] {
        let (chains, failed) = folder(name);
        assert!(chains >= least, "{name} has {chains} chains");
        assert!(failed.is_empty(), "{} of {chains} chains differ:\n{}", failed.len(), failed.join("\n"));
    }
}

pub fn records(path: &Path) -> Vec<Record<'static>> {
    let mut schemas = Schemas::default();
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
        .map(|l| record(&mut schemas, &Json::parse(l).unwrap()))
        .collect()
}
