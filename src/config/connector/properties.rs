//! The table of all connector properties: name, type, default, valid values, meaning.
//!
//! Names, types, defaults and importance are those of Debezium 3.6's PostgreSQL connector and of Kafka
//! Connect 4.3; what this build does with each is said in the table's support column.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use fancy_regex::Regex;

use super::rules::{self, Parsed};

/// Type of a property's value, by Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyType {
    /// Text.
    String,
    /// `true` or `false`.
    Boolean,
    /// 16-bit integer.
    Short,
    /// 32-bit integer.
    Int,
    /// 64-bit integer.
    Long,
    /// Floating-point number.
    Double,
    /// Comma-separated text.
    List,
    /// Java class name.
    Class,
    /// Secret text.
    Password,
}

impl PropertyType {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "STRING" => Self::String,
            "BOOLEAN" => Self::Boolean,
            "SHORT" => Self::Short,
            "INT" => Self::Int,
            "LONG" => Self::Long,
            "DOUBLE" => Self::Double,
            "LIST" => Self::List,
            "CLASS" => Self::Class,
            "PASSWORD" => Self::Password,
            _ => return None,
        })
    }

    /// Kafka's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::String => "STRING",
            Self::Boolean => "BOOLEAN",
            Self::Short => "SHORT",
            Self::Int => "INT",
            Self::Long => "LONG",
            Self::Double => "DOUBLE",
            Self::List => "LIST",
            Self::Class => "CLASS",
            Self::Password => "PASSWORD",
        }
    }
}

/// What is done with a property here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It has the effect it has in Debezium.
    Yes,
    /// Accepted, but has no effect here.
    Ignored,
    /// Only the default is accepted.
    No,
}

/// One property.
#[derive(Clone, Debug)]
pub struct Property {
    /// Name; a part in angle brackets stands for anything.
    pub name: &'static str,
    /// Type of the value.
    pub kind: PropertyType,
    /// Value where none is given.
    pub default: Option<&'static str>,
    /// `HIGH`, `MEDIUM` or `LOW`.
    pub importance: &'static str,
    /// Group in Connect's or Debezium's definition; none where these define no such property.
    pub group: Option<&'static str>,
    /// Place within the group.
    pub order: i32,
    /// How wide an input field should be: `NONE`, `SHORT`, `MEDIUM` or `LONG`.
    pub width: &'static str,
    /// Rules for its value; see [`rules`].
    pub rules: &'static str,
    /// What is done with it here.
    pub support: Support,
    /// What it means.
    pub doc: &'static str,
}

/// Groups of Kafka Connect's own properties, in its order.
pub const CONNECT_GROUPS: [&str; 7] = [
    "Common",
    "Transforms",
    "Predicates",
    "Error Handling",
    "Topic Creation",
    "Exactly Once Support",
    "offsets.topic",
];
/// Groups of Debezium's properties, in its order.
pub const DEBEZIUM_GROUPS: [&str; 3] = ["Postgres", "Connector", "Events"];

impl Property {
    /// Whether a connector cannot be without it.
    pub fn required(&self) -> bool {
        matches!(self.name, "name" | "connector.class")
            || rules::words(self.rules).any(|(word, _)| word == "required")
    }

    /// Whether the name is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('<')
    }

    /// Whether Kafka Connect itself defines it; its rules and words are Kafka's then.
    pub fn is_connects(&self) -> bool {
        self.group.is_some_and(|group| CONNECT_GROUPS.contains(&group))
    }

    /// The values to choose from, where there is a fixed list.
    pub fn choices(&self) -> Option<Vec<&'static str>> {
        rules::choices(self.rules)
    }

    /// Says all that is wrong with a value, or with there being none, in the words of Kafka Connect and Debezium.
    /// `name` differs from the property's where that is a pattern; `all` are the connector's other properties.
    pub fn errors(&self, name: &str, given: Option<&str>, all: &BTreeMap<String, String>) -> Vec<String> {
        if self.is_connects() {
            return self.parse(name, given).1;
        }
        let mut found = rules::debezium(self.rules, name, given, self.default, all);
        if let Some(value) = given
            && found.is_empty()
            && self.support == Support::No
            && !self.is_default(value)
        {
            found.push(format!("The '{name}' value is invalid: {}", self.unsupported(value)));
        }
        found
    }

    /// A value as Kafka's `ConfigDef` takes it, and what is wrong with it.
    pub fn parse(&self, name: &str, given: Option<&str>) -> (Parsed, Vec<String>) {
        let mut found = Vec::new();
        let parsed = match given {
            Some(text) => rules::parse(self.kind, text).unwrap_or_else(|why| {
                found.push(format!("Invalid value {text} for configuration {name}: {why}"));
                Parsed::Null
            }),
            None if self.required() => {
                found.push(format!("Missing required configuration \"{name}\" which has no default value."));
                Parsed::Null
            }
            None => self.default.and_then(|d| rules::parse(self.kind, d).ok()).unwrap_or(Parsed::Null),
        };
        if given.is_some() || self.default.is_some() {
            found.extend(rules::kafka(self.rules, name, &parsed));
        }
        if let Some(value) = given
            && found.is_empty()
            && self.support == Support::No
            && !self.is_default(value)
        {
            found
                .push(format!("Invalid value {value} for configuration {name}: {}", self.unsupported(value)));
        }
        (parsed, found)
    }

    fn unsupported(&self, value: &str) -> String {
        match self.default {
            Some(default) if !default.is_empty() => format!("{value} is not supported here, only {default}"),
            _ => "this property is not supported here".to_owned(),
        }
    }

    fn is_default(&self, value: &str) -> bool {
        value.trim().is_empty() || self.default.is_some_and(|d| d.eq_ignore_ascii_case(value.trim()))
    }
}

struct Table {
    properties: Vec<Property>,
    by_name: HashMap<&'static str, usize>,
    patterns: Vec<(Regex, usize)>,
}

fn parse_line(line: &'static str) -> Option<Property> {
    let mut fields = line.split('\t');
    let name = fields.next()?;
    let kind = PropertyType::parse(fields.next()?)?;
    let default = Some(fields.next()?).filter(|d| *d != "-");
    let importance = fields.next()?;
    let group = Some(fields.next()?).filter(|g| *g != "-");
    let order = match fields.next()? {
        "-" => 0,
        number => number.parse().ok()?,
    };
    let width = Some(fields.next()?).filter(|w| *w != "-").unwrap_or("MEDIUM");
    let rules = fields.next()?;
    let support = match fields.next()? {
        "yes" => Support::Yes,
        "ignored" => Support::Ignored,
        "no" => Support::No,
        _ => return None,
    };
    Some(Property {
        name,
        kind,
        default,
        importance,
        group,
        order,
        width,
        rules,
        support,
        doc: fields.next()?,
    })
}

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        let properties: Vec<Property> = include_str!("properties.tsv")
            .lines()
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .filter_map(parse_line)
            .collect();
        let mut patterns = Vec::new();
        for (i, p) in properties.iter().enumerate().filter(|(_, p)| p.is_pattern()) {
            let mut regex = String::from("\\A");
            for (n, part) in p.name.split(['<', '>']).enumerate() {
                regex.push_str(&match (n % 2, part) {
                    (0, literal) => fancy_regex::escape(literal).into_owned(),
                    (_, "n") => "[0-9]+".to_owned(),
                    (_, "algorithm") => "[^.]+".to_owned(),
                    _ => ".+".to_owned(),
                });
            }
            regex.push_str("\\z");
            if let Ok(regex) = Regex::new(&regex) {
                patterns.push((regex, i));
            }
        }
        let by_name = properties.iter().enumerate().map(|(i, p)| (p.name, i)).collect();
        Table { properties, by_name, patterns }
    })
}

/// All properties, in the order of the documentation.
pub fn all() -> &'static [Property] {
    &table().properties
}

/// The property of this name.
pub fn find(name: &str) -> Option<&'static Property> {
    let t = table();
    let at = t.by_name.get(name).copied().or_else(|| {
        t.patterns.iter().find(|(regex, _)| regex.is_match(name).unwrap_or(false)).map(|(_, i)| *i)
    })?;
    t.properties.get(at)
}

/// The known name nearest to an unknown one.
pub fn nearest(name: &str) -> Option<&'static str> {
    all()
        .iter()
        .filter(|p| !p.is_pattern())
        .map(|p| (strsim::damerau_levenshtein(p.name, name), p.name))
        .min()
        .filter(|(distance, _)| *distance <= 1 + name.len() / 5)
        .map(|(_, n)| n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_property() {
        let lines =
            include_str!("properties.tsv").lines().filter(|l| !l.is_empty() && !l.starts_with('#')).count();
        assert_eq!(all().len(), lines);
        for p in all() {
            assert!(!p.doc.is_empty() && matches!(p.importance, "HIGH" | "MEDIUM" | "LOW"), "{}", p.name);
            if let Some(default) = p.default {
                assert!(p.errors(p.name, Some(default), &BTreeMap::new()).is_empty(), "{}", p.name);
            }
            let known = p.group.is_none_or(|g| CONNECT_GROUPS.contains(&g) || DEBEZIUM_GROUPS.contains(&g));
            assert!(known && matches!(p.width, "NONE" | "SHORT" | "MEDIUM" | "LONG"), "{}", p.name);
        }
        assert_eq!(table().patterns.len(), all().iter().filter(|p| p.is_pattern()).count());
    }

    #[test]
    fn patterns_and_neighbours() {
        assert_eq!(find("column.mask.with.12.chars").unwrap().name, "column.mask.with.<n>.chars");
        assert_eq!(
            find("column.mask.hash.SHA-256.with.salt.a.b").unwrap().name,
            "column.mask.hash.<algorithm>.with.salt.<salt>"
        );
        assert!(find("slot.nam").is_none());
        assert_eq!(nearest("slot.nam"), Some("slot.name"));
        assert_eq!(nearest("table.whitelist"), None);
    }

    #[test]
    fn bad_values_are_named() {
        let check = |name: &str, value: &str| {
            find(name).unwrap().errors(name, Some(value), &BTreeMap::new()).join(" / ")
        };
        assert_eq!(
            check("snapshot.mode", "never"),
            "The 'snapshot.mode' value is invalid: Value must be one of always, initial_only, \
             configuration_based, when_needed, initial, custom, no_data"
        );
        let expected = "The 'database.port' value is invalid: An integer is expected";
        assert_eq!(check("database.port", "x"), format!("{expected} / {expected}"));
        assert_eq!(
            check("tasks.max", "0"),
            "Invalid value 0 for configuration tasks.max: Value must be at least 1"
        );
        assert_eq!(
            check("errors.tolerance", "some"),
            "Invalid value some for configuration errors.tolerance: String must be one of: none, all"
        );
        assert!(check("slot.name", "Big").contains("lowercase"));
        assert!(check("table.include.list", "a.(b").contains("regular expression"));
        assert!(check("post.processors", "x").contains("not supported"));
    }
}
