//! Signals that come from elsewhere than the signal table: from a topic, from a file.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::offset::Offset;
use super::run::Run;
use super::signal::Signal;
use crate::config::connector::SignalTopic;
use crate::error::Result;
use crate::log::{Log, OpenOptions, TopicPartition};

/// In the offset: where in the signal topic to go on.
const POSITION: &str = "millstream.signal.offset";
/// Signals that wait for the connector.
const WAITING: usize = 64;
/// Bytes of the signal topic fetched at once.
const FETCH: usize = 1 << 20;

/// A signal that came beside the stream.
pub(super) struct Arrived {
    pub(super) signal: Signal,
    /// Where its topic goes on after it.
    pub(super) next: Option<i64>,
    /// To be told when what it asks for is durable, or done: only then it is taken out of its file.
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// The channels of a connector besides the signal table.
pub(super) struct Channels {
    from: mpsc::Receiver<Arrived>,
    /// Ended when dropped.
    _tasks: JoinSet<()>,
    any: bool,
}

impl Channels {
    pub(super) fn start(run: &Run, offset: &Offset) -> Self {
        let (tell, from) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        let signals = &run.options.signals;
        let name = run.options.name.clone();
        if let Some(path) = &signals.file {
            tasks.spawn(follow_file(name.clone(), path.clone(), signals.poll, tell.clone()));
        }
        if let Some(topic) = &signals.kafka {
            let reader = TopicReader {
                name,
                topic: topic.clone(),
                own: Arc::clone(&run.env.log),
                addresses: run.env.addresses.clone(),
                prefix: run.options.topic_prefix.clone(),
                next: offset.extra.get(POSITION).and_then(Value::as_i64),
                poll: signals.poll,
            };
            tasks.spawn(reader.follow(tell));
        }
        let any = !tasks.is_empty();
        Self { from, _tasks: tasks, any }
    }

    /// The next signal; waits for ever where there are no channels. Cancel-safe.
    pub(super) async fn next(&mut self) -> Arrived {
        if self.any
            && let Some(arrived) = self.from.recv().await
        {
            return arrived;
        }
        std::future::pending().await
    }

    /// Notes that a signal of the topic was obeyed.
    pub(super) fn note(offset: &mut Offset, next: i64) {
        offset.extra.insert(POSITION.to_owned(), next.into());
    }
}

/// A signal as JSON: `{"id": …, "type": …, "data": {…}}`; the data may also be a text.
fn parse(text: &[u8]) -> std::result::Result<Signal, String> {
    let value: Value = serde_json::from_slice(text).map_err(|e| format!("it is not JSON: {e}"))?;
    let kind = value.get("type").and_then(Value::as_str).ok_or("it has no type")?;
    let id = match value.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Null) | None => uuid::Uuid::new_v4().to_string(),
        Some(other) => other.to_string(),
    };
    let data = match value.get("data") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) => Some(text.clone()),
        Some(data) => Some(data.to_string()),
    };
    Ok(Signal { id, kind: kind.to_owned(), data })
}

/// Looks at the file again and again. A line is removed once the connector has done what it says: killed before
/// that, the connector finds it again.
async fn follow_file(name: String, path: PathBuf, poll: Duration, tell: mpsc::Sender<Arrived>) {
    let mut failed = false;
    loop {
        match obey_file(&name, &path, &tell).await {
            Ok(true) => failed = false,
            Ok(false) => return,
            Err(error) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(connector = name, %error, "cannot read the signal file {}", path.display());
            }
            Err(_) => {}
        }
        tokio::time::sleep(poll).await;
    }
}

/// Sends the signals of the file, one after the other. `false`: the connector has ended.
async fn obey_file(name: &str, path: &Path, tell: &mpsc::Sender<Arrived>) -> std::io::Result<bool> {
    let at = path.to_owned();
    let read = move || {
        // A file that nothing can be removed from would say the same again and again.
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(at)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map(|_| text)
    };
    let text = match blocking(read).await {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(true),
        text => text?,
    };
    for part in whole_parts(&text) {
        if !part.trim_ascii().is_empty() {
            match parse(part) {
                Ok(signal) => {
                    let (done, obeyed) = oneshot::channel();
                    let arrived = Arrived { signal, next: None, done: Some(done) };
                    if tell.send(arrived).await.is_err() || obeyed.await.is_err() {
                        return Ok(false);
                    }
                }
                Err(why) => tracing::warn!(connector = name, "a line of the signal file is ignored: {why}"),
            }
        }
        let (at, length) = (path.to_owned(), part.len());
        blocking(move || remove(&at, length)).await?;
    }
    Ok(true)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}

/// The signals that are written to their end. The last line may lack its line end, as Debezium's readers take it, and
/// a file that holds one signal may have it on several lines.
fn whole_parts(text: &[u8]) -> Vec<&[u8]> {
    if parse(text).is_ok() {
        return vec![text];
    }
    text.split_inclusive(|b| *b == b'\n')
        .filter(|line| line.ends_with(b"\n") || parse(line).is_ok())
        .collect()
}

/// Removes the first bytes of a file; what was appended since it was read is kept.
fn remove(path: &Path, length: usize) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut now = Vec::new();
    file.read_to_end(&mut now)?;
    let rest = now.get(length..).unwrap_or_default();
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(rest)
}

/// Reads partition 0 of the signal topic.
struct TopicReader {
    name: String,
    topic: SignalTopic,
    own: Arc<dyn Log>,
    addresses: crate::config::AddressMap,
    prefix: String,
    next: Option<i64>,
    poll: Duration,
}

impl TopicReader {
    async fn follow(mut self, tell: mpsc::Sender<Arrived>) {
        let mut failed = false;
        loop {
            match self.read(&tell, &mut failed).await {
                Ok(()) => return,
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    tracing::warn!(connector = self.name, %error, "cannot read signals from topic {}", self.topic.topic);
                }
                Err(_) => {}
            }
            tokio::time::sleep(self.poll).await;
        }
    }

    /// Reads until the connector has ended.
    async fn read(&mut self, tell: &mpsc::Sender<Arrived>, failed: &mut bool) -> Result<()> {
        let log = match &self.topic.bootstrap {
            None => Arc::clone(&self.own),
            Some(servers) => {
                let options = OpenOptions {
                    properties: self
                        .topic
                        .properties
                        .iter()
                        .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                        .collect(),
                    addresses: self.addresses.clone(),
                    ..OpenOptions::default()
                };
                crate::log::open(&format!("kafka://{servers}"), &options).await?
            }
        };
        let info = loop {
            match log.topic(&self.topic.topic).await? {
                Some(info) => break info,
                // Somebody makes it with the first signal.
                None => tokio::time::sleep(self.poll).await,
            }
        };
        let earliest = info.partitions.first().map_or(0, |range| range.earliest);
        let mut reader = log.reader().await?;
        let next = self.next.unwrap_or(earliest).max(earliest);
        reader.assign(TopicPartition::new(self.topic.topic.as_str(), 0), next).await?;
        *failed = false;
        loop {
            let fetched = reader.poll(FETCH, self.poll).await?;
            for record in fetched.iter() {
                self.next = Some(record.offset + 1);
                if record.key != Some(self.prefix.as_bytes()) {
                    continue;
                }
                match parse(record.value.unwrap_or_default()) {
                    Ok(signal) => {
                        let arrived = Arrived { signal, next: self.next, done: None };
                        if tell.send(arrived).await.is_err() {
                            return Ok(());
                        }
                    }
                    Err(why) => tracing::warn!(
                        connector = self.name,
                        offset = record.offset,
                        "a signal is ignored: {why}"
                    ),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_read_from_json() {
        let signal = parse(br#"{"id": 7, "type": "log", "data": {"message": "x"}}"#).unwrap();
        assert_eq!((signal.id.as_str(), signal.kind.as_str()), ("7", "log"));
        assert_eq!(signal.data.as_deref(), Some(r#"{"message":"x"}"#));
        assert_eq!(parse(br#"{"id":"a","type":"log","data":"{}"}"#).unwrap().data.as_deref(), Some("{}"));
        assert!(parse(b"{").is_err() && parse(b"{}").is_err());
    }

    #[test]
    fn whole_lines_are_taken_one_after_the_other() {
        let parts = |text: &'static str| -> Vec<&str> {
            whole_parts(text.as_bytes()).into_iter().map(|p| std::str::from_utf8(p).unwrap()).collect()
        };
        let two = "{\"type\":\"a\"}\n{\"type\":\"b\"}\n{\"ty";
        assert_eq!(parts(two), ["{\"type\":\"a\"}\n", "{\"type\":\"b\"}\n"]);
        assert_eq!(parts("{\"type\":\"c\"}"), ["{\"type\":\"c\"}"]);
        assert_eq!(parts("{\n\"type\":\n\"d\"}\n").len(), 1);
        assert!(parts("").is_empty());
    }

    #[tokio::test]
    async fn a_signal_stays_in_the_file_until_it_is_obeyed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signals");
        let text = "no signal\n{\"type\":\"a\"}\n{\"type\":\"b\"}\n";
        std::fs::write(&path, text).unwrap();
        let (tell, mut from) = mpsc::channel(4);
        let reader = tokio::spawn(follow_file("c".into(), path.clone(), Duration::from_millis(1), tell));
        let first = from.recv().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text.trim_start_matches("no signal\n"));
        first.done.unwrap().send(()).unwrap();
        let second = from.recv().await.unwrap();
        assert_eq!((second.signal.kind.as_str(), std::fs::read(&path).unwrap().len()), ("b", 13));
        // The connector ends before it has obeyed.
        drop((second, from));
        reader.await.unwrap();
        assert_eq!(std::fs::read(&path).unwrap().len(), 13);
    }
}
