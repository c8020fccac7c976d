//! Validation of a connector's configuration, property by property, as Kafka Connect's worker does it: its own
//! properties, the options of transforms, predicates and converters, then Debezium's.

use std::collections::BTreeMap;

use super::plugins::{self, Kind, Plugin, PluginOption};
use super::properties::{self, CONNECT_GROUPS, DEBEZIUM_GROUPS, Property, PropertyType};
use super::rules::{self, Parsed};

/// What a property is, as Kafka Connect describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name.
    pub name: String,
    /// Type by Kafka's name.
    pub kind: &'static str,
    /// Whether it must be given.
    pub required: bool,
    /// Value where none is given.
    pub default: Option<String>,
    /// `HIGH`, `MEDIUM` or `LOW`.
    pub importance: &'static str,
    /// What it means.
    pub doc: &'static str,
    /// Group.
    pub group: Option<String>,
    /// Place in the group.
    pub order: i32,
    /// `NONE`, `SHORT`, `MEDIUM` or `LONG`.
    pub width: &'static str,
    /// Properties whose choices depend on it.
    pub dependents: Vec<&'static str>,
}

/// A property with its value and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Its name.
    pub name: String,
    /// What it is; none for a client setting that is passed on.
    pub definition: Option<Definition>,
    /// Its value, as an answer shows it: Debezium's never are.
    pub value: Option<String>,
    /// Values to choose from.
    pub recommended: Vec<String>,
    /// What is wrong, each a sentence.
    pub errors: Vec<String>,
    /// Whether a form should show it.
    pub visible: bool,
}

/// Prefixes of settings that go to the connector's Kafka clients.
const OVERRIDES: [&str; 3] = ["producer.override.", "consumer.override.", "admin.override."];
/// The converters, and what a worker takes where a connector names none.
const CONVERTERS: [(&str, Kind, &str); 3] = [
    ("key.converter", Kind::Converter, "org.apache.kafka.connect.json.JsonConverter"),
    ("value.converter", Kind::Converter, "org.apache.kafka.connect.json.JsonConverter"),
    ("header.converter", Kind::HeaderConverter, "org.apache.kafka.connect.storage.SimpleHeaderConverter"),
];

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

/// The definition of a property of the table, under the name that Debezium's definitions have for a pattern.
fn definition(property: &Property) -> Definition {
    let name = match property.is_pattern() {
        true => {
            property.name.replace("<n>", "(d+)").replace("<algorithm>", "([^.]+)").replace("<salt>", "(.+)")
        }
        false => property.name.to_owned(),
    };
    let default = worker_default(property.name).or(property.default).map(str::to_owned);
    let dependents = match property.name {
        "schema.include.list" => vec!["table.include.list"],
        _ => Vec::new(),
    };
    Definition {
        name,
        kind: property.kind.name(),
        required: matches!(property.name, "name" | "connector.class"),
        default,
        importance: property.importance,
        doc: property.doc,
        group: Some(property.group.unwrap_or("Millstream").to_owned()),
        order: property.order,
        width: property.width,
        dependents,
    }
}

/// Defaults that a worker has, not the table: classes and versions.
fn worker_default(name: &str) -> Option<&'static str> {
    if name == "connector.plugin.version" {
        return Some(plugins::DEBEZIUM_VERSION);
    }
    let (converter, version) = match name.strip_suffix(".plugin.version") {
        Some(converter) => (converter, true),
        None => (name, false),
    };
    let (_, _, class) = CONVERTERS.iter().find(|(known, _, _)| *known == converter)?;
    if version { plugins::find(class).map(|p| p.version) } else { Some(class) }
}

/// The properties in the order in which Connect lists them: its own, Debezium's, those only we have.
fn listed() -> Vec<&'static Property> {
    let place = |property: &Property| {
        let group = property.group?;
        CONNECT_GROUPS.iter().chain(&DEBEZIUM_GROUPS).position(|g| *g == group)
    };
    let mut listed: Vec<&Property> = properties::all()
        .iter()
        .filter(|p| p.group.is_some() || !(p.is_pattern() || p.name.starts_with("internal.")))
        .collect();
    // Connect's first group goes on after the groups of transforms and predicates; the numbers say so.
    let rank = |property: &Property| match place(property) {
        None => (usize::MAX, 0),
        Some(group) if group < 3 => (0, property.order),
        Some(group) => (group, property.order),
    };
    listed.sort_by_key(|p| rank(p));
    listed
}

/// All definitions of the connector, Debezium's first, as `GET /connector-plugins/CLASS/config` lists them.
pub fn definitions() -> Vec<Definition> {
    let (connect, rest): (Vec<&Property>, Vec<&Property>) =
        listed().into_iter().partition(|p| p.is_connects());
    let mut all: Vec<Definition> = rest.into_iter().chain(connect).map(definition).collect();
    // Only a worker knows what it takes for a converter.
    for one in all.iter_mut().filter(|d| CONVERTERS.iter().any(|(name, _, _)| d.name.starts_with(name))) {
        one.default = None;
    }
    all
}

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

/// Checks a whole configuration. The order is Connect's: it is the order of errors in an answer.
pub fn check(all: &BTreeMap<String, String>) -> Vec<Checked> {
    let listed = listed();
    let mut out = Vec::new();
    for property in listed.iter().filter(|p| p.is_connects()) {
        out.push(connects(property, all));
    }
    chain("transforms", Kind::Transformation, all, &mut out);
    chain("predicates", Kind::Predicate, all, &mut out);
    for property in listed.iter().filter(|p| !p.is_connects()) {
        out.push(match property.is_pattern() {
            true => pattern(property),
            false => debeziums(property, property.name, all),
        });
    }
    for (prefix, kind, _) in CONVERTERS {
        converter(prefix, kind, all, &mut out);
    }
    let rest = all.keys().filter(|name| !out.iter().any(|c| c.name == **name)).cloned().collect::<Vec<_>>();
    for name in rest {
        if OVERRIDES.iter().any(|prefix| name.starts_with(prefix)) {
            let value = all.get(&name).cloned();
            out.push(Checked {
                name,
                definition: None,
                value,
                recommended: Vec::new(),
                errors: Vec::new(),
                visible: true,
            });
        } else if let Some(property) = properties::find(&name) {
            // Patterns, and internal properties: nothing is said of them unless something is wrong.
            let checked = debeziums(property, &name, all);
            if !checked.errors.is_empty() {
                out.push(checked);
            }
        }
    }
    out
}

/// A pattern as Debezium lists it: under a name of its own, which nobody gives.
fn pattern(property: &'static Property) -> Checked {
    let definition = definition(property);
    Checked {
        name: definition.name.clone(),
        definition: Some(definition),
        value: None,
        recommended: Vec::new(),
        errors: Vec::new(),
        visible: true,
    }
}

fn debeziums(property: &'static Property, name: &str, all: &BTreeMap<String, String>) -> Checked {
    let errors = property.errors(name, all.get(name).map(String::as_str), all);
    Checked {
        name: name.to_owned(),
        definition: Some(definition(property)),
        value: None,
        recommended: property.choices().unwrap_or_default().into_iter().map(str::to_owned).collect(),
        errors,
        visible: property.name != "schema.exclude.list",
    }
}

fn connects(property: &'static Property, all: &BTreeMap<String, String>) -> Checked {
    let given = all.get(property.name).map(String::as_str);
    let (parsed, mut errors) = property.parse(property.name, given);
    let mut value = parsed.shown();
    let mut recommended = Vec::new();
    let mut visible = true;
    if let Some((_, kind, class)) = CONVERTERS.iter().find(|(name, _, _)| *name == property.name) {
        recommended = classes(*kind);
        match given {
            None => value = Some((*class).to_owned()),
            Some(given) => value = class_of(property.name, given, *kind, &mut errors),
        }
    }
    if let Some(name) = property.name.strip_suffix(".plugin.version") {
        let version = version_of(name, all);
        visible = version.is_some() || name == "connector";
        recommended = version.iter().map(|v| (*v).to_owned()).collect();
        if given.is_none() {
            value = version.map(str::to_owned);
        }
    }
    if property.name == "transaction.boundary"
        && errors.is_empty()
        && value.as_deref().is_some_and(|v| v.eq_ignore_ascii_case("connector"))
    {
        errors.push(
            "The connector does not support connector-defined transaction boundaries with the given configuration. \
             Please reconfigure it to use a different transaction boundary definition."
                .to_owned(),
        );
    }
    if property.name == "connector.plugin.version"
        && let Some(given) = given
        && given.trim() != plugins::DEBEZIUM_VERSION
    {
        errors.push(wrong_version(super::CONNECTOR_CLASS, given.trim(), plugins::DEBEZIUM_VERSION));
    }
    Checked {
        name: property.name.to_owned(),
        definition: Some(definition(property)),
        value,
        recommended,
        errors,
        visible,
    }
}

fn wrong_version(class: &str, wanted: &str, there: &str) -> String {
    format!(
        "Plugin {class} not found that matches the version range [{wanted},{wanted}], available versions: [{there}]"
    )
}

/// Version of what a property of a class names.
fn version_of(name: &str, all: &BTreeMap<String, String>) -> Option<&'static str> {
    if name == "connector" {
        return Some(plugins::DEBEZIUM_VERSION);
    }
    let (_, kind, default) = CONVERTERS.iter().find(|(known, _, _)| *known == name)?;
    let class = all.get(name).map_or(*default, |given| given.trim());
    plugins::find(class).filter(|p| p.is(*kind)).map(|p| p.version)
}

fn classes(kind: Kind) -> Vec<String> {
    plugins::all().iter().filter(|p| p.is(kind)).map(|p| p.class.to_owned()).collect()
}

/// Resolves a class by name; the value is what Java made of it.
fn class_of(name: &str, given: &str, kind: Kind, errors: &mut Vec<String>) -> Option<String> {
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
fn chain(list: &str, kind: Kind, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
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
            && wanted != plugin.version
        {
            let message = wrong_version(plugin.class, wanted, plugin.version);
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
fn converter(name: &str, kind: Kind, all: &BTreeMap<String, String>, out: &mut Vec<Checked>) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all: BTreeMap<String, String> = [
            ("name", "c"),
            ("connector.class", "io.debezium.connector.postgresql.PostgresConnector"),
            ("database.hostname", "db"),
            ("database.user", "ann"),
            ("database.dbname", "shop"),
            ("topic.prefix", "s"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        all.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        check(&all).into_iter().flat_map(|c| c.errors.into_iter().map(move |e| (c.name.clone(), e))).collect()
    }

    const ROUTER: &str = "org.apache.kafka.connect.transforms.RegexRouter";

    #[test]
    fn nothing_is_wrong_with_the_least() {
        assert_eq!(errors(&[]), []);
    }

    #[test]
    fn transforms_are_checked_by_their_own_definitions() {
        let found = errors(&[("transforms", "t"), ("transforms.t.type", ROUTER)]);
        let messages: Vec<&str> = found.iter().map(|(_, m)| m.as_str()).collect();
        assert_eq!(
            messages,
            [
                "Missing required configuration \"transforms.t.regex\" which has no default value.",
                "Invalid value null for configuration regex: Invalid regex: Cannot invoke \"String.isEmpty()\" because \
                 \"this.pattern\" is null",
                "Missing required configuration \"transforms.t.replacement\" which has no default value.",
            ]
        );
        let one = |pairs: &[(&str, &str)]| {
            let found = errors(pairs);
            assert_eq!(found.len(), 1, "{found:?}");
            found.into_iter().next().unwrap().1
        };
        assert!(one(&[("transforms", "t")]).contains("Missing required configuration \"transforms.t.type\""));
        assert!(
            one(&[("predicates", "p"), ("predicates.p.type", ROUTER)]).contains("the Predicate interface")
        );
        let cast = "org.apache.kafka.connect.transforms.Cast";
        assert!(one(&[("transforms", "t"), ("transforms.t.type", cast)]).contains("Cast$Key, "));
        assert!(
            one(&[
                ("transforms", "t"),
                ("transforms.t.type", "RegexRouter"),
                ("transforms.t.regex", "a"),
                ("transforms.t.replacement", "b"),
                ("transforms.t.negate", "true"),
            ])
            .contains("no config 'transforms.t.predicate'")
        );
    }

    #[test]
    fn converters_are_checked_when_they_are_named() {
        assert_eq!(errors(&[("value.converter.schemas.enable", "maybe")]), []);
        let json = "org.apache.kafka.connect.json.JsonConverter";
        let found = errors(&[("value.converter", json), ("value.converter.schemas.enable", "maybe")]);
        assert_eq!(found.len(), 1);
        assert_eq!(errors(&[("key.converter", "no.such.Thing")]).len(), 1);
        let found = errors(&[
            ("key.converter", json),
            ("key.converter.schemas.enable", "maybe"),
            ("key.converter.decimal.format", "roman"),
        ]);
        let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["key.converter.decimal.format", "key.converter.schemas.enable"]);
    }

    #[test]
    fn errors_come_in_connects_order() {
        let found = errors(&[
            ("table.include.list", "["),
            ("slot.name", "X"),
            ("transforms", "t"),
            ("errors.tolerance", "some"),
            ("tasks.max", "0"),
        ]);
        let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(
            names,
            ["tasks.max", "errors.tolerance", "transforms.t.type", "slot.name", "table.include.list"]
        );
    }
}
