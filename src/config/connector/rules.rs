//! What a property's value must be, and the words in which Kafka Connect and Debezium say that it is not.
//!
//! A rule is a word of a table, with arguments after a colon: `one-of:a|b`. Kafka's rules speak of a parsed
//! value (`Invalid value x for configuration y: …`), Debezium's of the text (`The 'y' value is invalid: …`).

use std::collections::BTreeMap;

use super::properties::PropertyType;
use crate::java::{regex_error, regex_list};

/// The words of a rules column.
pub fn words(rules: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = (rules != "-").then_some(rules).filter(|r| !r.is_empty());
    std::iter::from_fn(move || {
        let text = rest?;
        // The choices of a rule hold no comma, so a comma always ends it.
        let (word, tail) = match text.split_once(',') {
            Some((word, tail)) => (word, Some(tail)),
            None => (text, None),
        };
        rest = tail;
        Some(word.split_once(':').unwrap_or((word, "")))
    })
}

/// The values of a rule that has a fixed list of them.
pub fn choices(rules: &str) -> Option<Vec<&str>> {
    words(rules)
        .find(|(word, _)| matches!(*word, "one-of" | "any-case" | "value-of"))
        .map(|(_, list)| list.split('|').collect())
}

/// A value as Kafka's `ConfigDef` parses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// None given and no default, or a text that could not be parsed.
    Null,
    /// A single value, as it is shown.
    One(String),
    /// A list.
    Many(Vec<String>),
}

impl Parsed {
    /// As an answer shows it.
    pub fn shown(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::One(text) => Some(text.clone()),
            Self::Many(list) => Some(list.join(",")),
        }
    }

    /// As Java prints it within a message.
    fn in_message(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::One(text) => text.clone(),
            Self::Many(list) => format!("[{}]", list.join(", ")),
        }
    }
}

/// As Java's `trim` does it: what is no space to it stays.
fn java_trim(text: &str) -> &str {
    text.trim_matches(|c| c <= ' ')
}

/// Parses a text as `ConfigDef.parseType` does. The error is what follows the colon.
pub fn parse(kind: PropertyType, text: &str) -> Result<Parsed, String> {
    let trimmed = java_trim(text);
    // Shown as Java prints the number, not as it was written.
    let number = |parsed: Option<String>| {
        parsed.map(Parsed::One).ok_or_else(|| format!("Not a number of type {}", kind.name()))
    };
    match kind {
        PropertyType::Boolean if trimmed.eq_ignore_ascii_case("true") => Ok(Parsed::One("true".to_owned())),
        PropertyType::Boolean if trimmed.eq_ignore_ascii_case("false") => Ok(Parsed::One("false".to_owned())),
        PropertyType::Boolean => Err("Expected value to be either true or false".to_owned()),
        PropertyType::Short => number(trimmed.parse::<i16>().ok().map(|n| n.to_string())),
        PropertyType::Int => number(trimmed.parse::<i32>().ok().map(|n| n.to_string())),
        PropertyType::Long => number(trimmed.parse::<i64>().ok().map(|n| n.to_string())),
        PropertyType::Double => number(trimmed.parse::<f64>().ok().map(|n| format!("{n:?}"))),
        PropertyType::List if trimmed.is_empty() => Ok(Parsed::Many(Vec::new())),
        PropertyType::List => {
            Ok(Parsed::Many(trimmed.split(',').map(|part| java_trim(part).to_owned()).collect()))
        }
        PropertyType::String | PropertyType::Class | PropertyType::Password => {
            Ok(Parsed::One(trimmed.to_owned()))
        }
    }
}

/// What Kafka's validators say of a parsed value, in whole sentences. `name` is what the message calls it.
pub fn kafka(rules: &str, name: &str, value: &Parsed) -> Vec<String> {
    words(rules).filter_map(|(word, argument)| kafka_rule(word, argument, name, value)).collect()
}

fn kafka_rule(word: &str, argument: &str, name: &str, value: &Parsed) -> Option<String> {
    let invalid =
        |why: &str| Some(format!("Invalid value {} for configuration {name}: {why}", value.in_message()));
    let text = match value {
        Parsed::One(text) => Some(text.as_str()),
        Parsed::Null | Parsed::Many(_) => None,
    };
    let list = match value {
        Parsed::Many(list) => list.as_slice(),
        Parsed::Null | Parsed::One(_) => &[],
    };
    let duplicated = || list.iter().enumerate().any(|(at, one)| list.iter().take(at).any(|o| o == one));
    let spoken = || argument.split('|').collect::<Vec<_>>().join(", ");
    match (word, text) {
        ("name", Some("")) => invalid("String may not be empty"),
        ("name", Some(text)) => {
            let controls: Vec<String> =
                text.chars().filter(|c| c.is_control()).map(|c| u32::from(c).to_string()).collect();
            if controls.is_empty() {
                return None;
            }
            invalid(&format!(
                "String may not contain control sequences but had the following ASCII chars: {}",
                controls.join(", ")
            ))
        }
        ("min", None) => invalid("Value must be non-null"),
        ("min" | "min-or-none", Some(text)) => {
            let small = text.parse::<i64>().ok() < argument.parse::<i64>().ok();
            if small { invalid(&format!("Value must be at least {argument}")) } else { None }
        }
        ("one-of", text) if !text.is_some_and(|t| argument.split('|').any(|c| c == t)) => {
            invalid(&format!("String must be one of: {}", spoken()))
        }
        ("any-case", text)
            if !text.is_some_and(|t| argument.split('|').any(|c| c.eq_ignore_ascii_case(t))) =>
        {
            invalid(&format!("String must be one of (case insensitive): {}", spoken()))
        }
        ("value-of", Some(t)) if !argument.split('|').any(|c| c.eq_ignore_ascii_case(t)) => {
            invalid(&format!("Value must be one of {}", spoken()))
        }
        ("non-empty", Some("")) => invalid("String must be non-empty"),
        ("non-null", None) => invalid("entry must be non null"),
        ("regex", None) => {
            invalid("Invalid regex: Cannot invoke \"String.isEmpty()\" because \"this.pattern\" is null")
        }
        ("regex", Some(text)) if !text.is_empty() => {
            regex_error::error(text).and_then(|cause| invalid(&format!("Invalid regex: {cause}")))
        }
        ("aliases", _) if *value == Parsed::Null => invalid("entry must be non null"),
        ("aliases", _) if duplicated() => invalid("Duplicate alias provided."),
        ("some", _) if list.is_empty() => invalid("Empty list"),
        ("some-unique", _) if *value == Parsed::Null => {
            Some(format!("Configuration '{name}' values must not be null."))
        }
        ("some-unique", _) if list.is_empty() => Some(format!(
            "Configuration '{name}' must not be empty. Valid values include: any non-empty value"
        )),
        ("some-unique" | "unique", _) if duplicated() => {
            Some(format!("Configuration '{name}' values must not be duplicated."))
        }
        ("renames", _) => {
            let wrong = list.iter().find(|entry| {
                let parts: Vec<&str> = entry.split(':').collect();
                parts.len() != 2
            })?;
            invalid(&format!("Invalid rename mapping: {wrong}"))
        }
        ("casts", _) => casts(list),
        _ => None,
    }
}

/// The types there are, and which of them a cast makes.
const TYPES: [(&str, bool); 12] = [
    ("INT8", true),
    ("INT16", true),
    ("INT32", true),
    ("INT64", true),
    ("FLOAT32", true),
    ("FLOAT64", true),
    ("BOOLEAN", true),
    ("STRING", true),
    ("BYTES", false),
    ("ARRAY", false),
    ("MAP", false),
    ("STRUCT", false),
];

fn casts(list: &[String]) -> Option<String> {
    if list.is_empty() {
        return Some("Must specify at least one field to cast.".to_owned());
    }
    let mut whole = 0;
    for entry in list {
        let parts: Vec<&str> = entry.split(':').collect();
        whole += usize::from(parts.len() == 1);
        let ([kind] | [_, kind]) = parts.as_slice() else {
            return Some(format!(
                "Invalid value [{}] for configuration Invalid spec mapping: {entry}",
                list.join(", ")
            ));
        };
        let kind = kind.trim();
        let upper = kind.to_uppercase();
        match TYPES.iter().find(|(name, _)| *name == upper) {
            Some((_, true)) => {}
            Some((name, false)) => {
                let made: Vec<&str> = TYPES.iter().filter(|(_, made)| *made).map(|(name, _)| *name).collect();
                return Some(format!(
                    "Cast transformation does not support casting to {name}; supported types are [{}]",
                    made.join(", ")
                ));
            }
            None => {
                return Some(format!(
                    "Invalid value java.lang.IllegalArgumentException: No enum constant \
                     org.apache.kafka.connect.data.Schema.Type.{upper} for configuration Invalid type found in \
                     casting spec: {kind}"
                ));
            }
        }
    }
    (whole > 1).then(|| {
        "Cast transformations that specify a type to cast the entire value to may only specify a single cast in their \
         spec"
            .to_owned()
    })
}

/// What Debezium's validators say of a property's text, in whole sentences; `given` is none where the property
/// is not set. `all` are the other properties.
pub fn debezium(
    rules: &str,
    name: &str,
    given: Option<&str>,
    default: Option<&str>,
    all: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for (word, argument) in words(rules) {
        for why in debezium_rule(word, argument, name, given, default, all) {
            found.push(format!("The '{name}' value is invalid: {why}"));
        }
    }
    found
}

fn says(wrong: bool, why: &str) -> Vec<String> {
    if wrong { vec![why.to_owned()] } else { Vec::new() }
}

fn debezium_rule(
    word: &str,
    argument: &str,
    name: &str,
    given: Option<&str>,
    default: Option<&str>,
    all: &BTreeMap<String, String>,
) -> Vec<String> {
    let other = |name: &str| all.get(name).map(String::as_str);
    // Rules that have something to say of a property that is not set.
    match word {
        "required" => {
            return says(given.is_none_or(|v| v.trim().is_empty()), "A value is required");
        }
        "custom" => {
            let parent = name.trim_end_matches(".custom.name");
            let wanted = other(parent).is_some_and(|v| v.trim().eq_ignore_ascii_case("custom"));
            let missing = given.is_none_or(|v| v.trim().is_empty());
            return says(
                wanted && missing,
                &format!("{name} cannot be empty when {parent} 'custom' is defined"),
            );
        }
        "sink-topic" => {
            // One that is empty is taken, and fails when it is written to.
            let sink = other("notification.enabled.channels")
                .is_some_and(|channels| channels.split(',').any(|c| c.trim() == "sink"));
            return says(
                sink && given.is_none(),
                "Notification topic name must be provided when kafka notification channel is enabled",
            );
        }
        "queue" => {
            let Some(size) = given.or(default).and_then(|v| v.parse::<i64>().ok()) else { return Vec::new() };
            let batch = other("max.batch.size").map_or(Some(2048), |v| v.parse().ok());
            let mut found = says(size <= 0, "A positive queue size is required");
            found
                .extend(says(batch.is_some_and(|b| size <= b), "Must be larger than the maximum batch size"));
            return found;
        }
        _ => {}
    }
    let Some(value) = given else { return Vec::new() };
    let int = || value.parse::<i32>().ok();
    let long = || value.parse::<i64>().ok();
    match word {
        "int" => says(int().is_none(), "An integer is expected"),
        "long" => says(long().is_none(), "A long value is expected"),
        "positive-int" => says(int().is_none_or(|n| n < 1), "A positive, non-zero integer value is expected"),
        "positive-long" => says(long().is_none_or(|n| n < 1), "A positive, non-zero long value is expected"),
        "natural-int" => says(int().is_none_or(|n| n < 0), "An non-negative integer is expected"),
        "natural-long" => says(long().is_none_or(|n| n < 0), "A non-negative long value is expected"),
        "min" => {
            let small = long() < argument.parse().ok();
            says(small, &format!("A value of at least {argument} is expected"))
        }
        "bool" => {
            let text = value.trim();
            let good = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
            says(!good, "Either 'true' or 'false' is expected")
        }
        "one-of" => {
            let good = argument.split('|').any(|c| c.eq_ignore_ascii_case(value.trim()));
            says(
                !good,
                &format!("Value must be one of {}", argument.split('|').collect::<Vec<_>>().join(", ")),
            )
        }
        "class" => says(!is_java_name(value), "A Java class name is expected"),
        "topic-name" | "host-name" => {
            let good = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
                && !(word == "topic-name" && value.is_empty());
            // A blank host name is missing, which is said already; a directory of sockets is ours.
            let excused = word == "host-name"
                && (value.trim().is_empty()
                    || value.starts_with('/')
                    || value.parse::<std::net::Ipv6Addr>().is_ok());
            says(
                !good && !excused,
                &format!(
                    "{value} has invalid format (only the underscore, hyphen, dot and alphanumeric characters are allowed)"
                ),
            )
        }
        "slot" => {
            let good = !value.is_empty()
                && value.len() <= 63
                && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            says(
                !good,
                "Valid replication slot name must contain only digits, lowercase characters and underscores with \
                 length <= 63",
            )
        }
        "regexes" => regex_list::split(value)
            .iter()
            .find_map(|entry| {
                let ours = || regex_list::any_case(entry).err().map(|e| e.to_string());
                regex_error::error(entry).or_else(ours)
            })
            .map(|cause| {
                format!("A comma-separated list of valid regular expressions is expected, but {cause}")
            })
            .into_iter()
            .collect(),
        "not-with" => {
            let shown = argument.replace("message.prefix", "logical_decoding_message.prefix");
            says(all.contains_key(argument), &format!("\"{shown}\" is already specified"))
        }
        "pairs" => {
            let good = value.trim().is_empty() || value.split(',').all(|pair| pair.split('=').count() == 2);
            says(
                !good,
                "A equivalent-separated map of valid key/value pairs is expected, for example: k1=v1,k2=v2",
            )
        }
        "operations" => {
            let parts: Vec<&str> = value.split(',').map(str::trim).collect();
            if parts.iter().any(|p| !matches!(*p, "c" | "u" | "d" | "t" | "r" | "none")) {
                return says(true, "Invalid operation");
            }
            says(
                parts.contains(&"none") && parts.iter().any(|p| *p != "none"),
                "'none' cannot be specified with other skipped operation types",
            )
        }
        "one-table" => says(
            value.contains(','),
            "For single task connector only one signal data collection is permitted.",
        ),
        "key-columns" => entries(value, ';', KEY_COLUMNS, key_columns),
        "replica-identity" => entries(value, ',', REPLICA_IDENTITY, replica_identity),
        _ => Vec::new(),
    }
}

const KEY_COLUMNS: &str = r"^\s*([^:]+):([^:,]+(,[^:,]+)*)\s*$";
const REPLICA_IDENTITY: &str = r"(?i)^\s*(?<tablepredicate>[^\s:]+):(?<replicaidentity>DEFAULT|(INDEX) (?<indexname>.\w*)|FULL|NOTHING)\s*$";

fn key_columns(entry: &str) -> bool {
    let Some((table, columns)) = entry.split_once(':') else { return false };
    !table.is_empty() && !columns.contains(':') && columns.split(',').all(|c| !c.is_empty())
}

fn replica_identity(entry: &str) -> bool {
    let Some((table, identity)) = entry.trim().split_once(':') else { return false };
    let upper = identity.to_ascii_uppercase();
    let index = upper.strip_prefix("INDEX ").is_some_and(|i| !i.is_empty() && !i.contains(' '));
    !table.is_empty()
        && !table.contains(char::is_whitespace)
        && (matches!(upper.as_str(), "DEFAULT" | "FULL" | "NOTHING") || index)
}

/// Checks a list's entries, as Java splits it: empty ones at its end do not count.
fn entries(value: &str, separator: char, pattern: &str, good: fn(&str) -> bool) -> Vec<String> {
    let mut found = says(value.is_empty(), "Must not be empty");
    let mut parts: Vec<&str> = value.split(separator).collect();
    while parts.len() > 1 && parts.last().is_some_and(|p| p.is_empty()) {
        parts.pop();
    }
    for part in parts.into_iter().filter(|p| !good(p)) {
        found.push(format!("{part} has an invalid format (expecting '{pattern}')"));
    }
    found
}

/// Whether Java takes it for a class name: identifiers joined by dots, none of them a word of the language.
fn is_java_name(text: &str) -> bool {
    const RESERVED: [&str; 12] =
        ["true", "false", "null", "class", "new", "int", "for", "if", "do", "package", "import", "_"];
    text.split('.').all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || matches!(c, '_' | '$'))
            && chars.all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
            && !RESERVED.contains(&part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says_of(rules: &str, value: &str) -> Vec<String> {
        let none = BTreeMap::new();
        debezium(rules, "p", Some(value), None, &none)
            .into_iter()
            .map(|m| m.replace("The 'p' value is invalid: ", ""))
            .collect()
    }

    #[test]
    fn debezium_speaks_of_the_text() {
        assert_eq!(says_of("int,int", "x").len(), 2);
        assert_eq!(says_of("int,positive-int", "0"), ["A positive, non-zero integer value is expected"]);
        assert_eq!(says_of("int", " 5 "), ["An integer is expected"]);
        assert!(says_of("bool", " TRUE ").is_empty());
        assert!(says_of("one-of:a|b", " B ").is_empty());
        assert_eq!(says_of("class", "true"), ["A Java class name is expected"]);
        assert!(says_of("class", "a.B$C").is_empty());
        assert_eq!(says_of("operations", "none,c").len(), 1);
        assert!(says_of("operations", "c, u").is_empty());
        assert!(says_of("key-columns", "public.a:id,b;c:d;").is_empty());
        assert_eq!(says_of("key-columns", "").len(), 2);
        assert_eq!(says_of("replica-identity", "a,b").len(), 2);
        assert!(says_of("replica-identity", "public.a:full,b:INDEX x").is_empty());
        assert_eq!(
            says_of("regexes", "a,["),
            [
                "A comma-separated list of valid regular expressions is expected, but Unclosed character class near \
                 index 0\n[\n^"
            ]
        );
        assert!(says_of("host-name", "/tmp/socket").is_empty());
        assert_eq!(says_of("host-name", "a b").len(), 1);
    }

    #[test]
    fn some_rules_look_at_other_properties() {
        let all: BTreeMap<String, String> =
            [("max.batch.size", "9000"), ("snapshot.mode", "custom"), ("table.include.list", "")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into();
        let of = |rules: &str, name: &str, given, default| debezium(rules, name, given, default, &all).len();
        assert_eq!(of("int,queue", "max.queue.size", None, Some("8192")), 1);
        assert_eq!(of("custom", "snapshot.mode.custom.name", None, None), 1);
        assert_eq!(of("not-with:table.include.list,regexes", "table.exclude.list", Some("a"), None), 1);
        assert_eq!(of("required", "x", None, None), 1);
    }

    #[test]
    fn kafka_speaks_of_the_parsed_value() {
        let of = |kind, rules: &str, value: &str| kafka(rules, "p", &parse(kind, value).unwrap());
        assert_eq!(
            of(PropertyType::Int, "min:1", "0"),
            ["Invalid value 0 for configuration p: Value must be at least 1"]
        );
        assert_eq!(kafka("min:1", "p", &Parsed::Null).len(), 1);
        assert_eq!(
            of(PropertyType::List, "aliases", "t, t"),
            ["Invalid value [t, t] for configuration p: Duplicate alias provided."]
        );
        assert_eq!(of(PropertyType::List, "some-unique", "").len(), 1);
        assert_eq!(of(PropertyType::List, "renames", "a:b,c").len(), 1);
        assert_eq!(of(PropertyType::List, "casts", "a:int32, string").len(), 0);
        for wrong in ["a:bytes", "a:int33", "int32,int64", "", "a:b:c"] {
            assert_eq!(of(PropertyType::List, "casts", wrong).len(), 1, "{wrong}");
        }
        assert!(of(PropertyType::String, "any-case:V1|V2", "v1").is_empty());
        assert_eq!(of(PropertyType::String, "name", "").len(), 1);
        assert_eq!(parse(PropertyType::Int, "x"), Err("Not a number of type INT".to_owned()));
    }
}
