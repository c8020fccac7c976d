//! Which process runs a connector: its offset says so. Of two that were started the newer one goes on; the older
//! one finds the other's name in the offset and ends, instead of taking the connector back.

use serde_json::Value;

use super::offset::Offset;
use crate::error::{Error, Kind, Result};
use crate::log::{Batch, LogWriter};

const NAME: &str = "millstream.owner";
const WALSENDER: &str = "millstream.walsender";

/// Who writes an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `HOST/PROCESS/RANDOM`, new with each start of a connector.
    pub name: String,
    /// The server's process behind its replication connection.
    pub walsender: i32,
}

impl Owner {
    /// A name that nobody else has.
    pub(super) fn new_name() -> String {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost");
        format!("{host}/{}/{:08x}", std::process::id(), rand::random::<u32>())
    }

    /// Puts it into an offset's value.
    pub(super) fn write(&self, map: &mut serde_json::Map<String, Value>) {
        map.insert(NAME.to_owned(), Value::from(self.name.as_str()));
        map.insert(WALSENDER.to_owned(), Value::from(self.walsender));
    }

    /// Takes it out of an offset's value.
    pub(super) fn take(map: &mut serde_json::Map<String, Value>) -> Option<Self> {
        let name = map.remove(NAME);
        let walsender = map.remove(WALSENDER).and_then(|v| i32::try_from(v.as_i64()?).ok());
        Some(Self { name: name?.as_str()?.to_owned(), walsender: walsender? })
    }
}

/// The connector is another process's now.
#[derive(Debug, thiserror::Error)]
#[error("taken over by {0}")]
struct TakenOver(String);

/// Whether an error says that another process has the connector.
pub(super) fn is_taken_over(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<TakenOver>())
}

/// Looks whether a connector that has written its offset before is still the one that does.
///
/// # Errors
/// [`Kind::Fenced`] when it is not.
pub(super) fn check(connector: &str, own: &str, stored: Option<&Offset>) -> Result<()> {
    let Some(stored) = stored else { return Ok(()) };
    let other = stored.owner.as_ref().map(|owner| owner.name.as_str());
    if other == Some(own) {
        return Ok(());
    }
    let other = other.unwrap_or("somebody who is not Millstream (Kafka Connect, say)").to_owned();
    Err(Error::new(Kind::Fenced, format!("connector {connector} was taken over by another process"))
        .because(format!("its offset is written by {other} now; host, process and start of this one: {own}"))
        .next("nothing is lost or twice; let only one process run the connector, and start it here if the other is gone")
        .with_source(TakenOver(other)))
}

/// Writes the stored offset once more as it is, in the name of this owner.
pub(super) async fn claim(
    writer: &mut dyn LogWriter,
    topic: &str,
    key: &[u8],
    stored: &[u8],
    owner: &Owner,
) -> Result<()> {
    let Ok(Value::Object(mut map)) = serde_json::from_slice(stored) else { return Ok(()) };
    owner.write(&mut map);
    let mut batch = Batch::new();
    let topic = batch.topic(topic);
    let mut record = batch.record(topic);
    record.key(|out| out.extend_from_slice(key));
    let value = Value::Object(map).to_string();
    record.value(|out| out.extend_from_slice(value.as_bytes()));
    record.finish();
    writer.commit(batch).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_older_one_sees_whose_the_connector_is() {
        let of = |text: &str| Offset::read(text.as_bytes()).unwrap();
        let ours = of(r#"{"lsn":5,"millstream.owner":"a/1/x","millstream.walsender":77}"#);
        assert_eq!(ours.owner, Some(Owner { name: "a/1/x".into(), walsender: 77 }));
        assert!(check("c", "a/1/x", Some(&ours)).is_ok());
        assert!(check("c", "a/1/x", None).is_ok());
        let error = check("c", "b/2/y", Some(&ours)).unwrap_err();
        assert!(is_taken_over(&error) && error.kind() == Kind::Fenced);
        assert!(error.screen().contains("a/1/x"), "{error}");
        let connects = check("c", "a/1/x", Some(&of(r#"{"lsn":5}"#))).unwrap_err();
        assert!(connects.screen().contains("Kafka Connect"), "{connects}");
        assert!(!is_taken_over(&Error::new(Kind::Fenced, "x")));
        assert_ne!(Owner::new_name(), Owner::new_name());
    }
}
