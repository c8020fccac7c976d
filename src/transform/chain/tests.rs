//! What the encoder writes for a chain is the same, byte for byte, whether it builds whole records or not.

use super::*;
use crate::event::encoder::OldRow;
use crate::event::source::SnapshotMarker;
use crate::event::{Encoder, EventOptions, SourceInfo};
use crate::pg::Lsn;
use crate::pg::catalog::{ColumnInfo, PgType, TableInfo, TypeKind, TypeRegistry};
use crate::pg::pgoutput::{Column, ReplicaIdentity};

fn table(name: &str, key: bool) -> (TableInfo, TypeRegistry) {
    let mut types = TypeRegistry::default();
    let mut columns = Vec::new();
    for (n, (oid, kind)) in [(23, "int4"), (25, "text"), (16, "bool"), (20, "int8")].into_iter().enumerate() {
        types.insert(PgType {
            oid,
            schema: "pg_catalog".into(),
            name: kind.into(),
            kind: TypeKind::Base,
            delimiter: b',',
        });
        columns.push(ColumnInfo {
            name: format!("c{n}"),
            attnum: i16::try_from(n + 1).unwrap(),
            type_oid: oid,
            typmod: -1,
            optional: n > 0,
            default_expr: None,
            generated: false,
            identity: false,
            comment: None,
        });
    }
    let info = TableInfo {
        oid: 1,
        schema: "public".into(),
        name: name.into(),
        columns,
        key: if key { vec!["c0".into()] } else { Vec::new() },
        key_is_primary: key,
        identity: ReplicaIdentity::Default,
    };
    (info, types)
}

/// Every kind of change, in two tables, with and without a key, and records that are not rows.
fn changes(encoder: &mut Encoder) -> (Batch, Vec<String>) {
    let row =
        [Column::Text(b"1"), Column::Text("a \"t\u{e9}xt\"".as_bytes()), Column::Text(b"t"), Column::Null];
    let new = [Column::Text(b"1"), Column::Text(b"b"), Column::Null, Column::Text(b"-7")];
    let moved = [Column::Text(b"2"), Column::Unchanged, Column::Null, Column::Text(b"-7")];
    let only_key = [Column::Text(b"1"), Column::Null, Column::Null, Column::Null];
    let bad = [Column::Text(b"1"), Column::Unchanged, Column::Null, Column::Null];
    let stream = SourceInfo {
        lsn: Some(Lsn(26_000_000)),
        last_commit_lsn: Some(Lsn(25_000_000)),
        txid: Some(731),
        ts_ns: 1_795_332_687_131_902_000,
        now_ns: 1_795_332_687_332_542_986,
        ..SourceInfo::default()
    };
    let snapshot = SourceInfo { snapshot: SnapshotMarker::First, ..stream.clone() };
    let mut batch = Batch::new();
    let mut errors = Vec::new();
    for (name, key) in [("orders", true), ("notes", false)] {
        let (info, types) = table(name, key);
        let plan = encoder.snapshot_plan(&info, &types).unwrap();
        let b = &mut batch;
        let results = [
            encoder.read(&plan, &row, &snapshot, b),
            encoder.insert(&plan, &row, &stream, b),
            encoder.update(&plan, None, &new, &stream, b),
            encoder.update(&plan, Some(OldRow::Full(&row)), &new, &stream, b),
            encoder.update(&plan, Some(OldRow::Full(&row)), &moved, &stream, b),
            encoder.update(&plan, Some(OldRow::Key(&only_key)), &moved, &stream, b),
            encoder.insert(&plan, &bad, &stream, b),
            encoder.delete(&plan, OldRow::Key(&only_key), &stream, b),
            encoder.delete(&plan, OldRow::Full(&row), &stream, b),
            encoder.truncate(&plan, &stream, b),
            encoder.heartbeat(1_795_332_687_332, b),
            encoder.message("audit", b"hello", &stream, b),
        ];
        errors.extend(results.into_iter().filter_map(|r| r.err().map(|e| e.to_string())));
    }
    (batch, errors)
}

/// A link of [`CHAINS`]: properties without `transforms.NAME.`; Kafka's own classes by their short names.
fn properties<'p>(chain: &'p str, more: &[(&'p str, &'p str)]) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = vec![
        ("topic.prefix".into(), "shop".into()),
        ("database.dbname".into(), "shop".into()),
        ("skipped.operations".into(), "none".into()),
        ("predicates".into(), "orders,tomb,newkey,added".into()),
    ];
    for (name, class, option, value) in [
        ("orders", "TopicNameMatches", "pattern", ".*orders"),
        ("tomb", "RecordIsTombstone", "", ""),
        ("newkey", "HasHeaderKey", "name", "__debezium.newkey"),
        ("added", "HasHeaderKey", "name", "team"),
    ] {
        let class = format!("org.apache.kafka.connect.transforms.predicates.{class}");
        all.push((format!("predicates.{name}.type"), class));
        if !option.is_empty() {
            all.push((format!("predicates.{name}.{option}"), value.into()));
        }
    }
    let mut names = Vec::new();
    for (n, link) in chain.split(" | ").enumerate() {
        let mut words = link.split(' ');
        let class = match words.next().unwrap() {
            "Unwrap" => "io.debezium.transforms.ExtractNewRecordState".to_owned(),
            kafka => format!("org.apache.kafka.connect.transforms.{kafka}"),
        };
        all.push((format!("transforms.t{n}.type"), class));
        for word in words {
            let (option, value) = word.split_once('=').unwrap();
            all.push((format!("transforms.t{n}.{option}"), value.into()));
        }
        names.push(format!("t{n}"));
    }
    all.push(("transforms".into(), names.join(",")));
    all.extend(more.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
    all
}

const ROUTE: &str = r"RegexRouter regex=(\w+)\.(\w+)\.(.*) replacement=$3-$1";
const HEADER: &str = "InsertHeader header=team value.literal=7";

/// What is encoded without whole records.
fn short() -> Vec<String> {
    let mut chains: Vec<String> = [
        "RegexRouter regex=nothing replacement=x",
        "RegexRouter regex=(.*) replacement=$2",
        "TimestampRouter",
        "TimestampRouter predicate=orders",
        "InsertHeader header=team value.literal=[1,2]",
        "InsertHeader header=team value.literal=null",
        "InsertHeader header=team value.literal=2026-11-23",
        "DropHeaders headers=__debezium.newkey,__debezium.context.taskId",
        "Filter predicate=tomb",
        "Filter predicate=tomb negate=true",
        "Filter predicate=orders",
        "Filter predicate=newkey",
        "Filter predicate=newkey negate=true",
    ]
    .map(str::to_owned)
    .to_vec();
    chains.push(ROUTE.into());
    chains.push(format!(
        "{ROUTE} predicate=orders | {HEADER} predicate=orders negate=true | Filter predicate=added"
    ));
    chains.push(format!("{HEADER} predicate=tomb | DropHeaders headers=team predicate=newkey | {ROUTE}"));
    for mode in ["drop", "tombstone", "rewrite", "rewrite-with-tombstone", "delete-to-tombstone"] {
        let unwrap = format!("Unwrap delete.tombstone.handling.mode={mode}");
        chains.push(format!("{unwrap} | {ROUTE}"));
        chains.push(format!("{unwrap} | {HEADER} predicate=tomb | {ROUTE} predicate=orders negate=true"));
        chains.push(format!("{unwrap} add.fields=op,table,lsn | Filter predicate=tomb"));
        chains.push(format!("{unwrap} | TimestampRouter predicate=tomb"));
        if mode != "rewrite-with-tombstone" {
            chains.push(format!("{unwrap} add.headers=op,txId | DropHeaders headers=__op | {ROUTE}"));
        }
    }
    chains
}

/// What is not: a link looks at the row, behind another, or its headers show in another record.
fn whole() -> Vec<String> {
    vec![
        format!("{ROUTE} | Unwrap"),
        format!("Unwrap predicate=orders | {ROUTE}"),
        format!("Unwrap delete.tombstone.handling.mode=rewrite-with-tombstone add.headers=op | {ROUTE}"),
        format!("Unwrap route.by.field=c1 | {ROUTE}"),
        format!("{ROUTE} | ReplaceField$Value exclude=source"),
        format!("Unwrap | ReplaceField$Value exclude=c1 | {ROUTE}"),
    ]
}

#[test]
fn chains_write_the_same_without_whole_records() {
    let converters: [&[(&str, &str)]; 4] = [
        &[],
        &[("key.converter.schemas.enable", "false"), ("value.converter.schemas.enable", "false")],
        &[("header.converter", "org.apache.kafka.connect.json.JsonConverter"), ("errors.tolerance", "all")],
        &[("extended.headers.enabled", "false"), ("tombstones.on.delete", "false")],
    ];
    let (mut records, mut failures) = (0, 0);
    for (chain, is_short) in
        short().into_iter().map(|c| (c, true)).chain(whole().into_iter().map(|c| (c, false)))
    {
        for more in converters {
            let owned = properties(&chain, more);
            let all: Vec<(&str, &str)> = owned.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let options = EventOptions::from_properties(all.iter().copied()).unwrap();
            let addresses = AddressMap::default();
            let links = Chain::new(&all, &addresses).unwrap();
            let crate::event::options::Converter::Json(json) = &options.value_converter else { panic!() };
            assert_eq!(links.shortcut(json).is_some_and(|s| s.forwards), is_short, "{chain}");

            let (skipped, skipped_whole) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
            let mut encoder = super::super::encoder(options.clone(), all.iter().copied(), &addresses)
                .unwrap()
                .counting_skipped(Arc::clone(&skipped));
            let mut slow =
                Encoder::with_pipeline(options, Box::new(links)).counting_skipped(Arc::clone(&skipped_whole));
            let (written, errors) = changes(&mut encoder);
            let (expected, expected_errors) = changes(&mut slow);
            assert_eq!(errors, expected_errors, "{chain} {more:?}");
            assert_eq!(written.len(), expected.len(), "{chain} {more:?}");
            for (ours, theirs) in written.iter().zip(expected.iter()) {
                let parts = |r: &BatchRecord<'_>| (r.topic.to_owned(), r.partition, r.timestamp);
                assert_eq!(parts(&ours), parts(&theirs), "{chain} {more:?}");
                let text = |b: Option<&[u8]>| b.map(|b| String::from_utf8_lossy(b).into_owned());
                assert_eq!(text(ours.key), text(theirs.key), "{chain} {more:?}");
                assert_eq!(text(ours.value), text(theirs.value), "{chain} {more:?}");
                let headers = |r: &BatchRecord<'_>| {
                    r.headers().map(|(n, v)| (text(Some(n)), text(v))).collect::<Vec<_>>()
                };
                assert_eq!(headers(&ours), headers(&theirs), "{chain} {more:?}");
            }
            let counts = [skipped, skipped_whole].map(|c| c.load(Ordering::Relaxed));
            assert_eq!(counts[0], counts[1], "{chain} {more:?}");
            records += written.len();
            failures += errors.len();
        }
    }
    // the chains did write, and some did fail
    assert!(records > 1000 && failures > 50, "{records} records, {failures} failures");
}
