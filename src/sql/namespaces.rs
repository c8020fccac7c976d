//! CREATE, DROP and USE of databases and catalogs. A table belongs to the one it was made in, which is where SHOW
//! looks for it; queries find it by its last name from everywhere.

use super::ast::{self, Ident};
use super::catalog::Place;
use super::error::{SqlError, SqlResult};

const CATALOG: &str = "default_catalog";
const DATABASE: &str = "default_database";

/// The catalogs of a script with their databases, and the current ones.
#[derive(Debug)]
pub(super) struct Namespaces {
    catalogs: Vec<(String, Vec<String>)>,
    current: Place,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            catalogs: vec![(CATALOG.to_owned(), vec![DATABASE.to_owned()])],
            current: (CATALOG.to_owned(), DATABASE.to_owned()),
        }
    }
}

/// What is done to a database or catalog.
pub(super) struct Change<'a> {
    /// CREATE, DROP, USE.
    pub(super) verb: &'a str,
    /// A catalog; else a database.
    pub(super) catalog: bool,
    /// Its name.
    pub(super) name: &'a Ident,
    /// IF EXISTS, IF NOT EXISTS.
    pub(super) lenient: bool,
    /// CASCADE.
    pub(super) cascade: bool,
    /// Whether tables belong to the place.
    pub(super) full: &'a dyn Fn(&Place) -> bool,
}

impl Namespaces {
    /// The current catalog and database.
    pub(super) fn current(&self) -> (&str, &str) {
        (&self.current.0, &self.current.1)
    }

    /// Where new tables belong.
    pub(super) fn here(&self) -> Place {
        self.current.clone()
    }

    /// Names of the catalogs.
    pub(super) fn catalogs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.catalogs.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn databases_of(&self, catalog: &str) -> Option<&Vec<String>> {
        self.catalogs.iter().find(|(name, _)| name == catalog).map(|(_, databases)| databases)
    }

    /// Names of the databases, of the current catalog or of the one that is named.
    ///
    /// # Errors
    /// A catalog that is not there.
    pub(super) fn databases(&self, from: Option<&[Ident]>) -> SqlResult<Vec<&str>> {
        let name = from.and_then(<[Ident]>::last);
        let catalog = name.map_or(self.current.0.as_str(), |name| name.value.as_str());
        match (self.databases_of(catalog), name) {
            (Some(databases), _) => {
                let mut names: Vec<&str> = databases.iter().map(String::as_str).collect();
                names.sort_unstable();
                Ok(names)
            }
            (None, Some(name)) => Err(SqlError::plan(name.span, format!("Catalog {catalog} does not exist"))),
            (None, None) => Ok(Vec::new()),
        }
    }

    /// The place that is meant: the current one, or `[catalog.]database`.
    ///
    /// # Errors
    /// A database that is not there.
    pub(super) fn place(&self, from: Option<&[Ident]>) -> SqlResult<Place> {
        let (catalog, name) = match from {
            None | Some([]) => return Ok(self.here()),
            Some([name]) => (self.current.0.as_str(), name),
            Some([catalog, name, ..]) => (catalog.value.as_str(), name),
        };
        if self.databases_of(catalog).is_some_and(|all| all.contains(&name.value)) {
            return Ok((catalog.to_owned(), name.value.clone()));
        }
        Err(SqlError::plan(name.span, format!("Database '{catalog}'.'{}' doesn't exist.", name.value)))
    }

    /// Runs a statement on one. Answers with the database or catalog whose tables go with it.
    ///
    /// # Errors
    /// What is there already, is not there, or is in use.
    pub(super) fn run(&mut self, change: &Change) -> SqlResult<()> {
        let value = change.name.value.as_str();
        let here = self.current.0.clone();
        let exists = if change.catalog {
            self.databases_of(value).is_some()
        } else {
            self.databases_of(&here).is_some_and(|all| all.iter().any(|name| name == value))
        };
        let message = match (change.verb, exists, change.catalog) {
            ("CREATE", true, _) | ("DROP", false, _) if change.lenient => return Ok(()),
            ("CREATE", true, true) => format!("Catalog {value} already exists."),
            ("CREATE", true, false) => format!("Database {value} already exists in Catalog {here}."),
            ("CREATE", false, true) => {
                self.catalogs.push((value.to_owned(), vec!["default".to_owned()]));
                return Ok(());
            }
            ("CREATE", false, false) => {
                if let Some((_, databases)) = self.catalogs.iter_mut().find(|(name, _)| *name == here) {
                    databases.push(value.to_owned());
                }
                return Ok(());
            }
            ("DROP", false, true) => format!("Catalog {value} does not exist."),
            ("DROP", false, false) => format!("Database {value} does not exist in Catalog {here}."),
            ("DROP", true, true) if value == here => {
                "Cannot drop a catalog which is currently in use.".to_owned()
            }
            ("DROP", true, true) => {
                self.catalogs.retain(|(name, _)| name != value);
                return Ok(());
            }
            ("DROP", true, false) if value == self.current.1 => {
                "Cannot drop a database which is currently in use.".to_owned()
            }
            ("DROP", true, false) => {
                if !change.cascade && (change.full)(&(here.clone(), value.to_owned())) {
                    format!("Database {value} in catalog {here} is not empty.")
                } else {
                    if let Some((_, databases)) = self.catalogs.iter_mut().find(|(name, _)| *name == here) {
                        databases.retain(|name| name != value);
                    }
                    return Ok(());
                }
            }
            (_, false, true) => format!("A catalog with name [{value}] does not exist."),
            (_, true, true) => {
                let first = if value == CATALOG { DATABASE } else { "default" };
                self.current = (value.to_owned(), first.to_owned());
                return Ok(());
            }
            (_, true, false) => {
                self.current.1 = value.to_owned();
                return Ok(());
            }
            // `USE catalog.database` comes with its last name only
            (_, false, false) => {
                let elsewhere = self.catalogs.iter().find(|(_, all)| all.iter().any(|name| name == value));
                match elsewhere {
                    Some((catalog, _)) => {
                        self.current = (catalog.clone(), value.to_owned());
                        return Ok(());
                    }
                    None => {
                        format!("A database with name [{value}] does not exist in the catalog: [{here}].")
                    }
                }
            }
        };
        Err(SqlError::plan(change.name.span, message))
    }
}

impl ast::CreateTable {
    /// The name of the key's constraint.
    pub(super) fn constraint_name(&self) -> Option<String> {
        let columns: Vec<&str> = self.primary_key.iter().map(|column| column.value.as_str()).collect();
        self.constraint.clone().or_else(|| (!columns.is_empty()).then(|| format!("PK_{}", columns.join("_"))))
    }
}
