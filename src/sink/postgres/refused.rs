//! Which column a server refused a value of, where its error names only the type.

use super::Session;
use crate::error::Error;
use crate::pg::sqlstate;

/// A table's columns with their types as DDL writes them.
const COLUMNS: &str = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute \
                       WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";

impl Session {
    /// Adds to an error about values (SQLSTATE class 22 and 23) which columns it may mean, and what to do. Values
    /// are not shown: an error goes into logs.
    pub(super) async fn name_columns(&self, error: Error) -> Error {
        let Some(code) = sqlstate(&error).map(str::to_owned) else { return error };
        if !code.starts_with("22") && !code.starts_with("23") {
            return error;
        }
        let mut why = error.cause().unwrap_or_default();
        if code.starts_with("22") {
            let rows = self.client.query(COLUMNS, &[&self.target.name.qualified().to_string()]).await;
            let fits =
                |of: &str| why.contains(of) || (why.contains("numeric field") && of.starts_with("numeric("));
            let columns: Vec<String> = rows
                .unwrap_or_default()
                .iter()
                .filter_map(|row| {
                    Some((row.try_get::<_, String>(0).ok()?, row.try_get::<_, String>(1).ok()?))
                })
                .filter(|(_, of)| fits(of))
                .map(|(name, of)| format!("{name} {of}"))
                .collect();
            if !columns.is_empty() {
                why.push_str(&format!("; columns of that type: {}", columns.join(", ")));
            }
        }
        let next = "change the value in the query (CAST, SUBSTRING, COALESCE, TRY_CAST), leave such rows out (WHERE), or \
                    change the target's column; then start the pipeline again: it goes on with this epoch";
        Error::new(error.kind(), error.what().to_owned()).because(why).next(next).with_source(error)
    }
}
