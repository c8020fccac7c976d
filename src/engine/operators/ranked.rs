//! The rows of the partitions of a Top-N, in order: the first ones of each in memory, the rest in the state.

use std::collections::BTreeMap;
use std::ops::Bound;

use ahash::RandomState;
use hashbrown::HashMap;

use super::super::codec;
use super::super::error::EngineError;
use super::super::row::Row;
use super::buffer::row_weight;
use super::{Builder, Key};
use crate::state::{StateError, StateTable};

/// About what a partition takes in memory besides its key and its rows.
const PARTITION_WEIGHT: usize = 200;
/// The same of a row besides its key and its values.
const ROW_WEIGHT: usize = 64;
/// The same of its place.
const PLACE_WEIGHT: usize = 96;
/// So many rows at least are read more than count, for when some of these go.
const MORE: usize = if cfg!(test) { 1 } else { 8 };
/// Rows that are forgotten in one step.
const STEP: usize = 1024;

/// The rows of a partition.
#[derive(Default)]
pub(super) struct Partition {
    /// By order, then arrival: those before `rest`. Always one more than count, if there are so many.
    pub rows: BTreeMap<Vec<u8>, Row>,
    /// The first key that only the table has; `None`: all rows are in memory.
    rest: Option<Vec<u8>>,
    /// Where the row of each input key stands; of upserts only.
    places: HashMap<Key, Vec<u8>, RandomState>,
    /// Key of the row at the last rank that counts, once there are so many.
    pub last: Option<Vec<u8>>,
}

/// Rows that leave and enter the ranks that count, by key.
#[derive(Default)]
pub(super) struct Moved {
    pub left: BTreeMap<Vec<u8>, Row>,
    pub entered: BTreeMap<Vec<u8>, Row>,
}

impl Partition {
    fn is_in_memory(&self, key: &[u8]) -> bool {
        self.rest.as_ref().is_none_or(|rest| key < rest.as_slice())
    }

    /// A row was taken out of `rows`.
    fn removed(&mut self, key: &[u8], row: Row, moved: &mut Moved) {
        match &self.last {
            Some(last) if key > last.as_slice() => return,
            Some(last) => {
                let behind = (Bound::Excluded(last.as_slice()), Bound::Unbounded);
                let next = self.rows.range::<[u8], _>(behind).next();
                let next = next.map(|(key, row)| (key.clone(), Row::clone(row)));
                self.last = next.as_ref().map(|(key, _)| key.clone());
                moved.entered.extend(next);
            }
            None => {}
        }
        moved.left.insert(key.to_vec(), row);
    }

    /// A row was put into `rows`; `to` ranks count.
    fn added(&mut self, key: &[u8], row: &Row, to: usize, moved: &mut Moved) {
        match &self.last {
            Some(last) if key > last.as_slice() => return,
            Some(last) => {
                if let Some(row) = self.rows.get(last) {
                    moved.left.insert(last.clone(), Row::clone(row));
                }
                let before = (Bound::Unbounded, Bound::Excluded(last.as_slice()));
                self.last = self.rows.range::<[u8], _>(before).next_back().map(|(key, _)| key.clone());
            }
            None if self.rows.len() >= to => {
                self.last = self.rows.last_key_value().map(|(key, _)| key.clone())
            }
            None => {}
        }
        moved.entered.insert(key.to_vec(), Row::clone(row));
    }
}

/// The partitions of which rows are in memory, and the table. What changes is written there at once.
pub(super) struct Ranked {
    table: Box<dyn StateTable>,
    partitions: HashMap<Key, Partition, RandomState>,
    /// The first ranks count, so many.
    to: usize,
    /// Rows behind them never come to count: they are forgotten.
    prunes: bool,
    /// Columns by which a row takes the place of another.
    input_key: Option<Vec<usize>>,
    /// Rows of a partition that are read at least; all, where rows are found by the input's key.
    least: usize,
    /// Bytes that may stay in memory over a flush, those that may be there before one, and those that are there.
    cached: usize,
    most: usize,
    bytes: usize,
    /// There has been more than memory has room for: only the rows that are needed are read.
    is_large: bool,
    full: Vec<u8>,
    value: Vec<u8>,
}

impl Ranked {
    pub(super) fn new(
        builder: &mut Builder<'_>,
        to: usize,
        prunes: bool,
        input_key: Option<Vec<usize>>,
    ) -> Result<Self, EngineError> {
        let whole = input_key.is_some() && !prunes;
        Ok(Self {
            table: builder.expiring_table("rows", None)?,
            partitions: HashMap::default(),
            to,
            prunes,
            input_key,
            least: if whole { usize::MAX } else { to.saturating_add(to / 2).saturating_add(MORE) },
            cached: builder.cached(None),
            most: builder.cache() + builder.cache() / 2,
            bytes: 0,
            is_large: false,
            full: Vec::new(),
            value: Vec::new(),
        })
    }

    /// The partition's rows that are in memory, once it has been opened.
    pub(super) fn partition(&self, partition: &[u8]) -> Option<&Partition> {
        self.partitions.get(partition)
    }

    /// Reads the first rows of a partition, if they are not in memory.
    pub(super) fn open(&mut self, partition: &[u8]) -> Result<(), EngineError> {
        if self.bytes > self.most {
            self.shrink();
        }
        if self.partitions.contains_key(partition) {
            return Ok(());
        }
        let loaded = Partition { rest: Some(Vec::new()), ..Partition::default() };
        self.bytes += PARTITION_WEIGHT + partition.len();
        self.partitions.insert(Key::from_slice(partition), loaded);
        let room = if self.is_large { 0 } else { self.cached.saturating_sub(self.bytes) };
        self.read(partition, room)?;
        if let Some(known) = self.partitions.get_mut(partition)
            && let Some(at) = self.to.checked_sub(1)
        {
            known.last = known.rows.keys().nth(at).cloned();
        }
        if self.prunes { self.prune(partition) } else { Ok(()) }
    }

    /// Reads rows behind those that are in memory: as many as are needed, and what there is room for.
    fn read(&mut self, partition: &[u8], room: usize) -> Result<(), EngineError> {
        let Self { table, partitions, input_key, bytes, least, full, .. } = self;
        let Some(known) = partitions.get_mut(partition) else { return Ok(()) };
        let Some(rest) = known.rest.take() else { return Ok(()) };
        full.clear();
        full.extend_from_slice(partition);
        full.extend_from_slice(&rest);
        let most = *bytes + room;
        table.scan_part(partition, full, &mut |found, value| {
            let key = found.get(partition.len()..).unwrap_or_default();
            if known.rows.len() >= *least && *bytes >= most {
                known.rest = Some(key.to_vec());
                return Ok(false);
            }
            let row = get_row(value)?;
            let place = input_key.as_ref().map(|columns| place_of(&row, columns));
            *bytes += weight(partition, key, &row, place.is_some());
            if let Some(place) = place {
                known.places.insert(place, key.to_vec());
            }
            known.rows.insert(key.to_vec(), row);
            Ok(true)
        })?;
        Ok(())
    }

    /// Where the row stands whose place a row takes.
    pub(super) fn place(&self, partition: &[u8], row: &Row) -> Option<Vec<u8>> {
        let place = place_of(row, self.input_key.as_ref()?);
        self.partitions.get(partition)?.places.get(&place).cloned()
    }

    /// Where a row stands that has this sort key.
    pub(super) fn find(
        &mut self,
        partition: &[u8],
        sort_key: &[u8],
        row: &Row,
    ) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(known) = self.partitions.get(partition) else { return Ok(None) };
        let from = (Bound::Included(sort_key), Bound::Unbounded);
        let mut rows = known.rows.range::<[u8], _>(from).take_while(|(key, _)| key.starts_with(sort_key));
        if let Some((key, _)) = rows.find(|(_, known)| *known == row) {
            return Ok(Some(key.clone()));
        }
        let Some(rest) = &known.rest else { return Ok(None) };
        if sort_key < rest.as_slice() && !rest.starts_with(sort_key) {
            return Ok(None);
        }
        let prefix = [partition, sort_key].concat();
        let from = [partition, sort_key.max(rest.as_slice())].concat();
        let mut found = None;
        self.table.scan_part(&prefix, &from, &mut |key, value| {
            if get_row(value)? == *row {
                found = key.get(partition.len()..).map(<[u8]>::to_vec);
            }
            Ok(found.is_none())
        })?;
        Ok(found)
    }

    fn set_full_key(&mut self, partition: &[u8], key: &[u8]) {
        self.full.clear();
        self.full.extend_from_slice(partition);
        self.full.extend_from_slice(key);
    }

    /// Takes a row out; gives it if it was in memory.
    pub(super) fn remove(&mut self, partition: &[u8], key: &[u8], moved: &mut Moved) -> Option<Row> {
        self.set_full_key(partition, key);
        self.table.delete(&self.full);
        let Self { partitions, input_key, bytes, .. } = self;
        let known = partitions.get_mut(partition)?;
        let row = known.rows.remove(key)?;
        *bytes = bytes.saturating_sub(weight(partition, key, &row, input_key.is_some()));
        if let Some(columns) = input_key {
            known.places.remove(&place_of(&row, columns));
        }
        known.removed(key, Row::clone(&row), moved);
        Some(row)
    }

    /// Adds a row under a key that no other has.
    pub(super) fn add(&mut self, partition: &[u8], key: &[u8], row: &Row, moved: &mut Moved) {
        self.value.clear();
        codec::put_row(&mut self.value, row);
        self.set_full_key(partition, key);
        self.table.put(&self.full, &self.value);
        let Self { partitions, input_key, bytes, to, .. } = self;
        let Some(known) = partitions.get_mut(partition).filter(|known| known.is_in_memory(key)) else {
            return;
        };
        *bytes += weight(partition, key, row, input_key.is_some());
        if let Some(columns) = input_key {
            known.places.insert(place_of(row, columns), key.to_vec());
        }
        known.rows.insert(key.to_vec(), Row::clone(row));
        known.added(key, row, *to, moved);
    }

    /// A partition has changed: what is not needed is forgotten, what may be needed next is read.
    pub(super) fn close(&mut self, partition: &[u8]) -> Result<(), EngineError> {
        if self.prunes {
            return self.prune(partition);
        }
        match self.partitions.get(partition) {
            Some(known) if known.rest.is_some() && known.rows.len() <= self.to => self.read(partition, 0),
            _ => Ok(()),
        }
    }

    /// Forgets rows behind the last rank.
    fn prune(&mut self, partition: &[u8]) -> Result<(), EngineError> {
        while let Some(known) = self.partitions.get(partition)
            && known.rows.len() > self.to
            && let Some((key, _)) = known.rows.last_key_value()
        {
            let key = key.clone();
            self.remove(partition, &key, &mut Moved::default());
        }
        // What an earlier version has left there.
        while let Some(rest) = self.partitions.get_mut(partition).and_then(|known| known.rest.take()) {
            self.set_full_key(partition, &rest);
            let (mut gone, mut next) = (Vec::new(), None);
            self.table.scan_part(partition, &self.full, &mut |key, _| {
                match gone.len() < STEP {
                    true => gone.push(key.to_vec()),
                    false => next = key.get(partition.len()..).map(<[u8]>::to_vec),
                }
                Ok(next.is_none())
            })?;
            gone.iter().for_each(|key| self.table.delete(key));
            if let Some(known) = self.partitions.get_mut(partition) {
                known.rest = next;
            }
        }
        Ok(())
    }

    /// Keeps in memory what may be needed next.
    pub(super) fn flush(&mut self) {
        if self.bytes > self.cached {
            self.shrink();
        } else {
            let bytes = &mut self.bytes;
            self.partitions.retain(|key, known| {
                let used = !known.rows.is_empty();
                if !used {
                    *bytes = bytes.saturating_sub(PARTITION_WEIGHT + key.len());
                }
                used
            });
        }
    }

    /// Forgets rows that do not count, and all if they are too many still.
    fn shrink(&mut self) {
        let Self { partitions, input_key, least, bytes, .. } = self;
        self.is_large = true;
        for (partition, known) in partitions.iter_mut() {
            while known.rows.len() > *least
                && let Some((key, row)) = known.rows.pop_last()
            {
                *bytes = bytes.saturating_sub(weight(partition, &key, &row, input_key.is_some()));
                known.rest = Some(key);
            }
        }
        if self.bytes > self.cached / 4 * 3 {
            self.partitions.clear();
            self.bytes = 0;
        }
    }
}

fn get_row(value: &[u8]) -> Result<Row, StateError> {
    codec::get_row(value)
        .map_err(|error| StateError::Corrupt { table: "ranked rows".to_owned(), what: error.to_string() })
}

/// The key by which a row is replaced.
fn place_of(row: &Row, columns: &[usize]) -> Key {
    let mut key = Vec::with_capacity(24);
    codec::put_key(&mut key, row, columns);
    Key::from_vec(key)
}

fn weight(partition: &[u8], key: &[u8], row: &Row, placed: bool) -> usize {
    let place = if placed { PLACE_WEIGHT + key.len() } else { 0 };
    ROW_WEIGHT + partition.len() + key.len() + row_weight(row) + place
}
