//! `millstream grants`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::GlobalArgs;
use super::doctor::{Files, targets};
use crate::config::connector::CaptureOptions;
use crate::config::{AddressMap, ConnectorConfig};
use crate::doctor::grants;
use crate::error::Result;
use crate::pg::{ConnectConfig, catalog};
use crate::sink::postgres::connection;

/// Arguments of `millstream grants`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The SQL is printed, never run: an administrator of the source or the target does that, with psql say. It may be run \
more than once. Passwords are not in it.")]
pub struct Args {
    /// Connector files (.json) and pipelines (.sql); those of `millstream run` where none is given
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Settings file of the service
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// A connection to the source that may read its catalog, to learn the captured tables' names
    #[arg(long, value_name = "URL")]
    admin: Option<ConnectConfig>,
}

/// Runs the command.
///
/// # Errors
/// When a file cannot be read, or the captured tables cannot be found out.
pub async fn run(args: Args, global: &GlobalArgs) -> Result<()> {
    let files = Files::read(&args.files, args.config.as_deref())?;
    let mut addresses = global.addresses()?;
    for mapping in &files.settings.connect_to {
        addresses.push(mapping.parse()?);
    }
    let mut all = Vec::new();
    for (path, config) in &files.connectors {
        let options = CaptureOptions::new(config)?;
        let database = config.database(&addresses, files.settings.security.tls)?;
        let asked = args.admin.clone().map(|admin| admin.with_addresses(addresses.clone()));
        let tables = tables(config, &options, asked.as_ref().unwrap_or(&database), asked.is_some()).await?;
        let sql = grants::capture(&options, &database.user, &tables);
        all.push((path, "source", database.dbname, database.user, sql));
    }
    for (path, job) in &files.jobs {
        // Tables of one role in one database stand together.
        let mut groups: BTreeMap<(String, String), Vec<_>> = BTreeMap::new();
        for table in targets(job) {
            let (database, name) = connection(table, AddressMap::default(), "millstream".to_owned())?;
            groups.entry((database.dbname, database.user)).or_default().push((table, name));
        }
        for ((database, user), tables) in groups {
            let sql = grants::target(&job.name, &database, &user, &tables)?;
            all.push((path, "target", database, user, sql));
        }
    }
    let text = if global.json {
        let all: Vec<_> = all
            .iter()
            .map(|(path, part, database, role, sql)| {
                json!({ "part": part, "subject": path.display().to_string(), "database": database, "role": role, "sql": sql })
            })
            .collect();
        format!("{}\n", json!(all))
    } else {
        all.iter().map(|(.., sql)| sql.as_str()).collect::<Vec<_>>().join("\n")
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// The captured tables and the signal table: as the catalog has them, else as the filters name them.
async fn tables(
    config: &ConnectorConfig,
    options: &CaptureOptions,
    database: &ConnectConfig,
    must: bool,
) -> Result<Vec<(String, String)>> {
    let asked = async {
        let client = crate::pg::connect(database).await?;
        catalog::list_tables(&client).await
    };
    let tables = match asked.await {
        Ok(tables) => tables,
        Err(error) if must => return Err(error),
        Err(_) => {
            let mut tables = grants::literal_tables(config.text("table.include.list"), &options.tables)?;
            if let Some((schema, name)) = options.signal_table.as_deref().and_then(|t| t.split_once('.')) {
                tables.push((schema.to_owned(), name.to_owned()));
            }
            return Ok(tables);
        }
    };
    Ok(tables
        .into_iter()
        .filter(|t| {
            options.tables.captures(&t.schema, &t.name) || options.tables.is_signal(&t.schema, &t.name)
        })
        .map(|t| (t.schema, t.name))
        .collect())
}
