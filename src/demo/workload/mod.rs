//! The demo's workload: a deterministic stream of transactions on the sample shop.
//!
//! The generator keeps a model of the keys that exist, so that every transaction it makes succeeds, and the
//! same seed over the same rows makes the same statements. Inserts, updates, deletes and changes of keys
//! (with what they drag along by foreign keys), single rows and thousands of them, rolled-back work,
//! savepoints, nulls, text that needs quoting and text long enough to be stored out of line.

mod kinds;
mod random;

use std::fmt::Write as _;

use crate::error::{Error, Result};
use random::Random;

/// One transaction to run on the source, as text for the simple query protocol.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// `BEGIN; …; COMMIT` (or `ROLLBACK`).
    pub sql: String,
    /// What it does, in a few words for the screen.
    pub what: &'static str,
    /// Rows that foreign keys change along; the server does not count them in its answers.
    pub cascaded: u64,
    /// Whether it commits.
    pub commits: bool,
}

/// An order of the model.
#[derive(Clone, Debug)]
struct Order {
    number: i32,
    customer: i32,
    /// Product codes of its lines.
    lines: Vec<String>,
    next_line: i32,
}

/// The keys that exist on the source.
#[derive(Clone, Debug, Default)]
struct Model {
    customers: Vec<i32>,
    /// Product code and product line.
    products: Vec<(String, String)>,
    product_lines: Vec<String>,
    orders: Vec<Order>,
    /// Customer and check number.
    payments: Vec<(i32, String)>,
    /// Counts what was made, for new keys.
    made: i32,
}

/// Makes transactions; see the module's text.
#[derive(Debug)]
pub struct Workload {
    model: Model,
    random: Random,
    base: i32,
}

impl Workload {
    /// Reads the keys that exist on the source.
    ///
    /// # Errors
    /// When the sample tables are not there or cannot be read.
    pub async fn load(client: &tokio_postgres::Client, seed: u64) -> Result<Self> {
        let failed = |e: tokio_postgres::Error| {
            Error::config("cannot read the sample tables of the source")
                .with_source(e)
                .next("load migrations/source/*.sql into the source database")
        };
        let mut model = Model::default();
        for row in client
            .query(r#"SELECT "customerNumber" FROM classicmodels.customers ORDER BY 1"#, &[])
            .await
            .map_err(failed)?
        {
            model.customers.push(row.try_get(0).map_err(failed)?);
        }
        let query = r#"SELECT "productCode", "productLine" FROM classicmodels.products
            WHERE "productCode" <> 'T_0000' ORDER BY "productCode" COLLATE "C""#;
        for row in client.query(query, &[]).await.map_err(failed)? {
            model.products.push((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
        }
        let query =
            r#"SELECT "productLine" FROM classicmodels.productlines ORDER BY "productLine" COLLATE "C""#;
        for row in client.query(query, &[]).await.map_err(failed)? {
            model.product_lines.push(row.try_get(0).map_err(failed)?);
        }
        let query = r#"SELECT o."orderNumber", o."customerNumber",
                coalesce(array_agg(d."productCode" ORDER BY d."orderLineNumber", d."productCode" COLLATE "C")
                         FILTER (WHERE d."productCode" IS NOT NULL), '{}'),
                coalesce(max(d."orderLineNumber"), 0)::integer + 1
            FROM classicmodels.orders o LEFT JOIN classicmodels.orderdetails d USING ("orderNumber")
            GROUP BY 1, 2 ORDER BY 1"#;
        for row in client.query(query, &[]).await.map_err(failed)? {
            model.orders.push(Order {
                number: row.try_get(0).map_err(failed)?,
                customer: row.try_get(1).map_err(failed)?,
                lines: row.try_get(2).map_err(failed)?,
                next_line: row.try_get(3).map_err(failed)?,
            });
        }
        let query = r#"SELECT "customerNumber", "checkNumber" FROM classicmodels.payments ORDER BY 1, "checkNumber" COLLATE "C""#;
        for row in client.query(query, &[]).await.map_err(failed)? {
            model.payments.push((row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?));
        }
        if model.customers.is_empty() || model.products.is_empty() || model.product_lines.is_empty() {
            return Err(Error::config("the source's sample tables are empty")
                .next("load migrations/source/*.sql into the source database"));
        }
        // New keys start above all that exist, so that a second run on the same source makes others.
        let top =
            model.customers.iter().chain(model.orders.iter().map(|o| &o.number)).max().copied().unwrap_or(0);
        let base = top.max(100_000);
        Ok(Self { model, random: Random::new(seed), base })
    }

    /// The next transaction.
    pub fn next_transaction(&mut self) -> Transaction {
        let mut draft = Draft::default();
        let commits = self.random.below(40) != 0;
        if commits {
            self.fill(&mut draft);
        } else {
            // Rolled back: the keys stay as they were.
            let model = self.model.clone();
            self.fill(&mut draft);
            let made = self.model.made;
            self.model = Model { made, ..model };
        }
        let end = if commits { "COMMIT" } else { "ROLLBACK" };
        Transaction {
            sql: format!("BEGIN;\n{}{end};\n", draft.sql),
            what: if commits { draft.what } else { "rolled back" },
            cascaded: if commits { draft.cascaded } else { 0 },
            commits,
        }
    }

    fn fill(&mut self, draft: &mut Draft) {
        // Mostly small transactions, as shops have; now and then a batch job.
        let steps = match self.random.below(100) {
            0..82 => 1,
            82..96 => self.random.between(2, 8),
            96..99 => self.random.between(10, 60),
            _ => self.random.between(100, 300),
        };
        for step in 0..steps {
            if step > 0 && self.random.below(50) == 0 {
                // Work under a savepoint that is taken back.
                let model = self.model.clone();
                let cascaded = draft.cascaded;
                draft.line(format_args!("SAVEPOINT s"));
                self.step(draft);
                draft.line(format_args!("ROLLBACK TO SAVEPOINT s"));
                let made = self.model.made;
                self.model = Model { made, ..model };
                draft.cascaded = cascaded;
            } else {
                self.step(draft);
            }
        }
        if steps > 1 {
            draft.what = if steps < 100 { "several changes" } else { "a batch" };
        }
    }
}

/// A transaction in the making.
#[derive(Debug, Default)]
struct Draft {
    sql: String,
    what: &'static str,
    cascaded: u64,
}

impl Draft {
    fn line(&mut self, statement: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.sql.write_fmt(statement);
        self.sql.push_str(";\n");
    }
}

/// Runs a transaction and says how many rows it changed for good, cascades included.
///
/// # Errors
/// The server's, as [`crate::Kind::Data`]: a workload that fails is a fault of the demo.
pub async fn run(client: &tokio_postgres::Client, transaction: &Transaction) -> Result<u64> {
    use tokio_postgres::SimpleQueryMessage::CommandComplete;
    let messages = client
        .simple_query(&transaction.sql)
        .await
        .map_err(|e| Error::data("a transaction of the workload failed on the source").with_source(e))?;
    if !transaction.commits {
        return Ok(0);
    }
    let counted: u64 = messages.iter().map(|m| if let CommandComplete(rows) = m { *rows } else { 0 }).sum();
    Ok(counted + transaction.cascaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::databases;
    use crate::demo::postgres::{PostgresOptions, TemporaryPostgres};
    use crate::pg::config::ConnectConfig;

    #[tokio::test]
    async fn the_same_seed_makes_the_same_statements_and_all_of_them_run() {
        let server = TemporaryPostgres::start(&PostgresOptions::default()).unwrap();
        let admin = crate::pg::client::connect(&ConnectConfig::from_url(&server.url("postgres")).unwrap())
            .await
            .unwrap();
        let mut texts = Vec::new();
        for database in ["one", "two"] {
            admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
            let config = ConnectConfig::from_url(&server.url(database)).unwrap();
            let client = crate::pg::client::connect(&config).await.unwrap();
            databases::migrate(&client, databases::SOURCE_MIGRATIONS).await.unwrap();
            let mut workload = Workload::load(&client, 7).await.unwrap();
            let (mut text, mut changes) = (String::new(), 0);
            while changes < 5_000 {
                let transaction = workload.next_transaction();
                changes += run(&client, &transaction).await.unwrap();
                text.push_str(&transaction.sql);
            }
            texts.push(text);
        }
        assert!(texts[0] == texts[1]);
        for word in
            ["INSERT", "DELETE", "ROLLBACK;", "SAVEPOINT", r#"SET "productLine""#, r#"SET "orderNumber""#]
        {
            assert!(texts[0].contains(word), "the workload has no {word}");
        }
    }
}
