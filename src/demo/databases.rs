//! The demo's two databases: temporary ones, or those the user names; with the sample data in them.

use std::time::Duration;

use tokio_postgres::Client;

use super::postgres::{PostgresOptions, TemporaryPostgres};
use crate::error::{Error, Result};
use crate::pg::config::ConnectConfig;

/// A file of SQL, as it is in the repository.
#[derive(Clone, Copy, Debug)]
pub struct SqlFile {
    /// Its name.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! files {
    ($dir:literal: $($name:literal),+ $(,)?) => {
        &[$(SqlFile { name: $name, text: include_str!(concat!("../../migrations/", $dir, "/", $name)) }),+]
    };
}

/// The sample shop's tables, data and role, in the order to run them in.
pub const SOURCE_MIGRATIONS: &[SqlFile] = files!("source": "001_schema.sql", "002_data.sql", "003_roles.sql");

/// The star schema and its role.
pub const TARGET_MIGRATIONS: &[SqlFile] = files!("target": "001_schema.sql", "002_roles.sql");

/// What the target tables must hold, as queries on the source; the file's stem is the table.
pub const CHECKS: &[SqlFile] = files!("check": "dim_customers.sql", "dim_products.sql", "fact_orders.sql");

/// Schema of the source tables.
pub const SOURCE_SCHEMA: &str = "classicmodels";

/// Schema of the target tables.
pub const TARGET_SCHEMA: &str = "classicmodels_star_schema";

/// The slot of the sample connector.
const SLOT: &str = "millstream_classicmodels";
/// The connector's role.
const CAPTURE_ROLE: &str = "millstream_capture";
/// The pipeline's role.
const TARGET_ROLE: &str = "millstream_target";

/// The two databases, with a session of the owner in each.
#[derive(Debug)]
pub struct Databases {
    /// The source, as its owner.
    pub source: ConnectConfig,
    /// The target, as its owner.
    pub target: ConnectConfig,
    /// Removed when this is dropped; `None` for databases the user named.
    pub server: Option<TemporaryPostgres>,
}

impl Databases {
    /// Starts a temporary server with a source and a target database.
    ///
    /// # Errors
    /// When PostgreSQL's programs are missing or do not start.
    pub async fn temporary() -> Result<Self> {
        let server = tokio::task::spawn_blocking(|| TemporaryPostgres::start(&PostgresOptions::default()))
            .await
            .map_err(|e| Error::internal("starting PostgreSQL was interrupted").with_source(e))??;
        let admin = session(&ConnectConfig::from_url(&server.url("postgres"))?).await?;
        for database in ["classicmodels", "warehouse"] {
            run(&admin, &format!("CREATE DATABASE {database}"), "making a database").await?;
        }
        Ok(Self {
            source: ConnectConfig::from_url(&server.url("classicmodels"))?,
            target: ConnectConfig::from_url(&server.url("warehouse"))?,
            server: Some(server),
        })
    }

    /// Takes databases that exist.
    ///
    /// # Errors
    /// When a URL is malformed.
    pub fn named(source: &str, target: &str) -> Result<Self> {
        Ok(Self {
            source: ConnectConfig::from_url(source)?,
            target: ConnectConfig::from_url(target)?,
            server: None,
        })
    }

    /// Opens a session in each.
    ///
    /// # Errors
    /// When one cannot be reached.
    pub async fn sessions(&self) -> Result<Sessions> {
        Ok(Sessions { source: session(&self.source).await?, target: session(&self.target).await? })
    }
}

/// Sessions of the owner in both databases.
pub struct Sessions {
    /// The source.
    pub source: Client,
    /// The target.
    pub target: Client,
}

/// What the demo made in databases that the user named, to be removed at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made {
    source_schema: bool,
    source_role: bool,
    target_schema: bool,
    target_role: bool,
}

impl Made {
    /// Loads the sample data and the star schema where they are missing.
    ///
    /// # Errors
    /// When a target table has rows already, when an earlier slot is there, or when a file fails.
    pub async fn prepare(sessions: &Sessions) -> Result<Self> {
        let Sessions { source, target } = sessions;
        let mut made = Self::default();
        let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{SLOT}'");
        if count(source, &slots).await? > 0 {
            return Err(Error::config(format!("the source has a replication slot {SLOT} already"))
                .because("an earlier run of this connector left it, or is still running")
                .next(format!("stop that run, or SELECT pg_drop_replication_slot('{SLOT}')")));
        }
        if !has_schema(source, SOURCE_SCHEMA).await? {
            made.source_role = !has_role(source, CAPTURE_ROLE).await?;
            migrate(source, SOURCE_MIGRATIONS).await?;
            made.source_schema = true;
        }
        if has_schema(target, TARGET_SCHEMA).await? {
            for check in CHECKS {
                let table = check.name.trim_end_matches(".sql");
                if count(target, &format!("SELECT count(*) FROM {TARGET_SCHEMA}.{table}")).await? > 0 {
                    return Err(Error::config(format!(
                        "the target's table {TARGET_SCHEMA}.{table} has rows already"
                    ))
                    .next(
                        "empty it, name another target, or use --attach if a pipeline keeps it up to date",
                    ));
                }
            }
        } else {
            made.target_role = !has_role(target, TARGET_ROLE).await?;
            migrate(target, TARGET_MIGRATIONS).await?;
            made.target_schema = true;
        }
        Ok(made)
    }

    /// Removes what was made, and the connector's slot.
    ///
    /// # Errors
    /// When something cannot be removed, with the server's message.
    pub async fn remove(self, sessions: &Sessions) -> Result<()> {
        let Sessions { source, target } = sessions;
        let drop_slot = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
        );
        // The server takes a moment to see that the connector has gone.
        let mut dropped = run(source, &drop_slot, "dropping the slot").await;
        for _ in 0..20 {
            if dropped.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            dropped = run(source, &drop_slot, "dropping the slot").await;
        }
        dropped?;
        if self.source_schema {
            let sql = format!("DROP PUBLICATION dbz_publication; DROP SCHEMA {SOURCE_SCHEMA} CASCADE");
            run(source, &sql, "removing the sample data").await?;
        }
        if self.target_schema {
            let sql = format!("DROP SCHEMA {TARGET_SCHEMA} CASCADE");
            run(target, &sql, "removing the star schema").await?;
        }
        for (made, client, role) in
            [(self.source_role, source, CAPTURE_ROLE), (self.target_role, target, TARGET_ROLE)]
        {
            if made {
                run(client, &format!("DROP OWNED BY {role}; DROP ROLE {role}"), "removing a role").await?;
            }
        }
        Ok(())
    }
}

async fn has_role(client: &Client, role: &str) -> Result<bool> {
    Ok(count(client, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")).await? > 0)
}

async fn count(client: &Client, query: &str) -> Result<i64> {
    let failed = |e| Error::refused("cannot look into a database of the demo").with_source(e);
    client.query_one(query, &[]).await.map_err(failed)?.try_get(0).map_err(failed)
}

async fn session(config: &ConnectConfig) -> Result<Client> {
    crate::pg::client::connect(&config.clone().with_application_name("millstream demo")).await
}

/// Runs files of SQL in order, each in a transaction of its own.
///
/// # Errors
/// With the file's name and the server's message.
pub async fn migrate(client: &Client, files: &[SqlFile]) -> Result<()> {
    for file in files {
        run(client, file.text, file.name).await?;
    }
    // The files set a search path for their own statements.
    run(client, "RESET search_path", "resetting the search path").await
}

/// Whether a schema exists.
///
/// # Errors
/// When the server cannot be asked.
pub async fn has_schema(client: &Client, schema: &str) -> Result<bool> {
    Ok(count(client, &format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{schema}'")).await? > 0)
}

/// Runs statements without results.
///
/// # Errors
/// With what was being done and the server's message.
pub async fn run(client: &Client, sql: &str, doing: &str) -> Result<()> {
    client.batch_execute(sql).await.map_err(|e| {
        let text = e.as_db_error().map_or_else(|| e.to_string(), |d| d.message().to_owned());
        Error::refused(format!("{doing} failed")).because(text)
    })
}
