//! A table's plan: everything about its events that does not change from row to row, rendered once.

use std::sync::Arc;

use super::columns::{self, ColumnName, Mask};
use super::convert::{Conv, Unconvertible};
use super::datum::Datum;
use super::flat::FlatPlan;
use super::json::{self, JsonOptions};
use super::names;
use super::options::{Converter, EventOptions};
use super::schema::{Field, Kind, Schema};
use super::types::{self, Origin};
use super::{EventError, defaults, envelope};
use crate::pg::catalog::{ColumnInfo, TableInfo, TypeKind, TypeRegistry};
use crate::pg::pgoutput::{Column, Relation, RelationColumn};

/// Why a column has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Its converter cannot hold it.
    Unconvertible,
    /// Unchanged and TOASTed.
    NotSent,
}

/// A column of a key or value.
#[derive(Clone, Debug)]
pub(super) struct ColumnPlan {
    /// Position in the row.
    pub wire: usize,
    /// Name in the table.
    pub name: String,
    /// A value that cannot be converted is an error: null may not stand for it.
    pub must_convert: bool,
    /// An unchanged TOASTed value is an error: what stands for it does not say so.
    pub must_be_sent: bool,
    pub conv: Conv,
    pub schema: Arc<Schema>,
    pub mask: Option<Mask>,
    /// `"name":`, with a comma before it for all but the first.
    pub lead: Vec<u8>,
    /// What a null becomes.
    pub null: Datum<'static>,
    pub null_json: Vec<u8>,
    /// What a value that cannot be converted becomes.
    pub failed: Datum<'static>,
    pub failed_json: Vec<u8>,
    /// What an unchanged TOASTed value becomes.
    pub toast: Datum<'static>,
    pub toast_json: Vec<u8>,
}

impl ColumnPlan {
    /// A column that may be left out and whose texts are still to be written.
    fn new(wire: usize, name: &str, conv: Conv, schema: Schema) -> Self {
        Self {
            wire,
            name: name.to_owned(),
            must_convert: false,
            must_be_sent: false,
            conv,
            schema: Arc::new(schema),
            mask: None,
            lead: Vec::new(),
            null: Datum::Null,
            null_json: Vec::new(),
            failed: Datum::Null,
            failed_json: Vec::new(),
            toast: Datum::Null,
            toast_json: Vec::new(),
        }
    }

    /// The value for transforms and converters other than JSON.
    pub fn datum<'a>(&self, column: Column<'a>) -> Result<Datum<'a>, Lost> {
        let text = match column {
            Column::Null => return Ok(self.null.clone()),
            Column::Unchanged if self.must_be_sent => return Err(Lost::NotSent),
            Column::Unchanged => return Ok(self.toast.clone()),
            Column::Text(text) | Column::Binary(text) => text,
        };
        let datum = match self.conv.convert(text) {
            Ok(datum) => datum,
            Err(Unconvertible) if self.must_convert => return Err(Lost::Unconvertible),
            Err(_) => self.failed.clone(),
        };
        Ok(match &self.mask {
            Some(mask) => mask.apply(datum),
            None => datum,
        })
    }

    /// Appends the value as JSON.
    pub fn write_json(
        &self,
        out: &mut Vec<u8>,
        column: Column<'_>,
        options: &JsonOptions,
    ) -> Result<(), Lost> {
        let text = match column {
            Column::Null => {
                out.extend_from_slice(&self.null_json);
                return Ok(());
            }
            Column::Unchanged if self.must_be_sent => return Err(Lost::NotSent),
            Column::Unchanged => {
                out.extend_from_slice(&self.toast_json);
                return Ok(());
            }
            Column::Text(text) | Column::Binary(text) => text,
        };
        match (&self.conv, &self.mask) {
            // PostgreSQL's text of an integer is JSON's
            (Conv::Int, None) => {
                out.extend_from_slice(text);
                return Ok(());
            }
            (Conv::Text | Conv::Uuid, None) => {
                json::write_str(out, text);
                return Ok(());
            }
            _ => {}
        }
        match self.conv.convert(text) {
            Ok(datum) => {
                let datum = match &self.mask {
                    Some(mask) => mask.apply(datum),
                    None => datum,
                };
                json::write(out, &self.schema, &datum, options);
                Ok(())
            }
            Err(Unconvertible) if self.must_convert => Err(Lost::Unconvertible),
            Err(Unconvertible) => {
                out.extend_from_slice(&self.failed_json);
                Ok(())
            }
        }
    }
}

/// A key's columns and schema.
#[derive(Clone, Debug)]
pub(super) struct KeyPlan {
    pub columns: Vec<ColumnPlan>,
    pub schema: Arc<Schema>,
    /// `{"schema":…,"payload":`, or nothing.
    pub open: Vec<u8>,
}

/// Everything of a table's events that does not change from row to row. Made by
/// [`super::Encoder::stream_plan`] and [`super::Encoder::snapshot_plan`].
#[derive(Clone, Debug)]
pub struct TablePlan {
    pub(super) topic: String,
    pub(super) table_id: String,
    pub(super) schema: String,
    pub(super) table: String,
    /// Columns of a row, the ones left out included.
    pub(super) width: usize,
    pub(super) columns: Vec<ColumnPlan>,
    pub(super) key: Option<KeyPlan>,
    pub(super) envelope: Arc<Schema>,
    /// `{"schema":…,"payload":`, or nothing.
    pub(super) open: Vec<u8>,
    /// `,"schema":"…","table":"…","txId":`
    pub(super) source_table: Vec<u8>,
    /// How rows are written without the envelope, where they are.
    pub(super) flat: Option<FlatPlan>,
}

impl TablePlan {
    /// The topic of the table's events.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// `schema.table`, as transaction metadata and filters name it.
    pub fn table_id(&self) -> &str {
        &self.table_id
    }

    /// Schema of the envelope.
    pub fn envelope(&self) -> &Arc<Schema> {
        &self.envelope
    }

    /// Schema of the key, where the table has one.
    pub fn key_schema(&self) -> Option<&Arc<Schema>> {
        self.key.as_ref().map(|k| &k.schema)
    }

    /// Positions in the row of the key's columns, in key order; empty without a key.
    pub fn key_columns(&self) -> impl Iterator<Item = usize> + '_ {
        self.key.iter().flat_map(|k| k.columns.iter().map(|c| c.wire)).filter(|wire| *wire != NOWHERE)
    }
}

/// The place of a column that rows do not hold.
const NOWHERE: usize = usize::MAX;

/// A column before it is planned.
struct Input<'i> {
    name: &'i str,
    type_oid: u32,
    typmod: i32,
    optional: bool,
    info: Option<&'i ColumnInfo>,
    /// Not among the columns that Debezium's snapshot selects: null, wherever it is wanted all the same.
    unread: bool,
}

pub(super) fn json_options(converter: &Converter) -> JsonOptions {
    match converter {
        Converter::Json(options) => *options,
        Converter::Other(_) => JsonOptions::default(),
    }
}

/// The plan of a table as a Relation message describes it, with key, defaults and optionality of the live catalog.
pub(super) fn stream(
    options: &EventOptions,
    relation: &Relation,
    table: Option<&TableInfo>,
    types: &TypeRegistry,
) -> Result<TablePlan, EventError> {
    // Debezium asks the catalog for the columns that its filter lets through; of others, as key columns, it knows nothing
    let find = |c: &RelationColumn| {
        let name = ColumnName { schema: &relation.schema, table: &relation.name, column: &c.name };
        let wanted = columns::included(options, &name);
        table.filter(|_| wanted).and_then(|t| t.columns.iter().find(|i| i.name == c.name))
    };
    let inputs: Vec<Input<'_>> = relation
        .columns
        .iter()
        .map(|c| {
            let info = find(c);
            Input {
                name: &c.name,
                type_oid: c.type_oid,
                typmod: c.typmod,
                optional: info.is_none_or(|i| i.optional),
                info,
                unread: false,
            }
        })
        .collect();
    let key: &[String] = table.map_or(&[], |t| &t.key);
    build(options, types, &relation.schema, &relation.name, &inputs, key, Origin::Stream)
}

/// The plan of a table's snapshot: all its columns in the catalog's order.
pub(super) fn snapshot(
    options: &EventOptions,
    table: &TableInfo,
    types: &TypeRegistry,
) -> Result<TablePlan, EventError> {
    let included = |c: &ColumnInfo| {
        columns::included(options, &ColumnName { schema: &table.schema, table: &table.name, column: &c.name })
    };
    // where the filter leaves nothing, Debezium selects all
    let some = table.columns.iter().any(included);
    let inputs: Vec<Input<'_>> = table
        .columns
        .iter()
        .map(|c| Input {
            name: &c.name,
            type_oid: c.type_oid,
            typmod: c.typmod,
            optional: c.optional,
            info: Some(c),
            unread: some && !included(c),
        })
        .collect();
    build(options, types, &table.schema, &table.name, &inputs, &table.key, Origin::Snapshot)
}

fn build(
    options: &EventOptions,
    types: &TypeRegistry,
    schema: &str,
    table: &str,
    inputs: &[Input<'_>],
    key: &[String],
    origin: Origin,
) -> Result<TablePlan, EventError> {
    let topic = names::table_topic(options, schema, table)?;
    let table_id = format!("{schema}.{table}");
    let value_json = json_options(&options.value_converter);
    let key_json = json_options(&options.key_converter);

    let mut columns = Vec::with_capacity(inputs.len());
    let mut fields = Vec::with_capacity(inputs.len());
    for (wire, input) in inputs.iter().enumerate() {
        let name = ColumnName { schema, table, column: input.name };
        if !columns::included(options, &name) {
            continue;
        }
        let Some(mut column) = column(options, types, wire, input, origin) else { continue };
        let type_name = types.get(input.type_oid).map_or("", |t| t.name.as_str());
        let serial =
            input.info.and_then(|i| i.default_expr.as_deref()).is_some_and(|d| d.contains("nextval("));
        // pgjdbc's description of a table, which the snapshot goes by
        let type_name = match type_name {
            "int2" if serial && origin == Origin::Snapshot => "smallserial",
            "int4" if serial && origin == Origin::Snapshot => "serial",
            "int8" if serial && origin == Origin::Snapshot => "bigserial",
            name => name,
        };
        let characters = types::is_characters(types, input.type_oid);
        let (length, scale) = types::length_and_scale(types, input.type_oid, input.typmod, origin);
        let mut field = (*column.schema).clone();
        column.mask = columns::apply(options, &name, type_name, characters, length, scale, &mut field);
        column.schema = Arc::new(field);
        finish(options, &mut column, input, columns.is_empty(), &value_json);
        fields.push(Field {
            name: names::adjust_field(input.name, options.field_adjustment),
            schema: Arc::clone(&column.schema),
        });
        columns.push(column);
    }

    let identity = names::key_identity(options, schema, table)?;
    let key = key_plan(options, types, &table_id, inputs, key, origin, &topic, identity, &key_json)?;
    let title = |suffix: &str| names::adjust_schema(&format!("{topic}.{suffix}"), options.schema_adjustment);
    let row = Arc::new(Schema::new(Kind::Struct(fields)).optional().titled(title("Value")));
    let envelope = Arc::new(envelope::schema(options, row).named(title("Envelope"), 2));
    let mut source_table = b",\"schema\":".to_vec();
    json::write_str(&mut source_table, schema.as_bytes());
    source_table.extend_from_slice(b",\"table\":");
    json::write_str(&mut source_table, table.as_bytes());
    source_table.extend_from_slice(b",\"txId\":");
    Ok(TablePlan {
        topic,
        table_id,
        schema: schema.to_owned(),
        table: table.to_owned(),
        width: inputs.len(),
        columns,
        key,
        open: open(&envelope, &value_json),
        envelope,
        source_table,
        flat: None,
    })
}

fn column(
    options: &EventOptions,
    types: &TypeRegistry,
    wire: usize,
    input: &Input<'_>,
    origin: Origin,
) -> Option<ColumnPlan> {
    let mut mapped = types::map(options, types, input.type_oid, input.typmod, origin)?;
    let default = input.info.and_then(|i| i.default_expr.as_deref()).and_then(|expression| {
        let pg = types.get(input.type_oid)?;
        let is_enum = matches!(pg.kind, TypeKind::Enum(_));
        defaults::parse(expression, &pg.name, is_enum, input.typmod, &mapped)
    });
    // some types are optional whatever the column says
    mapped.schema.optional |= input.optional;
    mapped.schema.default = default;
    let required = !mapped.schema.optional && mapped.schema.default.is_none();
    Some(ColumnPlan {
        must_convert: mapped.conv != Conv::Null
            && (required || options.converting_fails || options.strict_values),
        must_be_sent: options.strict_values && !mapped.conv.placeholder_tells(),
        ..ColumnPlan::new(wire, input.name, mapped.conv, mapped.schema)
    })
}

/// Renders what does not depend on the row.
fn finish(
    options: &EventOptions,
    column: &mut ColumnPlan,
    input: &Input<'_>,
    first: bool,
    json: &JsonOptions,
) {
    let name = names::adjust_field(input.name, options.field_adjustment);
    if !first {
        column.lead.push(b',');
    }
    json::write_str(&mut column.lead, name.as_bytes());
    column.lead.push(b':');
    let masked = |datum: Datum<'static>| match &column.mask {
        Some(mask) => mask.apply(datum),
        None => datum,
    };
    let null = if input.optional {
        Datum::Null
    } else {
        match (&column.schema.default, &column.conv) {
            (Some(default), _) => default.clone(),
            (None, Conv::Null) if column.schema.kind == Kind::String => Datum::str(""),
            (None, conv) => conv.fallback(),
        }
    };

    let toast = column.conv.placeholder(&options.placeholder).unwrap_or(Datum::Null);
    (column.null, column.toast) = (masked(null), masked(toast));
    if column.conv == Conv::Null {
        column.failed = column.null.clone();
    }
    let schema = Arc::clone(&column.schema);
    json::write(&mut column.null_json, &schema, &column.null, json);
    json::write(&mut column.toast_json, &schema, &column.toast, json);
    json::write(&mut column.failed_json, &schema, &column.failed, json);
}

#[expect(clippy::too_many_arguments, reason = "called once, from build")]
fn key_plan(
    options: &EventOptions,
    types: &TypeRegistry,
    table_id: &str,
    inputs: &[Input<'_>],
    key: &[String],
    origin: Origin,
    topic: &str,
    identity: Option<(&str, String)>,
    json: &JsonOptions,
) -> Result<Option<KeyPlan>, EventError> {
    let rule = options.key_columns.iter().find(|k| k.tables.matches(table_id));
    let names: &[String] = rule.map_or(key, |r| &r.columns);
    let mut columns = Vec::new();
    let mut fields = Vec::new();
    for name in names {
        let Some(wire) = inputs.iter().position(|i| i.name == name) else {
            match rule {
                Some(_) => {
                    return Err(EventError::KeyColumn { table: table_id.into(), column: name.clone() });
                }
                // not in the publication's column list, or dropped since
                None => continue,
            }
        };
        let Some(input) = inputs.get(wire) else { continue };
        let Some(mut column) = column(options, types, wire, input, origin) else { continue };
        if input.unread {
            column.wire = NOWHERE;
        }
        finish(options, &mut column, input, columns.is_empty(), json);
        fields.push(Field {
            name: names::adjust_field(input.name, options.field_adjustment),
            schema: Arc::clone(&column.schema),
        });
        columns.push(column);
    }
    if let Some((field, value)) = identity {
        let column = constant(field, value, columns.is_empty(), json);
        let name = field.to_owned();
        fields.push(Field { name, schema: Arc::clone(&column.schema) });
        columns.push(column);
    }
    if columns.is_empty() {
        return Ok(None);
    }
    let title = names::adjust_schema(&format!("{topic}.Key"), options.schema_adjustment);
    let schema = Arc::new(Schema::new(Kind::Struct(fields)).titled(title));
    Ok(Some(KeyPlan { columns, open: open(&schema, json), schema }))
}

/// A field that holds the same text in every record.
fn constant(field: &str, text: String, first: bool, json: &JsonOptions) -> ColumnPlan {
    let null = Datum::string(text);
    let mut column = ColumnPlan::new(NOWHERE, field, Conv::Text, Schema::new(Kind::String));
    // its name is not adjusted; what a row does not hold is null: there the text stands
    if !first {
        column.lead.push(b',');
    }
    json::write_str(&mut column.lead, field.as_bytes());
    column.lead.push(b':');
    json::write(&mut column.null_json, &column.schema, &null, json);
    column.null = null;
    column
}

/// `{"schema":…,"payload":`, or nothing without schemas.
pub(super) fn open(schema: &Schema, options: &JsonOptions) -> Vec<u8> {
    let mut out = Vec::new();
    if options.schemas {
        out.extend_from_slice(b"{\"schema\":");
        schema.write_json(&mut out, None, options);
        out.extend_from_slice(b",\"payload\":");
    }
    out
}
