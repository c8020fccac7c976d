//! The end of a connector, with its slot or without.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::ApiError;
use super::worker::{Worker, texts};
use crate::config::connector::ConnectorConfig;
use crate::error::{Error, Result};

/// How long the source may take to drop a slot.
const DROP_SLOT: Duration = Duration::from_secs(10);

impl Worker {
    /// Removes a connector. Its offsets and its slot stay; the slot goes too where `drop_slot` says so.
    ///
    /// # Errors
    /// 404, or what the server says to dropping the slot.
    pub async fn delete(&self, name: &str, drop_slot: bool) -> Result<(), ApiError> {
        if drop_slot {
            self.give_slot_up(name).await?;
        }
        let _edits = self.edits.lock().await;
        let config = {
            let inner = self.inner.lock().await;
            inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?.config.clone()
        };
        // First: what cannot be deleted goes on.
        if let Err(error) = self.store.lock().await.delete(name).await {
            self.go_on(name).await;
            return Err(error.into());
        }
        self.halt(name).await;
        if !drop_slot {
            let slot = config.get("slot.name").and_then(Value::as_str).unwrap_or("debezium");
            tracing::warn!(
                connector = name,
                slot,
                "the connector is deleted, its replication slot stays and holds back WAL until it is dropped"
            );
        }
        self.inner.lock().await.connectors.remove(name);
        Ok(())
    }

    /// Runs a connector that was halted for its deletion.
    async fn go_on(&self, name: &str) {
        if let Some(held) = self.inner.lock().await.connectors.get_mut(name)
            && !held.has_run()
        {
            self.bring_to_target(name, held);
        }
    }

    /// Halts a connector and drops its slot. Where that cannot be, the connector goes on as it was. Others are not
    /// held up by a source that does not answer.
    async fn give_slot_up(&self, name: &str) -> Result<(), ApiError> {
        let edits = self.edits.lock().await;
        let config = {
            let inner = self.inner.lock().await;
            let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
            ConnectorConfig::from_map(name, texts(&held.config))?
        };
        self.halt(name).await;
        drop(edits);
        let begun = Instant::now();
        let dropped = loop {
            let dropped = match tokio::time::timeout(DROP_SLOT, self.drop_slot(&config)).await {
                Ok(dropped) => dropped,
                Err(_) => Err(Error::transient(format!(
                    "cannot drop replication slot {}",
                    config.text("slot.name")
                ))
                .because(format!("the source does not answer for {} s", DROP_SLOT.as_secs()))),
            };
            // The server may need a moment to see that the connector's session has ended.
            let in_use = dropped.as_ref().is_err_and(|e| crate::pg::sqlstate(e) == Some("55006"));
            if !in_use || begun.elapsed() >= DROP_SLOT {
                break dropped;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let Err(error) = dropped else { return Ok(()) };
        self.go_on(name).await;
        let error = error
            .next("the connector is not deleted; delete it without its slot, or when the source is back");
        Err(error.into())
    }

    async fn drop_slot(&self, config: &ConnectorConfig) -> Result<()> {
        let slot = config.text("slot.name");
        let client = self.connect(config).await?;
        client
            .execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1",
                &[&slot],
            )
            .await
            .map_err(|e| crate::pg::sql_error(format!("cannot drop replication slot {slot}"), e))?;
        Ok(())
    }
}
