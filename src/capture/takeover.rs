//! Taking over from Debezium: an offset of its names the last event by LSN alone, and the rows of one COPY share
//! one. How many of them are in the log is counted at the ends of the topics.

use std::sync::Arc;

use serde_json::Value;

use super::position::Through;
use crate::error::Result;
use crate::log::{Log, TopicPartition, scan};

/// Records that are looked at before the end of a partition; doubled until one of another place is found.
const STRETCH: i64 = 4096;

/// Completes what an offset says with the number of events at its LSN that are in the topics of this prefix.
/// Where no topic holds such an event in a form that tells its LSN (a transform or converter may have removed
/// it), the offset is taken at its word: all of them are.
///
/// # Errors
/// When a topic cannot be read.
pub(super) async fn complete(log: &Arc<dyn Log>, prefix: &str, through: &mut Through) -> Result<()> {
    let mut count = 0;
    for topic in log.topics().await?.into_iter().filter(|t| t.starts_with(prefix)) {
        let Some(info) = log.topic(&topic).await? else { continue };
        for (n, range) in info.partitions.iter().enumerate() {
            let Ok(partition) = i32::try_from(n) else { continue };
            let at = TopicPartition { topic: Arc::from(topic.as_str()), partition };
            count += at_end(log, &at, range.earliest, range.end, through).await?;
        }
    }
    if count > 0 {
        through.at_lsn = Some(count);
        tracing::info!(
            lsn = %through.lsn,
            events = count,
            "goes on within a transaction of which another writer has written a part"
        );
    }
    Ok(())
}

/// Counts a partition's events at the offset's place, from its end backwards.
async fn at_end(
    log: &Arc<dyn Log>,
    at: &TopicPartition,
    earliest: i64,
    end: i64,
    through: &Through,
) -> Result<u64> {
    let mut stretch = STRETCH;
    loop {
        let start = end.saturating_sub(stretch).max(earliest);
        let (mut found, mut older) = (0, false);
        scan(&**log, at, start, end, |record| {
            match record.value.and_then(place) {
                Some(place) if place == (through.lsn.as_u64(), through.xid) => found += 1,
                Some((lsn, _)) => older |= lsn < through.lsn.as_u64(),
                None => {}
            }
            Ok(())
        })
        .await?;
        // Events of one transaction lie together: one of before it ends the search, or that there is none.
        if older || found == 0 || start == earliest {
            return Ok(found);
        }
        stretch = stretch.saturating_mul(2);
    }
}

/// LSN and transaction of an event, with or without a schema around it. A place without a transaction fits an
/// offset without one.
fn place(value: &[u8]) -> Option<(u64, Option<u64>)> {
    let value: Value = serde_json::from_slice(value).ok()?;
    let event = value.get("payload").unwrap_or(&value);
    let source = event.get("source")?;
    Some((source.get("lsn")?.as_u64()?, source.get("txId").and_then(Value::as_u64)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Batch, TopicSpec};
    use crate::pg::Lsn;

    #[test]
    fn an_event_tells_its_place() {
        assert_eq!(place(br#"{"source":{"lsn":7,"txId":3}}"#), Some((7, Some(3))));
        assert_eq!(place(br#"{"schema":{},"payload":{"source":{"lsn":7,"txId":3}}}"#), Some((7, Some(3))));
        assert_eq!(place(br#"{"id":7}"#), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_rows_at_the_last_lsn_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let log: Arc<dyn Log> = Arc::new(crate::log::embedded::EmbeddedLog::open(dir.path()).unwrap());
        log.create_topic(&TopicSpec::new("p.s.t").partitions(1)).await.unwrap();
        let mut writer = log.writer("w").await.unwrap();
        let mut batch = Batch::new();
        let topic = batch.topic("p.s.t");
        for (lsn, xid) in [(60, 9), (70, 8), (70, 9), (70, 9), (70, 9)] {
            let mut record = batch.record(topic);
            record.value(|out| {
                out.extend_from_slice(format!(r#"{{"source":{{"lsn":{lsn},"txId":{xid}}}}}"#).as_bytes())
            });
            record.finish();
        }
        writer.commit(batch).await.unwrap();
        let mut through = Through { lsn: Lsn(70), xid: Some(9), at_lsn: None };
        complete(&log, "p", &mut through).await.unwrap();
        assert_eq!(through.at_lsn, Some(3));
        let mut other = Through { lsn: Lsn(71), xid: Some(9), at_lsn: None };
        complete(&log, "p", &mut other).await.unwrap();
        assert_eq!(other.at_lsn, None);
    }
}
