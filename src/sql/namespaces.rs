//! CREATE, DROP and USE of databases and catalogs: names only, since tables are found by their last name.

use super::ast;
use super::error::{SqlError, SqlResult};

/// The databases and catalogs that a script has made.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    databases: Vec<String>,
    catalogs: Vec<String>,
}

impl Namespaces {
    /// Runs a statement on one: its verb, whether it is a catalog, IF [NOT] EXISTS.
    pub(super) fn run(
        &mut self,
        verb: &str,
        catalog: bool,
        name: &ast::Ident,
        lenient: bool,
    ) -> SqlResult<()> {
        let (known, first) = if catalog {
            (&mut self.catalogs, "default_catalog")
        } else {
            (&mut self.databases, "default_database")
        };
        let value = name.value.as_str();
        let exists = value == first || known.iter().any(|k| k == value);
        let message = match (verb, exists, catalog) {
            ("CREATE", true, _) if lenient => return Ok(()),
            ("CREATE", true, true) => format!("Catalog {value} already exists."),
            ("CREATE", true, false) => format!("Database {value} already exists in Catalog default_catalog."),
            ("CREATE", false, _) => {
                known.push(value.to_owned());
                return Ok(());
            }
            ("DROP", false, _) if lenient => return Ok(()),
            ("DROP", false, true) => format!("Catalog {value} does not exist."),
            ("DROP", false, false) => format!("Database {value} does not exist in Catalog default_catalog."),
            ("DROP", true, _) => {
                known.retain(|k| k != value);
                return Ok(());
            }
            (_, false, true) => format!("A catalog with name [{value}] does not exist."),
            (_, false, false) if self.catalogs.is_empty() => {
                format!("A database with name [{value}] does not exist in the catalog: [default_catalog].")
            }
            _ => return Ok(()),
        };
        Err(SqlError::plan(name.span, message))
    }
}
