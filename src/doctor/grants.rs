//! The least SQL that a capture or target role needs, to be run by an administrator.

use std::fmt::Write as _;

use crate::config::connector::{CaptureOptions, TableFilter};
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};
use crate::pg::{Ident, Literal, Qualified};
use crate::sink::postgres::{TargetName, epoch_table};

/// Makes a role when there is none; an existing one is left as it is.
fn role(out: &mut String, user: &str, attributes: &str) {
    // Inside the block the statement is a string: quoted once more.
    let create = format!("CREATE ROLE {} LOGIN", Ident(user));
    let _ = writeln!(
        out,
        "DO $millstream$ BEGIN\n  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {}) THEN EXECUTE {}; END IF;\n\
         END $millstream$;  -- then: \\password {}",
        Literal(user),
        Literal(&create),
        Ident(user)
    );
    if !attributes.is_empty() {
        let _ = writeln!(out, "ALTER ROLE {} {attributes};", Ident(user));
    }
}

/// For a connector: to log in, to replicate, to read the captured tables, and a publication that holds just them.
/// `tables` are `schema, name`; the signal table among them may be written, unless the connector is read-only.
pub fn capture(options: &CaptureOptions, user: &str, tables: &[(String, String)]) -> String {
    let mut out = format!(
        "-- {}: in database {}, as a superuser or as the owner of database and tables\n",
        options.name, options.database
    );
    role(&mut out, user, "LOGIN REPLICATION");
    let _ = writeln!(out, "GRANT CONNECT ON DATABASE {} TO {};", Ident(&options.database), Ident(user));
    let mut schemas: Vec<&str> = tables.iter().map(|(schema, _)| schema.as_str()).collect();
    schemas.sort_unstable();
    schemas.dedup();
    for schema in schemas {
        let _ = writeln!(out, "GRANT USAGE ON SCHEMA {} TO {};", Ident(schema), Ident(user));
    }
    for (schema, name) in tables {
        let insert =
            if options.tables.is_signal(schema, name) && !options.read_only { ", INSERT" } else { "" };
        let _ = writeln!(
            out,
            "GRANT SELECT{insert} ON TABLE {} TO {};",
            Qualified::new(schema, name),
            Ident(user)
        );
    }
    let list = tables
        .iter()
        .map(|(schema, name)| Qualified::new(schema, name).to_string())
        .collect::<Vec<_>>()
        .join(", ");
    let publication = Ident(&options.publication);
    let create = format!("CREATE PUBLICATION {publication} FOR TABLE {list}");
    let alter = format!("ALTER PUBLICATION {publication} SET TABLE {list}");
    let name = Literal(&options.publication);
    let _ = writeln!(
        out,
        "DO $millstream$ BEGIN\n  IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = {name}) THEN\n    EXECUTE {};\n  \
         ELSIF NOT (SELECT puballtables FROM pg_publication WHERE pubname = {name}) THEN\n    EXECUTE {};\n  END IF;\n\
         END $millstream$;",
        Literal(&create),
        Literal(&alter)
    );
    out
}

/// Tables that the filters name literally, for when nobody can be asked.
///
/// # Errors
/// When a filter is an expression (or there is none): only the catalog says what it matches.
pub fn literal_tables(include: &str, filter: &TableFilter) -> Result<Vec<(String, String)>> {
    let unclear = || {
        Error::config("the tables' names cannot be told from the connector alone")
            .because("table.include.list is missing or holds expressions, and the source could not be asked")
            .next("give an administrator's connection: --admin postgresql://admin@host/database")
    };
    let mut tables = Vec::new();
    for entry in include.split(',').map(str::trim).filter(|e| !e.is_empty()) {
        let plain = entry.replace("\\.", ".").replace("[.]", ".");
        let (schema, name) = plain.split_once('.').ok_or_else(unclear)?;
        if !filter.captures(schema, name)
            || plain.contains(|c: char| "\\[](){}*+?|^$.".contains(c) && c != '.')
        {
            return Err(unclear());
        }
        tables.push((schema.to_owned(), name.to_owned()));
    }
    if tables.is_empty() { Err(unclear()) } else { Ok(tables) }
}

/// For the tables that a pipeline writes in one database as one role.
///
/// # Errors
/// When a table's name cannot be read.
pub(crate) fn target(
    pipeline: &str,
    database: &str,
    user: &str,
    tables: &[(&TableRef, TargetName)],
) -> Result<String> {
    let mut out = format!(
        "-- {pipeline}: in database {database}, as a superuser or as the owner of database and tables\n"
    );
    role(&mut out, user, "");
    let _ = writeln!(out, "GRANT CONNECT ON DATABASE {} TO {};", Ident(database), Ident(user));
    let mut said = Vec::new();
    let mut say = |out: &mut String, statement: String| {
        if !said.contains(&statement) {
            let _ = writeln!(out, "{statement};");
            said.push(statement);
        }
    };
    for (table, name) in tables {
        let name = TargetName {
            schema: Some(name.schema.clone().unwrap_or_else(|| "public".to_owned())),
            ..name.clone()
        };
        let (epoch, ddl) = epoch_table(table, &name)?;
        let schema = name.schema.as_deref().unwrap_or("public");
        say(&mut out, format!("CREATE SCHEMA IF NOT EXISTS {}", Ident(schema)));
        say(&mut out, format!("GRANT USAGE ON SCHEMA {} TO {}", Ident(schema), Ident(user)));
        say(&mut out, ddl);
        say(
            &mut out,
            format!("GRANT SELECT, INSERT, UPDATE ON TABLE {} TO {}", epoch.qualified(), Ident(user)),
        );
        // A table that is not there yet is made by the sink, which owns it then.
        let grant =
            format!("GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE {} TO {}", name.qualified(), Ident(user));
        let create = format!("GRANT CREATE ON SCHEMA {} TO {}", Ident(schema), Ident(user));
        say(
            &mut out,
            format!(
                "DO $millstream$ BEGIN\n  IF to_regclass({}) IS NOT NULL THEN EXECUTE {};\n  ELSE EXECUTE {}; END IF;\n\
                 END $millstream$",
                Literal(&name.qualified().to_string()),
                Literal(&grant),
                Literal(&create)
            ),
        );
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        let mut out = String::new();
        role(&mut out, "a\"b'; drop table x; --", "LOGIN");
        assert!(out.contains(r#"rolname = 'a"b''; drop table x; --'"#), "{out}");
        assert!(out.contains(r#"EXECUTE 'CREATE ROLE "a""b''; drop table x; --" LOGIN'"#), "{out}");
        assert!(out.contains(r#"ALTER ROLE "a""b'; drop table x; --" LOGIN;"#), "{out}");
    }
}
