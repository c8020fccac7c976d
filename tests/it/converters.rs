//! Avro and Protobuf against what Confluent's own converters made of the same records, CloudEvents with Avro against
//! what Debezium's made.
//!
//! The recordings and their form are in `tests/goldens/converters/README.md`. Bodies are compared byte by byte, Protobuf
//! schemas character by character, Avro schemas as JSON. `MILLSTREAM_CONVERTERS=DIR` takes recordings from elsewhere.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream::config::AddressMap;
use millstream::event::datum::Datum;
use millstream::event::record::{Pipeline as _, Record};
use millstream::log::Batch;
use millstream::transform::Chain;
use serde_json::Value;

use super::json::Json;
use super::transforms::{Schemas, datum};

/// What was registered: subject, schema type, text; a schema's id is one more than its place.
#[derive(Clone, Default)]
struct Registered(Arc<Mutex<Vec<(String, String, String)>>>);

impl Registered {
    fn text(&self, id: usize) -> String {
        self.0.lock().unwrap()[id - 1].2.clone()
    }

    fn id(&self, entry: (String, String, String)) -> usize {
        let mut all = self.0.lock().unwrap();
        all.iter().position(|e| *e == entry).unwrap_or_else(|| {
            all.push(entry);
            all.len() - 1
        }) + 1
    }

    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut request, mut length) = (String::new(), 0);
        reader.read_line(&mut request)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            match line.trim().split_once(": ") {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let body: Value = serde_json::from_slice(&body)?;
        let subject = request.split('/').nth(2).unwrap_or("");
        let subject = percent_encoding::percent_decode_str(subject).decode_utf8_lossy().into_owned();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or("AVRO").to_owned();
        let answer = format!("{{\"id\":{}}}", self.id((subject, text("schemaType"), text("schema"))));
        write!(reader.get_mut(), "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())
    }
}

/// A registry that takes everything, and its address.
fn registry() -> (String, Registered) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let registered = Registered::default();
    let keeper = registered.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = keeper.answer(stream);
        }
    });
    (url, registered)
}

/// One side of a recorded record as a record of its own; `None` where it has no schema.
fn side(schemas: &mut Schemas, line: &Json, key: bool) -> Option<Record<'static>> {
    let json = line.get(if key { "key" } else { "value" })?;
    let schema = schemas.read(json.get("schema").filter(|s| s.get("type").is_some())?);
    let value = datum(&schema, json.get("payload")?);
    let none = (None, Datum::Null);
    let ((key_schema, key), (value_schema, value)) =
        if key { ((Some(schema), value), none) } else { (none, (Some(schema), value)) };
    Some(Record {
        topic: line.get("topic")?.as_str()?.to_owned(),
        partition: None,
        timestamp: None,
        key_schema,
        key,
        value_schema,
        value,
        headers: Vec::new(),
    })
}

struct Case {
    name: String,
    avro: bool,
    chain: Chain,
    registered: Registered,
    /// The recorded schemas.
    schemas: Vec<String>,
}

impl Case {
    fn new(case: &Json) -> Result<Self, String> {
        let name = case.get("name").and_then(Json::as_str).unwrap();
        let avro = case.get("type").and_then(Json::as_str) == Some("avro");
        let class = match avro {
            true => "io.confluent.connect.avro.AvroConverter",
            false => "io.confluent.connect.protobuf.ProtobufConverter",
        };
        let (url, registered) = registry();
        let Some(Json::Object(config)) = case.get("config") else { panic!("a case without config") };
        let mut properties = Vec::new();
        for side in ["key.converter", "value.converter"] {
            properties.push((side.to_owned(), class));
            properties.push((format!("{side}.schema.registry.url"), url.as_str()));
            properties.extend(config.iter().map(|(n, v)| (format!("{side}.{n}"), v.as_str().unwrap())));
        }
        let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let chain = Chain::new(&properties, &AddressMap::default()).map_err(|e| format!("{name}: {e}"))?;
        let Some(Json::Array(schemas)) = case.get("schemas") else { panic!("a case without schemas") };
        let schemas = schemas.iter().map(|s| s.as_str().unwrap().to_owned()).collect();
        Ok(Self { name: name.to_owned(), avro, chain, registered, schemas })
    }

    fn check(&mut self, record: Record<'static>, wanted: &[Json]) -> Result<(), String> {
        let is_key = record.key_schema.is_some();
        let mut batch = Batch::new();
        let made = self.chain.process(record, &mut batch);
        let out = batch.iter().next();
        let bytes = out.as_ref().and_then(|r| if is_key { r.key } else { r.value });
        match (made, wanted) {
            (Err(_), [Json::Null, Json::Text(_)]) => Ok(()),
            (Ok(()), [Json::Null]) if bytes.is_none() => Ok(()),
            (Ok(()), [Json::Text(body), schema]) => {
                let bytes = bytes.ok_or("nothing was written")?;
                let hex: String = bytes[5..].iter().map(|b| format!("{b:02x}")).collect();
                let id = u32::from_be_bytes(bytes[1..5].try_into().unwrap());
                let registered = self.registered.text(usize::try_from(id).unwrap());
                let recorded = &self.schemas[usize::try_from(schema.as_i64().unwrap()).unwrap()];
                let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
                let same = match self.avro {
                    true => json(&registered) == json(recorded),
                    false => registered == *recorded,
                };
                if !same {
                    return Err(format!("schema\n  made   {registered}\n  wanted {recorded}"));
                }
                if hex != *body {
                    return Err(format!("\n  made   {hex}\n  wanted {body}\n  by {registered}"));
                }
                Ok(())
            }
            (made, wanted) => Err(format!("{made:?}, but the converter: {}", Json::Array(wanted.to_vec()))),
        }
    }
}

fn recordings() -> PathBuf {
    match std::env::var_os("MILLSTREAM_CONVERTERS") {
        Some(folder) => folder.into(),
        None => goldens().join("converters"),
    }
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

/// Runs the cases of a file; gives how many values were compared.
fn run(file: &str) -> usize {
    let (mut compared, mut failed) = (0, Vec::new());
    let mut sources: HashMap<PathBuf, Vec<Json>> = HashMap::new();
    let mut schemas = Schemas::default();
    for case in std::fs::read_to_string(recordings().join(file)).unwrap().lines() {
        let recording = Json::parse(case).unwrap();
        let source = goldens().join(recording.get("file").and_then(Json::as_str).unwrap());
        let lines = sources.entry(source).or_insert_with_key(|path| {
            std::fs::read_to_string(path).unwrap().lines().map(|l| Json::parse(l).unwrap()).collect()
        });
        let mut case = match Case::new(&recording) {
            Ok(case) => case,
            Err(e) => {
                failed.push(e);
                continue;
            }
        };
        let Some(Json::Array(entries)) = recording.get("records") else { panic!("a case without records") };
        for entry in entries {
            let Json::Array(entry) = entry else { panic!("no entry: {entry}") };
            let [n, which, wanted @ ..] = &entry[..] else { panic!("a short entry") };
            let line = &lines[usize::try_from(n.as_i64().unwrap()).unwrap()];
            let record = side(&mut schemas, line, which.as_str() == Some("key")).unwrap();
            compared += 1;
            if let Err(e) = case.check(record, wanted) {
                failed.push(format!("{} record {n} {which}: {e}", case.name));
            }
        }
    }
    assert!(
        failed.is_empty(),
        "{} of {compared} values differ:\n{}",
        failed.len(),
        failed[..failed.len().min(20)].join("\n")
    );
    compared
}

#[test]
fn protobuf_is_confluents() {
    assert!(run("protobuf.jsonl") > 400);
}

#[test]
fn avro_is_confluents() {
    assert!(run("avro.jsonl") > 400);
}

/// The registry's address in the recordings; ours has a port of five digits too.
const RECORDED: &str = "127.0.0.1:45678";

#[test]
fn cloud_events_with_avro_are_debeziums() {
    let mut compared = 0;
    let mut schemas = Schemas::default();
    for case in std::fs::read_to_string(recordings().join("cloud-events.jsonl")).unwrap().lines() {
        let recording = Json::parse(case).unwrap();
        let name = recording.get("name").and_then(Json::as_str).unwrap();
        let Some(Json::Object(config)) = recording.get("config") else { panic!("a case without config") };
        let (url, registered) = registry();
        let mut properties = vec![
            ("value.converter".to_owned(), "io.debezium.converters.CloudEventsConverter"),
            ("value.converter.avro.schema.registry.url".to_owned(), url.as_str()),
        ];
        properties.extend(config.iter().map(|(n, v)| (format!("value.converter.{n}"), v.as_str().unwrap())));
        let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let mut chain = Chain::new(&properties, &AddressMap::default()).unwrap();
        let source = goldens().join(recording.get("file").and_then(Json::as_str).unwrap());
        let lines: Vec<Json> =
            std::fs::read_to_string(source).unwrap().lines().map(|l| Json::parse(l).unwrap()).collect();
        let Some(Json::Array(entries)) = recording.get("records") else { panic!("a case without records") };
        for entry in entries {
            let Json::Array(entry) = entry else { panic!("no entry: {entry}") };
            let [n, wanted] = &entry[..] else { panic!("an entry of {} parts", entry.len()) };
            let line = &lines[usize::try_from(n.as_i64().unwrap()).unwrap()];
            let mut batch = Batch::new();
            chain.process(side(&mut schemas, line, false).unwrap(), &mut batch).unwrap();
            let made = batch.iter().next().and_then(|r| r.value.map(<[u8]>::to_vec));
            let wanted = wanted.as_str().map(|hex| {
                let hex = hex.as_bytes().chunks(2).map(|h| std::str::from_utf8(h).unwrap());
                hex.map(|h| u8::from_str_radix(h, 16).unwrap()).collect::<Vec<u8>>()
            });
            let ours = url.trim_start_matches("http://");
            assert_eq!(ours.len(), RECORDED.len());
            let shown =
                |bytes: Option<Vec<u8>>| bytes.map(|b| b.escape_ascii().to_string().replace(ours, RECORDED));
            assert_eq!(shown(made), shown(wanted), "{name} record {n}");
            compared += 1;
        }
        let Some(Json::Array(wanted)) = recording.get("registered") else { panic!("no schemas") };
        let made = registered.0.lock().unwrap().clone();
        for (made, wanted) in made.iter().zip(wanted) {
            let Json::Array(wanted) = wanted else { panic!("no schema: {wanted}") };
            assert_eq!(Some(made.0.as_str()), wanted[0].as_str(), "{name}");
            let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(json(&made.2), json(wanted[1].as_str().unwrap()), "{name}: {}", made.0);
        }
        assert!(!made.is_empty());
    }
    assert!(compared > 300, "{compared}");
}
