use std::collections::BTreeMap;

use super::*;
use crate::engine::plan::TableColumn;
use crate::engine::row::{Instant, RowKind, Value};
use crate::engine::types::{DataType, Field, TypeKind};

fn field(name: &str, kind: TypeKind) -> Field {
    Field { name: name.into(), data_type: DataType::new(kind) }
}

fn string() -> TypeKind {
    DataType::string().kind
}

fn table(columns: &[(&str, TypeKind, Option<&str>)], key: &[usize], options: &[(&str, &str)]) -> TableRef {
    TableRef {
        name: "t".into(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<BTreeMap<_, _>>(),
        columns: columns
            .iter()
            .map(|(name, kind, metadata)| TableColumn {
                field: field(name, kind.clone()),
                metadata: metadata.map(str::to_owned),
            })
            .collect(),
        primary_key: key.to_vec(),
    }
}

fn orders(options: &[(&str, &str)]) -> TableRef {
    let columns =
        [("id", TypeKind::Int, None), ("name", string(), None), ("amount", TypeKind::Decimal(10, 2), None)];
    let mut all = vec![("connector", "kafka"), ("format", "debezium-json")];
    all.extend_from_slice(options);
    table(&columns, &[0], &all)
}

fn context(strict: bool) -> FormatContext {
    FormatContext { zone: Zone::UTC, strict, registries: None }
}

fn input<'a>(key: Option<&'a str>, value: Option<&'a str>) -> Input<'a> {
    Input {
        value: value.map(str::as_bytes),
        key: key.map(str::as_bytes),
        topic: "orders",
        partition: 2,
        offset: 7,
        timestamp: 1_704_103_201_250,
        leader_epoch: None,
        headers: &[],
    }
}

fn decode(table: &TableRef, strict: bool, input: &Input<'_>) -> Result<Vec<Change>, FormatError> {
    let mut out = Vec::new();
    decoder(table, &context(strict))?.decode(input, &mut out)?;
    Ok(out)
}

fn order(id: i64, name: &str, amount: i128) -> Vec<Value> {
    vec![Value::Int(id), Value::str(name), Value::decimal(amount, 2)]
}

#[test]
fn columns_that_no_record_has_are_told_once() {
    let columns = [("id", TypeKind::Int, None), ("customername", TypeKind::Varchar(9), None)];
    let row = r#"{"id":1,"customerName":"x","city":null}"#;
    let told = |format: &'static str, record: &str, records: usize| -> Vec<String> {
        let table = table(&columns, &[0], &[("connector", "kafka"), ("format", format)]);
        let mut decoder = decoder(&table, &context(false)).unwrap();
        let mut told = Vec::new();
        for _ in 0..records {
            decoder.decode(&input(None, Some(record)), &mut Vec::new()).unwrap();
            told.extend(decoder.take_absent(false));
        }
        told.extend(decoder.take_absent(true));
        told
    };
    let event = format!(r#"{{"before":null,"after":{row},"op":"c"}}"#);
    let words = "no record so far has customername, so it is NULL; the records also have customerName, city (upper and \
                 lower case count)";
    assert_eq!(told("debezium-json", &event, 3), [words]);
    assert_eq!(told("json", row, 9), [words]);
    assert_eq!(told("json", row, 250), [words]);
    assert_eq!(told("json", r#"{"id":1}"#, 250), [""; 0]);
}

#[test]
fn envelopes_become_changes() {
    let table = orders(&[]);
    let got = |value| decode(&table, true, &input(None, Some(value))).unwrap();
    assert_eq!(
        got(r#"{"before":null,"after":{"id":1,"name":"a\"\u00e9","amount":10.5},"op":"r","ts_ms":1}"#),
        [Change::new(RowKind::Insert, order(1, "a\"é", 1050))]
    );
    // With state to look into, what a snapshot reads may have been read before.
    let again = r#"{"before":null,"after":{"id":1,"name":"a","amount":1},"op":"r"}"#;
    assert_eq!(
        decode(&orders(&[]), false, &input(None, Some(again))).unwrap(),
        [Change::new(RowKind::UpdateAfter, order(1, "a", 100))]
    );
    // op before the rows, columns in another order, an unknown one, a missing one, text for a number.
    assert_eq!(
        got(
            r#"{"op":"u","after":{"amount":"12","x":[1,{"y":"}"}],"id":"1"},"before":{"id":1,"name":"a","amount":10.5}}"#
        ),
        [
            Change::new(RowKind::UpdateBefore, order(1, "a", 1050)),
            Change::new(RowKind::UpdateAfter, vec![Value::Int(1), Value::Null, Value::decimal(1200, 2)]),
        ]
    );
    assert_eq!(
        got(r#"{"before":{"id":2,"name":"b","amount":2},"after":null,"op":"d"}"#),
        [Change::new(RowKind::Delete, order(2, "b", 200))]
    );
    assert_eq!(got(r#"{"op":"m","message":{"prefix":"p","content":"eA=="}}"#), []);
    assert_eq!(decode(&table, true, &input(None, None)).unwrap(), []);
}

#[test]
fn old_rows_that_are_missing() {
    let update = r#"{"before":null,"after":{"id":1,"name":"a","amount":1},"op":"u"}"#;
    let delete = r#"{"before":null,"after":null,"op":"d"}"#;
    let error = decode(&orders(&[]), true, &input(None, Some(update))).unwrap_err();
    assert!(error.to_string().contains("\"before\" field of UPDATE message is null"), "{error}");
    let mut keyless = orders(&[]);
    keyless.primary_key.clear();
    assert!(decode(&keyless, false, &input(None, Some(update))).is_err());

    assert_eq!(
        decode(&orders(&[]), false, &input(None, Some(update))).unwrap(),
        [Change::new(RowKind::UpdateAfter, order(1, "a", 100))]
    );
    let key_only = [Change::new(RowKind::Delete, vec![Value::Int(5), Value::Null, Value::Null])];
    assert_eq!(decode(&orders(&[]), false, &input(Some(r#"{"id":5}"#), Some(delete))).unwrap(), key_only);
    let with_schema = orders(&[("debezium-json.schema-include", "true")]);
    let delete = format!(r#"{{"schema":{{}},"payload":{delete}}}"#);
    let key = r#"{"schema":{"type":"struct"},"payload":{"id":5}}"#;
    assert_eq!(decode(&with_schema, false, &input(Some(key), Some(&delete))).unwrap(), key_only);
    assert!(decode(&orders(&[]), false, &input(None, Some(&delete))).is_err());
}

#[test]
fn decimals_in_base64_need_the_schema_of_the_message() {
    let row = r#"{"before":null,"after":{"id":1,"name":"a","amount":"ZA=="},"op":"c"}"#;
    let error = decode(&orders(&[]), false, &input(None, Some(row))).unwrap_err();
    assert_eq!(error.column.as_deref(), Some("amount"));
    assert!(error.next.as_ref().unwrap().contains("decimal.handling.mode"));

    let schema = r#"{"type":"struct","fields":[{"type":"struct","field":"after","fields":[{"type":"bytes","name":
        "org.apache.kafka.connect.data.Decimal","parameters":{"scale":"1"},"field":"amount"}]}]}"#;
    let message = format!(r#"{{"schema":{schema},"payload":{row}}}"#);
    let table = orders(&[("debezium-json.schema-include", "true")]);
    assert_eq!(
        decode(&table, false, &input(None, Some(&message))).unwrap(),
        [Change::new(RowKind::Insert, order(1, "a", 1000))]
    );
    assert!(decode(&table, true, &input(None, Some(&message))).is_err());
}

#[test]
fn what_is_not_an_envelope_says_what_to_do() {
    let wrong = |options: &[(&str, &str)], value: &str| {
        decode(&orders(options), false, &input(None, Some(value))).unwrap_err()
    };
    assert!(wrong(&[], r#"{"id":2,"v":2}"#).to_string().starts_with("Corrupt Debezium JSON message"));
    let error = wrong(&[], r#"{"schema":{},"payload":{"op":"c","after":{}}}"#);
    assert!(error.next.unwrap().contains("'debezium-json.schema-include' = 'true'"));
    let error = wrong(&[("debezium-json.schema-include", "true")], r#"{"op":"c","after":{}}"#);
    assert!(error.next.unwrap().contains("remove 'debezium-json.schema-include'"));
    assert!(
        wrong(&[], r#"{"op":"t","before":null,"after":null}"#).next.unwrap().contains("see TRUNCATE in docs")
    );
    assert!(wrong(&[], r#"{"op":"c","after":{"id":1}"#).to_string().contains("not valid JSON"));
    assert!(wrong(&[], r#"{"op":"c","after":{"id":"x"}}"#).to_string().contains("(column id)"));
    let ignore = [("debezium-json.ignore-parse-errors", "true")];
    assert_eq!(decode(&orders(&ignore), false, &input(None, Some("nonsense"))).unwrap(), []);
}

#[test]
fn timestamps_in_the_other_standard_say_so() {
    let ts = |kind, standard: &str, text: &str| {
        let options =
            [("connector", "kafka"), ("format", "json"), ("json.timestamp-format.standard", standard)];
        let value = format!(r#"{{"ts":{text}}}"#);
        decode(&table(&[("ts", kind, None)], &[], &options), false, &input(None, Some(&value)))
    };
    let ltz = TypeKind::TimestampLtz(3);
    let error = ts(ltz.clone(), "SQL", r#""2026-11-22T15:39:11.628964Z""#).unwrap_err();
    assert!(error.next.unwrap().contains("timestamp-format.standard' = 'ISO-8601'"));
    assert!(ts(ltz, "ISO-8601", r#""2026-11-22T15:39:11.628964Z""#).is_ok());
    let error = ts(TypeKind::Timestamp(3), "ISO-8601", r#""2026-11-22T15:39:11Z""#).unwrap_err();
    assert!(error.next.unwrap().contains("TIMESTAMP_LTZ"));
    assert!(
        ts(TypeKind::Timestamp(3), "SQL", "1732289951000000").unwrap_err().next.unwrap().contains("BIGINT")
    );
}

#[test]
fn metadata_columns_are_cast_to_their_declared_type() {
    let columns = [
        ("id", TypeKind::Int, None),
        ("at", TypeKind::Timestamp(3), Some("timestamp")),
        ("origin", TypeKind::TimestampLtz(3), Some("value.source.timestamp")),
        (
            "props",
            TypeKind::Map(Box::new(DataType::string()), Box::new(DataType::string())),
            Some("value.source.properties"),
        ),
        ("p", TypeKind::Int, Some("partition")),
        ("o", TypeKind::BigInt, Some("offset")),
    ];
    let table = table(&columns, &[0], &[("connector", "kafka"), ("format", "debezium-json")]);
    let zone = Zone::parse("America/New_York").unwrap();
    let mut out = Vec::new();
    let value =
        r#"{"after":{"id":1},"source":{"ts_ms":1704103201000,"db":"shop","txId":126,"xmin":null},"op":"c"}"#;
    decoder(&table, &FormatContext { zone, strict: false, registries: None })
        .unwrap()
        .decode(&input(None, Some(value)), &mut out)
        .unwrap();
    let row = &out[0].row;
    assert_eq!(row[1], Value::Timestamp(Instant::from_millis(1_704_103_201_250 - 5 * 3_600_000)));
    assert_eq!(row[2], Value::TimestampLtz(Instant::from_millis(1_704_103_201_000)));
    let Value::Map(entries) = &row[3] else { panic!() };
    assert_eq!(entries[2], (Value::str("txId"), Value::str("126")));
    assert_eq!(entries[3], (Value::str("xmin"), Value::Null));
    assert_eq!(row[4..], [Value::Int(2), Value::Int(7)]);
}

#[test]
fn upsert_topics_give_upserts_and_deletes() {
    let columns = [("k", string(), None), ("v", TypeKind::Int, None)];
    let options = [("connector", "upsert-kafka"), ("key.format", "json"), ("value.format", "json")];
    let table = table(&columns, &[0], &options);
    let got = |key, value| decode(&table, false, &input(Some(key), value)).unwrap();
    assert_eq!(
        got(r#"{"k":"a"}"#, Some(r#"{"k":"a","v":1}"#)),
        [Change::new(RowKind::UpdateAfter, vec![Value::str("a"), Value::Int(1)])]
    );
    assert_eq!(got(r#"{"k":"a"}"#, None), [Change::new(RowKind::Delete, vec![Value::str("a"), Value::Null])]);
}

#[test]
fn rows_are_written_as_flink_does() {
    let columns = [
        ("s", string(), None),
        ("d", TypeKind::Decimal(10, 2), None),
        ("f", TypeKind::Double, None),
        ("ts", TypeKind::TimestampLtz(3), None),
    ];
    let row = vec![
        Value::str("a\"\n\u{1}é"),
        Value::decimal(1500, 2),
        Value::Double(1e7),
        Value::TimestampLtz(Instant { millis: 1_704_103_201_250, nanos: 0 }),
    ];
    let json = r#"{"s":"a\"\n\u0001é","d":15,"f":1.0E7,"ts":"2024-01-01 10:00:01.25Z"}"#;
    let written = |connector: &str, format: &str, key: &[usize], kind: RowKind| {
        let mut options = vec![("connector", connector), ("value.format", format)];
        if connector == "upsert-kafka" {
            options.push(("key.format", "json"));
        }
        let encoder = encoder(&table(&columns, key, &options), &context(false)).unwrap();
        let change = Change::new(kind, row.clone());
        let (mut k, mut v) = (Vec::new(), Vec::new());
        let k = encoder.key(&change, &mut k).unwrap().then(|| String::from_utf8(k).unwrap());
        let v = encoder.value(&change, &mut v).unwrap().then(|| String::from_utf8(v).unwrap());
        (k, v)
    };
    assert_eq!(written("kafka", "json", &[], RowKind::Insert), (None, Some(json.into())));
    let envelope = format!(r#"{{"before":{json},"after":null,"op":"d"}}"#);
    assert_eq!(written("kafka", "debezium-json", &[], RowKind::UpdateBefore), (None, Some(envelope)));
    assert_eq!(written("upsert-kafka", "json", &[1], RowKind::Delete), (Some(r#"{"d":15}"#.into()), None));
}

#[test]
fn csv_lines() {
    let columns = [("id", TypeKind::Int, None), ("name", string(), None), ("v", TypeKind::Double, None)];
    let options = [("connector", "filesystem"), ("format", "csv"), ("csv.null-literal", "n/a")];
    let table = table(&columns, &[], &options);
    let got = |line| decode(&table, false, &input(None, Some(line)));
    assert_eq!(
        got(r#"4,"say ""hi"", then",1.5"#).unwrap(),
        [Change::new(
            RowKind::Insert,
            vec![Value::Int(4), Value::str("say \"hi\", then"), Value::Double(1.5)]
        )]
    );
    assert_eq!(
        got(r#"4,"n/a","#).unwrap(),
        [Change::new(RowKind::Insert, vec![Value::Int(4), Value::Null, Value::Null])]
    );
    assert!(got("1,2").is_err());
    assert!(got(r#"1,"x,2"#).is_err());
}

/// The lines of a sink with these options; what they have to be was recorded from Flink 2.3.
fn written(columns: &[(&str, TypeKind)], options: &[(&str, &str)], row: &[Value]) -> Vec<u8> {
    let columns: Vec<(&str, TypeKind, Option<&str>)> =
        columns.iter().map(|(name, kind)| (*name, kind.clone(), None)).collect();
    let mut all = vec![("connector", "filesystem")];
    all.extend_from_slice(options);
    let encoder = encoder(&table(&columns, &[], &all), &context(false)).unwrap();
    let mut out = Vec::new();
    encoder.value(&Change::new(RowKind::Insert, row.to_vec()), &mut out).unwrap();
    out
}

#[test]
fn csv_is_quoted_as_jackson_does() {
    let columns = [("s", string()), ("i", TypeKind::Int), ("d", TypeKind::Decimal(10, 2))];
    let line = |options: &[(&str, &str)], text: &str, unscaled: i128| {
        let mut all = vec![("format", "csv")];
        all.extend_from_slice(options);
        let row = [Value::str(text), Value::Int(3), Value::decimal(unscaled, 2)];
        String::from_utf8(written(&columns, &all, &row)).unwrap()
    };
    for (text, unscaled, wanted) in [
        ("plain", 150, "plain,3,1.5"),
        ("", 10_000, ",3,1E+2"),
        ("a,b", 10, "\"a,b\",3,0.1"),
        ("say \"hi\"", -500, "\"say \"\"hi\"\"\",3,-5"),
        ("with space", 500, "\"with space\",3,5"),
        ("x+y", 500, "\"x+y\",3,5"),
        ("abcdefghijklmnopqrstuvwxyz", 500, "\"abcdefghijklmnopqrstuvwxyz\",3,5"),
        ("a\\b;c-d:e#f", 500, "\"a\\b;c-d:e#f\",3,5"),
    ] {
        assert_eq!(line(&[], text, unscaled), wanted);
    }
    let bars = [("csv.null-literal", "N/A"), ("csv.field-delimiter", "|"), ("csv.quote-character", "'")];
    assert_eq!(line(&bars, "N/A", 150), "'N/A'|3|1.5");
    assert_eq!(line(&bars, "it's", 200), "'it''s'|3|2");
    let bare = [("csv.disable-quote-character", "true"), ("csv.field-delimiter", "\\t")];
    assert_eq!(line(&bare, "say \"hi\"", 10_000), "say \"hi\"\t3\t1E+2");
    assert_eq!(line(&[("csv.escape-character", "\\")], "back\\slash", 20_000), "\"back\\\\slash\",3,2E+2");
    let plain = [("csv.write-bigdecimal-in-scientific-notation", "false")];
    assert_eq!(line(&plain, "", 10_000), ",3,100");
    let record =
        table(&[("d", TypeKind::Decimal(10, 2), None)], &[], &[("connector", "kafka"), ("format", "csv")]);
    let mut out = Vec::new();
    let hundred = Change::new(RowKind::Insert, vec![Value::decimal(10_000, 2)]);
    encoder(&record, &context(false)).unwrap().value(&hundred, &mut out).unwrap();
    assert_eq!(out, b"100.00", "in a topic all digits are there");
    let nulls = [Value::Null, Value::Null, Value::Null];
    assert_eq!(written(&columns, &[("format", "csv")], &nulls), b",,");
    let mut all = vec![("format", "csv")];
    all.extend_from_slice(&bars);
    assert_eq!(written(&columns, &all, &nulls), b"N/A|N/A|N/A");
    let nested = [
        ("a", TypeKind::Array(Box::new(DataType::new(string())))),
        ("r", TypeKind::Row(vec![field("x", TypeKind::Int), field("y", string())])),
    ];
    let row = [
        Value::Array(vec![Value::str("a b"), Value::str("c,d")].into()),
        Value::Row(vec![Value::Int(2), Value::str("q")].into()),
    ];
    assert_eq!(written(&nested, &[("format", "csv")], &row), b"\"a b;c,d\",2;q");
}

#[test]
fn raw_numbers_have_an_order_of_bytes() {
    let one = |kind: TypeKind, options: &[(&str, &str)], value: Value| {
        let mut all = vec![("format", "raw")];
        all.extend_from_slice(options);
        written(&[("n", kind)], &all, &[value])
    };
    assert_eq!(one(TypeKind::Int, &[], Value::Int(258)), [0, 0, 1, 2]);
    assert_eq!(one(TypeKind::Int, &[], Value::Int(-1)), [255; 4]);
    let little = [("raw.endianness", "little-endian")];
    assert_eq!(one(TypeKind::BigInt, &little, Value::Int(258)), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(one(TypeKind::Boolean, &[], Value::Bool(true)), [1]);
    let dates = table(&[("d", TypeKind::Date, None)], &[], &[("connector", "kafka"), ("format", "raw")]);
    assert!(encoder(&dates, &context(false)).is_err());
}

#[test]
fn raw_text_has_a_character_set() {
    let charset = |name: &'static str| [("raw.charset", name)];
    let write = |name: &'static str, text: &str| {
        let mut all = vec![("format", "raw")];
        all.extend_from_slice(&charset(name));
        written(&[("s", string())], &all, &[Value::str(text)])
    };
    let read = |name: &'static str, bytes: &[u8]| {
        let table = table(
            &[("s", string(), None)],
            &[],
            &[("connector", "kafka"), ("format", "raw"), charset(name)[0]],
        );
        let mut out = Vec::new();
        let record = Input { value: Some(bytes), ..input(None, None) };
        decoder(&table, &context(false)).unwrap().decode(&record, &mut out).unwrap();
        out[0].row[0].as_str().unwrap().to_owned()
    };
    for (name, text, bytes) in [
        ("UTF-8", "é€", "é€".as_bytes()),
        ("iso-8859-1", "aé", b"a\xE9"),
        ("US-ASCII", "ab", b"ab"),
        ("UTF-16BE", "é€", b"\0\xE9\x20\xAC"),
        ("UTF-16LE", "é€", b"\xE9\0\xAC\x20"),
        ("UTF-16", "é", b"\xFE\xFF\0\xE9"),
    ] {
        assert_eq!(write(name, text), bytes, "{name}");
        assert_eq!(read(name, bytes), text, "{name}");
    }
    assert_eq!(write("ISO-8859-1", "€"), b"?");
    assert_eq!(read("UTF-16", b"\xFF\xFE\xE9\0"), "é");
    assert_eq!(read("US-ASCII", b"a\xE9"), "a\u{FFFD}");
    let unknown = [("connector", "kafka"), ("format", "raw"), ("raw.charset", "EBCDIC")];
    assert!(encoder(&table(&[("s", string(), None)], &[], &unknown), &context(false)).is_err());
}

#[test]
fn a_null_key_of_a_map_is_as_the_option_says() {
    let kind = TypeKind::Map(Box::new(DataType::new(string())), Box::new(DataType::new(TypeKind::Int)));
    let map = Value::Map(vec![(Value::str("a"), Value::Int(1)), (Value::Null, Value::Int(2))].into());
    let mm = [("mm", kind)];
    let json = |options: &[(&str, &str)]| {
        let mut all = vec![("format", "json")];
        all.extend_from_slice(options);
        String::from_utf8(written(&mm, &all, std::slice::from_ref(&map))).unwrap()
    };
    assert_eq!(json(&[("json.map-null-key.mode", "DROP")]), r#"{"mm":{"a":1}}"#);
    let literal = [("json.map-null-key.mode", "LITERAL"), ("json.map-null-key.literal", "nokey")];
    assert_eq!(json(&literal), r#"{"mm":{"a":1,"nokey":2}}"#);
}
