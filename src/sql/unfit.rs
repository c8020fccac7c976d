//! What connectors and formats refuse of a table, beyond options they do not know.

use crate::engine::types::TypeKind;

use super::catalog::{ColumnKind, Table};

/// What a format cannot hold.
pub(super) fn types(format: &str, table: &Table) -> Option<String> {
    table.columns.iter().filter(|column| matches!(column.kind, ColumnKind::Physical)).find_map(
        |column| match (format, &column.col.data_type.kind) {
            ("json" | "debezium-json", kind @ TypeKind::Map(key, _))
                if !super::types::is_string(&key.kind) =>
            {
                Some(format!(
                    "JSON format doesn't support non-string as key type of map. The type is: {kind}"
                ))
            }
            ("csv", kind @ (TypeKind::Map(..) | TypeKind::Multiset(_))) => {
                Some(format!("Unsupported type '{kind}' for field '{}'.", column.col.name))
            }
            _ => None,
        },
    )
}

/// What is wrong with the options of generated rows.
pub(super) fn datagen(table: &Table) -> Option<String> {
    for (key, value) in &table.options {
        let Some((name, option)) = key.strip_prefix("fields.").and_then(|rest| rest.rsplit_once('.')) else {
            continue;
        };
        let column = name.split('.').next().unwrap_or(name);
        if table.column(column).is_none() {
            return Some(format!("Unsupported options found for 'datagen'.\nUnsupported options: {key}"));
        }
        let sequence = option == "kind" && value == "sequence";
        if option == "kind" && !sequence && value != "random" {
            return Some(format!("Unsupported generator kind: {value}"));
        }
        for end in ["start", "end"] {
            let wanted = format!("fields.{name}.{end}");
            if sequence && !table.options.contains_key(&wanted) {
                return Some(format!("Could not find required property '{wanted}' for sequence generator."));
            }
        }
    }
    None
}
