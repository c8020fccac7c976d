//! The debezium-json format: envelopes of change events as a changelog.
//!
//! `c` and `r` give `+I`, `u` gives `-U` and `+U`, `d` gives `-D`; tombstones and messages of
//! `pg_logical_emit_message` are skipped. Flink wants the old row in `before`, so REPLICA IDENTITY FULL. On a
//! table with a PRIMARY KEY we also take updates and deletes without it (unless `millstream.compat.strict`): such
//! an update gives only `+U`, such a delete a `-D` of the key's columns, an `r` a `+U`, and the planner puts a
//! normalizing operator behind the source that completes them from state.

use super::json::{Encoding, JsonOptions, ObjectReader};
use super::metadata::{Envelope, Layout};
use super::parser::{Kind, Parser};
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input, schema};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};
use crate::engine::types::Field;

/// What an envelope does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Create,
    /// A row as a snapshot found it.
    Read,
    Update,
    Delete,
    Truncate,
    Message,
}

/// Which parts of an envelope were there.
#[derive(Clone, Copy, Debug, Default)]
struct Parts {
    operation: Option<Operation>,
    unknown_operation: bool,
    before: bool,
    after: bool,
    /// The message is `{"schema":…,"payload":…}` or its payload was.
    payload: bool,
    schema: bool,
}

pub(super) struct DebeziumDecoder {
    layout: Layout,
    schema_include: bool,
    /// Old rows must be in the event.
    strict: bool,
    /// Read as Flink does, which cannot read base64 decimals.
    compat_strict: bool,
    ignore_errors: bool,
    rows: ObjectReader,
    key: ObjectReader,
    /// The last message's schema block, whose encodings are in `rows`.
    schema: String,
    before: Vec<Value>,
    after: Vec<Value>,
    envelope: Envelope,
    skipped: Option<FormatError>,
}

const CORRUPT: &str = "Corrupt Debezium JSON message";

/// Columns that state completes where the event lacks them need a key to look them up by.
pub(super) fn replica_identity(what: &str) -> FormatError {
    FormatError::new(format!(
        "{CORRUPT}: The \"before\" field of {what} message is null, if you are using Debezium Postgres Connector, \
         please check the Postgres table has been set REPLICA IDENTITY to FULL level"
    ))
    .next(
        "run ALTER TABLE … REPLICA IDENTITY FULL on the source table, or declare the PRIMARY KEY … NOT ENFORCED of \
         this table, so that old rows are completed from state",
    )
}

/// A row that a snapshot found is one that state may hold already: a later snapshot reads it again. Where rows are
/// completed from state it says what the row is now, so that it does not count twice.
pub(super) fn read_again(strict: bool) -> RowKind {
    if strict { RowKind::Insert } else { RowKind::UpdateAfter }
}

impl DebeziumDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let layout = Layout::new(table, context, true)?;
        let json = JsonOptions { tree: true, ..JsonOptions::new(options)? };
        let key: Vec<Field> =
            layout.primary_key.iter().filter_map(|c| layout.physical.get(*c).cloned()).collect();
        Ok(Self {
            schema_include: options.flag("schema-include")?,
            strict: context.strict || key.is_empty(),
            compat_strict: context.strict,
            ignore_errors: options.flag("ignore-parse-errors")?,
            rows: ObjectReader::new(layout.physical.clone(), json).looking_for_absent(),
            key: ObjectReader::new(key, json),
            schema: String::new(),
            before: Vec::new(),
            after: Vec::new(),
            envelope: Envelope::default(),
            skipped: None,
            layout,
        })
    }

    fn read(&mut self, value: &[u8]) -> Result<Parts, FormatError> {
        let mut parts = Parts::default();
        self.before.clear();
        self.after.clear();
        self.envelope = Envelope::default();
        let mut p = Parser::new(value)?;
        if p.peek()? != Kind::Object {
            return Err(FormatError::new("not a JSON object"));
        }
        if self.schema_include {
            p.object(|p, name| {
                match name {
                    "schema" => {
                        parts.schema = true;
                        // Every message carries it: the one that is known costs a comparison. Only an object says
                        // itself where it ends.
                        if p.peek()? != Kind::Object || !p.skip_same(self.schema.as_bytes()) {
                            self.learn(p.skip()?);
                        }
                    }
                    "payload" => {
                        parts.payload = true;
                        if p.peek()? == Kind::Object {
                            p.object(|p, name| self.member(p, name, &mut parts))?;
                        } else {
                            p.skip()?;
                        }
                    }
                    _ => drop(p.skip()?),
                }
                Ok(())
            })?;
            if parts.schema && self.layout.wants_schema() {
                self.envelope.schema = Some(self.schema.as_str().into());
            }
        } else {
            p.object(|p, name| self.member(p, name, &mut parts))?;
        }
        Ok(parts)
    }

    /// Takes over what a new schema block says.
    fn learn(&mut self, text: &str) {
        self.schema.clear();
        self.schema.push_str(text);
        if self.compat_strict {
            return;
        }
        let encodings = schema::encodings(text, &self.rows.fields);
        self.rows.encodings =
            if encodings.iter().all(|e| *e == Encoding::Plain) { Vec::new() } else { encodings };
    }

    /// One member of an envelope.
    fn member(&mut self, p: &mut Parser<'_>, name: &str, parts: &mut Parts) -> Result<(), FormatError> {
        let kind = p.peek()?;
        match (name, kind) {
            ("before", Kind::Object) => {
                self.before.clear();
                parts.before = true;
                self.rows.read(p, &mut self.before)
            }
            ("after", Kind::Object) => {
                self.after.clear();
                parts.after = true;
                self.rows.read(p, &mut self.after)
            }
            ("op", Kind::String) => {
                parts.operation = match &*p.string()? {
                    "c" => Some(Operation::Create),
                    "r" => Some(Operation::Read),
                    "u" => Some(Operation::Update),
                    "d" => Some(Operation::Delete),
                    "t" => Some(Operation::Truncate),
                    "m" => Some(Operation::Message),
                    _ => {
                        parts.unknown_operation = true;
                        None
                    }
                };
                Ok(())
            }
            ("schema", _) => {
                parts.schema = true;
                p.skip().map(drop)
            }
            ("payload", _) => {
                parts.payload = true;
                p.skip().map(drop)
            }
            ("ts_ms", Kind::Number) => {
                self.envelope.ingestion = p.number()?.parse().ok();
                Ok(())
            }
            ("source", Kind::Object) if self.layout.wants_envelope() => self.source(p),
            _ => p.skip().map(drop),
        }
    }

    fn source(&mut self, p: &mut Parser<'_>) -> Result<(), FormatError> {
        let properties = self.layout.wants_properties();
        let mut entries = Vec::new();
        let envelope = &mut self.envelope;
        p.object(|p, name| {
            let value = match p.peek()? {
                Kind::Null => p.null().map(|()| Value::Null)?,
                Kind::String => Value::str(&p.string()?),
                _ => Value::str(p.skip()?),
            };
            let text = |value: &Value| match value {
                Value::Str(text) => Some(std::sync::Arc::clone(text)),
                _ => None,
            };
            match name {
                "ts_ms" => envelope.source_time = value.as_str().and_then(|t| t.parse().ok()),
                "db" => envelope.database = text(&value),
                "schema" => envelope.source_schema = text(&value),
                "table" => envelope.table = text(&value),
                _ => {}
            }
            if properties {
                entries.push((Value::str(name), value));
            }
            Ok(())
        })?;
        if properties {
            envelope.properties = Some(Value::Map(entries.into()));
        }
        Ok(())
    }

    fn changes(&mut self, parts: Parts, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(operation) = parts.operation else {
            if parts.unknown_operation {
                return Err(FormatError::new(format!("{CORRUPT}: Unknown \"op\" value")));
            }
            if !self.schema_include && parts.schema && parts.payload {
                return Err(FormatError::new(format!("{CORRUPT}: it carries its schema")).next(
                    "set 'debezium-json.schema-include' = 'true' in the table, or value.converter.schemas.enable=false \
                     in the connector",
                ));
            }
            if self.schema_include && !parts.payload {
                return Err(FormatError::new(format!("{CORRUPT}: it does not carry its schema")).next(
                    "remove 'debezium-json.schema-include' from the table, or set \
                     value.converter.schemas.enable=true in the connector",
                ));
            }
            if parts.payload && parts.schema {
                // {"schema":…,"payload":null}: a tombstone of a converter that keeps the schema.
                return Ok(());
            }
            return Err(FormatError::new(format!("{CORRUPT}: \"op\" is missing")));
        };
        let missing = |what: &str| FormatError::new(format!("{CORRUPT}: \"after\" is missing in {what}"));
        match operation {
            Operation::Create | Operation::Read if !parts.after => return Err(missing("a create")),
            Operation::Update if !parts.after => return Err(missing("an update")),
            Operation::Create => self.emit(RowKind::Insert, false, input, out),
            Operation::Read => self.emit(read_again(self.strict), false, input, out),
            Operation::Update => {
                if parts.before {
                    self.emit(RowKind::UpdateBefore, true, input, out);
                } else if self.strict {
                    return Err(replica_identity("UPDATE"));
                }
                self.emit(RowKind::UpdateAfter, false, input, out);
            }
            Operation::Delete => {
                if !parts.before {
                    if self.strict {
                        return Err(replica_identity("DELETE"));
                    }
                    self.key_as_before(input)?;
                }
                self.emit(RowKind::Delete, true, input, out);
            }
            Operation::Truncate => {
                return Err(FormatError::new(format!("{CORRUPT}: Unknown \"op\" value \"t\" (TRUNCATE)"))
                    .next(
                        "the event does not say which rows are gone, and they stay in the topic: delete rows with DELETE \
                         in tables that pipelines read; go on behind this event with \
                         'debezium-json.ignore-parse-errors' = 'true', and see TRUNCATE in docs/connectors.md for what \
                         brings the targets in line",
                    ));
            }
            Operation::Message => {}
        }
        Ok(())
    }

    fn emit(&mut self, kind: RowKind, old: bool, input: &Input<'_>, out: &mut Vec<Change>) {
        let slots = if old { &mut self.before } else { &mut self.after };
        out.push(Change { kind, row: self.layout.row(slots, input, Some(&self.envelope)) });
    }

    /// A delete without `before`: the record's key says which row.
    fn key_as_before(&mut self, input: &Input<'_>) -> Result<(), FormatError> {
        let bytes = input.key.ok_or_else(|| replica_identity("DELETE"))?;
        let mut p = Parser::new(bytes)?;
        if p.peek()? != Kind::Object {
            return Err(FormatError::new(format!("{CORRUPT}: its key is not a JSON object")));
        }
        let mut values = Vec::new();
        let key = &mut self.key;
        let mut payload = None;
        // With schemas on, the key is {"schema":…,"payload":{…}}.
        let mut look = Parser::new(bytes)?;
        look.peek()?;
        look.object(|p, name| {
            let text = p.skip()?;
            if name == "payload" {
                payload = Some(text);
            }
            Ok(())
        })?;
        match payload.filter(|_| self.schema_include) {
            Some(text) => {
                let mut p = Parser::new(text.as_bytes())?;
                p.peek()?;
                key.read(&mut p, &mut values)?;
            }
            None => key.read(&mut p, &mut values)?,
        }
        self.before.clear();
        self.before.resize(self.layout.physical.len(), Value::Null);
        for (column, value) in self.layout.primary_key.iter().zip(values) {
            if value.is_null() {
                return Err(FormatError::new(format!(
                    "{CORRUPT}: its key lacks a column of the PRIMARY KEY"
                )));
            }
            if let Some(slot) = self.before.get_mut(*column) {
                *slot = value;
            }
        }
        Ok(())
    }
}

impl Decoder for DebeziumDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(value) = input.value.filter(|v| !v.is_empty()) else { return Ok(()) };
        let start = out.len();
        let result = match self.read(value) {
            Ok(parts) => self.changes(parts, input, out),
            Err(mut error) => {
                error.what = format!("{CORRUPT}: {}", error.what).into();
                Err(error)
            }
        };
        match result {
            Ok(()) => Ok(()),
            Err(error) => {
                out.truncate(start);
                if !self.ignore_errors {
                    return Err(error);
                }
                self.skipped = Some(error);
                Ok(())
            }
        }
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }

    fn take_absent(&mut self, _ended: bool) -> Option<String> {
        self.rows.take_absent(1)
    }

    fn skips(&self) -> bool {
        self.ignore_errors
    }

    fn take_skipped(&mut self) -> Option<FormatError> {
        self.skipped.take()
    }
}
