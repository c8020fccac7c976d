//! Micro-batches: the `table.exec.mini-batch.*` options.
//!
//! Without them a change goes through at once: an epoch is cut as soon as nothing waits to be read, and grows under
//! load to what is read while the sinks write the one before. With them an epoch waits for its time or its size, so
//! that many changes of a key become one write of it: fewer writes for the targets, and later ones.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::error::{Error, Result};

/// When epochs are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batching {
    /// Longest time that changes wait; `None`: no longer than there is something else to do.
    pub(super) latency: Option<Duration>,
    /// Records after which it does not wait for the time.
    pub(super) records: u64,
}

impl Batching {
    /// `table.exec.mini-batch.*`, of which Flink wants all three.
    pub(super) fn new(options: &BTreeMap<String, String>) -> Result<Self> {
        const PREFIX: &str = "table.exec.mini-batch.";
        let get = |name: &str| options.get(&format!("{PREFIX}{name}")).map(String::as_str);
        if !get("enabled").is_some_and(|v| v.eq_ignore_ascii_case("true")) {
            return Ok(Self { latency: None, records: u64::MAX });
        }
        let wrong = |name: &str, why: String| {
            Error::config(format!("option '{PREFIX}{name}' is wrong")).because(why).next(
                "set 'table.exec.mini-batch.allow-latency' = '1 s' and 'table.exec.mini-batch.size' = '5000', or turn \
                 'table.exec.mini-batch.enabled' off",
            )
        };
        let latency = super::options::duration(get("allow-latency").unwrap_or("0"))
            .map_err(|why| wrong("allow-latency", why))?;
        if latency.is_zero() {
            return Err(wrong("allow-latency", "it must be more than 0 when mini-batch is enabled".into()));
        }
        let size = get("size").unwrap_or("-1");
        let records = size.trim().parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
        let records = records.ok_or_else(|| {
            wrong("size", format!("it must be more than 0 when mini-batch is enabled, and is {size}"))
        })?;
        Ok(Self { latency: Some(latency), records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_options_belong_together() {
        let read = |options: &[(&str, &str)]| {
            let name = |name: &&str| format!("table.exec.mini-batch.{name}");
            Batching::new(&options.iter().map(|(k, v)| (name(k), (*v).to_owned())).collect())
        };
        assert_eq!(read(&[("size", "5")]).unwrap().latency, None);
        let all = read(&[("enabled", "true"), ("allow-latency", "2 s"), ("size", "5000")]).unwrap();
        assert_eq!(all, Batching { latency: Some(Duration::from_secs(2)), records: 5000 });
        assert!(read(&[("enabled", "true"), ("size", "5000")]).is_err());
        assert!(read(&[("enabled", "true"), ("allow-latency", "2 s")]).is_err());
    }
}
