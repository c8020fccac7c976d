//! Looks at the slot from outside while the connector streams: how much WAL it holds back, how far it is behind,
//! and when the server would give it up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::source;
use super::status::StatusCell;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::pg::{ConnectConfig, Lsn, sql_error};

/// Longest time for one look: a session that does not answer is replaced.
const PATIENCE: Duration = Duration::from_secs(10);
/// Samples kept for rate and lag.
const SAMPLES: usize = 64;
/// WAL held back from here on is said where nothing bounds it, bytes.
const MUCH: u64 = 1 << 30;
/// With less than this left until the server gives up the slot, it is said.
const SOON: Duration = Duration::from_secs(3600);

/// What the server says of the slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotHealth {
    /// WAL that the slot keeps from being removed, bytes.
    pub retained_bytes: u64,
    /// WAL that is not confirmed, bytes.
    pub lag_bytes: u64,
    /// How long ago the WAL ended where it is confirmed now; as exact as the looks are frequent.
    pub lag: Duration,
    /// `wal_status`: `reserved`, `extended`, `unreserved`, `lost` (PostgreSQL 13 and later).
    pub wal_status: Option<String>,
    /// Bytes of WAL until the server gives up the slot (`safe_wal_size`); `None` without
    /// `max_slot_wal_keep_size`.
    pub safe_bytes: Option<u64>,
    /// WAL that the server writes, bytes a second.
    pub wal_per_second: f64,
    /// Time until the slot is given up, or the disk is full, if the slot stood still from now on; `None` where
    /// nothing bounds it or nothing is written.
    pub full_in: Option<Duration>,
}

struct Sample {
    now: Lsn,
    restart: Option<Lsn>,
    confirmed: Option<Lsn>,
    wal_status: Option<String>,
    safe_bytes: Option<u64>,
}

/// Looks until it is dropped.
pub(super) struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The slot's `catalog_xmin`, looked at every `xmin.fetch.interval.ms`.
pub(super) struct Xmin {
    /// 0 for none.
    now: Arc<AtomicU64>,
    _watch: Watch,
}

impl Xmin {
    /// The first look comes before the first event.
    pub(super) async fn watch(
        side: &Client,
        database: &ConnectConfig,
        options: &CaptureOptions,
    ) -> Result<Self> {
        let now = Arc::new(AtomicU64::new(xmin(side, &options.slot).await?));
        let (latest, database, options) = (Arc::clone(&now), database.clone(), options.clone());
        let watch = Watch(tokio::spawn(Box::pin(async move {
            let mut client: Option<Client> = None;
            loop {
                tokio::time::sleep(options.xmin_interval).await;
                let look = async {
                    let open = match client.take().filter(|c| !c.is_closed()) {
                        Some(open) => open,
                        None => source::connect(&database, &options, "Debezium Slot Info").await?,
                    };
                    let xmin = xmin(&open, &options.slot).await?;
                    Ok::<_, Error>((open, xmin))
                };
                match tokio::time::timeout(PATIENCE, look).await {
                    Ok(Ok((open, xmin))) => {
                        client = Some(open);
                        latest.store(xmin, Ordering::Relaxed);
                    }
                    Ok(Err(error)) => {
                        tracing::debug!(connector = options.name, %error, "cannot read the slot's xmin")
                    }
                    Err(_) => tracing::debug!(connector = options.name, "the slot's xmin takes too long"),
                }
            }
        })));
        Ok(Self { now, _watch: watch })
    }

    /// What the last look saw.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.now.load(Ordering::Relaxed)).filter(|xmin| *xmin > 0)
    }
}

async fn xmin(client: &Client, slot: &str) -> Result<u64> {
    const SQL: &str = "SELECT coalesce(catalog_xmin::text::int8, 0) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1::text";
    let row = client.query_opt(SQL, &[&slot]).await;
    let row = row.map_err(|e| sql_error("cannot read the slot's catalog_xmin", e))?;
    Ok(row.map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
}

/// Begins to look at the slot every `status.update.interval.ms`.
pub(super) fn watch(database: &ConnectConfig, options: &CaptureOptions, status: &Arc<StatusCell>) -> Watch {
    let (database, options, status) = (database.clone(), options.clone(), Arc::clone(status));
    Watch(tokio::spawn(Box::pin(async move {
        let mut client: Option<Client> = None;
        let mut past = Past::default();
        let mut said = String::new();
        loop {
            let look = async {
                let open = match client.take().filter(|c| !c.is_closed()) {
                    Some(open) => open,
                    None => source::connect(&database, &options, "Debezium Slot Info").await?,
                };
                let sample = sample(&open, &options.slot).await?;
                Ok::<_, Error>((open, sample))
            };
            match tokio::time::timeout(PATIENCE, look).await {
                Ok(Ok((open, sample))) => {
                    client = Some(open);
                    let health = sample.map(|sample| past.judge(Instant::now(), sample));
                    say(&options, health.as_ref(), &mut said);
                    status.slot(health);
                }
                // The stream has its own session and says itself when the server is away.
                Ok(Err(error)) => {
                    tracing::debug!(connector = options.name, %error, "cannot look at the slot")
                }
                Err(_) => tracing::debug!(connector = options.name, "the look at the slot takes too long"),
            }
            tokio::time::sleep(options.status_interval.max(Duration::from_millis(100))).await;
        }
    })))
}

impl SlotHealth {
    /// What an operator should know of it; `None` where all is well.
    pub fn danger(&self) -> Option<&'static str> {
        match (self.wal_status.as_deref(), self.full_in) {
            (Some("lost"), _) => Some("the server has given up its WAL"),
            (Some("unreserved"), _) => {
                Some("its WAL exceeds max_slot_wal_keep_size and goes with the next checkpoint")
            }
            (_, Some(left)) if left < SOON => {
                Some("the server gives it up within the hour if it stands still")
            }
            // The disk's free space is not to be had from afar.
            _ if self.safe_bytes.is_none() && self.retained_bytes >= MUCH => Some(
                "it holds back more than 1 GiB of WAL, and without max_slot_wal_keep_size nothing bounds that but the \
                 server's disk",
            ),
            _ => None,
        }
    }
}

/// Warns once of each state that an operator should know.
fn say(options: &CaptureOptions, health: Option<&SlotHealth>, said: &mut String) {
    let text = match health {
        None => "it does not exist any more",
        Some(health) => health.danger().unwrap_or_default(),
    };
    if text != *said && !text.is_empty() {
        tracing::warn!(
            connector = options.name,
            slot = options.slot,
            retained_bytes = health.map(|h| h.retained_bytes),
            wal_bytes_per_second = health.map(|h| h.wal_per_second.round()),
            full_in_seconds = health.and_then(|h| h.full_in).map(|d| d.as_secs()),
            "the replication slot is in danger: {text}"
        );
    }
    text.clone_into(said);
}

async fn sample(client: &Client, slot: &str) -> Result<Option<Sample>> {
    // Columns that older servers lack are asked for by way of JSON.
    const SQL: &str = "
        SELECT (CASE WHEN pg_is_in_recovery() THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE pg_current_wal_lsn() END)::text,
               restart_lsn::text, confirmed_flush_lsn::text, to_jsonb(s) ->> 'wal_status',
               (to_jsonb(s) ->> 'safe_wal_size')::bigint
        FROM pg_catalog.pg_replication_slots s WHERE slot_name = $1::text";
    let failed = |e| sql_error("cannot look at the replication slot", e);
    let Some(row) = client.query_opt(SQL, &[&slot]).await.map_err(failed)? else { return Ok(None) };
    let lsn = |n: usize| {
        let text: Option<&str> = row.try_get(n).map_err(failed)?;
        Ok::<_, Error>(text.and_then(|t| t.parse().ok()))
    };
    let safe: Option<i64> = row.try_get(4).map_err(failed)?;
    Ok(Some(Sample {
        now: lsn(0)?.unwrap_or_default(),
        restart: lsn(1)?,
        confirmed: lsn(2)?,
        wal_status: row.try_get(3).map_err(failed)?,
        // Below zero the next checkpoint takes the WAL away.
        safe_bytes: safe.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
    }))
}

/// Where the WAL ended when.
#[derive(Default)]
struct Past(VecDeque<(Instant, Lsn)>);

impl Past {
    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    fn judge(&mut self, at: Instant, sample: Sample) -> SlotHealth {
        self.0.push_back((at, sample.now));
        if self.0.len() > SAMPLES {
            self.0.pop_front();
        }
        let behind = |lsn: Option<Lsn>| lsn.map_or(0, |lsn| sample.now.0.saturating_sub(lsn.0));
        let lag = match sample.confirmed {
            Some(confirmed) => self.0.iter().find(|(_, end)| *end > confirmed).map(|(then, _)| *then),
            None => None,
        };
        let wal_per_second = match self.0.front() {
            Some((then, lsn)) if *then < at => {
                sample.now.0.saturating_sub(lsn.0) as f64 / (at - *then).as_secs_f64()
            }
            _ => 0.0,
        };
        let full_in = sample
            .safe_bytes
            .filter(|_| wal_per_second >= 1.0)
            .and_then(|safe| Duration::try_from_secs_f64(safe as f64 / wal_per_second).ok());
        SlotHealth {
            retained_bytes: behind(sample.restart),
            lag_bytes: behind(sample.confirmed),
            lag: lag.map_or(Duration::ZERO, |then| at - then),
            wal_status: sample.wal_status,
            safe_bytes: sample.safe_bytes,
            wal_per_second,
            full_in,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_rate_and_time_left() {
        let start = Instant::now();
        let sample = |now, confirmed, safe| Sample {
            now: Lsn(now),
            restart: Some(Lsn(100)),
            confirmed: Some(Lsn(confirmed)),
            wal_status: Some("reserved".into()),
            safe_bytes: safe,
        };
        let mut past = Past::default();
        let first = past.judge(start, sample(1000, 1000, Some(50_000)));
        assert_eq!((first.retained_bytes, first.lag_bytes, first.lag), (900, 0, Duration::ZERO));
        assert_eq!(first.full_in, None);
        let at = |s| start + Duration::from_secs(s);
        past.judge(at(10), sample(11_000, 1000, Some(40_000)));
        let third = past.judge(at(20), sample(21_000, 1000, Some(30_000)));
        assert_eq!((third.lag_bytes, third.lag), (20_000, Duration::from_secs(10)));
        assert!((third.wal_per_second - 1000.0).abs() < 1.0);
        assert_eq!(third.full_in, Some(Duration::from_secs(30)));
        let none = past.judge(at(30), sample(31_000, 31_000, None));
        assert_eq!((none.lag, none.full_in), (Duration::ZERO, None));
    }
}
