//! The options of transforms, predicates and converters within a connector's configuration, checked by the
//! plugins' own definitions.

use std::collections::BTreeMap;

use super::plugins::{self, Kind, Plugin, PluginOption};
use super::properties::PropertyType;
use super::rules::{self, Parsed};
use super::validate::{Checked, Definition};
use super::versions;

/// What Connect gives each transform besides its own options.
const CONDITIONS: [PluginOption; 2] = [
    PluginOption {
        name: "negate",
        kind: PropertyType::Boolean,
        default: Some("false"),
        required: false,
        importance: "MEDIUM",
        group: None,
        order: -1,
        width: "NONE",
        rules: "-",
        doc: "Apply the transform where the predicate does not hold.",
    },
    PluginOption {
        name: "predicate",
        kind: PropertyType::String,
        default: None,
        required: false,
        importance: "MEDIUM",
        group: None,
        order: -1,
        width: "NONE",
        rules: "-",
        doc: "Name of the predicate that decides which records the transform applies to.",
    },
];

/// The definition of a plugin's option under a prefix.
pub fn option_definition(option: &PluginOption, prefix: &str) -> Definition {
    Definition {
        name: format!("{prefix}{}", option.name),
        kind: option.kind.name(),
        required: option.required,
        default: option.default.map(str::to_owned),
        importance: option.importance,
        doc: option.doc,
        group: option.group.map(str::to_owned),
        order: option.order,
        width: option.width,
        dependents: Vec::new(),
    }
}

pub(super) fn classes(kind: Kind) -> Vec<String> {
    plugins::all().iter().filter(|p| p.is(kind)).map(|p| p.class.to_owned()).collect()
}

/// Resolves a class by name; the value is what Java made of it.
pub(super) fn class_of(name: &str, given: &str, kind: Kind, errors: &mut Vec<String>) -> Option<String> {
    let Some(plugin) = plugins::find(given.trim()) else {
        let nested = plugins::nested(given.trim());
        if nested.is_empty() {
            errors.push(format!(
                "Invalid value {given} for configuration {name}: Class {given} could not be found."
            ));
            return None;
        }
        errors.push(format!(
            "This class is abstract and cannot be created. Did you mean {}?",
            nested.join(", ")
        ));
        return Some(given.trim().to_owned());
    };
    if !plugin.is(kind) {
        errors.push(format!(
            "Class class {} does not implement the {} interface",
            plugin.class,
            kind.interface()
        ));
    }
    Some(plugin.class.to_owned())
}

/// The options of transforms or predicates: `transforms.ALIAS.…` of each alias.
pub(super) fn chain(list: &str, kind: Kind, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
    let Some(text) = all.get(list) else { return };
    let Ok(Parsed::Many(aliases)) = rules::parse(PropertyType::List, text) else { return };
    let mut seen: Vec<&String> = Vec::new();
    for alias in &aliases {
        if seen.contains(&alias) {
            continue;
        }
        seen.push(alias);
        let link = Link {
            prefix: format!("{list}.{alias}."),
            group: match kind {
                Kind::Predicate => format!("Predicates: {alias}"),
                _ => format!("Transforms: {alias}"),
            },
            kind,
        };
        link.check(all, out);
    }
}

struct Link {
    prefix: String,
    group: String,
    kind: Kind,
}

impl Link {
    fn check(&self, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
        let type_name = format!("{}type", self.prefix);
        let mut errors = Vec::new();
        let value = match all.get(&type_name) {
            Some(given) => class_of(&type_name, given, self.kind, &mut errors),
            None => {
                errors.push(format!(
                    "Missing required configuration \"{type_name}\" which has no default value."
                ));
                None
            }
        };
        let plugin = value.as_deref().and_then(plugins::find).filter(|_| errors.is_empty());
        let version_name = format!("{}plugin.version", self.prefix);
        let wanted = all.get(&version_name).map(|v| v.trim());
        let mut version_errors = Vec::new();
        let mut usable = plugin;
        if let (Some(plugin), Some(wanted)) = (plugin, wanted)
            && let Some(message) = versions::refusal(plugin.class, wanted, plugin.version)
        {
            errors.push(message.clone());
            version_errors.push(message);
            usable = None;
        }
        let given = |option: &str| all.get(&format!("{}{option}", self.prefix));
        if self.kind == Kind::Transformation
            && usable.is_some()
            && given("negate").is_some()
            && given("predicate").is_none()
        {
            errors.push(format!(
                "Config '{0}negate' was provided but there is no config '{0}predicate' defining a predicate to be \
                 negated.",
                self.prefix
            ));
        }
        out.push(Checked {
            definition: Some(self.definition("type", "CLASS", true, None, 0, "LONG", "Class of the plugin.")),
            name: type_name,
            value,
            recommended: classes(self.kind),
            errors,
            visible: true,
        });
        let there = plugin.map(|p| p.version);
        out.push(Checked {
            definition: Some(self.definition(
                "plugin.version",
                "STRING",
                false,
                there,
                1,
                "LONG",
                "Version of the plugin.",
            )),
            name: version_name,
            value: wanted.or(there).map(str::to_owned),
            recommended: there.iter().map(|v| (*v).to_owned()).collect(),
            errors: version_errors,
            visible: true,
        });
        if let Some(plugin) = usable {
            self.options(plugin, all, out);
        }
    }

    fn options(&self, plugin: &Plugin, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
        let conditions: &[PluginOption] = match self.kind {
            Kind::Transformation => &CONDITIONS,
            _ => &[],
        };
        for (order, option) in (2..).zip(plugin.sorted(conditions)) {
            let mut checked = check_option(&option, &self.prefix, &self.prefix, None, all);
            if let Some(definition) = &mut checked.definition {
                definition.group = Some(match option.group {
                    Some(own) => format!("{}: {own}", self.group),
                    None => self.group.clone(),
                });
                definition.order = order;
            }
            out.push(checked);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the columns of a definition")]
    fn definition(
        &self,
        name: &str,
        kind: &'static str,
        required: bool,
        default: Option<&str>,
        order: i32,
        width: &'static str,
        doc: &'static str,
    ) -> Definition {
        Definition {
            name: format!("{}{name}", self.prefix),
            kind,
            required,
            default: default.map(str::to_owned),
            importance: "HIGH",
            doc,
            group: Some(self.group.clone()),
            order,
            width,
            dependents: Vec::new(),
        }
    }
}

/// Checks one option. `said` stands before its name in messages about its type; validators name it bare.
fn check_option(
    option: &PluginOption,
    prefix: &str,
    said: &str,
    default: Option<&str>,
    all: &BTreeMap<String, String>,
) -> Checked {
    let name = format!("{prefix}{}", option.name);
    let in_message = format!("{said}{}", option.name);
    let mut errors = Vec::new();
    let default = default.or(option.default);
    let parsed = match all.get(&name) {
        Some(text) => rules::parse(option.kind, text).unwrap_or_else(|why| {
            errors.push(format!("Invalid value {text} for configuration {in_message}: {why}"));
            Parsed::Null
        }),
        None => {
            if option.required && default.is_none() {
                errors.push(format!(
                    "Missing required configuration \"{in_message}\" which has no default value."
                ));
            }
            default.and_then(|d| rules::parse(option.kind, d).ok()).unwrap_or(Parsed::Null)
        }
    };
    if parsed != Parsed::Null || option.required {
        errors.extend(rules::kafka(option.rules, option.name, &parsed));
    }
    Checked {
        definition: Some(option_definition(option, prefix)),
        name,
        value: parsed.shown(),
        recommended: Vec::new(),
        errors,
        visible: true,
    }
}

/// The options of a converter that the connector names itself.
pub(super) fn converter(name: &str, kind: Kind, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
    let Some(plugin) = all.get(name).and_then(|class| plugins::find(class.trim())).filter(|p| p.is(kind))
    else {
        return;
    };
    let prefix = format!("{name}.");
    let mut options: Vec<&PluginOption> = plugin.options.iter().collect();
    options.sort_by_key(|option| bucket(option.name));
    for option in options {
        // Connect itself says what a converter is for.
        let default = match option.name {
            "converter.type" => name.split('.').next(),
            _ => None,
        };
        out.push(check_option(option, &prefix, "", default, all));
    }
}

/// Where Java's `HashMap` of up to twelve keys has this one: the order in which Connect tells what is wrong with a
/// converter's options.
fn bucket(name: &str) -> u32 {
    let hash = name.encode_utf16().fold(0_u32, |hash, c| hash.wrapping_mul(31).wrapping_add(u32::from(c)));
    (hash ^ (hash >> 16)) & 15
}
