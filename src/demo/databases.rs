//! The demo's two databases: temporary ones, or those the user names; with the sample data in them.

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
    pub async fn sessions(&self) -> Result<(Client, Client)> {
        Ok((session(&self.source).await?, session(&self.target).await?))
    }
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
    let row = client
        .query_one("SELECT count(*) FROM pg_namespace WHERE nspname = $1", &[&schema])
        .await
        .map_err(|e| Error::transient("cannot look for the sample schema").with_source(e))?;
    Ok(row.try_get::<_, i64>(0).is_ok_and(|n| n > 0))
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
