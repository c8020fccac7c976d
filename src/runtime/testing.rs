//! A small world for tests of pipelines: an embedded log, a topic of change events, plans that copy it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::*;
use crate::engine::plan::{ChangelogMode, Node, Op, Plan, TableColumn, TableRef};
use crate::engine::types::{DataType, Field, TypeKind};
use crate::log::embedded::EmbeddedLog;
use crate::log::{Batch, Log, LogWriter, TopicPartition};
use crate::sink::print::PrintTarget;

pub(crate) fn columns() -> Vec<TableColumn> {
    [("id", TypeKind::Int), ("name", DataType::string().kind)]
        .map(|(name, kind)| TableColumn {
            field: Field { name: name.into(), data_type: DataType::new(kind) },
            metadata: None,
        })
        .to_vec()
}

pub(crate) fn table(name: &str, options: &[(&str, &str)]) -> TableRef {
    TableRef {
        name: name.into(),
        options: options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        columns: columns(),
        primary_key: vec![0],
    }
}

/// A copy of a change topic into sinks.
pub(crate) fn plan(sinks: &[TableRef]) -> Plan {
    let changelog = ChangelogMode { update_before: true, update_after: true, delete: true };
    let schema: Vec<Field> = columns().into_iter().map(|c| c.field).collect();
    let source = table(
        "orders",
        &[
            ("connector", "kafka"),
            ("topic", "orders"),
            ("format", "debezium-json"),
            ("scan.startup.mode", "earliest-offset"),
        ],
    );
    let node = |op, inputs: &[usize], name: &str| Node {
        op,
        inputs: inputs.to_vec(),
        schema: schema.clone(),
        changelog,
        name: name.into(),
    };
    let mut nodes = vec![node(Op::Source(source), &[], "source")];
    nodes.extend(sinks.iter().map(|s| node(Op::Sink(s.clone()), &[0], &s.name)));
    Plan { nodes, options: BTreeMap::new(), warnings: Vec::new() }
}

pub(crate) fn upsert_topic() -> TableRef {
    table(
        "copy",
        &[("connector", "upsert-kafka"), ("topic", "copy"), ("key.format", "json"), ("value.format", "json")],
    )
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) writer: Box<dyn LogWriter>,
    pub(crate) printed: Arc<Mutex<Vec<String>>>,
}

impl World {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Log> = Arc::new(EmbeddedLog::open(dir.path().join("log")).unwrap());
        let writer = log.writer("test").await.unwrap();
        Self { dir, log, writer, printed: Arc::default() }
    }

    pub(crate) fn environment(&self) -> Environment {
        let print = PrintTarget::Capture(Arc::clone(&self.printed));
        Environment { print, ..Environment::new(Arc::clone(&self.log), self.dir.path()) }
    }

    pub(crate) async fn send(&mut self, values: &[&str]) {
        let mut batch = Batch::new();
        let topic = batch.topic("orders");
        for value in values {
            let mut record = batch.record(topic);
            record.value(|out| out.extend_from_slice(value.as_bytes()));
            record.finish();
        }
        self.writer.commit(batch).await.unwrap();
    }

    /// Values of a topic of one partition, tombstones as `null`.
    pub(crate) async fn read(&self, topic: &str) -> Vec<String> {
        let info = self.log.topic(topic).await.unwrap().unwrap();
        let mut reader = self.log.reader().await.unwrap();
        reader.assign(TopicPartition { topic: topic.into(), partition: 0 }, 0).await.unwrap();
        let mut values = Vec::new();
        while values.len() < usize::try_from(info.partitions[0].end).unwrap() {
            let fetched = reader.poll(1 << 20, Duration::from_secs(5)).await.unwrap();
            values.extend(
                fetched
                    .iter()
                    .map(|r| r.value.map_or("null".into(), |v| String::from_utf8(v.to_vec()).unwrap())),
            );
        }
        values
    }
}

pub(crate) fn create(id: u32, name: &str) -> String {
    format!(r#"{{"before":null,"after":{{"id":{id},"name":"{name}"}},"op":"c"}}"#)
}
