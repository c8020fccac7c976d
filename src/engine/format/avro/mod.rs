//! The formats avro-confluent and debezium-avro-confluent: magic byte 0, schema id (4 bytes), Avro data; and avro: the
//! data alone, by the schema of the table's own columns.
//!
//! A record is read by the schema that it names, field by field by name, into the table's columns. Schemas come from
//! the registry of the table's `url` and are kept; each is asked for once.

mod data;
mod schema;

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use super::metadata::Layout;
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input, text};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, Row, RowKind, Value};
use crate::engine::types::Field;
use data::Reader;
use schema::{Schema, Type};

/// A schema registry with Confluent's API. Calls may block: each schema is asked for once. A failure that may heal by
/// itself is [`FormatError::transient`].
pub trait Registry: Send + Sync + fmt::Debug {
    /// The schema of an id, as JSON text.
    ///
    /// # Errors
    /// What the registry says, as text for the user.
    fn schema(&self, id: u32) -> Result<String, FormatError>;

    /// The id of a schema under a subject, registered where it is new.
    ///
    /// # Errors
    /// What the registry says, as text for the user.
    fn register(&self, subject: &str, schema: &str) -> Result<u32, FormatError>;
}

/// Opens registries.
pub trait Registries: Send + Sync + fmt::Debug {
    /// The registry of a format's options (`url`, `basic-auth.user-info`, …, without prefix).
    ///
    /// # Errors
    /// What is wrong with the options.
    fn open(&self, options: &BTreeMap<String, String>) -> Result<Arc<dyn Registry>, String>;
}

fn registry(options: &FormatOptions, context: &FormatContext) -> Result<Arc<dyn Registry>, FormatError> {
    if options.get("url").is_none() {
        return Err(FormatError::new(format!("option '{}url' is missing", options.prefix))
            .next(format!("'{}url' = 'http://HOST:8081', the schema registry", options.prefix)));
    }
    let registries = context
        .registries
        .as_ref()
        .ok_or_else(|| FormatError::new(format!("format '{}' needs a schema registry", options.name)))?;
    registries
        .open(options.all())
        .map_err(|what| FormatError::new(format!("the options '{}…' are wrong: {what}", options.prefix)))
}

/// A decimal in the table's scale; NULL where it has too many digits.
fn rescaled(unscaled: i128, from: u8, precision: u8, scale: u8) -> Value {
    text::rescale(unscaled, i32::from(from), scale, precision)
        .map_or(Value::Null, |n| Value::decimal(n, scale))
}

/// Schemas by id.
struct Schemas {
    registry: Arc<dyn Registry>,
    known: HashMap<u32, Arc<Schema>, ahash::RandomState>,
}

impl Schemas {
    /// The schema of a record, and what comes behind the id.
    fn of<'a>(&mut self, bytes: &'a [u8]) -> Result<(Arc<Schema>, Reader<'a>), FormatError> {
        let (head, rest) = bytes.split_at_checked(5).ok_or_else(not_framed)?;
        let (magic, id) = head.split_first().ok_or_else(not_framed)?;
        let id = u32::from_be_bytes(id.try_into().map_err(|_| not_framed())?);
        if *magic != 0 {
            return Err(not_framed());
        }
        let schema = match self.known.get(&id) {
            Some(schema) => Arc::clone(schema),
            None => {
                let schema = Arc::new(Schema::parse(&self.registry.schema(id)?)?);
                self.known.insert(id, Arc::clone(&schema));
                schema
            }
        };
        Ok((schema, Reader(rest)))
    }

    /// A record's fields by the table's columns.
    fn row(&mut self, bytes: &[u8], columns: &[Field]) -> Result<Vec<Value>, FormatError> {
        let (schema, mut reader) = self.of(bytes)?;
        reader.record(&schema, fields(&schema, &schema.root)?, columns, 0)
    }
}

fn not_framed() -> FormatError {
    FormatError::new("the record is not Avro with a schema id")
        .next("was it written with another converter? The first byte of Confluent's framing is 0")
}

fn fields<'a>(schema: &'a Schema, of: &'a Type) -> Result<&'a [(String, Type)], FormatError> {
    match schema.resolve(of) {
        Type::Record(fields) => Ok(fields),
        Type::Union(types) => {
            let record = types.iter().find(|t| matches!(schema.resolve(t), Type::Record(_)));
            record.map_or_else(|| Err(no_record()), |record| fields(schema, record))
        }
        _ => Err(no_record()),
    }
}

fn no_record() -> FormatError {
    FormatError::new("the record's schema is no Avro record")
}

/// The schema of records without an id: the table's, as Flink makes it of the columns. Both sides have to have the
/// same columns.
fn own_schema(table: &TableRef, options: &FormatOptions, columns: &[Field]) -> Result<String, FormatError> {
    let refused = |what: &str, next: &'static str| {
        Err(FormatError::new(format!("table {}: {what}", table.name)).next(next))
    };
    if options.get("encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("binary")) {
        return refused(
            &format!("option '{}encoding': only 'binary' is supported", options.prefix),
            "use the json format for records that people read",
        );
    }
    if table.options.get("connector").is_some_and(|c| c == "filesystem") {
        return refused(
            "files of Avro records are not supported",
            "use json or csv for files; avro is for the records of topics",
        );
    }
    schema::of_columns(columns)
}

/// avro and avro-confluent.
pub(super) struct AvroDecoder {
    layout: Layout,
    schemas: Option<Schemas>,
    /// Of all records, where they name none.
    own: Option<Schema>,
}

impl AvroDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let layout = Layout::new(table, context, false)?;
        if options.name == "avro" {
            let own = Schema::parse(&own_schema(table, options, &layout.physical)?)?;
            return Ok(Self { layout, schemas: None, own: Some(own) });
        }
        let schemas = Schemas { registry: registry(options, context)?, known: HashMap::default() };
        Ok(Self { layout, schemas: Some(schemas), own: None })
    }

    fn read(&mut self, bytes: &[u8]) -> Result<Vec<Value>, FormatError> {
        let columns = &self.layout.physical;
        match (&mut self.schemas, &self.own) {
            (Some(schemas), _) => schemas.row(bytes, columns),
            (None, Some(own)) => Reader(bytes).record(own, fields(own, &own.root)?, columns, 0),
            (None, None) => Err(no_record()),
        }
    }
}

impl Decoder for AvroDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(bytes) = input.value else { return Ok(()) };
        let mut slots = self.read(bytes)?;
        out.push(Change { kind: RowKind::Insert, row: self.layout.row(&mut slots, input, None) });
        Ok(())
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }
}

/// debezium-avro-confluent.
pub(super) struct DebeziumAvroDecoder {
    layout: Layout,
    schemas: Schemas,
    /// Columns of the primary key, for deletes without `before`.
    key: Vec<Field>,
    strict: bool,
}

impl DebeziumAvroDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let layout = Layout::new(table, context, false)?;
        let key: Vec<Field> =
            layout.primary_key.iter().filter_map(|c| layout.physical.get(*c).cloned()).collect();
        Ok(Self {
            strict: context.strict || key.is_empty(),
            key,
            layout,
            schemas: Schemas { registry: registry(options, context)?, known: HashMap::default() },
        })
    }

    fn emit(&self, kind: RowKind, mut row: Vec<Value>, input: &Input<'_>, out: &mut Vec<Change>) {
        out.push(Change { kind, row: self.layout.row(&mut row, input, None) });
    }

    /// A delete without `before`: the record's key says which row.
    fn key_as_before(&mut self, input: &Input<'_>) -> Result<Vec<Value>, FormatError> {
        let bytes = input.key.ok_or_else(|| super::debezium::replica_identity("DELETE"))?;
        let values = self.schemas.row(bytes, &self.key)?;
        let mut row = vec![Value::Null; self.layout.physical.len()];
        for (column, value) in self.layout.primary_key.iter().zip(values) {
            if let Some(slot) = row.get_mut(*column) {
                *slot = value;
            }
        }
        Ok(row)
    }
}

impl Decoder for DebeziumAvroDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(bytes) = input.value.filter(|v| !v.is_empty()) else { return Ok(()) };
        let (schema, mut reader) = self.schemas.of(bytes)?;
        let (mut before, mut after, mut operation) = (None, None, None);
        for (name, of) in fields(&schema, &schema.root)? {
            match name.as_str() {
                "before" => before = row_of(&mut reader, &schema, of, &self.layout.physical)?,
                "after" => after = row_of(&mut reader, &schema, of, &self.layout.physical)?,
                "op" => {
                    operation =
                        Some(reader.value(&schema, of, &crate::engine::types::DataType::string(), 0)?)
                }
                _ => reader.skip(&schema, of, 0)?,
            }
        }
        let operation = operation.as_ref().and_then(Value::as_str).unwrap_or_default();
        let missing = || FormatError::new("Corrupt Debezium Avro message: \"after\" is missing");
        match operation {
            "c" => self.emit(RowKind::Insert, after.ok_or_else(missing)?, input, out),
            "r" => {
                let kind = super::debezium::read_again(self.strict);
                self.emit(kind, after.ok_or_else(missing)?, input, out);
            }
            "u" => {
                let after = after.ok_or_else(missing)?;
                match before {
                    Some(before) => self.emit(RowKind::UpdateBefore, before, input, out),
                    None if self.strict => return Err(super::debezium::replica_identity("UPDATE")),
                    None => {}
                }
                self.emit(RowKind::UpdateAfter, after, input, out);
            }
            "d" => {
                let before = match before {
                    Some(before) => before,
                    None if self.strict => return Err(super::debezium::replica_identity("DELETE")),
                    None => self.key_as_before(input)?,
                };
                self.emit(RowKind::Delete, before, input, out);
            }
            "m" => {}
            other => {
                return Err(FormatError::new(format!(
                    "Corrupt Debezium Avro message: unknown \"op\" value \"{other}\""
                )));
            }
        }
        Ok(())
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }
}

/// A row of an envelope; `None` where it is null.
fn row_of(
    reader: &mut Reader<'_>,
    schema: &Schema,
    of: &Type,
    columns: &[Field],
) -> Result<Option<Vec<Value>>, FormatError> {
    let wanted = crate::engine::types::DataType::new(crate::engine::types::TypeKind::Row(columns.to_vec()));
    match reader.value(schema, of, &wanted, 0)? {
        Value::Row(values) => Ok(Some(values.to_vec())),
        _ => Ok(None),
    }
}

/// Writes rows: with the id of their schema, which is registered before the first of them, or (avro) without.
#[derive(Clone, Debug)]
pub(super) struct AvroWriter {
    framing: Option<Framing>,
    envelope: bool,
}

#[derive(Clone, Debug)]
struct Framing {
    registry: Arc<dyn Registry>,
    subject: String,
    schema: String,
    id: Arc<OnceLock<u32>>,
}

impl Framing {
    fn id(&self) -> Result<u32, FormatError> {
        if let Some(id) = self.id.get() {
            return Ok(*id);
        }
        let id = self.registry.register(&self.subject, &self.schema)?;
        Ok(*self.id.get_or_init(|| id))
    }

    fn put(&self, out: &mut Vec<u8>) -> Result<(), FormatError> {
        let id = self.id()?;
        out.push(0);
        out.extend_from_slice(&id.to_be_bytes());
        Ok(())
    }
}

impl AvroWriter {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
        columns: &[Field],
        key: bool,
    ) -> Result<Self, FormatError> {
        if options.name == "avro" {
            own_schema(table, options, columns)?;
            return Ok(Self { framing: None, envelope: false });
        }
        let envelope = options.name.starts_with("debezium-");
        let topic = table.options.get("topic").map_or("", String::as_str);
        let end = if key { "key" } else { "value" };
        let made = if envelope { schema::of_envelope(columns) } else { schema::of_columns(columns) }?;
        let framing = Framing {
            registry: registry(options, context)?,
            subject: options.get("subject").map_or_else(|| format!("{topic}-{end}"), str::to_owned),
            schema: options.get("schema").map_or(made, str::to_owned),
            id: Arc::default(),
        };
        Ok(Self { framing: Some(framing), envelope })
    }

    /// Whether the schema's id is known: then [`Self::write`] asks nobody.
    pub(super) fn is_ready(&self) -> bool {
        self.framing.as_ref().is_none_or(|framing| framing.id.get().is_some())
    }

    /// Asks for the schema's id.
    pub(super) fn prepare(&self) -> Result<(), FormatError> {
        self.framing.as_ref().map_or(Ok(()), |framing| framing.id().map(drop))
    }

    pub(super) fn write(
        &self,
        columns: &[(usize, Field)],
        row: &Row,
        add: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), FormatError> {
        if let Some(framing) = &self.framing {
            framing.put(out)?;
        }
        if self.envelope {
            data::put_envelope(out, columns, row, add)
        } else {
            data::put_record(out, columns, row)
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
