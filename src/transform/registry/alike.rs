//! Whether a schema that is in the registry writes what one of ours does.

use serde_json::Value;

/// Whether what one schema writes is what the other reads: the same but for what does not show in the bytes.
pub(super) fn writes_alike(one: &str, other: &str, avro: bool) -> bool {
    let lines =
        |text: &str| text.lines().map(str::trim).filter(|l| !l.is_empty()).map(str::to_owned).collect();
    if !avro {
        let (one, other): (Vec<String>, Vec<String>) = (lines(one), lines(other));
        return one == other;
    }
    match (serde_json::from_str(one), serde_json::from_str(other)) {
        (Ok(mut one), Ok(mut other)) => {
            bare(&mut one);
            bare(&mut other);
            one == other
        }
        _ => false,
    }
}

/// Leaves of an Avro schema what decides on the bytes.
fn bare(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            map.retain(|k, _| {
                let aside = ["doc", "aliases", "default", "order", "logicalType", "precision", "scale"];
                !aside.contains(&k.as_str()) && !k.starts_with("connect.")
            });
            map.values_mut().for_each(bare);
            // {"type": "int"} is "int"
            if let (1, Some(ty @ Value::String(_))) = (map.len(), map.get_mut("type")) {
                *schema = ty.take();
            }
        }
        Value::Array(all) => all.iter_mut().for_each(bare),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latest_schema_must_write_what_ours_does() {
        let ours = r#"{"type":"record","name":"V","fields":[{"name":"a","type":{"type":"int","connect.type":"int16"}}],"connect.name":"V"}"#;
        let alike = r#"{"type":"record","doc":"x","name":"V","fields":[{"name":"a","type":"int","doc":"y","default":3}]}"#;
        let other =
            r#"{"type":"record","name":"V","fields":[{"name":"b","type":"int"},{"name":"a","type":"int"}]}"#;
        assert!(writes_alike(ours, alike, true) && !writes_alike(ours, other, true));
        assert!(writes_alike("message A {\n}\n", "message A {\n\n  }", false));
    }
}
