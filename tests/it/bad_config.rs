//! Bad configurations: every property there is is known, and what is wrong is said before anything runs, naming
//! property or table and column.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use millstream::capture::{Connector, ConnectorHandle, Env, Phase};
use millstream::config::connector::properties;
use millstream::config::{AddressMap, ConnectorConfig};
use millstream::demo::postgres::{PostgresOptions, TemporaryPostgres};
use millstream::event::EventOptions;
use millstream::log::{Log, OpenOptions};
use millstream::transform;
use serde_json::Value;

#[test]
fn every_property_of_the_reference_is_in_the_table() {
    let names = include_str!("bad_config/properties.txt");
    assert!(names.lines().count() > 180);
    let missing: Vec<&str> = names.lines().filter(|name| properties::find(name).is_none()).collect();
    assert_eq!(missing, [""; 0], "not in properties.tsv");
    for property in properties::all() {
        assert!(property.doc.ends_with('.'), "{} has no sentence", property.name);
    }
}

const LEAST: [(&str, &str); 6] = [
    ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
    ("plugin.name", "pgoutput"),
    ("database.hostname", "127.0.0.1"),
    ("database.user", "postgres"),
    ("database.dbname", "shop"),
    ("topic.prefix", "s"),
];

fn map(extra: &[(&str, &str)]) -> BTreeMap<String, String> {
    LEAST.iter().chain(extra).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

/// What is said of a configuration with these properties.
fn refused(extra: &[(&str, &str)]) -> String {
    match ConnectorConfig::from_map("c", map(extra)) {
        Err(error) => error.screen(),
        // what a start makes before it connects
        Ok(config) => EventOptions::from_properties(config.iter())
            .and_then(|options| transform::encoder(options, config.iter(), &AddressMap::default()))
            .err()
            .unwrap_or_else(|| panic!("accepted: {extra:?}"))
            .to_string(),
    }
}

#[test]
fn what_is_wrong_by_itself_is_said_at_start_with_the_property() {
    for (properties, words) in [
        (&[("snapshot.mode", "sometimes")][..], "snapshot.mode"),
        (&[("decimal.handling.mode", "roman")], "decimal.handling.mode"),
        (&[("time.precision.mode", "structured")], "time.precision.mode"),
        (&[("max.batch.size", "many")], "max.batch.size"),
        (&[("max.batch.size", "9000"), ("max.queue.size", "8000")], "max.queue.size"),
        (&[("slot.name", "My-Slot")], "slot.name"),
        (&[("table.include.list", "a.b"), ("table.exclude.list", "a.c")], "table.exclude.list"),
        (&[("schema.include.list", "a"), ("schema.exclude.list", "b")], "schema.exclude.list"),
        (&[("column.include.list", "a.b.c"), ("column.exclude.list", "a.b.d")], "column.exclude.list"),
        (&[("table.include.list", "public.(a")], "table.include.list"),
        (&[("table.include.list", "public.a++(")], "table.include.list"),
        (&[("message.key.columns", "public.a")], "message.key.columns"),
        (&[("publication.autocreate.mode", "most")], "publication.autocreate.mode"),
        (&[("event.processing.failure.handling.mode", "cry")], "event.processing.failure.handling.mode"),
        (&[("plugin.name", "decoderbufs")], "pgoutput"),
        (&[("converters", "x"), ("x.type", "com.acme.Converter")], "converters"),
        (&[("value.converter", "io.confluent.connect.avro.AvroConverter")], "schema.registry.url"),
        (&[("key.converter", "com.acme.Mine")], "key.converter"),
        (
            &[
                ("value.converter", "io.confluent.connect.protobuf.ProtobufConverter"),
                ("value.converter.schema.registry.url", "nowhere"),
            ],
            "value.converter.schema.registry.url",
        ),
        (
            &[
                ("transforms", "t"),
                ("transforms.t.type", "io.debezium.transforms.partitions.PartitionRouting"),
            ],
            "transforms.t.partition.payload.fields",
        ),
        (
            &[
                ("transforms", "t"),
                ("transforms.t.type", "io.debezium.transforms.TimezoneConverter"),
                ("transforms.t.converted.timezone", "Mars/Olympus"),
            ],
            "converted.timezone",
        ),
    ] {
        let said = refused(properties);
        assert!(said.contains(words), "{properties:?}: {said}");
    }
}

#[test]
fn javas_regular_expressions_are_taken() {
    for list in ["public.(?!b$).*", "(?-i)public.A", "public.a++", "\\Qpublic.a\\E", "public\\.[a-c&&[^b]]"] {
        let config = ConnectorConfig::from_map("c", map(&[("table.include.list", list)]));
        assert!(config.is_ok(), "{list}: {}", config.unwrap_err().screen());
    }
}

#[test]
fn a_name_that_is_unknown_gets_a_warning_with_the_nearest() {
    for (wrong, right) in [
        ("database.hostnam", "database.hostname"),
        ("snapshot.mod", "snapshot.mode"),
        ("tables.include.list", "table.include.list"),
        ("millstream.strict.value", "millstream.strict.values"),
    ] {
        let config = ConnectorConfig::from_map("c", map(&[(wrong, "x")])).unwrap();
        let warned = config.warnings().join("\n");
        assert!(warned.contains(&format!("did you mean {right}?")), "{wrong}: {warned}");
    }
}

struct Setup {
    server: TemporaryPostgres,
    log: Arc<dyn Log>,
    _dir: tempfile::TempDir,
}

impl Setup {
    async fn new() -> Self {
        let start = || TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let server = tokio::task::spawn_blocking(start).await.unwrap();
        server.psql("postgres", "CREATE DATABASE shop").unwrap();
        let sql =
            "CREATE TABLE a (id int PRIMARY KEY, v text, tags int[]); CREATE TABLE b (id int PRIMARY KEY)";
        server.psql("shop", sql).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file:{}", dir.path().join("log").display());
        let log = millstream::log::open(&url, &OpenOptions::default()).await.unwrap();
        Self { server, log, _dir: dir }
    }

    fn start(&self, extra: &[(&str, &str)]) -> ConnectorHandle {
        let mut map = map(extra);
        map.insert("database.port".into(), self.server.port().to_string());
        let config = ConnectorConfig::from_map("c", map).unwrap();
        Connector::start(config, Env::new(Arc::clone(&self.log), "c")).unwrap()
    }
}

/// Waits for a phase and gives the error that is shown with it.
async fn error_in(handle: &ConnectorHandle, phase: Phase) -> String {
    for _ in 0..400 {
        let status = handle.status();
        if let Some(error) = status.error.filter(|_| status.phase == phase) {
            return error.screen();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {phase:?}: {:?}", handle.status());
}

#[tokio::test(flavor = "multi_thread")]
async fn key_columns_that_are_not_there_are_an_error_before_anything_is_made() {
    let setup = Setup::new().await;
    let keys = ("message.key.columns", "public.b:id;public.a:v,nope");
    let handle = setup.start(&[keys]);
    let said = error_in(&handle, Phase::Failed).await;
    assert!(
        said.contains("message.key.columns") && said.contains("nope") && said.contains("public.a"),
        "{said}"
    );
    handle.stop().await;
    let slots = setup.server.psql("shop", "SELECT count(*) FROM pg_replication_slots").unwrap();
    assert!(slots.contains('0'), "{slots}");

    // the same over REST, before the connector exists
    let worker = millstream::connect::Worker::start(millstream::connect::Env {
        log: Arc::clone(&setup.log),
        topics: millstream::config::settings::Worker::default(),
        addresses: AddressMap::default(),
        tls: millstream::config::settings::TlsDefault::default(),
        spill: std::env::temp_dir(),
        worker_id: "127.0.0.1:1".into(),
    })
    .await
    .unwrap();
    let mut config: serde_json::Map<String, Value> =
        map(&[keys]).into_iter().map(|(k, v)| (k, Value::from(v))).collect();
    config.insert("database.port".into(), Value::from(setup.server.port().to_string()));
    let refused =
        worker.create("c", config.clone(), millstream::connect::TargetState::Started).await.unwrap_err();
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.message.contains("nope") && refused.message.contains("public.a"), "{refused:?}");
    config.insert("name".into(), Value::from("c"));
    let infos = worker.validate("PostgresConnector", config).await.unwrap();
    assert_eq!(infos["error_count"], 1, "{infos}");
    worker.shut_down().await;
}

const AVRO: &str = "io.confluent.connect.avro.AvroConverter";
const PROTOBUF: &str = "io.confluent.connect.protobuf.ProtobufConverter";

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_is_said_before_there_is_a_change() {
    let setup = Setup::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let handle =
        setup.start(&[("value.converter", AVRO), ("value.converter.schema.registry.url", url.as_str())]);
    let said = error_in(&handle, Phase::Reconnecting).await;
    assert!(
        said.contains("value.converter.schema.registry.url") && said.contains(&port.to_string()),
        "{said}"
    );
    handle.stop().await;
}

/// A registry that gives this answer to everything that is posted.
fn registry(status: &'static str, body: &'static str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let (mut request, mut length) = (String::new(), 0);
            let _ = reader.read_line(&mut request);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(n) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = n.trim().parse().unwrap();
                }
            }
            let _ = reader.read_exact(&mut vec![0; length]);
            let (status, body) = if request.starts_with("POST") { (status, body) } else { ("200 OK", "{}") };
            let _ =
                write!(reader.get_mut(), "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
    });
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incompatible_schema_and_a_value_that_cannot_be_held_are_named() {
    let setup = Setup::new().await;
    setup.server.psql("shop", "INSERT INTO a VALUES (1, 'x', '{1,NULL}')").unwrap();
    let url = registry("409 Conflict", "{\"error_code\":409,\"message\":\"field v was removed\"}");
    let handle =
        setup.start(&[("value.converter", AVRO), ("value.converter.schema.registry.url", url.as_str())]);
    let said = error_in(&handle, Phase::Failed).await;
    assert!(said.contains("s.public.a-value") && said.contains("field v was removed"), "{said}");
    handle.stop().await;

    let url = registry("200 OK", "{\"id\":7}");
    let handle =
        setup.start(&[("value.converter", PROTOBUF), ("value.converter.schema.registry.url", url.as_str())]);
    let said = error_in(&handle, Phase::Failed).await;
    assert!(said.contains("s.public.a") && said.contains("after.tags") && said.contains("null"), "{said}");
    handle.stop().await;
}
