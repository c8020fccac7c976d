//! Offsets of connectors: read, changed and removed (KIP-875).

use serde_json::{Map, Value};

use super::ApiError;
use super::held::Held;
use super::model::TargetState;
use super::worker::{Inner, Worker, texts};
use crate::capture::{self, transactional_id};
use crate::config::connector::ConnectorConfig;
use crate::pg::{Lsn, catalog};

impl Worker {
    /// Source partitions and offsets.
    ///
    /// # Errors
    /// 404.
    pub async fn offsets(&self, name: &str) -> Result<Vec<(Value, Value)>, ApiError> {
        let own = {
            let inner = self.inner.lock().await;
            let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
            held.config.get("offsets.storage.topic").and_then(Value::as_str).map(str::to_owned)
        };
        let topic = own.unwrap_or_else(|| self.env.topics.offset_storage_topic.clone());
        Ok(capture::offsets::read_all(&self.env.log, &topic, name).await?)
    }

    /// Changes offsets (KIP-875) after looking whether the connector could continue there.
    ///
    /// # Errors
    /// 404; 400 unless the connector is stopped and all entries are sound.
    pub async fn alter_offsets(&self, name: &str, entries: Vec<Value>) -> Result<(), ApiError> {
        let config = self.stopped_config(name).await?;
        let mut changes = Vec::with_capacity(entries.len());
        for (number, entry) in entries.into_iter().enumerate() {
            let Value::Object(mut entry) = entry else {
                return Err(ApiError::new(400, format!("offsets[{number}] is not an object")));
            };
            let Some(Value::Object(partition)) = entry.remove("partition") else {
                return Err(ApiError::new(400, format!("offsets[{number}] has no 'partition' object")));
            };
            let expected = config.text("topic.prefix");
            if partition.len() != 1 || partition.get("server").and_then(Value::as_str) != Some(expected) {
                return Err(ApiError::new(
                    400,
                    format!(
                        "offsets[{number}]: the connector has the one partition {{\"server\":\"{expected}\"}}, not {}",
                        Value::Object(partition)
                    ),
                ));
            }
            let offset = match entry.remove("offset") {
                Some(Value::Null) => None,
                Some(Value::Object(offset)) => Some(offset),
                _ => {
                    return Err(ApiError::new(
                        400,
                        format!(
                            "offsets[{number}] has no 'offset': an object, or null to remove it, is expected"
                        ),
                    ));
                }
            };
            if let Some(field) = entry.keys().next() {
                return Err(ApiError::new(
                    400,
                    format!("offsets[{number}]: unrecognised field '{field}': known are partition, offset"),
                ));
            }
            changes.push((partition, offset));
        }
        let mut wanted = Vec::new();
        for (_, offset) in &changes {
            if let Some(offset) = offset {
                wanted.push(check_offset(offset)?);
            }
        }
        if !wanted.is_empty() {
            self.check_slot(&config, &wanted).await?;
        }
        let changes: Vec<(Value, Option<Value>)> = changes
            .into_iter()
            .map(|(partition, offset)| (Value::Object(partition), offset.map(Value::Object)))
            .collect();
        // Held until the offsets are written: nobody starts the connector in between.
        let _edits = self.edits.lock().await;
        still_stopped(&*self.inner.lock().await, name)?;
        let topic = self.offsets_topic(&config);
        let writer = transactional_id(&self.env.topics.group_id, name);
        capture::offsets::write(&self.env.log, &topic, &writer, name, &changes).await?;
        Ok(())
    }

    /// Whether the slot can go on at these positions (resume, last).
    async fn check_slot(&self, config: &ConnectorConfig, wanted: &[(Lsn, Lsn)]) -> Result<(), ApiError> {
        let slot_name = config.text("slot.name");
        let client = self.connect(config).await?;
        let slot = catalog::slot(&client, slot_name).await?.ok_or_else(|| {
            ApiError::new(
                400,
                format!(
                    "replication slot {slot_name} does not exist: changes after the offset cannot be had; reset the \
                     offsets to begin anew"
                ),
            )
        })?;
        let current = capture::current_lsn(&client).await?;
        let oldest = slot.confirmed_flush_lsn.or(slot.restart_lsn).unwrap_or(Lsn(0));
        for (resume, last) in wanted {
            if *resume < oldest {
                return Err(ApiError::new(
                    400,
                    format!(
                        "the offset's LSN {} ({resume}) lies before what replication slot {slot_name} still holds: its \
                         oldest LSN is {} ({oldest})",
                        resume.as_u64(),
                        oldest.as_u64()
                    ),
                ));
            }
            if *last > current {
                return Err(ApiError::new(
                    400,
                    format!(
                        "the offset's LSN {} ({last}) lies after the server's current LSN {} ({current})",
                        last.as_u64(),
                        current.as_u64()
                    ),
                ));
            }
        }
        Ok(())
    }

    /// The offsets topic of a connector: its own, or the worker's.
    fn offsets_topic(&self, config: &ConnectorConfig) -> String {
        match config.text("offsets.storage.topic") {
            "" => self.env.topics.offset_storage_topic.clone(),
            own => own.to_owned(),
        }
    }

    /// Removes all offsets.
    ///
    /// # Errors
    /// 404; 400 unless the connector is stopped.
    pub async fn reset_offsets(&self, name: &str) -> Result<(), ApiError> {
        let config = self.stopped_config(name).await?;
        let _edits = self.edits.lock().await;
        still_stopped(&*self.inner.lock().await, name)?;
        let topic = self.offsets_topic(&config);
        let writer = transactional_id(&self.env.topics.group_id, name);
        capture::offsets::delete(&self.env.log, &topic, &writer, name).await?;
        Ok(())
    }

    async fn stopped_config(&self, name: &str) -> Result<ConnectorConfig, ApiError> {
        let inner = self.inner.lock().await;
        let held = still_stopped(&inner, name)?;
        Ok(ConnectorConfig::from_map(name, texts(&held.config))?)
    }
}

fn still_stopped<'i>(inner: &'i Inner, name: &str) -> Result<&'i Held, ApiError> {
    let held = inner.connectors.get(name).ok_or_else(|| ApiError::not_found(name))?;
    if held.target == TargetState::Stopped {
        return Ok(held);
    }
    Err(ApiError::new(
        400,
        format!(
            "Connectors must be in the STOPPED state before their offsets can be modified. This can be done for the \
             specified connector by issuing a 'PUT' request to the '/connectors/{name}/stop' endpoint"
        ),
    ))
}

/// Whether an offset has the fields and types that Debezium's offsets have: where it resumes, and the last LSN
/// it names.
fn check_offset(offset: &Map<String, Value>) -> Result<(Lsn, Lsn), ApiError> {
    let number = |field: &str| match offset.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| {
            ApiError::new(400, format!("offset field '{field}' is {value}: a whole number is expected"))
        }),
    };
    let Some(lsn) = number("lsn")? else {
        return Err(ApiError::new(
            400,
            "the offset has no 'lsn': the WAL position of the last event is expected",
        ));
    };
    let mut last = lsn;
    for field in ["lsn_proc", "lsn_commit"] {
        last = last.max(number(field)?.unwrap_or(0));
    }
    for field in ["txId", "ts_usec"] {
        number(field)?;
    }
    let resume = number("lsn_commit")?.unwrap_or(lsn);
    Ok((Lsn(resume), Lsn(last)))
}
