//! What a job's expressions and operators share: its options, its zone, its clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use super::error::EngineError;
use super::graph::Clock;
use super::zone::Zone;

/// What expressions need besides the row.
#[derive(Clone)]
pub struct Context {
    /// The session's time zone (`table.local-time-zone`).
    pub zone: Zone,
    /// Processing time.
    pub clock: Arc<dyn Clock>,
    /// The watermark that has reached the operator.
    pub watermark: Arc<AtomicI64>,
    /// The job's options.
    pub options: Arc<BTreeMap<String, String>>,
    /// Milliseconds after which state that is not written any more is forgotten (`table.exec.state.ttl`).
    pub ttl: Option<i64>,
    /// How many threads an operator with keyed state uses (`table.exec.resource.default-parallelism`, else
    /// `parallelism.default`, else 1).
    pub parallelism: usize,
}

/// Most threads of one operator.
const MOST_PARALLELISM: i64 = 128;

impl Context {
    /// From a job's options. Without `table.local-time-zone` (or with `default`) the zone is UTC.
    pub fn new(options: &BTreeMap<String, String>, clock: Arc<dyn Clock>) -> Result<Self, EngineError> {
        let zone = match options.get("table.local-time-zone").map(String::as_str) {
            None => Zone::UTC,
            Some(name) => Zone::parse(name).ok_or_else(|| {
                EngineError::Plan(format!("time zone '{name}' of table.local-time-zone is not known"))
            })?,
        };
        let ttl = match options.get("table.exec.state.ttl") {
            None => None,
            Some(text) => Some(super::options::millis(text).ok_or_else(|| {
                EngineError::Plan(format!("'{text}' is no duration for table.exec.state.ttl"))
            })?),
        };
        Ok(Self {
            zone,
            parallelism: parallelism(options)?,
            ttl: ttl.filter(|&ttl| ttl > 0),
            clock,
            watermark: Arc::new(AtomicI64::new(i64::MIN)),
            options: Arc::new(options.clone()),
        })
    }

    /// The same session for an operator with this watermark.
    #[must_use]
    pub fn with_watermark(&self, watermark: Arc<AtomicI64>) -> Self {
        Self { watermark, ..self.clone() }
    }

    /// The value of an option.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.get(name).map(String::as_str)
    }
}

fn parallelism(options: &BTreeMap<String, String>) -> Result<usize, EngineError> {
    // -1, the default, leaves it to the next option.
    for name in ["table.exec.resource.default-parallelism", "parallelism.default"] {
        let Some(text) = options.get(name).map(|text| text.trim()).filter(|text| *text != "-1") else {
            continue;
        };
        let number = text.parse::<i64>().ok().filter(|number| (1..=MOST_PARALLELISM).contains(number));
        return number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| {
            EngineError::Plan(format!("'{text}' is no {name}: it is a number from 1 to {MOST_PARALLELISM}"))
        });
    }
    Ok(1)
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("zone", &self.zone).finish_non_exhaustive()
    }
}
