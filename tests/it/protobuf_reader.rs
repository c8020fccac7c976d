//! Protobuf at a real registry: what was registered is fetched again, and the messages are read by it alone.

use std::collections::HashMap;

use base64::Engine as _;
use millstream::config::AddressMap;
use millstream::event::record::Pipeline as _;
use millstream::log::Batch;
use millstream::transform::Chain;
use serde_json::{Map, Value, json};

use super::registry::Registry;
use super::transforms::records;

/// What Confluent's and Google's own files say of their messages.
const KNOWN: &str = "message confluent.type.Decimal {\nbytes value = 1;\nuint32 precision = 2;\nint32 scale = 3;\n}\n\
    message google.protobuf.StringValue {\nstring value = 1;\n}\nmessage google.protobuf.Int32Value {\nint32 value = 1;\n}\n\
    message google.protobuf.Int64Value {\nint64 value = 1;\n}\nmessage google.protobuf.BoolValue {\nbool value = 1;\n}\n\
    message google.protobuf.DoubleValue {\ndouble value = 1;\n}\nmessage google.protobuf.FloatValue {\nfloat value = 1;\n}\n\
    message google.protobuf.BytesValue {\nbytes value = 1;\n}\n";

#[derive(Clone, Debug)]
struct Field {
    label: String,
    ty: String,
    name: String,
}

/// The messages of a schema's text by their path, and the first of them.
#[derive(Default)]
struct Schema {
    first: String,
    messages: HashMap<String, HashMap<u64, Field>>,
}

impl Schema {
    fn parse(text: &str) -> Self {
        let mut schema = Self::default();
        for (n, text) in [text, KNOWN].into_iter().enumerate() {
            let mut path: Vec<String> = Vec::new();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                let words: Vec<&str> = line.split(' ').collect();
                match words.as_slice() {
                    ["message", name, "{"] => {
                        path.push((*name).to_owned());
                        let path = path.join(".");
                        if n == 0 && schema.first.is_empty() {
                            schema.first.clone_from(&path);
                        }
                        schema.messages.insert(path, HashMap::new());
                    }
                    ["}"] => drop(path.pop()),
                    ["syntax" | "package" | "import" | "option", ..] | [""] => {}
                    words => {
                        let (label, words) = match words {
                            [label @ ("optional" | "repeated"), rest @ ..] => (*label, rest),
                            all => ("", all),
                        };
                        let [ty, name, "=", number, ..] = words else { panic!("no field: {line}") };
                        let number = number.trim_end_matches(';').parse().unwrap();
                        let field = Field { label: label.into(), ty: (*ty).into(), name: (*name).into() };
                        schema.messages.get_mut(&path.join(".")).unwrap().insert(number, field);
                        if !line.ends_with(';') {
                            assert!(lines.any(|l| l.ends_with("];")), "options without an end");
                        }
                    }
                }
            }
        }
        schema
    }

    fn message(&self, path: &str, mut bytes: &[u8]) -> Value {
        let fields = &self.messages[path];
        let mut out = Map::new();
        for field in fields.values() {
            let nothing = match (field.label.as_str(), field.ty.as_str()) {
                ("repeated", _) => json!([]),
                ("optional", _) => Value::Null,
                (_, "string" | "bytes") => json!(""),
                (_, "bool") => json!(false),
                (_, "float" | "double") => json!(0.0),
                (_, "int32" | "int64" | "uint32") => json!(0),
                _ => Value::Null,
            };
            out.insert(field.name.clone(), nothing);
        }
        while !bytes.is_empty() {
            let tag = varint(&mut bytes);
            let field = &fields[&(tag >> 3)];
            let values = match tag & 7 {
                2 => {
                    let len = usize::try_from(varint(&mut bytes)).unwrap();
                    let mut body = &bytes[..len];
                    bytes = &bytes[len..];
                    match field.ty.as_str() {
                        "string" => vec![json!(std::str::from_utf8(body).unwrap())],
                        "bytes" => vec![json!(base64::engine::general_purpose::STANDARD.encode(body))],
                        "int32" | "int64" | "bool" | "float" | "double" => {
                            let mut all = Vec::new();
                            while !body.is_empty() {
                                all.push(number(&field.ty, &mut body));
                            }
                            all
                        }
                        ty => {
                            let nested = format!("{path}.{ty}");
                            let known = self.messages.contains_key(&nested);
                            vec![self.message(if known { &nested } else { ty }, body)]
                        }
                    }
                }
                _ => vec![number(&field.ty, &mut bytes)],
            };
            match out.get_mut(&field.name).unwrap() {
                Value::Array(all) => all.extend(values),
                one => *one = values.into_iter().next().unwrap(),
            }
        }
        Value::Object(out)
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut n, mut shift) = (0, 0);
    loop {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        n |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return n;
        }
        shift += 7;
    }
}

fn number(ty: &str, bytes: &mut &[u8]) -> Value {
    match ty {
        "float" => {
            let (n, rest) = bytes.split_first_chunk::<4>().unwrap();
            *bytes = rest;
            json!(f32::from_le_bytes(*n))
        }
        "double" => {
            let (n, rest) = bytes.split_first_chunk::<8>().unwrap();
            *bytes = rest;
            json!(f64::from_le_bytes(*n))
        }
        "bool" => json!(varint(bytes) == 1),
        _ => json!(varint(bytes).cast_signed()),
    }
}

/// What is different between a value as Connect's JSON has it and as it was read; `path` says where.
fn differs(schema: &Value, payload: &Value, read: &Value, path: &str) -> Option<String> {
    let payload = if payload.is_null() { schema.get("default").unwrap_or(payload) } else { payload };
    let wrong = || Some(format!("{path}: {payload} was read as {read}"));
    let read = read.get("value").filter(|_| schema["type"] != "struct").unwrap_or(read);
    match (schema["type"].as_str().unwrap(), payload) {
        (_, Value::Null) => {
            let zero = [json!(0), json!(0.0), json!(""), json!(false), json!([]), Value::Null];
            if zero.contains(read) { None } else { wrong() }
        }
        ("struct", _) => schema["fields"].as_array().unwrap().iter().find_map(|f| {
            let name = f["field"].as_str().unwrap();
            differs(f, &payload[name], read.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"))
        }),
        ("array", Value::Array(items)) => {
            let read = read.as_array().map_or(&[][..], Vec::as_slice);
            if items.len() != read.len() {
                return wrong();
            }
            items.iter().zip(read).find_map(|(i, r)| differs(&schema["items"], i, r, path))
        }
        ("map", Value::Object(pairs)) => {
            let read = read.as_array().map_or(0, Vec::len);
            if read == pairs.len() { None } else { wrong() }
        }
        ("float" | "double", n) => match (n.as_f64(), read.as_f64()) {
            (Some(a), Some(b)) if (a - b).abs() <= a.abs() * 1e-6 => None,
            // NaN and the infinities are texts in JSON
            (None, _) => None,
            _ => wrong(),
        },
        _ if payload == read => None,
        _ => wrong(),
    }
}

#[test]
fn messages_are_read_by_what_the_registry_holds() {
    let registry = Registry::start().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/goldens/transforms/adaptive/records.jsonl");
    let lines: Vec<Value> =
        std::fs::read_to_string(&source).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let class = "io.confluent.connect.protobuf.ProtobufConverter";
    for options in [&[][..], &["optional.for.nullables", "wrapper.for.nullables"]] {
        let mut properties = Vec::new();
        for side in ["key.converter", "value.converter"] {
            properties.push((side.to_owned(), class));
            properties.push((format!("{side}.schema.registry.url"), registry.url.as_str()));
            properties.extend(options.iter().map(|o| (format!("{side}.{o}"), "true")));
        }
        let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let mut chain = Chain::new(&properties, &AddressMap::default()).unwrap();
        chain.ready().unwrap();
        let (mut read, mut schemas) = (0, HashMap::new());
        for (record, line) in records(&source).into_iter().zip(&lines) {
            let mut batch = Batch::new();
            if chain.process(record, &mut batch).is_err() {
                // nulls in arrays
                continue;
            }
            let out = batch.iter().next().unwrap();
            for (side, bytes) in [("key", out.key), ("value", out.value)] {
                let Some([0, a, b, c, d, 0, body @ ..]) = bytes else { continue };
                let id = u32::from_be_bytes([*a, *b, *c, *d]);
                let schema = schemas.entry(id).or_insert_with(|| {
                    let answer = registry.get(&format!("/schemas/ids/{id}")).unwrap();
                    assert_eq!(answer["schemaType"], "PROTOBUF");
                    Schema::parse(answer["schema"].as_str().unwrap())
                });
                let value = schema.message(&schema.first, body);
                let wanted = &line[side];
                let wrong = differs(&wanted["schema"], &wanted["payload"], &value, side);
                assert_eq!(wrong, None, "{}", out.topic);
                read += 1;
            }
        }
        assert!(read > 120, "{read}");
    }
}
