//! Signals that come from elsewhere than the signal table: from a topic, from a file.

use std::io::{ErrorKind, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::mpsc;
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

/// A signal, and where its topic goes on after it.
pub(super) type Arrived = (Signal, Option<i64>);

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

/// Looks at the file again and again; lines that were taken are removed from it.
async fn follow_file(name: String, path: PathBuf, poll: Duration, tell: mpsc::Sender<Arrived>) {
    let mut failed = false;
    loop {
        let at = path.clone();
        let lines = tokio::task::spawn_blocking(move || take_lines(&at)).await;
        match lines {
            Ok(Ok(lines)) => {
                failed = false;
                for line in lines.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()) {
                    match parse(line) {
                        Ok(signal) => {
                            if tell.send((signal, None)).await.is_err() {
                                return;
                            }
                        }
                        Err(why) => {
                            tracing::warn!(connector = name, "a line of the signal file is ignored: {why}")
                        }
                    }
                }
            }
            Ok(Err(error)) if !std::mem::replace(&mut failed, true) => {
                tracing::warn!(connector = name, %error, "cannot read the signal file {}", path.display());
            }
            Ok(Err(_)) | Err(_) => {}
        }
        tokio::time::sleep(poll).await;
    }
}

/// Takes the whole lines of a file; what has no end yet stays.
fn take_lines(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut all = match std::fs::read(path) {
        Ok(all) => all,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    // The last line may lack its end, as Debezium's readers take it.
    let whole = match all.iter().rposition(|b| *b == b'\n') {
        _ if parse(&all).is_ok() => all.len(),
        Some(end) if parse(all.get(end + 1..).unwrap_or_default()).is_ok() => all.len(),
        Some(end) => end + 1,
        None => return Ok(Vec::new()),
    };
    if whole > 0 {
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(path)?;
        // What was appended since is kept.
        let now = std::fs::read(path)?;
        let rest = now.get(whole..).unwrap_or_default();
        file.set_len(0)?;
        file.seek(std::io::SeekFrom::Start(0))?;
        file.write_all(rest)?;
    }
    all.truncate(whole);
    Ok(all)
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
                    data: Vec::new(),
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
                        if tell.send((signal, self.next)).await.is_err() {
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
    fn whole_lines_are_taken_out_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signals");
        assert!(take_lines(&path).unwrap().is_empty());
        std::fs::write(&path, "{\"type\":\"a\"}\n{\"type\":\"b\"}\n{\"ty").unwrap();
        assert_eq!(take_lines(&path).unwrap(), b"{\"type\":\"a\"}\n{\"type\":\"b\"}\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"ty");
        std::fs::write(&path, "{\"type\":\"c\"}").unwrap();
        assert_eq!(take_lines(&path).unwrap(), b"{\"type\":\"c\"}");
        assert!(std::fs::read(&path).unwrap().is_empty());
    }
}
