//! Follows one change from hop to hop: commit on the source, event in the log, state, row in the target.
//!
//! The probe has a product of its own that nothing else touches. Its row goes through the join of
//! `dim_products`.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use tokio_postgres::Client;

use super::databases::{self, Sessions};
use super::hops::{Hops, Watched};
use crate::error::{Error, Result};

/// The probe's product.
const PRODUCT: &str = "T_0000";

/// What the hops of the probe are known by.
pub(super) fn watched() -> Watched {
    Watched { topic: "dbserver1.classicmodels.products".to_owned(), key: PRODUCT, column: "quantityInStock" }
}

/// How long a change may take to reach the target before the show says so.
const PATIENCE: Duration = Duration::from_secs(30);

/// One place a change came by.
#[derive(Clone, Debug)]
pub(super) struct Hop {
    pub(super) name: &'static str,
    pub(super) text: String,
    /// Time since the change was sent to the source.
    pub(super) after: Duration,
}

/// The way of one change.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) change: String,
    pub(super) hops: Vec<Hop>,
}

impl Trace {
    fn add(&mut self, name: &'static str, text: String, after: Duration) {
        self.hops.push(Hop { name, text, after });
    }
}

/// Makes and follows changes.
#[derive(Debug)]
pub(super) struct Probe {
    value: i32,
    latencies: VecDeque<Duration>,
}

impl Probe {
    /// Puts the probe's product on the source and waits until the target has it.
    pub(super) async fn new(sessions: &Sessions) -> Result<Self> {
        let insert = format!(
            "INSERT INTO classicmodels.products SELECT '{PRODUCT}', 'The probe', \"productLine\", '1:1', 'Millstream', \
             'followed from hop to hop', 0, 1.00, 1.00 FROM classicmodels.productlines ORDER BY 3 LIMIT 1 \
             ON CONFLICT (\"productCode\") DO UPDATE SET \"quantityInStock\" = 0"
        );
        databases::run(&sessions.source, &insert, "adding the probe's product").await?;
        let probe = Self { value: 0, latencies: VecDeque::new() };
        probe.arrived(&sessions.target).await?;
        Ok(probe)
    }

    /// Makes a change and follows it; without `hops` only source and target are seen.
    pub(super) async fn follow(&mut self, sessions: &Sessions, hops: Option<&Hops>) -> Result<Trace> {
        self.value += 1;
        let update = format!(
            "UPDATE classicmodels.products SET \"quantityInStock\" = {} WHERE \"productCode\" = '{PRODUCT}'",
            self.value
        );
        let (begin, clock) = (Instant::now(), SystemTime::now());
        databases::run(&sessions.source, &update, "changing the probe's product").await?;
        let committed = begin.elapsed();
        self.arrived(&sessions.target).await?;
        let arrived = begin.elapsed();
        let mut trace = Trace {
            change: format!("products({PRODUCT}).quantityInStock = {}", self.value),
            hops: Vec::new(),
        };
        trace.add("source", "committed".to_owned(), committed);
        if let Some(hops) = hops {
            self.hops_between(hops, clock, &mut trace).await;
        }
        trace.add("target", format!("dim_products({PRODUCT}).quantity_stock = {}", self.value), arrived);
        self.latencies.push_back(arrived.saturating_sub(committed));
        if self.latencies.len() > 1000 {
            self.latencies.pop_front();
        }
        Ok(trace)
    }

    /// Event and state: seen by tasks of their own, which may be a moment late to tell.
    async fn hops_between(&self, hops: &Hops, begin: SystemTime, trace: &mut Trace) {
        let after = |at: SystemTime| at.duration_since(begin).unwrap_or_default();
        for _ in 0..50 {
            let event = hops.event(i64::from(self.value));
            let epoch = event.as_ref().and_then(|e| hops.epoch_of(e));
            if let (Some(event), Some(epoch)) = (event, epoch) {
                if let Some(source) = trace.hops.first_mut() {
                    source.text = format!("committed at WAL position {}", event.lsn);
                }
                let place = format!("{}/{} offset {}", watched().topic, event.partition, event.offset);
                trace.add("event", place, after(event.at));
                trace.add("state", format!("epoch {}", epoch.number), after(epoch.at));
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Commit to target row, of the last thousand changes.
    pub(super) fn latencies(&mut self) -> &[Duration] {
        self.latencies.make_contiguous()
    }

    /// Takes the probe's product away.
    pub(super) async fn remove(&self, sessions: &Sessions) -> Result<()> {
        let delete = format!("DELETE FROM classicmodels.products WHERE \"productCode\" = '{PRODUCT}'");
        databases::run(&sessions.source, &delete, "removing the probe's product").await
    }

    async fn arrived(&self, target: &Client) -> Result<()> {
        let query = "SELECT 1 FROM classicmodels_star_schema.dim_products WHERE product_key = $1 AND quantity_stock = $2";
        let end = Instant::now() + PATIENCE;
        loop {
            let found = target
                .query_opt(query, &[&PRODUCT, &self.value])
                .await
                .map_err(|e| Error::transient("cannot look into the target").with_source(e))?;
            if found.is_some() {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Error::data("a change did not reach the target within 30 s")
                    .because(format!("dim_products has no row {PRODUCT} with the new value"))
                    .next("look at the connector's and the pipeline's state"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
