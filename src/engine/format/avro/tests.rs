use parking_lot::Mutex;

use super::super::{decoder, encoder};
use super::*;
use crate::engine::plan::TableColumn;
use crate::engine::row::Instant;
use crate::engine::types::{DataType, TypeKind};

/// A registry in memory.
#[derive(Debug, Default)]
struct Memory(Mutex<Vec<(String, String)>>);

impl Registry for Memory {
    fn schema(&self, id: u32) -> Result<String, FormatError> {
        let all = self.0.lock();
        all.get(usize::try_from(id).unwrap())
            .map(|(_, s)| s.clone())
            .ok_or_else(|| FormatError::new("no such id"))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, FormatError> {
        let mut all = self.0.lock();
        all.push((subject.to_owned(), schema.to_owned()));
        Ok(u32::try_from(all.len() - 1).unwrap())
    }
}

#[derive(Debug)]
struct Shared(Arc<Memory>);

impl Registries for Shared {
    fn open(&self, _: &BTreeMap<String, String>) -> Result<Arc<dyn Registry>, String> {
        Ok(Arc::clone(&self.0) as Arc<dyn Registry>)
    }
}

fn context(memory: &Arc<Memory>) -> FormatContext {
    FormatContext {
        registries: Some(Arc::new(Shared(Arc::clone(memory)))),
        ..FormatContext::new(&BTreeMap::new()).unwrap()
    }
}

fn table(format: &str, columns: &[(&str, TypeKind)]) -> TableRef {
    let prefix = format!("{format}.url");
    let options = [("connector", "kafka"), ("topic", "t"), ("format", format), (prefix.as_str(), "http://x")];
    TableRef {
        name: "t".into(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        columns: columns
            .iter()
            .map(|(name, kind)| TableColumn {
                field: Field { name: (*name).into(), data_type: DataType::new(kind.clone()) },
                metadata: None,
            })
            .collect(),
        primary_key: vec![0],
    }
}

fn string() -> TypeKind {
    DataType::string().kind
}

fn columns() -> Vec<(&'static str, TypeKind)> {
    let inner = vec![Field { name: "x".into(), data_type: DataType::new(TypeKind::Int) }];
    vec![
        ("id", TypeKind::Int),
        ("name", string()),
        ("amount", TypeKind::Decimal(10, 2)),
        ("day", TypeKind::Date),
        ("ts", TypeKind::TimestampLtz(3)),
        ("ratio", TypeKind::Double),
        ("tags", TypeKind::Array(Box::new(DataType::new(string())))),
        ("counts", TypeKind::Map(Box::new(DataType::string()), Box::new(DataType::new(TypeKind::BigInt)))),
        ("inner", TypeKind::Row(inner)),
    ]
}

fn row() -> Vec<Value> {
    vec![
        Value::Int(-7),
        Value::str("é"),
        Value::decimal(-12_345, 2),
        Value::Date(19_000),
        Value::TimestampLtz(Instant::from_millis(1_700_000_000_123)),
        Value::Double(0.5),
        Value::Array(vec![Value::str("a"), Value::Null].into()),
        Value::Map(vec![(Value::str("k"), Value::Int(1 << 40))].into()),
        Value::Row(vec![Value::Int(3)].into()),
    ]
}

fn input<'a>(key: Option<&'a [u8]>, value: &'a [u8]) -> Input<'a> {
    Input {
        value: Some(value),
        key,
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp: 0,
        leader_epoch: None,
        headers: &[],
    }
}

#[test]
fn what_is_written_is_read_again() {
    let memory = Arc::default();
    let context = context(&memory);
    for format in ["avro-confluent", "debezium-avro-confluent"] {
        let table = table(format, &columns());
        let encoder = encoder(&table, &context).unwrap();
        let mut decoder = decoder(&table, &context).unwrap();
        for (kind, wanted) in [(RowKind::Insert, RowKind::Insert), (RowKind::Delete, RowKind::Delete)] {
            if format == "avro-confluent" && kind == RowKind::Delete {
                continue;
            }
            for row in [row(), vec![Value::Null; columns().len()]] {
                let mut bytes = Vec::new();
                encoder.value(&Change::new(kind, row.clone()), &mut bytes).unwrap();
                let mut out = Vec::new();
                decoder.decode(&input(None, &bytes), &mut out).unwrap();
                assert_eq!(out, [Change::new(wanted, row)]);
            }
        }
    }
    let all = memory.0.lock();
    assert_eq!(all.len(), 2, "each schema is registered once");
    assert_eq!(all[0].0, "t-value");
    // The library that others use takes the schema, and reads the same.
    apache_avro::Schema::parse_str(&all[0].1).unwrap();
    apache_avro::Schema::parse_str(&all[1].1).unwrap();
}

#[test]
fn data_alone_is_by_the_columns_own_schema() {
    let columns = columns();
    let table = table("avro", &columns);
    let context = context(&Arc::default());
    let mut options = table.clone();
    options.options.remove("avro.url");
    let mut bytes = Vec::new();
    encoder(&options, &context).unwrap().value(&Change::new(RowKind::Insert, row()), &mut bytes).unwrap();
    // No frame: the first field's place in its union, then its value.
    assert_eq!(bytes.get(..6), Some([2, 13, 2, 4, 0xC3, 0xA9].as_slice()));
    let mut out = Vec::new();
    decoder(&options, &context).unwrap().decode(&input(None, &bytes), &mut out).unwrap();
    assert_eq!(out, [Change::new(RowKind::Insert, row())]);
    // The library that others use reads the same by that schema.
    let fields: Vec<Field> = table.columns.iter().map(|c| c.field.clone()).collect();
    let schema = apache_avro::Schema::parse_str(&schema::of_columns(&fields).unwrap()).unwrap();
    let apache_avro::types::Value::Record(read) =
        apache_avro::from_avro_datum(&schema, &mut bytes.as_slice(), None).unwrap()
    else {
        panic!("no record")
    };
    assert_eq!(read.len(), columns.len());
    assert!(
        matches!(&read[0].1, apache_avro::types::Value::Union(1, v) if **v == apache_avro::types::Value::Int(-7))
    );
    // Data that ends early, and what cannot be done.
    assert!(decoder(&options, &context).unwrap().decode(&input(None, &bytes[..9]), &mut out).is_err());
    options.options.insert("avro.encoding".into(), "json".into());
    assert!(decoder(&options, &context).is_err() && encoder(&options, &context).is_err());
}

#[test]
fn an_envelope_of_debezium() {
    let memory: Arc<Memory> = Arc::default();
    let context = context(&memory);
    let schema = r#"{"type":"record","name":"Envelope","namespace":"s.public.t","fields":[
        {"name":"before","type":["null",{"type":"record","name":"Value","fields":[
            {"name":"id","type":"int"},
            {"name":"amount","type":["null",{"type":"bytes","scale":2,"precision":10,"logicalType":"decimal"}],"default":null},
            {"name":"at","type":["null",{"type":"long","connect.name":"io.debezium.time.MicroTimestamp"}],"default":null},
            {"name":"mood","type":{"type":"enum","name":"Mood","symbols":["sad","happy"]}}]}],"default":null},
        {"name":"after","type":["null","Value"],"default":null},
        {"name":"source","type":{"type":"record","name":"Source","fields":[{"name":"lsn","type":["null","long"]}]}},
        {"name":"op","type":"string"},
        {"name":"ts_ms","type":["null","long"],"default":null}]}"#;
    memory.register("x", schema).unwrap();
    let columns = [
        ("id", TypeKind::BigInt),
        ("mood", string()),
        ("amount", TypeKind::Decimal(10, 2)),
        ("at", TypeKind::BigInt),
        ("more", TypeKind::Int),
    ];
    let mut decoder = decoder(&table("debezium-avro-confluent", &columns), &context).unwrap();
    // before: null; after: id 5, amount 1.50, at null, mood happy; source.lsn null; op; ts_ms null.
    let event = |op: u8| {
        let mut bytes = vec![0, 0, 0, 0, 0, 0, 2, 10, 2, 4, 0, 150, 0, 2, 0, 2, op, 0];
        if op == b'd' {
            bytes = vec![0, 0, 0, 0, 0, 0, 0, 0, 2, op, 0];
        }
        bytes
    };
    let wanted = vec![Value::Int(5), Value::str("happy"), Value::decimal(150, 2), Value::Null, Value::Null];
    let mut out = Vec::new();
    decoder.decode(&input(None, &event(b'c')), &mut out).unwrap();
    assert_eq!(out, [Change::new(RowKind::Insert, wanted.clone())]);
    out.clear();
    // No old row: only the new one, which state completes.
    decoder.decode(&input(None, &event(b'u')), &mut out).unwrap();
    assert_eq!(out, [Change::new(RowKind::UpdateAfter, wanted)]);
    out.clear();
    memory
        .register("key", r#"{"type":"record","name":"Key","fields":[{"name":"id","type":"int"}]}"#)
        .unwrap();
    decoder.decode(&input(Some(&[0, 0, 0, 0, 1, 10]), &event(b'd')), &mut out).unwrap();
    let mut key = vec![Value::Null; 5];
    key[0] = Value::Int(5);
    assert_eq!(out, [Change::new(RowKind::Delete, key)]);
}

#[test]
fn damaged_records_are_errors() {
    let memory = Arc::default();
    let context = context(&memory);
    let table = table("avro-confluent", &columns());
    let mut bytes = Vec::new();
    encoder(&table, &context).unwrap().value(&Change::new(RowKind::Insert, row()), &mut bytes).unwrap();
    let mut decoder = decoder(&table, &context).unwrap();
    let mut out = Vec::new();
    for length in 0..bytes.len() {
        assert!(decoder.decode(&input(None, &bytes[..length]), &mut out).is_err(), "{length}");
    }
    bytes[4] = 9;
    let error = decoder.decode(&input(None, &bytes), &mut out).unwrap_err();
    assert!(error.what.contains("no such id"), "{error}");
    assert!(Schema::parse("{\"type\":\"record\"}").is_err());
    assert!(Schema::parse("\"unknown\"").is_err());
}
