//! Which tables a connector captures.

use crate::java::regex_list::RegexList;

/// Which tables are captured: schema and table filters together.
#[derive(Clone, Debug, Default)]
pub struct TableFilter {
    pub(super) schema_include: RegexList,
    pub(super) schema_exclude: RegexList,
    pub(super) table_include: RegexList,
    /// Its entries as they are written.
    pub(super) table_entries: Vec<String>,
    pub(super) table_exclude: RegexList,
    pub(super) signal: Option<String>,
}

impl TableFilter {
    /// Whether `schema.table` is captured. The signal table is not, unless the lists name it.
    pub fn captures(&self, schema: &str, table: &str) -> bool {
        if is_builtin(schema, table) {
            return false;
        }
        let schema_wanted = if self.schema_include.is_empty() {
            self.schema_exclude.is_empty() || !self.schema_exclude.matches(schema)
        } else {
            self.schema_include.matches(schema)
        };
        if !schema_wanted {
            return false;
        }
        let name = format!("{schema}.{table}");
        if self.table_include.is_empty() {
            self.table_exclude.is_empty() || !self.table_exclude.matches(&name)
        } else {
            self.table_include.matches(&name)
        }
    }

    /// Entries of `table.include.list` that none of these tables (`schema.table`) matches: a name that was mistyped, or
    /// a table that is still to come.
    pub fn without_table(&self, tables: &[String]) -> Vec<&str> {
        let entries = self.table_entries.iter().zip(self.table_include.patterns());
        entries
            .filter(|(_, pattern)| !tables.iter().any(|table| pattern.is_match(table).unwrap_or(false)))
            .map(|(entry, _)| entry.as_str())
            .collect()
    }

    /// Whether `schema.table` is the signal table.
    pub fn is_signal(&self, schema: &str, table: &str) -> bool {
        self.signal.as_deref() == Some(format!("{schema}.{table}").as_str())
    }

    /// Place of `schema.table` in the order of a snapshot: by the entry of `table.include.list` that names
    /// it, then by name.
    pub fn snapshot_order(&self, schema: &str, table: &str) -> (usize, String) {
        let name = format!("{schema}.{table}");
        (self.table_include.position(&name).unwrap_or(usize::MAX), name)
    }
}

fn is_builtin(schema: &str, table: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "pg_toast")
        || schema.starts_with("pg_temp")
        || table == "spatial_ref_sys"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_nothing_matches_are_told() {
        let list = r"public\.item.*, public.oders,shop.a";
        let filter = TableFilter {
            table_include: RegexList::parse(list).unwrap(),
            table_entries: crate::java::regex_list::split(list),
            ..TableFilter::default()
        };
        let tables = ["public.items", "public.orders", "shop.A"].map(str::to_owned);
        assert_eq!(filter.without_table(&tables), ["public.oders"]);
    }
}
