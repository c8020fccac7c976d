//! The epoch fence: one row per pipeline and sink, in a table beside the target table.
//!
//! The table `millstream_epoch` lies in the target table's schema, so that a role with rights on that schema
//! alone can have it. Where the role may not create it, an administrator does, with [`Fences::ddl`].

use tokio_postgres::Client;

use crate::error::{Error, Kind, Result};
use crate::pg::{Qualified, sql_error, sqlstate};
use crate::sink::{Fence, SinkId};

use super::target::TargetName;

/// Name of the fence table, without schema.
pub(super) const TABLE: &str = "millstream_epoch";

/// The fence table of one target.
#[derive(Clone, Debug)]
pub(super) struct Fences {
    name: TargetName,
}

impl Fences {
    /// Beside the target table, or where an option says.
    pub(super) fn new(target: &TargetName, named: Option<&TargetName>) -> Self {
        let name = named
            .cloned()
            .unwrap_or_else(|| TargetName { schema: target.schema.clone(), table: TABLE.to_owned() });
        Self { name }
    }

    /// Where it is.
    pub(super) fn name(&self) -> &TargetName {
        &self.name
    }

    fn table(&self) -> Qualified<'_> {
        self.name.qualified()
    }

    /// What makes the table.
    pub(super) fn ddl(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {} (pipeline text, sink text, epoch bigint NOT NULL, writer text NOT NULL, \
             updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (pipeline, sink))",
            self.table()
        )
    }

    /// Makes the table when it is not there.
    pub(super) async fn ensure(&self, client: &Client) -> Result<()> {
        let what = || format!("cannot look for the epoch table {}", self.name.plain());
        let exists: bool = client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.table().to_string()])
            .await
            .and_then(|row| row.try_get(0))
            .map_err(|e| sql_error(what(), e))?;
        if exists {
            return Ok(());
        }
        let Err(error) = client.batch_execute(&self.ddl()).await else { return Ok(()) };
        let error = sql_error(format!("cannot create the epoch table {}", self.name.plain()), error);
        // Another sink of the same target was faster (IF NOT EXISTS does not see a table being made).
        if matches!(sqlstate(&error), Some("23505" | "42P07")) {
            return Ok(());
        }
        if sqlstate(&error) == Some("42501") {
            return Err(Error::refused(format!("cannot create the epoch table {}", self.name.plain()))
                .because("the role may not create tables in this schema; the table keeps epochs from being written twice")
                .next(format!(
                    "have an administrator run: {}; GRANT SELECT, INSERT, UPDATE ON {} TO the role",
                    self.ddl(),
                    self.table()
                ))
                .with_source(error));
        }
        Err(error)
    }

    /// What the fence holds.
    pub(super) async fn read(&self, client: &Client, id: &SinkId) -> Result<Option<Fence>> {
        let sql = format!("SELECT epoch, writer FROM {} WHERE pipeline = $1 AND sink = $2", self.table());
        let failed = |e| sql_error(format!("cannot read the epoch of {id}"), e);
        let Some(row) = client.query_opt(&sql, &[&id.pipeline, &id.sink]).await.map_err(failed)? else {
            return Ok(None);
        };
        let epoch: i64 = row.try_get(0).map_err(failed)?;
        let epoch = u64::try_from(epoch).map_err(|_| {
            Error::new(Kind::Data, format!("the epoch of {id} in {} is negative", self.name.plain()))
        })?;
        Ok(Some(Fence { epoch, writer: row.try_get(1).map_err(failed)? }))
    }

    /// Compare and set.
    pub(super) async fn claim(
        &self,
        client: &Client,
        id: &SinkId,
        expected: Option<&Fence>,
        new: &Fence,
    ) -> Result<bool> {
        let epoch = number(new.epoch)?;
        let changed = match expected {
            None => {
                let sql = format!(
                    "INSERT INTO {} (pipeline, sink, epoch, writer) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                    self.table()
                );
                client.execute(&sql, &[&id.pipeline, &id.sink, &epoch, &new.writer]).await
            }
            Some(old) => {
                let sql = format!(
                    "UPDATE {} SET epoch = $3, writer = $4, updated_at = now() \
                     WHERE pipeline = $1 AND sink = $2 AND epoch = $5 AND writer = $6",
                    self.table()
                );
                let old_epoch = number(old.epoch)?;
                client
                    .execute(&sql, &[&id.pipeline, &id.sink, &epoch, &new.writer, &old_epoch, &old.writer])
                    .await
            }
        };
        changed.map(|n| n == 1).map_err(|e| sql_error(format!("cannot claim the epoch of {id}"), e))
    }

    /// Moves the fence from `$3 - 1` to `$3` for writer `$4`, and fails with "division by zero" where it does
    /// not stand there: so the statements and the COMMIT that were sent right behind it do nothing.
    pub(super) fn advance_sql(&self) -> String {
        format!(
            "WITH moved AS (UPDATE {} SET epoch = $3, updated_at = now() \
             WHERE pipeline = $1 AND sink = $2 AND epoch = $3 - 1 AND writer = $4 RETURNING 1) \
             SELECT 1 / count(*) FROM moved",
            self.table()
        )
    }
}

/// SQLSTATE of [`Fences::advance_sql`] when the fence stands elsewhere.
pub(super) const NOT_THERE: &str = "22012";

/// An epoch as PostgreSQL's bigint.
pub(super) fn number(epoch: u64) -> Result<i64> {
    i64::try_from(epoch).map_err(|_| Error::internal("an epoch does not fit into a bigint"))
}
