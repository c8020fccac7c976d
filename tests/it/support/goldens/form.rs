//! Records in the form of the expected files.

use super::json::Json;
use super::recording::Recorded;
use super::registry::Registry;

/// Which converter wrote the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// The connector's: `simple` in the expected file.
    Wire,
    /// `JsonConverter`: `value` in the expected file.
    Json,
}

fn bytes_to_json(bytes: Option<&Vec<u8>>, registry: Option<&Registry>) -> Result<Json, String> {
    let Some(bytes) = bytes else { return Ok(Json::Null) };
    if let (Some(registry), Some(0)) = (registry, bytes.first()) {
        return registry.decode(bytes);
    }
    let text = String::from_utf8_lossy(bytes);
    Ok(Json::parse(&text).unwrap_or_else(|_| Json::text(&text)))
}

/// A record with its Avro schemas in one order of keys and its fractions in one form of text.
pub fn plain_avro(record: &Json) -> Json {
    fn fractions(json: &Json) -> Json {
        match json {
            Json::Number(n) if n.contains(['.', 'e', 'E']) => {
                n.parse::<f64>().map_or_else(|_| json.clone(), |f| Json::Number(format!("{f:?}")))
            }
            Json::Array(items) => Json::Array(items.iter().map(fractions).collect()),
            Json::Object(fields) => {
                Json::Object(fields.iter().map(|(n, v)| (n.clone(), fractions(v))).collect())
            }
            other => other.clone(),
        }
    }
    let mut record = fractions(record);
    for side in ["key", "value"] {
        let Some(mut value) = record.get(side).cloned() else { continue };
        if let Some(schema) = value.get("schema").map(Json::sorted) {
            value.set("schema", schema);
            record.set(side, value);
        }
    }
    record
}

/// A record as the expected file writes it, with the headers as they are on the wire.
pub fn to_json(record: &Recorded, registry: Option<&Registry>, form: Headers) -> Result<Json, String> {
    let mut fields = vec![
        ("topic".to_owned(), Json::text(&record.topic)),
        ("partition".to_owned(), record.partition.map_or(Json::Null, |p| Json::Number(p.to_string()))),
    ];
    if let Some(timestamp) = record.timestamp {
        fields.push(("timestamp".into(), Json::Number(timestamp.to_string())));
    }
    fields.push(("key".into(), bytes_to_json(record.key.as_ref(), registry)?));
    fields.push(("value".into(), bytes_to_json(record.value.as_ref(), registry)?));
    let mut headers = Vec::new();
    for (name, value) in &record.headers {
        let text = value.as_ref().map(|v| String::from_utf8_lossy(v).into_owned());
        let value = match (text, form) {
            (None, _) => Json::Null,
            (Some(text), Headers::Wire) => Json::Text(text),
            (Some(text), Headers::Json) => Json::parse(&text)?,
        };
        headers.push(header(name, value, form));
    }
    fields.push(("headers".into(), Json::Array(headers)));
    Ok(Json::Object(fields))
}

fn header(name: &str, value: Json, form: Headers) -> Json {
    let field = if form == Headers::Json { "value" } else { "simple" };
    Json::Object(vec![("key".into(), Json::text(name)), (field.into(), value)])
}

/// The expected record with one form of its headers.
pub fn with_headers(record: &Json, form: Headers) -> Json {
    let mut record = record.clone();
    if let Some(Json::Array(headers)) = record.get("headers").cloned() {
        let headers = headers.iter().map(|h| {
            let value = match form {
                Headers::Wire => h.get("simple").or_else(|| h.get("value")),
                Headers::Json => h.get("value"),
            };
            let name = h.get("key").and_then(Json::as_str).unwrap_or("");
            header(name, value.cloned().unwrap_or(Json::Null), form)
        });
        record.set("headers", Json::Array(headers.collect()));
    }
    record
}

/// Whether a record has headers of its own, beside those that name the connector.
pub fn has_own_headers(record: &Json) -> bool {
    let Some(Json::Array(headers)) = record.get("headers") else { return false };
    let name = |h: &Json| h.get("key").and_then(Json::as_str).unwrap_or("").to_owned();
    headers.iter().any(|h| !name(h).starts_with("__debezium.context."))
}
