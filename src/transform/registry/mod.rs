//! A client of Confluent's schema registry API: enough to register a schema and keep its id.
//!
//! Blocking, with a time limit: a schema is registered once per version, between two records that cannot go out
//! without it.

mod alike;
mod http;
#[cfg(test)]
mod tests;
mod tls;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use self::alike::writes_alike;
use self::http::{Client, Endpoint, Failure};
use super::config::Options;
use crate::config::AddressMap;
use crate::event::EventError;
use crate::log::kafka::jaas;

/// How the cause of a failure that may heal begins; see [`unavailable`].
const UNAVAILABLE: &str = "the schema registry cannot be used: ";

/// Whether a converter's failure is one of the registry's that may heal by itself.
pub(crate) fn unavailable(cause: &str) -> bool {
    cause.starts_with(UNAVAILABLE)
}

/// How a subject is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    strategy: Strategy,
    side: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    Topic,
    Record,
    TopicRecord,
}

impl Subject {
    pub(super) fn new(own: &Options<'_>, key: bool) -> Result<Self, EventError> {
        let name = if key { "key.subject.name.strategy" } else { "value.subject.name.strategy" };
        let strategy = match own.get(name).map(|s| s.rsplit('.').next().unwrap_or(s)) {
            None | Some("TopicNameStrategy") => Strategy::Topic,
            Some("RecordNameStrategy") => Strategy::Record,
            Some("TopicRecordNameStrategy") => Strategy::TopicRecord,
            Some(_) => {
                let names = "TopicNameStrategy, RecordNameStrategy or TopicRecordNameStrategy";
                return Err(own.error(name, names));
            }
        };
        Ok(Self { strategy, side: if key { "key" } else { "value" } })
    }

    /// The subject of a record type on a topic; `None` for what is no record.
    ///
    /// # Errors
    /// Something that is no record, where subjects are named after records.
    pub(super) fn of(&self, topic: &str, record: Option<&str>) -> Result<String, String> {
        let side = self.side;
        match (self.strategy, record) {
            (Strategy::Topic, _) => Ok(format!("{topic}-{side}")),
            (Strategy::Record, Some(record)) => Ok(record.to_owned()),
            (Strategy::TopicRecord, Some(record)) => Ok(format!("{topic}-{record}")),
            (_, None) => Err(format!(
                "{side}.subject.name.strategy names subjects after records, and this {side} is no record"
            )),
        }
    }
}

/// What the registry does with a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Registers it.
    Register,
    /// Looks it up; it must be there.
    Find,
    /// Takes the subject's latest schema, whatever it is.
    Latest,
}

/// The registry of a converter.
#[derive(Clone)]
pub(crate) struct Registry {
    /// The property with its addresses.
    property: String,
    endpoints: Vec<Endpoint>,
    mode: Mode,
    normalize: bool,
    client: Client,
}

impl Registry {
    /// Reads `schema.registry.url` and what belongs to it.
    pub(crate) fn new(own: &Options<'_>, addresses: &AddressMap) -> Result<Self, EventError> {
        own.required("schema.registry.url")?;
        let expected = "http://host:port or https://host:port, several by comma";
        let endpoints: Option<Vec<Endpoint>> =
            own.names("schema.registry.url").iter().map(|u| Endpoint::parse(u)).collect();
        let mut endpoints =
            endpoints.filter(|e| !e.is_empty()).ok_or_else(|| own.error("schema.registry.url", expected))?;
        for endpoint in &mut endpoints {
            let (host, port) = addresses.resolve(&endpoint.host, endpoint.port);
            endpoint.to = Some((host.to_owned(), port));
        }
        let either = |name: &str| {
            own.get(name).or_else(|| own.get(&format!("schema.registry.{name}"))).filter(|v| !v.is_empty())
        };
        for name in ["proxy.host", "schema.registry.proxy.host"] {
            if own.get(name).is_some_and(|v| !v.trim().is_empty()) {
                return Err(own.error(name, "nothing: the registry is asked without a proxy"));
            }
        }
        if own.get("use.schema.id").is_some_and(|v| v.trim() != "-1") {
            return Err(
                own.error("use.schema.id", "-1; use.latest.version=true takes a schema that is there")
            );
        }
        for name in ["max.schemas.per.subject", "schemas.cache.config"] {
            if own.get(name).is_some_and(|v| v.trim().parse::<i32>().is_err()) {
                return Err(own.error(name, "a number"));
            }
        }
        let user_info = match either("basic.auth.credentials.source").unwrap_or("URL") {
            "SASL_INHERIT" => {
                let name = "sasl.jaas.config";
                let login = jaas::parse(own.get(name).unwrap_or("")).unwrap_or_default();
                let (Some(user), Some(password)) = (login.username, login.password) else {
                    let shape = "a login module with username=\"…\" and password=\"…\"";
                    return Err(EventError::Option {
                        name: own.name(name),
                        value: "(hidden)".into(),
                        expected: shape.into(),
                    });
                };
                Some(format!("{user}:{password}"))
            }
            "USER_INFO" => Some(
                either("basic.auth.user.info")
                    .ok_or_else(|| own.error("basic.auth.user.info", "user:password"))?
                    .to_owned(),
            ),
            "URL" => endpoints.iter().find_map(|e| e.user_info.clone()),
            _ => return Err(own.error("basic.auth.credentials.source", "URL, USER_INFO or SASL_INHERIT")),
        };
        let token = match either("bearer.auth.credentials.source") {
            None | Some("STATIC_TOKEN") => either("bearer.auth.token"),
            Some(_) => return Err(own.error("bearer.auth.credentials.source", "STATIC_TOKEN")),
        };
        let authorization = match (user_info, token) {
            (Some(user), _) => Some(format!("Basic {}", STANDARD.encode(user))),
            (None, Some(token)) => Some(format!("Bearer {token}")),
            (None, None) => None,
        };
        let mode = match (own.flag("auto.register.schemas", true)?, own.flag("use.latest.version", false)?) {
            (true, _) => Mode::Register,
            (false, true) => Mode::Latest,
            (false, false) => Mode::Find,
        };
        let normalize = own.flag("normalize.schemas", false)?;
        let tls = if endpoints.iter().any(|e| e.tls) { Some(tls::connector(own)?) } else { None };
        let check_name = !["schema.registry.ssl.", "ssl."]
            .iter()
            .filter_map(|prefix| own.get(&format!("{prefix}endpoint.identification.algorithm")))
            .any(|algorithm| algorithm.trim().is_empty());
        let property = own.name("schema.registry.url");
        let client = Client { authorization, tls, check_name };
        Ok(Self { property, endpoints, mode, normalize, client })
    }

    /// The id of a schema under a subject; registers it where that is allowed. `kind` is the schema's type where it is
    /// not Avro.
    ///
    /// # Errors
    /// With the cause; see [`unavailable`].
    pub(crate) fn id(&self, subject: &str, schema: &str, kind: Option<&str>) -> Result<u32, String> {
        let name = percent_encoding::utf8_percent_encode(subject, percent_encoding::NON_ALPHANUMERIC);
        let mut path = match self.mode {
            Mode::Register => format!("/subjects/{name}/versions"),
            Mode::Find => format!("/subjects/{name}"),
            Mode::Latest => format!("/subjects/{name}/versions/latest"),
        };
        if self.normalize && self.mode != Mode::Latest {
            path.push_str("?normalize=true");
        }
        let body = match (self.mode, kind) {
            (Mode::Latest, _) => None,
            (_, None) => Some(json!({ "schema": schema }).to_string()),
            (_, Some(kind)) => Some(json!({ "schema": schema, "schemaType": kind }).to_string()),
        };
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.client.ask(endpoint, &path, body.as_deref()) {
                Ok((200..=299, answer)) => {
                    if self.mode == Mode::Latest {
                        let latest = answer.get("schema").and_then(Value::as_str).unwrap_or("");
                        if !writes_alike(schema, latest, kind.is_none()) {
                            return Err(format!(
                                "use.latest.version: the latest schema of subject {subject} is not the one of these \
                                 records; they are written as {schema}"
                            ));
                        }
                    }
                    let id = answer.get("id").and_then(Value::as_u64).and_then(|id| u32::try_from(id).ok());
                    return id.ok_or_else(|| format!("the registry gave no id for subject {subject}"));
                }
                Ok((status @ (429 | 500..=599), answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok((status @ 409, answer)) => {
                    let why = message(&answer);
                    return Err(format!(
                        "the schema of subject {subject} is not compatible with an earlier one ({status}: {why}); \
                         change the subject's compatibility level, or the table back"
                    ));
                }
                Ok((status, answer)) => {
                    let why = message(&answer);
                    let hint = match (status, self.mode) {
                        (404, Mode::Find) => "; auto.register.schemas is false and the schema is not there",
                        (401 | 403, _) => "; see basic.auth.credentials.source and basic.auth.user.info",
                        _ => "",
                    };
                    return Err(format!("the registry refused subject {subject} ({status}: {why}){hint}"));
                }
                Err(e) => last = self.no_answer(&format!("{at} (schema.registry.url)"), &e),
            }
        }
        Err(last)
    }

    /// The schema of an id, as JSON text.
    ///
    /// # Errors
    /// With the cause; see [`unavailable`].
    pub(crate) fn schema(&self, id: u32) -> Result<String, String> {
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.client.ask(endpoint, &format!("/schemas/ids/{id}"), None) {
                Ok((200..=299, answer)) => {
                    let schema = answer.get("schema").and_then(Value::as_str);
                    return schema
                        .map(str::to_owned)
                        .ok_or_else(|| format!("the registry gave no schema {id}"));
                }
                Ok((status @ (429 | 500..=599), answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok((status, answer)) => {
                    return Err(format!("the registry refused schema {id} ({status}: {})", message(&answer)));
                }
                Err(e) => last = self.no_answer(&at, &e),
            }
        }
        Err(last)
    }

    /// Whether one of the addresses answers, and takes the credentials.
    ///
    /// # Errors
    /// [`EventError::Registry`].
    pub(super) fn ready(&self) -> Result<(), EventError> {
        let failed = |cause: String, may_heal| {
            Err(EventError::Registry { property: self.property.clone(), cause, may_heal })
        };
        let mut last = String::new();
        for endpoint in &self.endpoints {
            let at = format!("{}:{}", endpoint.host, endpoint.port);
            match self.client.ask(endpoint, "/config", None) {
                Ok((401, answer)) => {
                    let why = message(&answer);
                    let hint = "see basic.auth.credentials.source and basic.auth.user.info";
                    return failed(format!("the registry at {at} refuses us (401: {why}); {hint}"), false);
                }
                Ok((status @ 500..=599, answer)) => {
                    last = format!("{UNAVAILABLE}{at} answered {status}: {}", message(&answer));
                }
                Ok(_) => return Ok(()),
                Err(e) => last = self.no_answer(&at, &e),
            }
        }
        let may_heal = unavailable(&last);
        failed(last, may_heal)
    }

    /// Why an address gave no answer. What is wrong with certificates does not heal by itself.
    fn no_answer(&self, at: &str, failure: &Failure) -> String {
        let ssl = format!("{}ssl", self.property.strip_suffix("url").unwrap_or(&self.property));
        let see = match failure {
            Failure::Io(e) => return format!("{UNAVAILABLE}{at}: {e}"),
            Failure::Untrusted(_) => format!("{ssl}.truststore.location and {ssl}.truststore.certificates"),
            Failure::Refused(_) => format!("{ssl}.keystore.location and {ssl}.keystore.key"),
        };
        format!("the registry at https://{at} cannot be used: {failure}; see {see}")
    }
}

fn message(answer: &Value) -> &str {
    answer.get("message").and_then(Value::as_str).unwrap_or("no message")
}
