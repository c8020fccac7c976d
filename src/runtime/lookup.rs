//! Lookup joins against PostgreSQL: requests in batches, several under way at once, and the cache of the
//! `lookup.*` options.
//!
//! The keys of a batch of rows are asked for together, before the rows go through the join. A database that
//! cannot be reached is tried again, as long as the pipeline is not stopped; the pipeline shows RETRYING meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::jdbc::{OutsideTable, read_row};
use super::status::Shared;
use crate::config::AddressMap;
use crate::engine::codec;
use crate::engine::error::EngineError;
use crate::engine::format::{Decoder, FormatContext};
use crate::engine::graph::{Lookup, LookupProvider};
use crate::engine::options;
use crate::engine::plan::TableRef;
use crate::engine::row::{Row, Value};
use crate::engine::types::DataType;
use crate::error::{Error, Kind, Result};
use crate::sink::postgres::{ColumnParameter, OutOfRange, Wire};

/// Keys of one request.
const KEYS_PER_REQUEST: usize = 256;
/// Bytes of rows that a `PARTIAL` cache holds at most, whatever its options say.
const CACHE_BYTES: usize = 64 << 20;
/// Bytes of rows that a `FULL` cache holds at most.
const FULL_BYTES: &str = "millstream.lookup.full-cache.max-bytes";
const FULL_BYTES_DEFAULT: usize = 256 << 20;

type Rows = Arc<[Row]>;

/// Opens lookups for the lookup joins of a pipeline.
pub(super) struct Lookups {
    pub(super) runtime: Handle,
    pub(super) addresses: AddressMap,
    pub(super) format: FormatContext,
    pub(super) shared: Arc<Shared>,
    pub(super) stop: watch::Receiver<bool>,
}

impl LookupProvider for Lookups {
    fn open(&mut self, table: &TableRef, key: &[usize]) -> Result<Box<dyn Lookup>, EngineError> {
        self.jdbc(table, key).map(|lookup| Box::new(lookup) as Box<dyn Lookup>).map_err(outside)
    }
}

impl Lookups {
    fn jdbc(&self, table: &TableRef, key: &[usize]) -> Result<JdbcLookup> {
        let outside = OutsideTable::new(table, &self.addresses)?;
        let mut key_columns = Vec::new();
        for column in key {
            let field = table.columns.get(*column).map(|c| &c.field);
            let known = field.and_then(|f| Some((Wire::of(&f.data_type.kind)?, f)));
            let Some((wire, field)) = known else {
                let name = field.map_or("", |f| f.name.as_str());
                return Err(Error::config(format!(
                    "table {}: column {name} cannot be a key to look up by",
                    table.name
                )));
            };
            key_columns.push((wire, field.data_type.clone()));
        }
        Ok(JdbcLookup {
            decoder: outside.decoder(&self.format)?,
            cache: Cache::new(table)?,
            outside,
            key: key.to_vec(),
            key_columns,
            batch: HashMap::default(),
            session: None,
            runtime: self.runtime.clone(),
            shared: Arc::clone(&self.shared),
            stop: self.stop.clone(),
        })
    }
}

fn outside(error: Error) -> EngineError {
    EngineError::Outside(Box::new(error))
}

struct JdbcLookup {
    outside: OutsideTable,
    /// Columns of the table, and how their values are sent.
    key: Vec<usize>,
    key_columns: Vec<(Wire, DataType)>,
    decoder: Box<dyn Decoder>,
    cache: Cache,
    /// What the present batch of rows found.
    batch: HashMap<Vec<u8>, Rows, ahash::RandomState>,
    session: Option<(Client, Statement)>,
    runtime: Handle,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

fn key_bytes(key: &[Value]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in key {
        codec::put_key_value(&mut bytes, value);
    }
    bytes
}

impl Lookup for JdbcLookup {
    fn prepare(&mut self, keys: &[Vec<Value>]) -> Result<(), EngineError> {
        self.batch.clear();
        let mut wanted: BTreeMap<Vec<u8>, &Vec<Value>> = BTreeMap::new();
        if self.cache.is_full() {
            return self.load().map_err(outside);
        }
        for key in keys.iter().filter(|key| !key.iter().any(Value::is_null)) {
            let bytes = key_bytes(key);
            match self.cache.get(&bytes) {
                Some(rows) => drop(self.batch.insert(bytes, rows)),
                None => drop(wanted.insert(bytes, key)),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let found = self.patiently(&wanted).map_err(outside)?;
        let mut rows: Vec<Vec<Row>> = vec![Vec::new(); wanted.len()];
        for (number, json) in found {
            let row = read_row(self.decoder.as_mut(), &self.outside.table.name, &json).map_err(outside)?;
            if let Some(rows) = rows.get_mut(number) {
                rows.push(row);
            }
        }
        for (key, rows) in wanted.into_keys().zip(rows) {
            let rows: Rows = rows.into();
            self.cache.put(&key, &rows);
            self.batch.insert(key, rows);
        }
        Ok(())
    }

    fn get(&mut self, key: &[Value]) -> Result<Vec<Row>, EngineError> {
        let bytes = key_bytes(key);
        if self.cache.is_full() {
            self.load().map_err(outside)?;
            return Ok(self.cache.get(&bytes).map(|rows| rows.to_vec()).unwrap_or_default());
        }
        if !self.batch.contains_key(&bytes) {
            self.prepare(std::slice::from_ref(&key.to_vec()))?;
        }
        Ok(self.batch.get(&bytes).map(|rows| rows.to_vec()).unwrap_or_default())
    }
}

impl JdbcLookup {
    /// Asks until there is an answer, or the pipeline is stopped.
    fn patiently(&mut self, wanted: &BTreeMap<Vec<u8>, &Vec<Value>>) -> Result<Vec<(usize, String)>> {
        let keys: Vec<Row> = wanted.values().map(|key| key.iter().cloned().collect()).collect();
        self.retry(async |lookup| lookup.ask(&keys).await)
    }

    fn retry<T>(&mut self, mut ask: impl AsyncFnMut(&mut Self) -> Result<T>) -> Result<T> {
        let runtime = self.runtime.clone();
        let who = format!("lookup {}", self.outside.table.name);
        let mut pause = Duration::from_millis(50);
        runtime.block_on(async {
            loop {
                let mut stop = self.stop.clone();
                let answer = tokio::select! {
                    answer = ask(self) => answer,
                    _ = stop.wait_for(|stop| *stop) => Err(stopped(&who)),
                };
                match answer {
                    Err(error) if error.is_transient() => {
                        self.session = None;
                        tracing::warn!(%error, "{who}: trying again");
                        self.shared.retrying(&who, Some(error.screen()));
                    }
                    other => {
                        self.shared.retrying(&who, None);
                        return other;
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    _ = stop.wait_for(|stop| *stop) => return Err(stopped(&who)),
                }
                pause = (pause * 2).min(Duration::from_secs(5));
            }
        })
    }

    async fn session(&mut self) -> Result<&(Client, Statement)> {
        if self.session.as_ref().is_none_or(|(client, _)| client.is_closed()) {
            self.session = None;
            let client = crate::pg::connect(&self.outside.config).await?;
            let found = self.outside.find(&client).await?;
            let types: Vec<_> = self.key_columns.iter().map(|(wire, _)| wire.types()).collect();
            let names: Vec<&str> = types.iter().map(|(one, _)| one.name()).collect();
            let sql = found.lookup(&self.outside.table, &self.key, &names);
            let arrays: Vec<_> = types.into_iter().map(|(_, array)| array).collect();
            let statement = client.prepare_typed(&sql, &arrays).await.map_err(|e| self.outside.failed(e))?;
            self.session = Some((client, statement));
        }
        self.session.as_ref().ok_or_else(|| Error::internal("a session was lost while it was opened"))
    }

    /// Asks for keys: parts of them are under way at the same time. Gives numbers of keys and rows.
    async fn ask(&mut self, keys: &[Row]) -> Result<Vec<(usize, String)>> {
        let columns = self.key_columns.clone();
        let outside = self.outside.clone();
        let (client, statement) = self.session().await?;
        let parts = keys.chunks(KEYS_PER_REQUEST).enumerate().map(|(part, keys)| {
            let (columns, outside) = (&columns, &outside);
            async move {
                let rows: Vec<&Row> = keys.iter().collect();
                let encoded = columns.iter().enumerate().map(|(column, (wire, data_type))| {
                    ColumnParameter::encode(*wire, data_type, column, &rows)
                });
                let parameters = encoded
                    .collect::<Result<Vec<_>, OutOfRange>>()
                    .map_err(|error| Error::data("a key cannot be looked up").because(error))?;
                let parameters: Vec<&(dyn ToSql + Sync)> =
                    parameters.iter().map(|p| p as &(dyn ToSql + Sync)).collect();
                let found = client.query(statement, &parameters).await.map_err(|e| outside.failed(e))?;
                let mut answers = Vec::with_capacity(found.len());
                for row in found {
                    let number: i64 = row.try_get(0).map_err(|e| outside.failed(e))?;
                    let json: String = row.try_get(1).map_err(|e| outside.failed(e))?;
                    let within = usize::try_from(number - 1).unwrap_or(usize::MAX);
                    answers.push(((part * KEYS_PER_REQUEST).saturating_add(within), json));
                }
                Ok::<_, Error>(answers)
            }
        });
        Ok(try_join_all(parts).await?.into_iter().flatten().collect())
    }

    /// Reads the whole table where the cache is to hold it and has not, or too long ago.
    fn load(&mut self) -> Result<()> {
        if !self.cache.due() {
            return Ok(());
        }
        let rows = self.retry(async |lookup| lookup.read_all().await)?;
        self.cache.fill(rows);
        Ok(())
    }

    /// The whole table, by key, as far as it fits into the cache.
    async fn read_all(&mut self) -> Result<HashMap<Vec<u8>, Vec<Row>>> {
        let outside = self.outside.clone();
        let (client, _) = self.session().await?;
        let sql = outside.find(client).await?.all(&outside.table);
        let parameters: [&str; 0] = [];
        let rows = client.query_raw(&sql, parameters).await.map_err(|e| outside.failed(e))?;
        let mut rows = std::pin::pin!(rows);
        let mut by_key: HashMap<Vec<u8>, Vec<Row>> = HashMap::new();
        let (mut count, mut bytes, most) = (0_usize, 0, self.cache.most_bytes);
        while let Some(row) = rows.next().await.transpose().map_err(|e| outside.failed(e))? {
            let json: &str = row.try_get(0).map_err(|e| outside.failed(e))?;
            let row = read_row(self.decoder.as_mut(), &outside.table.name, json)?;
            let key: Vec<Value> = self.key.iter().filter_map(|c| row.get(*c).cloned()).collect();
            let key = key_bytes(&key);
            count += 1;
            bytes += weight(&key, std::slice::from_ref(&row));
            if bytes > most {
                return Err(Error::config(format!(
                    "table {}: {} is too large for 'lookup.cache' = 'FULL', which keeps all of its rows in memory",
                    outside.table.name,
                    outside.describe()
                ))
                .because(format!("its first {count} rows take more than {most} bytes"))
                .next(format!(
                    "use 'lookup.cache' = 'PARTIAL', which keeps the rows that were asked for last, or give it more \
                     memory with '{FULL_BYTES}'"
                )));
            }
            by_key.entry(key).or_default().push(row);
        }
        Ok(by_key)
    }
}

fn stopped(who: &str) -> Error {
    Error::new(Kind::Stopped, format!("{who} was stopped while the database did not answer"))
}

/// `lookup.cache` and its options.
struct Cache {
    mode: Mode,
    max_rows: Option<usize>,
    after_write: Option<Duration>,
    after_access: Option<Duration>,
    keep_missing: bool,
    /// Of a whole table.
    most_bytes: usize,
    entries: HashMap<Vec<u8>, Entry, ahash::RandomState>,
    /// Keys by the tick of their last use.
    order: BTreeMap<u64, Vec<u8>>,
    tick: u64,
    rows: usize,
    bytes: usize,
}

enum Mode {
    None,
    Partial,
    /// The whole table, read again after this time.
    Full {
        reload: Option<Duration>,
        loaded: Option<Instant>,
    },
}

struct Entry {
    rows: Rows,
    bytes: usize,
    written: Instant,
    used: Instant,
    tick: u64,
}

/// About how many bytes of memory a key and its rows take.
fn weight(key: &[u8], rows: &[Row]) -> usize {
    let mut encoded = Vec::new();
    rows.iter().for_each(|row| codec::put_row(&mut encoded, row));
    2 * (encoded.len() + key.len()) + 200
}

impl Cache {
    fn new(table: &TableRef) -> Result<Self> {
        let get = |option: &str| table.options.get(option).map(String::as_str);
        let wrong = |option: &str, why: String| {
            Error::config(format!("table {}: option '{option}' is wrong", table.name)).because(why)
        };
        let time = |option: &str| -> Result<Option<Duration>> {
            get(option)
                .map(|text| super::options::duration(text).map_err(|why| wrong(option, why)))
                .transpose()
        };
        let count = |option: &str| -> Result<Option<usize>> {
            get(option)
                .map(|text| {
                    text.trim().parse().map_err(|_| wrong(option, format!("'{text}' is no whole number")))
                })
                .transpose()
        };
        // The first two are the names up to Flink 1.15.
        let old = get("lookup.cache.max-rows").is_some() && get("lookup.cache.ttl").is_some();
        let mode = match get("lookup.cache").map(str::to_ascii_uppercase).as_deref() {
            None if old => Mode::Partial,
            None | Some("NONE") => Mode::None,
            Some("PARTIAL") => Mode::Partial,
            Some("FULL") => {
                let strategy = get("lookup.full-cache.reload-strategy").unwrap_or("PERIODIC");
                if !strategy.eq_ignore_ascii_case("PERIODIC") {
                    return Err(wrong(
                        "lookup.full-cache.reload-strategy",
                        format!("'{strategy}' is not supported"),
                    )
                    .next("use PERIODIC with 'lookup.full-cache.periodic-reload.interval'"));
                }
                let interval = "lookup.full-cache.periodic-reload.interval";
                let reload = time(interval)?;
                if reload.is_none() {
                    return Err(Error::config(format!(
                        "table {}: option '{interval}' is missing",
                        table.name
                    ))
                    .because("a FULL cache is read again after that time"));
                }
                Mode::Full { reload, loaded: None }
            }
            Some(other) => {
                return Err(wrong("lookup.cache", format!("'{other}' is none of NONE, PARTIAL, FULL")));
            }
        };
        let most_bytes = match get(FULL_BYTES) {
            Some(text) => options::bytes(text)
                .and_then(|n| usize::try_from(n).ok())
                .ok_or_else(|| wrong(FULL_BYTES, format!("'{text}' is no size")).next("write it as 512MB"))?,
            None => FULL_BYTES_DEFAULT,
        };
        let flag = |option: &str| get(option).is_none_or(|v| !v.eq_ignore_ascii_case("false"));
        Ok(Self {
            mode,
            max_rows: count("lookup.partial-cache.max-rows")?.or(count("lookup.cache.max-rows")?),
            after_write: time("lookup.partial-cache.expire-after-write")?.or(time("lookup.cache.ttl")?),
            after_access: time("lookup.partial-cache.expire-after-access")?,
            keep_missing: flag("lookup.partial-cache.cache-missing-key")
                && flag("lookup.cache.caching-missing-key"),
            most_bytes,
            entries: HashMap::default(),
            order: BTreeMap::new(),
            tick: 0,
            rows: 0,
            bytes: 0,
        })
    }

    fn is_full(&self) -> bool {
        matches!(self.mode, Mode::Full { .. })
    }

    /// Whether the whole table is to be read.
    fn due(&self) -> bool {
        match self.mode {
            Mode::Full { reload, loaded: Some(at) } => reload.is_some_and(|reload| at.elapsed() >= reload),
            Mode::Full { loaded: None, .. } => true,
            Mode::None | Mode::Partial => false,
        }
    }

    fn fill(&mut self, rows: HashMap<Vec<u8>, Vec<Row>>) {
        let now = Instant::now();
        self.entries.clear();
        for (key, rows) in rows {
            self.entries.insert(key, Entry { rows: rows.into(), bytes: 0, written: now, used: now, tick: 0 });
        }
        if let Mode::Full { loaded, .. } = &mut self.mode {
            *loaded = Some(now);
        }
    }

    fn get(&mut self, key: &[u8]) -> Option<Rows> {
        if self.is_full() {
            return self.entries.get(key).map(|e| Arc::clone(&e.rows));
        }
        let entry = self.entries.get_mut(key)?;
        let old = self.after_write.is_some_and(|ttl| entry.written.elapsed() >= ttl)
            || self.after_access.is_some_and(|ttl| entry.used.elapsed() >= ttl);
        if old {
            self.remove(key);
            return None;
        }
        self.tick += 1;
        entry.used = Instant::now();
        let before = std::mem::replace(&mut entry.tick, self.tick);
        if let Some(key) = self.order.remove(&before) {
            self.order.insert(self.tick, key);
        }
        Some(Arc::clone(&entry.rows))
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.tick);
            self.rows -= entry.rows.len().max(1);
            self.bytes -= entry.bytes;
        }
    }

    fn put(&mut self, key: &[u8], rows: &Rows) {
        if !matches!(self.mode, Mode::Partial) || (rows.is_empty() && !self.keep_missing) {
            return;
        }
        self.remove(key);
        let bytes = weight(key, rows);
        self.tick += 1;
        let now = Instant::now();
        let entry = Entry { rows: Arc::clone(rows), bytes, written: now, used: now, tick: self.tick };
        self.entries.insert(key.to_vec(), entry);
        self.order.insert(self.tick, key.to_vec());
        self.rows += rows.len().max(1);
        self.bytes += bytes;
        while self.max_rows.is_some_and(|max| self.rows > max) || self.bytes > CACHE_BYTES {
            let Some(oldest) = self.order.values().next().cloned() else { break };
            self.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(options: &[(&str, &str)]) -> Result<Cache> {
        Cache::new(&crate::runtime::testing::table("t", options))
    }

    fn rows(n: i64) -> Rows {
        vec![Row::from(vec![Value::Int(n)])].into()
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache =
            cache(&[("lookup.cache", "PARTIAL"), ("lookup.partial-cache.max-rows", "2")]).unwrap();
        cache.put(b"a", &rows(1));
        cache.put(b"b", &rows(2));
        assert!(cache.get(b"a").is_some());
        cache.put(b"c", &rows(3));
        assert!(cache.get(b"b").is_none());
        assert!(cache.get(b"a").is_some() && cache.get(b"c").is_some());
        // A key without rows takes a place as well.
        cache.put(b"d", &Vec::new().into());
        assert!(cache.get(b"d").is_some_and(|rows| rows.is_empty()));
        assert!(cache.get(b"a").is_none());
    }

    #[test]
    fn entries_grow_old() {
        let options = [("lookup.cache", "PARTIAL"), ("lookup.partial-cache.expire-after-write", "20 ms")];
        let mut cache = cache(&options).unwrap();
        cache.put(b"a", &rows(1));
        assert!(cache.get(b"a").is_some());
        std::thread::sleep(Duration::from_millis(25));
        assert!(cache.get(b"a").is_none());
        assert_eq!((cache.rows, cache.bytes, cache.order.len()), (0, 0, 0));
    }

    #[test]
    fn options_are_checked() {
        assert!(cache(&[("lookup.cache", "SOME")]).is_err());
        assert!(cache(&[("lookup.cache", "FULL")]).is_err());
        let full = [("lookup.cache", "FULL"), ("lookup.full-cache.periodic-reload.interval", "1 h")];
        assert_eq!(cache(&full).unwrap().most_bytes, FULL_BYTES_DEFAULT);
        assert_eq!(cache(&[full[0], full[1], (FULL_BYTES, "2 gb")]).unwrap().most_bytes, 2 << 30);
        assert!(cache(&[full[0], full[1], (FULL_BYTES, "much")]).is_err());
        assert!(cache(&[("lookup.cache", "PARTIAL"), ("lookup.partial-cache.max-rows", "many")]).is_err());
        let none = &mut cache(&[]).unwrap();
        none.put(b"a", &rows(1));
        assert!(none.get(b"a").is_none());
        let old = &mut cache(&[("lookup.cache.max-rows", "10"), ("lookup.cache.ttl", "1min")]).unwrap();
        old.put(b"a", &rows(1));
        assert!(old.get(b"a").is_some());
    }
}
