//! Request bodies as Kafka Connect's JSON reader takes them: texts where texts are meant, numbers and booleans
//! as they are written.

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::connect::ApiError;
use crate::connect::model::Config;

fn bad(message: impl Into<String>) -> ApiError {
    ApiError::new(400, message)
}

/// The members of a JSON object in order; of those with one name the last.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    match members.iter_mut().find(|(known, _)| *known == name) {
                        Some(member) => member.1 = value,
                        None => members.push((name, value)),
                    }
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The object that a body is. `what` names it in errors.
fn members<'a>(bytes: &'a [u8], what: &str) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.is_empty() {
        return Err(bad("the request has no body: JSON is expected"));
    }
    let raw: &RawValue =
        serde_json::from_slice(bytes).map_err(|e| bad(format!("the body is not valid JSON: {e}")))?;
    of_object(raw, what)
}

fn of_object<'a>(raw: &'a RawValue, what: &str) -> Result<Vec<(String, &'a RawValue)>, ApiError> {
    if !raw.get().starts_with('{') {
        return Err(bad(format!("{what} must be a JSON object, not {}", kind_of(raw))));
    }
    let Members(members) =
        serde_json::from_str(raw.get()).map_err(|e| bad(format!("{what} cannot be read: {e}")))?;
    Ok(members)
}

fn kind_of(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// A text; a number or boolean is one as it stands; none for null.
fn text(raw: &RawValue, what: &str) -> Result<Option<String>, ApiError> {
    match raw.get().as_bytes().first() {
        Some(b'{' | b'[') => Err(bad(format!("{what} must be a text, not {}", kind_of(raw)))),
        Some(b'n') => Ok(None),
        Some(b'"') => {
            serde_json::from_str(raw.get()).map(Some).map_err(|e| bad(format!("{what} cannot be read: {e}")))
        }
        _ => Ok(Some(raw.get().to_owned())),
    }
}

fn properties(members: Vec<(String, &RawValue)>) -> Result<Config, ApiError> {
    let property = |(name, raw): (String, &RawValue)| {
        let value = text(raw, &format!("the value of property '{name}'"))?;
        Ok((name, value.map_or(Value::Null, Value::from)))
    };
    members.into_iter().map(property).collect()
}

/// A body that is a map of properties; a null value stays one.
///
/// # Errors
/// 400 where it is not.
pub(super) fn config(bytes: &[u8], what: &str) -> Result<Config, ApiError> {
    properties(members(bytes, what)?)
}

/// A body that is any JSON object.
///
/// # Errors
/// 400 where it is not.
pub(super) fn object(bytes: &[u8], known: &[&str]) -> Result<serde_json::Map<String, Value>, ApiError> {
    let what = "the request";
    let read = |(name, raw): (String, &RawValue)| {
        if !known.is_empty() && !known.contains(&name.as_str()) {
            return Err(unrecognised(&name, known));
        }
        let value = serde_json::from_str(raw.get());
        Ok((name, value.map_err(|e| bad(format!("{what} cannot be read: {e}")))?))
    };
    members(bytes, what)?.into_iter().map(read).collect()
}

/// A request to create a connector.
#[derive(Debug, PartialEq)]
pub(super) struct Creation {
    /// `name`, empty where there is none.
    pub(super) name: String,
    /// `config`.
    pub(super) config: Config,
    /// `initial_state`.
    pub(super) state: Option<String>,
}

/// Reads a request to create a connector.
///
/// # Errors
/// 400 where it is not of its form.
pub(super) fn creation(bytes: &[u8]) -> Result<Creation, ApiError> {
    const KNOWN: [&str; 3] = ["name", "config", "initial_state"];
    let members = members(bytes, "the request")?;
    let (mut name, mut config, mut state) = (String::new(), None, None);
    for (member, raw) in members {
        match member.as_str() {
            "name" => name = text(raw, "'name'")?.unwrap_or_default(),
            "config" if is_null(raw) => {}
            "config" => config = Some(properties(of_object(raw, "'config'")?)?),
            "initial_state" => state = text(raw, "'initial_state'")?,
            _ => return Err(unrecognised(&member, &KNOWN)),
        }
    }
    let config =
        config.ok_or_else(|| bad("the request has no 'config': an object of properties is expected"))?;
    Ok(Creation { name: name.trim_matches(|c| c <= ' ').to_owned(), config, state })
}

/// Connect takes no member that it does not know.
pub(super) fn unrecognised(member: &str, known: &[&str]) -> ApiError {
    bad(format!("unrecognised field '{member}': known are {}", known.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_as_they_are_written() {
        let read = config(
            br#"{"a":1.50,"b":1e3,"c":12345678901234567890123,"d":true,"e":null,"f":"\u00fc","a":"last"}"#,
            "it",
        );
        let text = serde_json::to_string(&read.unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"a":"last","b":"1e3","c":"12345678901234567890123","d":"true","e":null,"f":"ü"}"#
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_named() {
        let said = |bytes: &str| config(bytes.as_bytes(), "the configuration").unwrap_err().message;
        assert!(said("").contains("no body"));
        assert!(said("{\"a\":").contains("not valid JSON"));
        assert!(said("{\"a\":1}x").contains("not valid JSON"));
        assert_eq!(said("[1]"), "the configuration must be a JSON object, not an array");
        assert_eq!(said("{\"a\":[1]}"), "the value of property 'a' must be a text, not an array");
    }

    #[test]
    fn creations() {
        let read = creation("\u{feff}{\"name\":\" \\u0000n \",\"config\":{}}".as_bytes()).unwrap();
        assert_eq!((read.name.as_str(), read.state), ("n", None));
        assert_eq!(creation(br#"{"name":1.50,"config":{}}"#).unwrap().name, "1.50");
        for wrong in [r#"{"name":"a"}"#, r#"{"name":["a"],"config":{}}"#, r#"{"config":{},"x":1}"#] {
            assert_eq!(creation(wrong.as_bytes()).unwrap_err().status, 400, "{wrong}");
        }
    }
}
