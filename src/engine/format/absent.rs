//! Columns of a table that its records do not have: a typo, or another case, makes them NULL without a word.

use crate::engine::types::Field;

/// Names of the records' own fields that are shown.
const NAMES: usize = 20;

/// Which columns the first rows had, until that is told.
#[derive(Debug)]
pub(super) struct Absent {
    rows: u32,
    found: Vec<bool>,
    /// Names in the rows that are none of the table's.
    others: Vec<String>,
}

impl Absent {
    pub(super) fn of(columns: usize) -> Self {
        Self { rows: 0, found: vec![false; columns], others: Vec::new() }
    }

    /// A row has a field that is no column.
    pub(super) fn other(&mut self, name: &str) {
        if self.others.len() < NAMES && !self.others.iter().any(|other| other == name) {
            self.others.push(name.to_owned());
        }
    }

    /// A row has these columns.
    pub(super) fn row(&mut self, seen: &[bool]) {
        self.rows = self.rows.saturating_add(1);
        self.found.iter_mut().zip(seen).for_each(|(found, seen)| *found |= seen);
    }

    /// Whether so many rows were seen.
    pub(super) fn is_sure(&self, rows: u32) -> bool {
        self.rows >= rows
    }

    /// What to say, where a column was in no row although the rows have fields that are no columns.
    pub(super) fn told(&self, columns: &[Field]) -> Option<String> {
        let absent = columns.iter().zip(&self.found).filter(|(_, found)| !**found);
        let absent: Vec<&str> = absent.map(|(field, _)| field.name.as_str()).collect();
        if absent.is_empty() || self.others.is_empty() {
            return None;
        }
        Some(format!(
            "no record so far has {}, so {} NULL; the records also have {} (upper and lower case count)",
            absent.join(", "),
            if absent.len() == 1 { "it is" } else { "they are" },
            self.others.join(", ")
        ))
    }
}
