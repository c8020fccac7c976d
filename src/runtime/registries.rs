//! Schema registries of tables with Avro formats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::config::AddressMap;
use crate::engine::format::avro;
use crate::transform::registry;

/// Tries before a registry that does not answer stops the pipeline.
const TRIES: u32 = 10;

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

impl avro::Registries for Registries {
    fn open(&self, options: &BTreeMap<String, String>) -> Result<Arc<dyn avro::Registry>, String> {
        let get = |name: &str| options.get(name).map(String::as_str);
        let user_info = match get("basic-auth.credentials-source") {
            None | Some("URL") if get("basic-auth.user-info").is_none() => None,
            _ => get("basic-auth.user-info"),
        };
        let bearer = get("bearer-auth.token");
        let urls = get("url").unwrap_or_default();
        let registry = registry::Registry::of_table(urls, user_info, bearer, &self.addresses);
        let registry =
            registry.ok_or("'url' is not http://HOST:PORT or https://HOST:PORT, several by comma")?;
        Ok(Arc::new(Registry(registry)))
    }
}

/// Tries again while the registry cannot be reached: what it refuses, it will refuse again.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let mut tries = 1;
    loop {
        match ask() {
            Err(why) if tries < TRIES && registry::unavailable(&why) => {
                tracing::warn!("{why}; trying again");
                std::thread::sleep(Duration::from_millis(200 * u64::from(tries)));
                tries += 1;
            }
            other => return other,
        }
    }
}

impl avro::Registry for Registry {
    fn schema(&self, id: u32) -> Result<String, String> {
        patiently(|| self.0.schema(id))
    }

    fn register(&self, subject: &str, schema: &str) -> Result<u32, String> {
        patiently(|| self.0.id(subject, schema, None))
    }
}
