//! What of incremental snapshots stands in the offset: a restart goes on behind the last chunk that was sent.

use serde_json::{Map, Value, json};

use super::Incremental;
use super::chunk::Target;
use crate::capture::keys;
use crate::capture::offset::Offset;

const COLLECTIONS: &str = "incremental_snapshot_collections";
const CORRELATION: &str = "incremental_snapshot_correlation_id";
const PROGRESS: &str = "millstream.incremental";
const PAUSED: &str = "millstream.incremental.paused";

impl Incremental {
    /// Takes up what the stored offset says was under way.
    pub(in crate::capture) fn resume(offset: &Offset) -> Self {
        let mut this = Self::default();
        let Some(Value::String(text)) = offset.extra.get(COLLECTIONS) else { return this };
        let Ok(Value::Array(list)) = serde_json::from_str(text) else { return this };
        for item in list {
            let get = |name: &str| item.get(name).and_then(Value::as_str);
            let Some(id) = get("incremental_snapshot_collections_id") else { continue };
            let (schema, name) = id.split_once('.').unwrap_or(("", id));
            this.queue.push_back(Target {
                schema: schema.to_owned(),
                name: name.to_owned(),
                condition: get("incremental_snapshot_collections_additional_condition").map(str::to_owned),
                surrogate: get("incremental_snapshot_collections_surrogate_key")
                    .filter(|s| !s.is_empty())
                    .map(str::to_owned),
            });
        }
        this.correlation = offset.extra.get(CORRELATION).and_then(Value::as_str).map(str::to_owned);
        this.paused = offset.extra.get(PAUSED).is_some();
        if let Some(progress) = offset.extra.get(PROGRESS)
            && let Some(max) = progress.get("max").and_then(keys::from_json)
        {
            this.resumed = Some((max, progress.get("end").and_then(keys::from_json)));
        }
        this
    }

    /// What a restart needs, into the offset.
    pub(super) fn store(&self, offset: &mut Offset) {
        for name in [COLLECTIONS, CORRELATION, PROGRESS, PAUSED] {
            offset.extra.remove(name);
        }
        if self.queue.is_empty() {
            return;
        }
        let list: Vec<Value> = self
            .queue
            .iter()
            .map(|t| {
                json!({
                    "incremental_snapshot_collections_id": t.id(),
                    "incremental_snapshot_collections_additional_condition": t.condition,
                    "incremental_snapshot_collections_surrogate_key": t.surrogate,
                })
            })
            .collect();
        // As text, because Debezium holds it so.
        offset.extra.insert(COLLECTIONS.into(), json!(Value::Array(list).to_string()));
        if let Some(id) = &self.correlation {
            offset.extra.insert(CORRELATION.into(), json!(id));
        }
        if self.paused {
            offset.extra.insert(PAUSED.into(), json!(true));
        }
        if let Some(scan) = &self.scan {
            let mut progress = Map::new();
            progress.insert("max".into(), keys::to_json(&scan.max));
            if let Some(end) = &scan.sent {
                progress.insert("end".into(), keys::to_json(end));
            }
            offset.extra.insert(PROGRESS.into(), Value::Object(progress));
        }
    }
}
