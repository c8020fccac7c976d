//! What `GET /connector-plugins` and the validation of configurations say of plugins and properties.

use serde_json::{Value, json};

use super::model::{self, CONNECTOR_CLASS};
use crate::config::connector::plugin_options::option_definition;
use crate::config::connector::plugins::{self, Kind, Plugin};
use crate::config::connector::validate::{self, Checked, Definition};
use crate::config::connector::versions;

/// The plugins: the connector, and with `connectors_only` off the transforms, predicates and converters too.
pub fn list(connectors_only: bool) -> Value {
    let mut list = vec![json!({ "class": CONNECTOR_CLASS, "type": "source", "version": super::VERSION })];
    if !connectors_only {
        for kind in Kind::ALL {
            let of_kind = plugins::all().iter().filter(|p| p.is(kind));
            list.extend(
                of_kind.map(|p| json!({ "class": p.class, "type": kind.name(), "version": p.version })),
            );
        }
    }
    Value::from(list)
}

fn definition(definition: &Definition) -> Value {
    json!({
        "name": definition.name,
        "type": definition.kind,
        "required": definition.required,
        "default_value": definition.default,
        "importance": definition.importance,
        "documentation": definition.doc,
        "group": definition.group,
        "order_in_group": definition.order,
        "width": definition.width,
        "display_name": definition.name,
        "dependents": definition.dependents,
    })
}

/// What was asked of a plugin cannot be answered: how the answer is to say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// No such plugin.
    Plugin,
    /// Not in this version.
    Version(String),
    /// An abstract class; the ones within it.
    Abstract(Vec<&'static str>),
}

/// The properties of a plugin, in this version where one is asked for.
///
/// # Errors
/// Where there is no such plugin.
pub fn definitions(plugin: &str, version: Option<&str>) -> Result<Value, Unknown> {
    let fits = |class: &str, there: &str| match version.and_then(|v| versions::refusal(class, v, there)) {
        Some(message) => Err(Unknown::Version(message)),
        None => Ok(()),
    };
    if super::is_connector_class(plugin) {
        fits(CONNECTOR_CLASS, super::VERSION)?;
        return Ok(validate::definitions().iter().map(definition).collect());
    }
    let Some(plugin) = plugins::find(plugin) else {
        let nested = plugins::nested(plugin);
        return Err(if nested.is_empty() { Unknown::Plugin } else { Unknown::Abstract(nested) });
    };
    fits(plugin.class, plugin.version)?;
    let Plugin { options, .. } = plugin;
    Ok(options.iter().map(|o| definition(&option_definition(o, ""))).collect())
}

/// The answer to a validation: every property with its definition, its value and what is wrong with it.
pub fn config_infos(class: &str, checked: &[Checked]) -> Value {
    let mut groups: Vec<&str> = Vec::new();
    for group in checked.iter().filter_map(|c| c.definition.as_ref()?.group.as_deref()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let configs: Vec<Value> = checked
        .iter()
        .map(|one| {
            let secret = crate::config::connector::is_secret(&one.name) && one.value.is_some();
            json!({
                "definition": one.definition.as_ref().map(definition),
                "value": {
                    "name": one.name,
                    "value": if secret { Some(model::MASKED) } else { one.value.as_deref() },
                    "recommended_values": one.recommended,
                    "errors": one.errors,
                    "visible": one.visible,
                },
            })
        })
        .collect();
    // Connect counts messages, not properties.
    let errors: usize = checked.iter().map(|c| c.errors.len()).sum();
    json!({ "name": class, "error_count": errors, "groups": groups, "configs": configs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_by_class_and_alias() {
        let names = |plugin: &str| -> Vec<String> {
            let answer = definitions(plugin, None).unwrap();
            answer.as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("RegexRouter"), ["regex", "replacement"]);
        let connector = names("Postgres");
        assert_eq!(connector.first().map(String::as_str), Some("topic.prefix"));
        assert!(connector.iter().any(|n| n == "column.mask.with.(d+).chars"));
        assert_eq!(definitions("no.such.Thing", None), Err(Unknown::Plugin));
        assert!(matches!(definitions("Postgres", Some("1")), Err(Unknown::Version(_))));
        let cast = "org.apache.kafka.connect.transforms.Cast";
        assert!(matches!(definitions(cast, None), Err(Unknown::Abstract(_))));
    }

    #[test]
    fn the_list_holds_every_kind() {
        let list = list(false);
        for kind in ["source", "transformation", "predicate", "converter", "header_converter"] {
            assert!(list.as_array().unwrap().iter().any(|p| p["type"] == kind), "{kind}");
        }
        assert_eq!(super::list(true).as_array().unwrap().len(), 1);
    }
}
