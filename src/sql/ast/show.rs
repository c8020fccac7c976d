//! What SHOW and EXPLAIN are asked for.

use super::Ident;

/// SHOW.
#[derive(Clone, Debug, PartialEq)]
pub struct Show {
    /// Of what.
    pub kind: ShowKind,
    /// FROM or IN a database; the table of COLUMNS, PARTITIONS and CREATE. All parts of the name.
    pub from: Option<Vec<Ident>>,
    /// [NOT] LIKE.
    pub like: Option<Pattern>,
}

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowKind {
    /// TABLES: tables and views.
    Tables,
    /// VIEWS.
    Views,
    /// FUNCTIONS.
    Functions,
    /// CATALOGS.
    Catalogs,
    /// CURRENT CATALOG.
    CurrentCatalog,
    /// DATABASES.
    Databases,
    /// CURRENT DATABASE.
    CurrentDatabase,
    /// [FULL] MODULES.
    Modules(bool),
    /// PARTITIONS.
    Partitions,
    /// CREATE TABLE.
    CreateTable,
    /// CREATE VIEW.
    CreateView,
    /// COLUMNS.
    Columns,
    /// What a script never has any of; the head of Flink's column.
    Nothing(&'static str),
}

/// [NOT] LIKE 'text'.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// NOT.
    pub negated: bool,
    /// With `%` and `_`.
    pub text: String,
    /// ILIKE.
    pub any_case: bool,
}

impl Pattern {
    /// Whether the name is one of those asked for.
    pub fn takes(&self, name: &str) -> bool {
        let (name, text) = if self.any_case {
            (name.to_lowercase(), self.text.to_lowercase())
        } else {
            (name.to_owned(), self.text.clone())
        };
        let name: Vec<char> = name.chars().collect();
        let text: Vec<char> = text.chars().collect();
        // reach[i]: the pattern so far takes the first i characters
        let mut reach = vec![false; name.len() + 1];
        if let Some(first) = reach.first_mut() {
            *first = true;
        }
        for wanted in text {
            let mut next = vec![false; name.len() + 1];
            let mut open = false;
            for (i, slot) in next.iter_mut().enumerate() {
                let here = reach.get(i).copied().unwrap_or(false);
                let before = i.checked_sub(1).and_then(|b| Some((*reach.get(b)?, *name.get(b)?)));
                open |= here;
                *slot = match (wanted, before) {
                    ('%', _) => open,
                    ('_', Some((reached, _))) => reached,
                    (_, Some((reached, letter))) => reached && letter == wanted,
                    (_, None) => false,
                };
            }
            reach = next;
        }
        reach.last().copied().unwrap_or(false) != self.negated
    }
}

/// Details of EXPLAIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// CHANGELOG_MODE.
    pub changelog: bool,
    /// ESTIMATED_COST.
    pub cost: bool,
    /// JSON_EXECUTION_PLAN.
    pub json: bool,
    /// PLAN_ADVICE.
    pub advice: bool,
}
