//! Validation of a connector's configuration, property by property, as Kafka Connect's worker does it: its own
//! properties, the options of transforms, predicates and converters, then Debezium's.

use std::collections::BTreeMap;

use super::plugin_options::{chain, class_of, classes, converter};
use super::plugins::{self, Kind};
use super::properties::{self, CONNECT_GROUPS, DEBEZIUM_GROUPS, Property};
use super::rules::{self, Parsed};
use super::versions;

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

impl Checked {
    /// Of a property that nobody defines.
    pub(super) fn unknown(name: String, value: Option<String>, errors: Vec<String>) -> Self {
        Self { name, definition: None, value, recommended: Vec::new(), errors, visible: true }
    }
}

impl Definition {
    fn is_debeziums(&self) -> bool {
        self.group.as_deref().is_some_and(|g| DEBEZIUM_GROUPS.contains(&g))
    }
}

/// Prefixes of settings that go to the connector's Kafka clients.
const OVERRIDES: [&str; 3] = ["producer.override.", "consumer.override.", "admin.override."];
/// The converters, and what a worker takes where a connector names none.
const CONVERTERS: [(&str, Kind, &str); 3] = [
    ("key.converter", Kind::Converter, "org.apache.kafka.connect.json.JsonConverter"),
    ("value.converter", Kind::Converter, "org.apache.kafka.connect.json.JsonConverter"),
    ("header.converter", Kind::HeaderConverter, "org.apache.kafka.connect.storage.SimpleHeaderConverter"),
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

/// What Connect says of a property that is given as null.
const NULL: &str = "Null value can not be supplied as the configuration value.";

/// Checks a whole configuration. `nulls` are properties given as null. The order is Connect's: it is the order of
/// errors in an answer.
pub fn check(all: &BTreeMap<String, String>, nulls: &[&str]) -> Vec<Checked> {
    let mut checked = check_values(all);
    let mut unknown = Vec::new();
    for name in nulls {
        match checked.iter_mut().find(|c| c.name == *name) {
            None => unknown.push(Checked::unknown((*name).to_owned(), None, vec![NULL.to_owned()])),
            // Debezium looks at its own properties itself, and takes null for a property that is not set.
            Some(one) if one.definition.as_ref().is_some_and(Definition::is_debeziums) => {}
            Some(one) => {
                one.errors.retain(|e| !e.starts_with("Missing required configuration"));
                if let Some(property) = properties::find(name).filter(|p| p.is_connects()) {
                    one.value = None;
                    one.errors.extend(rules::kafka(property.rules, name, &Parsed::Null));
                }
                one.errors.push(NULL.to_owned());
            }
        }
    }
    unknown.append(&mut checked);
    unknown
}

fn check_values(all: &BTreeMap<String, String>) -> Vec<Checked> {
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
            out.push(Checked::unknown(name, value, Vec::new()));
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
    if matches!(property.name, "connector.class" | "connector.plugin.version")
        && let Some(given) = all.get("connector.plugin.version")
    {
        errors.extend(versions::refusal(super::CONNECTOR_CLASS, given, plugins::DEBEZIUM_VERSION));
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

/// Version of what a property of a class names.
fn version_of(name: &str, all: &BTreeMap<String, String>) -> Option<&'static str> {
    if name == "connector" {
        return Some(plugins::DEBEZIUM_VERSION);
    }
    let (_, kind, default) = CONVERTERS.iter().find(|(known, _, _)| *known == name)?;
    let class = all.get(name).map_or(*default, |given| given.trim());
    plugins::find(class).filter(|p| p.is(*kind)).map(|p| p.version)
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
        check(&all, &[])
            .into_iter()
            .flat_map(|c| c.errors.into_iter().map(move |e| (c.name.clone(), e)))
            .collect()
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
    fn nulls_are_refused_where_connect_defines_the_property() {
        let all = [("name", "c"), ("connector.class", "Postgres"), ("transforms", "t")];
        let all = all.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let nulls = ["z", "tasks.max", "heartbeat.interval.ms", "transforms.t.type", "a"];
        let found: Vec<(String, Vec<String>)> = check(&all, &nulls)
            .into_iter()
            .filter(|c| c.errors.iter().any(|e| e == NULL) || nulls.contains(&c.name.as_str()))
            .map(|c| (c.name, c.errors))
            .collect();
        let said = |name: &str, errors: &[&str]| {
            (name.to_owned(), errors.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>())
        };
        let least = "Invalid value null for configuration tasks.max: Value must be non-null";
        let expected = [
            said("z", &[NULL]),
            said("a", &[NULL]),
            said("tasks.max", &[least, NULL]),
            said("transforms.t.type", &[NULL]),
            said("heartbeat.interval.ms", &[]),
        ];
        assert_eq!(found, expected);
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
