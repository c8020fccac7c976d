//! What `GET /connector-plugins` and the validation of configurations say of the connector and its properties.

use serde_json::{Value, json};

use super::model::{self, CONNECTOR_CLASS, Config};
use crate::config::connector::properties::Property;
use crate::config::connector::{Problem, properties};

/// The plugins: the connector, and with `connectors_only` off the transforms and converters too.
pub fn list(connectors_only: bool) -> Value {
    let mut plugins = vec![json!({
        "class": CONNECTOR_CLASS,
        "type": "source",
        "version": super::VERSION,
    })];
    if !connectors_only {
        let converters = [
            "org.apache.kafka.connect.json.JsonConverter",
            "org.apache.kafka.connect.storage.StringConverter",
            "org.apache.kafka.connect.converters.ByteArrayConverter",
            "io.confluent.connect.avro.AvroConverter",
        ];
        for class in converters {
            plugins.push(json!({ "class": class, "type": "converter", "version": super::KAFKA_VERSION }));
        }
    }
    Value::from(plugins)
}

fn definition(property: &Property, order: usize) -> Value {
    json!({
        "name": property.name,
        "type": property.kind.name(),
        // Debezium checks for itself what it needs, only Connect's own names are "required" for Connect.
        "required": matches!(property.name, "name" | "connector.class"),
        "default_value": property.default,
        "importance": property.importance,
        "documentation": property.doc,
        "group": "Connector",
        "order_in_group": order,
        "width": "MEDIUM",
        "display_name": property.name,
        "dependents": [],
    })
}

/// The properties of a plugin; `None` for an unknown one.
pub fn definitions(plugin: &str) -> Option<Value> {
    if !super::is_connector_class(plugin) {
        return None;
    }
    Some(properties::all().iter().enumerate().map(|(order, p)| definition(p, order + 1)).collect())
}

/// The answer to a validation: every property with its definition, its value and what is wrong with it.
pub fn config_infos(class: &str, config: &Config, problems: &[Problem]) -> Value {
    let shown = model::masked(config);
    let configs: Vec<Value> = properties::all()
        .iter()
        .enumerate()
        .map(|(order, property)| {
            let value = shown.get(property.name).cloned().unwrap_or_else(|| Value::from(property.default));
            let errors: Vec<&str> =
                problems.iter().filter(|p| p.property == property.name).map(|p| p.message.as_str()).collect();
            json!({
                "definition": definition(property, order + 1),
                "value": {
                    "name": property.name,
                    "value": value,
                    "recommended_values": property.choices().unwrap_or_default(),
                    "errors": errors,
                    "visible": true,
                },
            })
        })
        .collect();
    json!({ "name": class, "error_count": problems.len(), "groups": ["Connector"], "configs": configs })
}
