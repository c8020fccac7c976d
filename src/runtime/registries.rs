//! Schema registries of tables with Avro formats.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::AddressMap;
use crate::engine::format::{FormatError, avro};
use crate::transform::{Options, registry};

/// Opens registries by the format's options.
#[derive(Debug)]
pub(super) struct Registries {
    pub(super) addresses: AddressMap,
}

struct Registry(registry::Registry);

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

/// A format's options by the names that Java's registry client has for them, as Flink translates them.
fn java_names(options: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let named = options.iter().filter_map(|(name, value)| {
        let java = match name.as_str() {
            "url" => "schema.registry.url".to_owned(),
            "basic-auth.credentials-source" => "basic.auth.credentials.source".to_owned(),
            "basic-auth.user-info" => "basic.auth.user.info".to_owned(),
            "bearer-auth.credentials-source" => "bearer.auth.credentials.source".to_owned(),
            "bearer-auth.token" => "bearer.auth.token".to_owned(),
            name if name.starts_with("ssl.") => format!("schema.registry.{name}"),
            name => name.strip_prefix("properties.")?.to_owned(),
        };
        Some((java, value.clone()))
    });
    let mut all: Vec<_> = named.collect();
    // A name and password are meant to be used.
    if options.contains_key("basic-auth.user-info") && !options.contains_key("basic-auth.credentials-source")
    {
        all.push(("basic.auth.credentials.source".to_owned(), "USER_INFO".to_owned()));
    }
    all
}

impl avro::Registries for Registries {
    fn open(&self, options: &BTreeMap<String, String>) -> Result<Arc<dyn avro::Registry>, String> {
        let all = java_names(options);
        let all: Vec<(&str, &str)> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let registry = registry::Registry::new(&Options::new("", &all), &self.addresses);
        Ok(Arc::new(Registry(registry.map_err(|e| e.to_string())?)))
    }
}

/// What it refuses, it will refuse again; one that cannot be reached is asked again.
fn failed(why: String) -> FormatError {
    match registry::unavailable(&why) {
        true => FormatError::unavailable(why)
            .next("check the registry's url and that it is reachable from here; millstream tries again"),
        false => FormatError::new(why).next("check the registry's url, the subject and its compatibility"),
    }
}

impl avro::Registry for Registry {
    fn schema(&self, id: u32) -> Result<String, FormatError> {
        self.0.schema(id).map_err(failed)
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, FormatError> {
        self.0.id(subject, schema, None).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(options: &[(&str, &str)]) -> Result<(), String> {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        avro::Registries::open(&Registries { addresses: AddressMap::default() }, &options).map(drop)
    }

    #[test]
    fn options_of_tables_are_those_of_the_client() {
        open(&[("url", "http://r:8081"), ("basic-auth.user-info", "u:p")]).unwrap();
        assert!(open(&[("url", "r")]).unwrap_err().contains("schema.registry.url"));
        // The files that an https registry is trusted by are read, under either name.
        let missing = "/no/such/file.pem";
        for name in [
            "ssl.truststore.location",
            "properties.schema.registry.ssl.truststore.location",
            "ssl.keystore.location",
        ] {
            let why = open(&[("url", "https://r:8081"), (name, missing)]).unwrap_err();
            assert!(why.contains("store.location"), "{name}: {why}");
        }
        let jks = [("url", "https://r:8081"), ("properties.ssl.truststore.type", "JKS")];
        assert!(open(&jks).unwrap_err().contains("PEM"));
        let bad = [("url", "http://r:8081"), ("basic-auth.credentials-source", "SASL_INHERIT")];
        assert!(open(&bad).is_err());
    }
}
