//! Expression sheets.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use millstream::engine::context::Context;
use millstream::engine::eval::{Evaluator, Input};
use millstream::engine::format::{self, FormatContext};
use millstream::engine::graph::SystemClock;
use millstream::engine::plan::{TableColumn, TableRef};
use millstream::engine::print;
use millstream::engine::row::{Row, Value};
use millstream::engine::types::{DataType, Field};
use millstream::sql::compile_expression;
use millstream::sql::parser::parse_type;

/// Runs a sheet; the error lists expressions that differ.
pub fn run(case: &Path) -> Result<(), String> {
    let sheet = std::fs::read_to_string(case.join("exprs.txt")).map_err(|e| e.to_string())?;
    let expected = std::fs::read_to_string(case.join("exprs.expected")).map_err(|e| e.to_string())?;
    let mut options = BTreeMap::new();
    let mut columns: Vec<(String, DataType)> = Vec::new();
    let mut values = Vec::new();
    for line in sheet.lines() {
        if let Some(rest) = line.strip_prefix("SET ") {
            let mut parts = rest.split('\'');
            if let (Some(_), Some(key), Some(_), Some(value)) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            {
                options.insert(key.to_owned(), value.to_owned());
            }
        } else if let Some(rest) = line.strip_prefix("COLUMN ") {
            let (declared, value) = rest.split_once(" := ").ok_or("COLUMN without :=")?;
            let (name, data_type) = declared.split_once(' ').ok_or("COLUMN without a type")?;
            columns.push((name.to_owned(), parse_type(data_type).map_err(|e| e.to_string())?));
            values.push(format!("\"{name}\":{value}"));
        }
    }
    let row = row_of(&columns, &format!("{{{}}}", values.join(",")), &options)?;
    let context = Context::new(&options, Arc::new(SystemClock)).map_err(|e| e.to_string())?;
    let (mut total, mut wrong) = (0, Vec::new());
    for line in expected.lines().filter(|l| !l.is_empty()) {
        let mut parts = line.splitn(3, '\t');
        let (Some(text), Some(data_type)) = (parts.next(), parts.next()) else { continue };
        let value = parts.next().unwrap_or("");
        total += 1;
        let have = evaluate(text, &columns, &options, &row, &context);
        let fits = match (&have, data_type) {
            (Err((phase, _)), "ERROR") => value.split('\t').next() == Some(*phase),
            (Ok((t, v)), _) => *t == data_type.replace(" NOT NULL", "") && *v == value,
            _ => false,
        };
        if !fits {
            wrong.push(format!("  {text}\n    want {data_type}\t{value}\n    have {have:?}"));
        }
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let shown = if std::env::var_os("FLINKSQL_VERBOSE").is_some() { wrong.len() } else { 3 };
    Err(format!(
        "{} of {total} expressions differ\n{}",
        wrong.len(),
        wrong.iter().take(shown).cloned().collect::<Vec<_>>().join("\n")
    ))
}

fn row_of(
    columns: &[(String, DataType)],
    json: &str,
    options: &BTreeMap<String, String>,
) -> Result<Row, String> {
    let table = TableRef {
        name: "t".to_owned(),
        options: BTreeMap::from([
            ("connector".to_owned(), "filesystem".to_owned()),
            ("format".to_owned(), "json".to_owned()),
            ("json.timestamp-format.standard".to_owned(), "ISO-8601".to_owned()),
        ]),
        columns: columns
            .iter()
            .map(|(name, data_type)| TableColumn {
                field: Field { name: name.clone(), data_type: data_type.clone() },
                metadata: None,
            })
            .collect(),
        primary_key: Vec::new(),
    };
    let context = FormatContext::new(options).map_err(|e| e.to_string())?;
    let mut decoder = format::decoder(&table, &context).map_err(|e| e.to_string())?;
    let mut changes = Vec::new();
    let input = format::Input {
        value: Some(json.as_bytes()),
        key: None,
        topic: "t",
        partition: 0,
        offset: 0,
        timestamp: 0,
        leader_epoch: None,
        headers: &[],
    };
    decoder.decode(&input, &mut changes).map_err(|e| e.to_string())?;
    changes.pop().map(|c| c.row).ok_or_else(|| "no row".to_owned())
}

type Failure = (&'static str, String);

fn evaluate(
    text: &str,
    columns: &[(String, DataType)],
    options: &BTreeMap<String, String>,
    row: &Row,
    context: &Context,
) -> Result<(String, String), Failure> {
    let expr = compile_expression(text, columns, options).map_err(|e| ("plan", e.to_string()))?;
    let evaluator =
        Evaluator::new(&expr, context).map_err(|e| ("build", format!("{e} [{}]", expr.data_type)))?;
    let value = evaluator.eval(Input::row(row)).map_err(|e| ("run", e.to_string()))?;
    if value == Value::Null && !expr.data_type.nullable {
        // what a sink of the expression's type does
        return Err(("run", "a null value is being written into a NOT NULL column".to_owned()));
    }
    let mut out = String::new();
    print::value(&mut out, &value, &expr.data_type);
    let out = out.replace('\n', "\\n").replace('\t', "\\t");
    Ok((expr.data_type.to_string().replace(" NOT NULL", ""), out))
}
