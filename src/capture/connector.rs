//! A connector as others see it: started, watched, stopped; and the supervision that heals it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::committer::Committed;
use super::owner::{self, Owner};
use super::run::{Ended, Run};
use super::status::{ConnectorStatus, Phase, StatusCell};
use super::topics;
use crate::config::connector::CaptureOptions;
use crate::config::settings::TlsDefault;
use crate::config::{AddressMap, ConnectorConfig};
use crate::error::{Error, Kind, Result};
use crate::log::Log;

/// First pause before another try; doubled each time up to `retriable.restart.connector.wait.ms`.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// First pause while somebody else holds the slot; doubled each time up to `slot.retry.delay.ms`.
const FIRST_SLOT_RETRY: Duration = Duration::from_millis(50);
/// How long [`Env::fail_fast`] waits for a slot.
const FAIL_FAST: Duration = Duration::from_secs(10);
/// A connector of which nothing moves for so long, not even its clock, is begun again.
const STALLED: Duration = Duration::from_secs(300);
/// Before a fenced writer looks who has fenced it: whoever takes the connector over has said so by then.
const IN_DOUBT: Duration = Duration::from_secs(3);
/// Fenced so often, and never by one who says so: the connector gives way.
const MOST_FENCED: u32 = 3;
/// A run that held this long was not fenced over and over.
const UNFENCED: Duration = Duration::from_secs(60);
/// A run that held this long starts the count of tries anew.
const HEALTHY: Duration = Duration::from_secs(10);

/// A stop that takes longer is not waited for: a log that is away, say.
pub(crate) const STOP: Duration = Duration::from_secs(10);

/// What a connector runs in.
#[derive(Clone)]
pub struct Env {
    /// Where events and offsets go.
    pub log: Arc<dyn Log>,
    /// Offsets topic, where the connector's configuration names none.
    pub offsets_topic: String,
    /// Identity of the writer: whoever opens it last is the connector.
    pub transactional_id: String,
    /// Whether events and offset are one write. Without, a failure may write events once more.
    pub exactly_once: bool,
    /// Other addresses (`--connect-to`).
    pub addresses: AddressMap,
    /// What a missing `database.sslmode` means.
    pub tls: TlsDefault,
    /// Where streamed transactions lie that do not fit into memory; made when missing.
    pub spill: PathBuf,
    /// Gets every batch that became durable; an observer that lags misses some.
    pub observer: Option<mpsc::Sender<Committed>>,
    /// Give up at the first failure before anything moved, instead of trying again: for somebody who waits at
    /// a terminal. Once data has moved, the connector heals as always.
    pub fail_fast: bool,
}

impl Env {
    /// An environment with the service's defaults.
    pub fn new(log: Arc<dyn Log>, connector: &str) -> Self {
        Self {
            log,
            offsets_topic: crate::config::settings::Worker::default().offset_storage_topic,
            transactional_id: transactional_id(
                &crate::config::settings::Worker::default().group_id,
                connector,
            ),
            exactly_once: true,
            addresses: AddressMap::default(),
            tls: TlsDefault::default(),
            spill: std::env::temp_dir(),
            observer: None,
            fail_fast: false,
        }
    }
}

/// `GROUP-CONNECTOR-0`, as Kafka Connect names the transactions of a connector's only task.
pub fn transactional_id(group: &str, connector: &str) -> String {
    format!("{group}-{connector}-0")
}

/// Starts connectors.
#[derive(Debug)]
pub struct Connector;

impl Connector {
    /// Starts a connector and returns at once; how it fares is in the handle's status.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub fn start(config: ConnectorConfig, env: Env) -> Result<ConnectorHandle> {
        for warning in config.warnings() {
            tracing::warn!(connector = config.name(), "{warning}");
        }
        let options = CaptureOptions::new(&config)?;
        let topics = topics::defaults(&config)?;
        let database = config.database(&env.addresses, env.tls)?;
        if !config.is_set("database.sslmode") && env.tls == TlsDefault::Prefer && !database.is_local() {
            tracing::warn!(
                connector = config.name(),
                "database.sslmode is not set: prefer is taken, which verifies nothing"
            );
        }
        let status = StatusCell::new();
        let (stop, stopped) = watch::channel(false);
        let name = config.name().to_owned();
        let run = Run {
            config,
            options,
            given: database.clone(),
            topics,
            database,
            env,
            status: Arc::clone(&status),
            stop: stopped,
            streaming: true,
            walsender: None,
            owner: Owner::new_name(),
            claimed: false,
            lacks: None,
        };
        let task = tokio::spawn(Box::pin(supervise(run)));
        Ok(ConnectorHandle { name, status, stop, task: tokio::sync::Mutex::new(Some(task)) })
    }
}

/// A started connector.
#[derive(Debug)]
pub struct ConnectorHandle {
    name: String,
    status: Arc<StatusCell>,
    stop: watch::Sender<bool>,
    task: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

impl ConnectorHandle {
    /// The connector's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it fares.
    pub fn status(&self) -> ConnectorStatus {
        self.status.read()
    }

    /// Forgets the topics written to so far; those written to from now on are remembered.
    pub fn forget_topics(&self) {
        self.status.forget_topics();
    }

    /// Waits for the next change of its phase or error.
    pub fn changed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.status.subscribe()
    }

    /// Waits until everything that stood in the WAL when streaming began is durable in the log (without
    /// streaming: until the snapshot is).
    ///
    /// # Errors
    /// The connector failed or was stopped before.
    pub async fn caught_up(&self) -> Result<()> {
        let (phase, error) = self.status.wait(|phase, caught_up| caught_up || phase.is_final()).await;
        if self.status.read().caught_up { Ok(()) } else { Err(self.ended(phase, error)) }
    }

    /// Waits until it streams (or, without streaming, until the snapshot is durable).
    ///
    /// # Errors
    /// The connector failed or was stopped before.
    pub async fn streaming(&self) -> Result<()> {
        let ready = |phase: Phase| matches!(phase, Phase::Streaming | Phase::Idle);
        let (phase, error) = self.status.wait(|phase, _| ready(phase) || phase.is_final()).await;
        if ready(phase) { Ok(()) } else { Err(self.ended(phase, error)) }
    }

    /// Waits until it has ended, by itself or by [`ConnectorHandle::stop`].
    ///
    /// # Errors
    /// What it failed with.
    pub async fn ended_by_itself(&self) -> Result<()> {
        match self.status.wait(|phase, _| phase.is_final()).await {
            (Phase::Failed, error) => Err(self.ended(Phase::Failed, error)),
            _ => Ok(()),
        }
    }

    /// Asks for a clean stop and waits for it, 10 s at most: events at hand are made durable and confirmed.
    pub async fn stop(&self) {
        self.stop_within(STOP).await;
    }

    pub(crate) async fn stop_within(&self, limit: Duration) {
        let _ = self.stop.send(true);
        let Some(mut task) = self.task.lock().await.take() else { return };
        match tokio::time::timeout(limit, &mut task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(connector = self.name, %error, "the connector's task ended badly");
            }
            Err(_) => {
                tracing::warn!(
                    connector = self.name,
                    "the connector did not stop within {} s; what was not durable comes again",
                    limit.as_secs()
                );
                task.abort();
                let _ = task.await;
                self.status.phase(Phase::Stopped);
            }
        }
    }

    fn ended(&self, phase: Phase, error: Option<Arc<Error>>) -> Error {
        match error {
            Some(error) => restate(&error),
            None => Error::new(Kind::Stopped, format!("connector {} is {}", self.name, phase.name())),
        }
    }
}

impl Drop for ConnectorHandle {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

/// The same error once more, for whoever did not get the original.
fn restate(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.what().to_owned());
    if let Some(cause) = error.cause() {
        copy = copy.because(cause);
    }
    if let Some(next) = error.next_step() {
        copy = copy.next(next.to_owned());
    }
    copy
}

/// Runs until a stop or a failure that no retry heals.
async fn supervise(mut run: Run) {
    let (mut tries, mut slot_tries, mut fenced) = (0u32, 0u32, 0u32);
    // A few seconds suffice to see a crashed predecessor's session go.
    let patience = if run.env.fail_fast { FAIL_FAST } else { Duration::MAX };
    loop {
        let begun = Instant::now();
        let status = Arc::clone(&run.status);
        let result = tokio::select! {
            result = Box::pin(run.once()) => result,
            error = stalled(&status, STALLED) => Err(error),
        };
        if begun.elapsed() >= HEALTHY {
            (tries, slot_tries) = (0, 0);
        }
        if begun.elapsed() >= UNFENCED {
            fenced = 0;
        }
        let error = match result {
            Ok(Ended::Stopped) => return run.status.phase(Phase::Stopped),
            Ok(Ended::Again) => continue,
            Err(error) if *run.stop.borrow() => {
                tracing::debug!(connector = run.options.name, %error, "ended while stopping");
                return run.status.phase(Phase::Stopped);
            }
            Err(error) => error,
        };
        let pause = match error.kind() {
            Kind::Transient
                if (!run.env.fail_fast || run.status.has_moved())
                    && run.options.max_retries.is_none_or(|max| tries < max) =>
            {
                tries += 1;
                Some(backoff(FIRST_RETRY, tries, run.options.retry_wait))
            }
            // After a crash the server may need a moment to see that the old session is gone.
            Kind::Fenced if is_slot_in_use(&error) => {
                slot_tries += 1;
                let pause = backoff(FIRST_SLOT_RETRY, slot_tries, run.options.slot_retry_delay);
                let spent =
                    run.options.slot_retry_delay.saturating_mul(run.options.slot_max_retries).min(patience);
                (waited(FIRST_SLOT_RETRY, slot_tries, run.options.slot_retry_delay) <= spent).then_some(pause)
            }
            // A Kafka broker fences a writer, too, whose transaction took too long: one that stood still, or could not
            // reach the broker. Whether there is another one, the offset will tell.
            Kind::Fenced if run.has_claimed() && !owner::is_taken_over(&error) && fenced < MOST_FENCED => {
                fenced += 1;
                Some(IN_DOUBT)
            }
            _ => None,
        };
        // Many connectors that lost the same server do not come back in step.
        let pause = pause.map(|pause| pause.mul_f64(0.75 + 0.5 * rand::random::<f64>()));
        let Some(pause) = pause else {
            tracing::error!(connector = run.options.name, %error, "connector failed");
            return run.status.failed(Phase::Failed, Arc::new(error));
        };
        tracing::warn!(connector = run.options.name, %error, "RECONNECTING: next try in {} ms", pause.as_millis());
        run.status.failed(Phase::Reconnecting, Arc::new(error));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = super::run::stopped(&mut run.stop) => return run.status.phase(Phase::Stopped),
        }
    }
}

/// Watches over a run: ends when nothing of it has moved for `limit`.
async fn stalled(status: &StatusCell, limit: Duration) -> Error {
    let (mut last, mut since) = (None, tokio::time::Instant::now());
    loop {
        tokio::time::sleep(limit / 20).await;
        let pulse = status.pulse();
        if pulse.is_none() || pulse != last {
            (last, since) = (pulse, tokio::time::Instant::now());
        } else if since.elapsed() >= limit {
            return Error::transient(format!("nothing has moved for {} s", limit.as_secs()))
                .because("the connector hangs, or waits for an answer that does not come")
                .next("it is begun again; if this repeats, millstream doctor may tell why");
        }
    }
}

fn is_slot_in_use(error: &Error) -> bool {
    crate::pg::sqlstate(error) == Some("55006")
}

fn backoff(first: Duration, tries: u32, most: Duration) -> Duration {
    first
        .saturating_mul(1u32.checked_shl(tries.saturating_sub(1).min(16)).unwrap_or(u32::MAX))
        .min(most.max(first))
}

/// All pauses so far together.
fn waited(first: Duration, tries: u32, most: Duration) -> Duration {
    (1..=tries.min(64)).map(|n| backoff(first, n, most)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_that_hangs_is_noticed_and_one_that_moves_is_not() {
        let status = StatusCell::new();
        let limit = Duration::from_millis(400);
        let moves = async {
            for _ in 0..20 {
                tokio::time::sleep(limit / 10).await;
                status.turns.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        };
        tokio::select! {
            () = moves => {}
            error = stalled(&status, limit) => panic!("{error}"),
        }
        let error = tokio::time::timeout(5 * limit, stalled(&status, limit)).await.unwrap();
        assert!(error.is_transient());
        // Reading a large table may take its time between two signs of life.
        status.phase(Phase::Snapshot);
        assert!(tokio::time::timeout(2 * limit, stalled(&status, limit)).await.is_err());
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_ever() {
        let status = StatusCell::new();
        status.phase(Phase::Streaming);
        let (stop, stopped) = watch::channel(false);
        // Holds what a connector holds, until it is gone.
        let task = tokio::spawn(async move {
            let _held = stopped;
            std::future::pending::<()>().await;
        });
        let task = tokio::sync::Mutex::new(Some(task));
        let handle = ConnectorHandle { name: "c".to_owned(), status, stop, task };
        let stop = handle.stop_within(Duration::from_millis(50));
        tokio::time::timeout(Duration::from_secs(5), stop).await.expect("it is not waited for");
        assert_eq!(handle.status().phase, Phase::Stopped);
        assert!(handle.stop.is_closed(), "what it held is let go before the stop returns");
        assert!(STOP <= Duration::from_secs(10), "a service gives its connectors no more");
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let most = Duration::from_secs(10);
        let pauses: Vec<u64> =
            (1..=9).map(|n| u64::try_from(backoff(FIRST_RETRY, n, most).as_millis()).unwrap()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10000, 10000]);
        assert_eq!(backoff(FIRST_RETRY, u32::MAX, most), most);
        assert_eq!(backoff(FIRST_RETRY, 3, Duration::ZERO), FIRST_RETRY);
    }
}
