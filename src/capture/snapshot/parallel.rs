//! Several connections under one snapshot: each takes the next range of the next table.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::rows::{Rows, unreadable};
use super::{ranges, session};
use crate::capture::run::Run;
use crate::error::{Error, Result};
use crate::pg::snapshot::CopyReader;
use crate::pg::{Literal, sql_error};

/// Rows that are handed over at once, where `snapshot.fetch.size` does not say it …
const ROWS: usize = 1000;
/// … and bytes.
const BYTES: usize = 256 << 10;

/// A range of a table.
struct Job {
    table: usize,
    range: usize,
    name: String,
    select: String,
}

/// What a reader has to say.
enum Said {
    /// It begins with a range.
    Begun(usize, usize),
    Rows(usize, usize, Vec<Bytes>),
    /// A range has no more rows.
    End(usize, usize),
    /// It cannot go on; the others need not.
    Failed(Error),
}

/// Reads all tables. Rows of different ranges come in any order; those of one range in the order of the key.
pub(super) async fn read(run: &Run, client: &Client, rows: &mut Rows<'_>) -> Result<()> {
    let threads = run.options.snapshot_threads;
    let sql = "SELECT pg_export_snapshot()";
    let exported =
        client.query_one(sql, &[]).await.map_err(|e| sql_error("cannot export the snapshot", e))?;
    let exported: String = exported.get(0);
    let mut jobs = VecDeque::new();
    let mut left = vec![0usize; rows.tables.len()];
    let mut announced = vec![false; rows.tables.len()];
    for (n, left) in left.iter_mut().enumerate() {
        if !rows.begin(n)? {
            continue;
        }
        let chunks = threads.saturating_mul(run.options.snapshot_chunks);
        let count = if run.options.snapshot_whole { 1 } else { chunks };
        let cut = match rows.tables.get(n) {
            Some(table) => match &table.key {
                Some(key) => ranges::cut(client, &table.info, key, &table.facts, count).await?,
                None => vec![super::progress::RangeProgress::default()],
            },
            None => Vec::new(),
        };
        rows.set_ranges(n, cut)?;
        let Some(table) = rows.tables.get(n) else { continue };
        let (name, count) = (table.name.clone(), table.ends.len());
        *left = count;
        for range in 0..count {
            let select = rows.statement(n, range)?;
            jobs.push_back(Job { table: n, range, name: name.clone(), select });
        }
    }
    let readers = threads.min(jobs.len());
    let jobs = Arc::new(Mutex::new(jobs));
    let fetch = run.options.snapshot_fetch.unwrap_or(ROWS);
    let (tell, mut said) = mpsc::channel(readers.max(1) * 2);
    let mut tasks = JoinSet::new();
    for _ in 0..readers {
        let client = session(run).await?;
        let begin = format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            Literal(&exported)
        );
        client.batch_execute(&begin).await.map_err(|e| sql_error("cannot take the snapshot over", e))?;
        let (jobs, tell) = (Arc::clone(&jobs), tell.clone());
        tasks.spawn(async move {
            if let Err(error) = reader(client, jobs, &tell, fetch).await {
                let _ = tell.send(Said::Failed(error)).await;
            }
        });
    }
    drop(tell);
    while let Some(said) = said.recv().await {
        match said {
            Said::Begun(table, range) => {
                if let Some(announced) = announced.get_mut(table)
                    && !std::mem::replace(announced, true)
                {
                    rows.announce(table)?;
                }
                if !run.options.snapshot_whole {
                    rows.announce_range(table, range, false)?;
                }
            }
            Said::Rows(table, range, lines) => {
                for line in lines {
                    rows.take(line, table, range)?;
                    rows.flush_full().await?;
                }
            }
            Said::Failed(error) => return Err(error),
            Said::End(table, range) => {
                if !run.options.snapshot_whole {
                    rows.announce_range(table, range, true)?;
                }
                if let Some(left) = left.get_mut(table) {
                    *left -= 1;
                    if *left == 0 {
                        rows.end(table)?;
                    }
                }
            }
        }
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|e| Error::internal("a reader of the snapshot ended badly").with_source(e))?;
    }
    Ok(())
}

async fn reader(
    client: Client,
    jobs: Arc<Mutex<VecDeque<Job>>>,
    tell: &mpsc::Sender<Said>,
    fetch: usize,
) -> Result<()> {
    loop {
        let job = jobs.lock().pop_front();
        let Some(Job { table, range, name, select }) = job else { return Ok(()) };
        let named = |e: Error| unreadable(&name, e);
        if tell.send(Said::Begun(table, range)).await.is_err() {
            return Ok(());
        }
        let mut copy = CopyReader::start(&client, &select).await.map_err(named)?;
        let (mut lines, mut bytes) = (Vec::new(), 0);
        // The other side is gone when the snapshot has failed or was stopped.
        while let Some(line) = copy.next_line().await.map_err(named)? {
            bytes += line.len();
            lines.push(line);
            if lines.len() >= fetch || bytes >= BYTES {
                bytes = 0;
                if tell.send(Said::Rows(table, range, std::mem::take(&mut lines))).await.is_err() {
                    return Ok(());
                }
            }
        }
        if !lines.is_empty() && tell.send(Said::Rows(table, range, lines)).await.is_err() {
            return Ok(());
        }
        if tell.send(Said::End(table, range)).await.is_err() {
            return Ok(());
        }
    }
}
