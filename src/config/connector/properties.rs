//! The table of all connector properties: name, type, default, valid values, meaning.
//!
//! Names, types, defaults and importance are those of Debezium 3.6's PostgreSQL connector and of Kafka
//! Connect 4.3; what this build does with each is said in the table's support column.

use std::collections::HashMap;
use std::sync::OnceLock;

use fancy_regex::Regex;

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
    /// Comma-separated text.
    List,
    /// Java class name.
    Class,
    /// Secret text.
    Password,
}

impl PropertyType {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "STRING" => Self::String,
            "BOOLEAN" => Self::Boolean,
            "SHORT" => Self::Short,
            "INT" => Self::Int,
            "LONG" => Self::Long,
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
    /// What is done with it here.
    pub support: Support,
    /// What it means.
    pub doc: &'static str,
    rules: &'static str,
}

impl Property {
    /// Whether a connector cannot be without it.
    pub fn required(&self) -> bool {
        self.rules == "required" || self.rules.starts_with("required,")
    }

    /// Whether the name is a pattern.
    pub fn is_pattern(&self) -> bool {
        self.name.contains('<')
    }

    /// The values to choose from, where there is a fixed list.
    pub fn choices(&self) -> Option<Vec<&'static str>> {
        let rule = self.rules.split(',').next().unwrap_or("-");
        let keyword = matches!(rule, "-" | "" | "required" | "regexes" | "slot" | "topic-chars");
        if keyword || rule.starts_with('>') { None } else { Some(self.rules.split(',').collect()) }
    }

    /// Says what is wrong with a value; the words are Kafka Connect's and Debezium's.
    pub fn check(&self, value: &str) -> Option<String> {
        self.check_as(self.name, value)
    }

    /// As [`Property::check`], for a pattern: under the name that was given.
    pub fn check_as(&self, name: &str, value: &str) -> Option<String> {
        let invalid = |why: String| Some(format!("The '{name}' value is invalid: {why}"));
        if self.required() && value.trim().is_empty() {
            return invalid("A value is required".to_owned());
        }
        let number = match self.kind {
            PropertyType::Boolean => {
                if !matches!(value.trim().to_ascii_lowercase().as_str(), "true" | "false") {
                    return Some(format!(
                        "Invalid value {value} for configuration {name}: Expected value to be either true or false"
                    ));
                }
                None
            }
            PropertyType::Short => Some(value.trim().parse::<i16>().map(i64::from).map_err(|_| "SHORT")),
            PropertyType::Int => Some(value.trim().parse::<i32>().map(i64::from).map_err(|_| "INT")),
            PropertyType::Long => Some(value.trim().parse::<i64>().map_err(|_| "LONG")),
            _ => None,
        };
        let number = match number {
            Some(Err(kind)) => {
                return Some(format!(
                    "Invalid value {value} for configuration {name}: Not a number of type {kind}"
                ));
            }
            Some(Ok(n)) => Some(n),
            None => None,
        };
        if let Some(choices) = self.choices() {
            let given: Vec<&str> = match self.kind {
                PropertyType::List => value.split(',').map(str::trim).filter(|v| !v.is_empty()).collect(),
                _ => vec![value.trim()],
            };
            if given.iter().any(|v| !choices.iter().any(|c| c.eq_ignore_ascii_case(v))) {
                return invalid(format!("Value must be one of {}", choices.join(", ")));
            }
        }
        for rule in self.rules.split(',') {
            let problem = match (rule, number) {
                (">0" | ">=1", Some(n)) if n < 1 => Some("A positive, non-zero integer value is required"),
                (">=0", Some(n)) if n < 0 => Some("A non-negative integer is expected"),
                (">=-1", Some(n)) if n < -1 => Some("-1 or a non-negative integer is expected"),
                ("slot", _)
                    if value.is_empty()
                        || value.len() > 63
                        || !value
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') =>
                {
                    Some(
                        "Valid replication slot name must contain only digits, lowercase characters and \
                          underscores with length <= 63",
                    )
                }
                ("topic-chars", _)
                    if !value
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) =>
                {
                    Some("only alphanumeric characters, dots, underscores and hyphens are allowed")
                }
                ("regexes", _) => {
                    if let Err(e) = super::RegexList::parse(value) {
                        return invalid(format!(
                            "A comma-separated list of valid regular expressions is expected, but {e}"
                        ));
                    }
                    None
                }
                _ => None,
            };
            if let Some(problem) = problem {
                return invalid(problem.to_owned());
            }
        }
        if self.support == Support::No && !self.is_default(value) {
            return invalid(match self.default {
                Some(default) if !default.is_empty() => {
                    format!("{value} is not supported here, only {default}")
                }
                _ => "this property is not supported here".to_owned(),
            });
        }
        None
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
    let rules = fields.next()?;
    let support = match fields.next()? {
        "yes" => Support::Yes,
        "ignored" => Support::Ignored,
        "no" => Support::No,
        _ => return None,
    };
    Some(Property { name, kind, default, importance, support, doc: fields.next()?, rules })
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
                assert_eq!(p.check(default), None, "{}", p.name);
            }
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
        let check = |name: &str, value: &str| find(name).unwrap().check(value).unwrap_or_default();
        assert_eq!(
            check("snapshot.mode", "never"),
            "The 'snapshot.mode' value is invalid: Value must be one of always, initial_only, \
             configuration_based, when_needed, initial, custom, no_data"
        );
        assert_eq!(
            check("database.port", "x"),
            "Invalid value x for configuration database.port: Not a number of type INT"
        );
        assert!(check("slot.name", "Big").contains("lowercase"));
        assert!(check("table.include.list", "a.(b").contains("regular expression"));
        assert!(check("post.processors", "x").contains("not supported"));
    }
}
