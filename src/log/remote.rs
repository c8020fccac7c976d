//! Reading an embedded log that another process of this machine holds, through its control socket.
//!
//! Each question stands for itself: a poll says from where it wants to read and how long it waits, so that nothing
//! has to be cleaned up when a reader goes away.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::embedded::frames;
use super::{
    Fetched, Log, LogReader, LogWriter, OffsetRange, Position, TopicInfo, TopicPartition, TopicSpec,
};
use crate::error::{Error, Kind, Result};
use crate::server::control;

/// What is asked; `dir` says which log of the process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Question {
    /// The log's directory, canonical.
    pub dir: PathBuf,
    /// The topic, for what is about one.
    #[serde(default)]
    pub topic: String,
    /// The partition, for what is about one.
    #[serde(default)]
    pub partition: i32,
    /// `earliest`, `latest`, or `time` with [`Question::at`].
    #[serde(default)]
    pub position: String,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub at: i64,
    /// From where to read.
    #[serde(default)]
    pub assigned: Vec<From>,
    /// As of [`LogReader::poll`].
    #[serde(default)]
    pub max_bytes: usize,
    /// As of [`LogReader::poll`], in milliseconds.
    #[serde(default)]
    pub timeout: u64,
}

/// From where to read a partition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct From {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

/// A topic as it is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct TopicAnswer {
    /// Topic name.
    pub name: String,
    /// Earliest and end offset of each partition.
    pub partitions: Vec<(i64, i64)>,
    /// Topic configs.
    pub configs: std::collections::BTreeMap<String, String>,
}

/// An embedded log of another process; it can be read, and not written.
#[derive(Clone, Debug)]
pub struct RemoteLog {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    /// Directory of the control socket.
    data: PathBuf,
    dir: PathBuf,
}

impl RemoteLog {
    /// Finds the process that holds the log in `dir` behind the control socket of one of the data directories;
    /// `None` when none of them answers for it.
    pub async fn find(dir: &Path, data: &[PathBuf]) -> Option<Self> {
        let dir = dir.canonicalize().ok()?;
        for data in data {
            let owner = Arc::new(Owner { data: data.clone(), dir: dir.clone() });
            if owner.ask("/log/topics", owner.question()).await.is_ok() {
                return Some(Self { owner });
            }
        }
        None
    }
}

impl Owner {
    fn question(&self) -> Question {
        Question {
            dir: self.dir.clone(),
            topic: String::new(),
            partition: 0,
            position: String::new(),
            at: 0,
            assigned: Vec::new(),
            max_bytes: 0,
            timeout: 0,
        }
    }

    async fn answer(&self, path: &str, question: Question) -> Result<control::Answer> {
        let body = serde_json::to_value(question).map_err(|e| {
            Error::internal("a question to the running process cannot be written").with_source(e)
        })?;
        control::request(&self.data, "POST", path, Some(&body)).await?.ok_or_else(|| {
            Error::transient("the process that held the log has ended").next("run the command again")
        })
    }

    async fn ask(&self, path: &str, question: Question) -> Result<Value> {
        self.answer(path, question).await?.json()
    }

    fn not_writable(&self) -> Error {
        Error::new(Kind::Fenced, format!("the log in {} is held by another process", self.dir.display()))
            .because("only one process can write to an embedded log; this one can read it through that one")
            .next("stop the other process, or let it do the work: connectors and pipelines of one millstream run share its log")
    }
}

fn strange(error: serde_json::Error) -> Error {
    Error::internal("the running process gave an answer of another form").with_source(error)
}

#[async_trait]
impl Log for RemoteLog {
    fn describe(&self) -> String {
        format!("file:{}", self.owner.dir.display())
    }

    async fn create_topic(&self, _: &TopicSpec) -> Result<bool> {
        Err(self.owner.not_writable())
    }

    async fn topics(&self) -> Result<Vec<String>> {
        let names = self.owner.ask("/log/topics", self.owner.question()).await?;
        serde_json::from_value(names).map_err(strange)
    }

    async fn topic(&self, name: &str) -> Result<Option<TopicInfo>> {
        let question = Question { topic: name.to_owned(), ..self.owner.question() };
        let answer = self.owner.ask("/log/topic", question).await?;
        let answer: Option<TopicAnswer> = serde_json::from_value(answer).map_err(strange)?;
        Ok(answer.map(|a| TopicInfo {
            name: a.name,
            partitions: a
                .partitions
                .into_iter()
                .map(|(earliest, end)| OffsetRange { earliest, end })
                .collect(),
            configs: a.configs,
        }))
    }

    async fn delete_topic(&self, _: &str) -> Result<bool> {
        Err(self.owner.not_writable())
    }

    async fn resolve(&self, at: &TopicPartition, position: Position) -> Result<i64> {
        let (name, time) = match position {
            Position::Offset(offset) => return Ok(offset),
            Position::Earliest => ("earliest", 0),
            Position::Latest => ("latest", 0),
            Position::Timestamp(time) => ("time", time),
        };
        let question = Question {
            topic: at.topic.to_string(),
            partition: at.partition,
            position: name.to_owned(),
            at: time,
            ..self.owner.question()
        };
        let answer = self.owner.ask("/log/resolve", question).await?;
        serde_json::from_value(answer).map_err(strange)
    }

    async fn writer(&self, _: &str) -> Result<Box<dyn LogWriter>> {
        Err(self.owner.not_writable())
    }

    async fn reader(&self) -> Result<Box<dyn LogReader>> {
        Ok(Box::new(RemoteReader { owner: Arc::clone(&self.owner), assigned: Vec::new() }))
    }
}

/// A reader through the control socket.
#[derive(Debug)]
struct RemoteReader {
    owner: Arc<Owner>,
    assigned: Vec<(Arc<TopicPartition>, i64)>,
}

#[async_trait]
impl LogReader for RemoteReader {
    async fn assign(&mut self, at: TopicPartition, offset: i64) -> Result<()> {
        self.unassign(&at).await?;
        self.assigned.push((Arc::new(at), offset));
        Ok(())
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<()> {
        self.assigned.retain(|(p, _)| **p != *at);
        Ok(())
    }

    async fn poll(&mut self, max_bytes: usize, timeout: Duration) -> Result<Fetched> {
        let assigned = self
            .assigned
            .iter()
            .map(|(at, offset)| From {
                topic: at.topic.to_string(),
                partition: at.partition,
                offset: *offset,
            })
            .collect();
        let question = Question {
            assigned,
            max_bytes,
            timeout: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            ..self.owner.question()
        };
        let answer = self.owner.answer("/log/read", question).await?;
        if answer.status != 200 {
            answer.json()?;
        }
        let fetched = frames::decode(&answer.body)
            .ok_or_else(|| Error::internal("the running process gave records of another form"))?;
        // Only now: a call dropped before this loses nothing.
        for (at, next) in fetched.next_offsets() {
            if let Some((_, offset)) = self.assigned.iter_mut().find(|(p, _)| p == at) {
                *offset = *next;
            }
        }
        Ok(fetched)
    }
}
