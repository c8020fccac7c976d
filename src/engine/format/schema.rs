//! What the schema block of a Connect message says of the columns: only what JSON alone does not tell.

use super::json::Encoding;
use crate::engine::types::Field;

/// The encodings of the columns of `before`/`after`, by the schema of an envelope.
///
/// This builds a tree, since it runs once per version of a table: callers compare the block's bytes first.
pub(super) fn encodings(schema: &str, columns: &[Field]) -> Vec<Encoding> {
    let Ok(schema) = serde_json::from_str::<serde_json::Value>(schema) else { return Vec::new() };
    let fields =
        |of: &serde_json::Value| of.get("fields").and_then(|f| f.as_array()).cloned().unwrap_or_default();
    let named = |all: &[serde_json::Value], name: &str| {
        all.iter().find(|f| f.get("field").and_then(|n| n.as_str()) == Some(name)).cloned()
    };
    let envelope = fields(&schema);
    let Some(row) = named(&envelope, "after").or_else(|| named(&envelope, "before")) else {
        return Vec::new();
    };
    let row = fields(&row);
    columns
        .iter()
        .map(|column| {
            let Some(field) = named(&row, &column.name) else { return Encoding::Plain };
            if field.get("name").and_then(|n| n.as_str()) != Some("org.apache.kafka.connect.data.Decimal") {
                return Encoding::Plain;
            }
            let scale = field.get("parameters").and_then(|p| p.get("scale")).and_then(|s| s.as_str());
            scale.and_then(|s| s.parse().ok()).map_or(Encoding::Plain, Encoding::Decimal)
        })
        .collect()
}
