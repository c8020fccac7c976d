//! Notifications: what a connector's snapshots do, for those who wait for it.

use super::stream::now_ns;
use crate::config::connector::CaptureOptions;
use crate::error::{Error, Result};
use crate::event::Encoder;
use crate::java::hash::bucket;
use crate::log::Batch;

/// Names as Debezium lists them where it holds them in a `HashSet`: in the order of Java's string hashes.
pub(super) fn unordered(names: impl IntoIterator<Item = String>) -> String {
    let mut names: Vec<String> = names.into_iter().collect();
    let buckets = buckets(names.len(), |names, buckets| names * 4 > buckets * 3);
    names.sort_by_key(|name| bucket(name, buckets));
    names.join(",")
}

/// Puts tables in the order in which Debezium finds them in its schema, a `ConcurrentHashMap`.
pub(super) fn as_in_schema(tables: &mut [(String, String)]) {
    let buckets = buckets(tables.len(), |names, buckets| names * 4 >= buckets * 3);
    // Later names come first where they share a bucket.
    tables.sort_by(|a, b| b.cmp(a));
    tables.sort_by_key(|(schema, name)| bucket(&format!("{schema}.{name}"), buckets));
}

fn buckets(names: usize, too_many: impl Fn(usize, usize) -> bool) -> usize {
    let mut buckets = 16;
    while too_many(names, buckets) {
        buckets *= 2;
    }
    buckets
}

/// Where notifications go.
#[derive(Clone, Debug)]
pub(super) struct Notifier {
    sink: bool,
    log: bool,
    /// The logical name.
    name: String,
}

impl Notifier {
    pub(super) fn new(options: &CaptureOptions) -> Self {
        let (sink, log) = options.notify;
        Self { sink, log, name: options.topic_prefix.clone() }
    }

    /// Sends one; a record goes into the batch.
    pub(super) fn send(
        &self,
        encoder: &mut Encoder,
        batch: &mut Batch,
        id: &str,
        aggregate: &str,
        kind: &str,
        data: &[(&'static str, String)],
    ) -> Result<()> {
        if self.log {
            tracing::info!(connector = self.name, id, "{aggregate}: {kind} {data:?}");
        }
        if !self.sink {
            return Ok(());
        }
        let mut all: Vec<(&str, String)> = vec![("connector_name", self.name.clone())];
        all.extend(data.iter().map(|(k, v)| (*k, v.clone())));
        encoder
            .notification(id, aggregate, kind, Some(&all), now_ns() / 1_000_000, batch)
            .map_err(|e| Error::data("a notification cannot be written").because(e))?;
        Ok(())
    }

    /// One about the initial snapshot.
    pub(super) fn initial(
        &self,
        encoder: &mut Encoder,
        batch: &mut Batch,
        kind: &str,
        data: &[(&'static str, String)],
    ) -> Result<()> {
        let id = uuid::Uuid::new_v4().to_string();
        self.send(encoder, batch, &id, "Initial Snapshot", kind, data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashed_names_have_javas_order() {
        let mut names = ["dbz_signal", "empty", "items", "more", "nokey", "zero"]
            .map(|name| ("app".to_owned(), name.to_owned()));
        as_in_schema(&mut names);
        assert_eq!(names.map(|(_, name)| name), ["more", "items", "dbz_signal", "nokey", "empty", "zero"]);
        let names = ["app.empty", "app.items", "app.more", "app.nokey"].map(str::to_owned);
        assert_eq!(unordered(names), "app.more,app.items,app.empty,app.nokey");
    }
}
