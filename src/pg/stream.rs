//! The stream of changes: big reads, borrowed frames, and feedback that never waits for the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Lsn;
use super::config::ConnectConfig;
use super::error::{ServerError, connection_lost, protocol_error, publication_skipped, server_error};
use super::frames::{WalChunk, WalFrame, decode};
use super::net::Stream;
use super::wire::{HEADER, Wire, frame_size, reserve};
use crate::error::{Error, Result};

/// Shortest time between two status updates that only report a new flushed position.
const THROTTLE: Duration = Duration::from_millis(100);
/// How long a clean end may take before the socket is just closed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// PostgreSQL counts time from 2000-01-01.
const PG_EPOCH: Duration = Duration::from_secs(946_684_800);

/// What reader, consumer and feedback task share.
#[derive(Debug)]
struct Shared {
    /// Highest position received.
    received: AtomicU64,
    /// Highest position that the consumer has made durable.
    flushed: AtomicU64,
    /// The server wants an answer now.
    reply: AtomicBool,
    /// The consumer wants to know how far the server is.
    ask: AtomicBool,
    /// The consumer wants the stream to end.
    stop: AtomicBool,
    wake: Notify,
}

/// Tells the stream what is durable; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Acknowledger {
    shared: Arc<Shared>,
}

impl Acknowledger {
    /// Everything up to here is durable, together with its offset record: the slot may forget it. Goes out
    /// within about 100 ms. A position below an earlier one changes nothing.
    pub fn flushed(&self, lsn: Lsn) {
        let before = self.shared.flushed.fetch_max(lsn.0, Ordering::AcqRel);
        if lsn.0 > before {
            self.shared.wake.notify_one();
        }
    }

    /// Asks the server for a keepalive: it answers once it has sent all it has.
    pub fn ask(&self) {
        self.shared.ask.store(true, Ordering::Release);
        self.shared.wake.notify_one();
    }

    /// The position reported as flushed.
    pub fn position(&self) -> Lsn {
        Lsn(self.shared.flushed.load(Ordering::Acquire))
    }
}

/// A running stream of changes.
///
/// Reading happens only inside [`WalStream::next_chunk`], so a slow consumer leaves the data with the server.
/// Status updates are sent by a task of their own: the walsender stays alive however slow the consumer is.
#[derive(Debug)]
pub struct WalStream {
    reader: ReadHalf<Stream>,
    read: BytesMut,
    config: ConnectConfig,
    slot: String,
    shared: Arc<Shared>,
    /// Since when we wait for a word of the server.
    quiet_since: Option<Instant>,
    /// After so long it counts as gone.
    silence: Duration,
    feedback: JoinHandle<std::io::Result<WriteHalf<Stream>>>,
}

impl WalStream {
    pub(super) fn new(wire: Wire, slot: String, start: Lsn, interval: Duration, silence: Duration) -> Self {
        let Wire { stream, read, config, .. } = wire;
        let (reader, writer) = tokio::io::split(stream);
        let shared = Arc::new(Shared {
            received: AtomicU64::new(start.0),
            // Zero confirms nothing: only the consumer knows what is durable.
            flushed: AtomicU64::new(0),
            reply: AtomicBool::new(false),
            ask: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake: Notify::new(),
        });
        let feedback = tokio::spawn(feedback(writer, Arc::clone(&shared), interval));
        Self { reader, read, config, slot, shared, quiet_since: None, silence, feedback }
    }

    /// A handle that reports durable positions.
    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger { shared: Arc::clone(&self.shared) }
    }

    /// Waits for data and gives all whole frames at hand. Cancel-safe.
    ///
    /// # Errors
    /// What the server reports (publication missing, slot invalidated, …), a lost connection, a server that
    /// shuts down (transient).
    pub async fn next_chunk(&mut self) -> Result<WalChunk> {
        loop {
            if let Some(chunk) = self.buffered()? {
                return Ok(chunk);
            }
            self.receive().await?;
        }
    }

    /// The whole frames at the front of the buffer, also when they stand behind a notice.
    fn buffered(&mut self) -> Result<Option<WalChunk>> {
        loop {
            let whole = self.scan()?;
            if whole > 0 {
                return Ok(Some(WalChunk { bytes: self.read.split_to(whole).freeze() }));
            }
            let before = self.read.len();
            self.control()?;
            if self.read.len() == before {
                return Ok(None);
            }
        }
    }

    /// Reads what there is. Cancel-safe.
    async fn receive(&mut self) -> Result<()> {
        reserve(&mut self.read);
        let read = match self.reader.read_buf(&mut self.read).now_or_never() {
            Some(read) => read,
            None => {
                // A call that is dropped and made again goes on waiting from where the silence began.
                let since = *self.quiet_since.get_or_insert_with(Instant::now);
                tokio::select! {
                    biased;
                    read = self.reader.read_buf(&mut self.read) => read,
                    () = sleep_until(since + self.silence) => return Err(self.silent()),
                }
            }
        };
        self.quiet_since = None;
        match read {
            Ok(0) => Err(connection_lost(&self.config, std::io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(e) => Err(connection_lost(&self.config, e)),
        }
    }

    fn silent(&self) -> Error {
        Error::transient(format!("the connection to {} is dead", self.config.describe()))
            .because(format!("no word for {} s, though asked for one", self.silence.as_secs_f32()))
    }

    /// The frames that are at hand without waiting; `None` when there are none: the moment to hand over what
    /// has been collected.
    ///
    /// # Errors
    /// As [`Self::next_chunk`].
    pub fn try_next_chunk(&mut self) -> Result<Option<WalChunk>> {
        loop {
            if let Some(chunk) = self.buffered()? {
                return Ok(Some(chunk));
            }
            match self.receive().now_or_never() {
                Some(received) => received?,
                None => return Ok(None),
            }
        }
    }

    /// Length of the whole CopyData frames at the front of the buffer; checks each of them.
    fn scan(&self) -> Result<usize> {
        let mut end = 0;
        let mut received = 0;
        let mut reply = false;
        loop {
            let rest = self.read.get(end..).unwrap_or_default();
            let size = frame_size(rest).map_err(|why| protocol_error(&self.config, why))?;
            let Some(frame) = size.and_then(|total| rest.get(..total)) else { break };
            if frame.first() != Some(&b'd') {
                break;
            }
            let (decoded, asks) = frame.get(HEADER..).and_then(decode).ok_or_else(|| {
                protocol_error(&self.config, "a message of the stream is neither data nor keepalive")
            })?;
            received = received.max(match decoded {
                WalFrame::Data(data) => data.wal_start.0,
                WalFrame::Keepalive(keepalive) => keepalive.wal_end.0,
            });
            reply |= asks;
            end += frame.len();
        }
        if received > 0 {
            self.shared.received.fetch_max(received, Ordering::AcqRel);
        }
        if reply {
            self.shared.reply.store(true, Ordering::Release);
            self.shared.wake.notify_one();
        }
        Ok(end)
    }

    /// Takes messages other than data off the front of the buffer.
    fn control(&mut self) -> Result<()> {
        loop {
            let size = frame_size(&self.read).map_err(|why| protocol_error(&self.config, why))?;
            let Some(total) = size.filter(|total| *total <= self.read.len()) else { return Ok(()) };
            let frame = self.read.split_to(total);
            let body = frame.get(HEADER..).unwrap_or_default();
            match frame.first() {
                Some(b'S') => {}
                Some(b'N') => {
                    if let Some(skipped) = publication_skipped(body) {
                        let what = format!(
                            "replication slot \"{}\" stopped ({})",
                            self.slot,
                            self.config.describe()
                        );
                        return Err(server_error(what, skipped));
                    }
                }
                Some(b'E') => {
                    let what =
                        format!("replication slot \"{}\" stopped ({})", self.slot, self.config.describe());
                    return Err(server_error(what, ServerError::from_body(body)));
                }
                Some(b'c' | b'C' | b'Z') => {
                    return Err(Error::transient(format!(
                        "{} ended the stream of replication slot \"{}\"",
                        self.config.describe(),
                        self.slot
                    ))
                    .because("the server is shutting down or switching over"));
                }
                _ => return Err(protocol_error(&self.config, "an unknown message in the stream")),
            }
            if self.read.first() == Some(&b'd') {
                return Ok(());
            }
        }
    }

    /// Reports the last flushed position, ends the stream in order and closes the session. Data still on its
    /// way is thrown away: it was never confirmed, so it comes again.
    pub async fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        let end = async {
            let Ok(Ok(mut writer)) = (&mut self.feedback).await else { return };
            while !self.drained().await {}
            let mut message = BytesMut::new();
            frontend::terminate(&mut message);
            let _ = writer.write_all(&message).await;
            let _ = writer.shutdown().await;
        };
        if tokio::time::timeout(STOP_TIMEOUT, end).await.is_err() {
            tracing::debug!("{} did not end the stream in time; closing the socket", self.config.describe());
        }
    }

    /// Throws away one read's worth of messages; true when the server is ready for commands or gone.
    async fn drained(&mut self) -> bool {
        loop {
            match frame_size(&self.read) {
                Ok(Some(total)) if total <= self.read.len() => {
                    let frame = self.read.split_to(total);
                    if matches!(frame.first(), Some(b'Z' | b'E')) {
                        return true;
                    }
                }
                Ok(_) => break,
                Err(_) => return true,
            }
        }
        reserve(&mut self.read);
        !matches!(self.reader.read_buf(&mut self.read).await, Ok(n) if n > 0)
    }
}

impl Drop for WalStream {
    fn drop(&mut self) {
        self.feedback.abort();
    }
}

/// Sends status updates until the stream stops; gives the write half back for the goodbye.
async fn feedback(
    mut writer: WriteHalf<Stream>,
    shared: Arc<Shared>,
    interval: Duration,
) -> std::io::Result<WriteHalf<Stream>> {
    let mut last_sent = Instant::now();
    let mut last_flushed = shared.flushed.load(Ordering::Acquire);
    loop {
        let stop = shared.stop.load(Ordering::Acquire);
        let ask = shared.ask.swap(false, Ordering::AcqRel);
        let reply = shared.reply.swap(false, Ordering::AcqRel) || ask;
        let flushed = shared.flushed.load(Ordering::Acquire);
        let due = if stop || reply {
            Instant::now()
        } else if flushed > last_flushed {
            last_sent + THROTTLE.min(interval)
        } else {
            last_sent + interval
        };
        if due > Instant::now() {
            tokio::select! {
                () = shared.wake.notified() => {}
                () = sleep_until(due) => {}
            }
            continue;
        }
        let received = shared.received.load(Ordering::Acquire).max(flushed);
        // Not with every confirmation: an answer a time is enough to know that the server lives.
        let ask = ask || last_sent.elapsed() >= interval / 2;
        writer.write_all(&status_update(received, flushed, ask)).await?;
        if stop {
            let mut done = BytesMut::new();
            frontend::copy_done(&mut done);
            writer.write_all(&done).await?;
        }
        writer.flush().await?;
        if stop {
            return Ok(writer);
        }
        last_sent = Instant::now();
        last_flushed = flushed;
    }
}

/// A CopyData message with a standby status update; `ask` asks for a keepalive in return.
fn status_update(received: u64, flushed: u64, ask: bool) -> [u8; 39] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(PG_EPOCH);
    let clock = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
    let mut out = [0u8; 39];
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        if let Some(slot) = out.get_mut(at..at + bytes.len()) {
            slot.copy_from_slice(bytes);
        }
        at += bytes.len();
    };
    put(b"d");
    put(&38u32.to_be_bytes());
    put(b"r");
    put(&received.to_be_bytes());
    put(&flushed.to_be_bytes());
    // Applied: no reader of ours is behind what is flushed.
    put(&flushed.to_be_bytes());
    put(&clock.to_be_bytes());
    put(&[u8::from(ask)]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_update_is_whole() {
        assert_eq!(status_update(1, 1, true)[38], 1);
        let message = status_update(0x0102, 0x0101, false);
        assert_eq!(message[0], b'd');
        assert_eq!(frame_size(&message), Ok(Some(39)));
        assert_eq!(message[5], b'r');
        assert_eq!(&message[6..14], &0x0102u64.to_be_bytes());
        assert_eq!(&message[14..22], &0x0101u64.to_be_bytes());
        assert_eq!(message[38], 0);
    }
}
