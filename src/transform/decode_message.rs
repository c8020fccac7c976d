//! `DecodeLogicalDecodingMessageContent`: a logical message's JSON content becomes the row of an insert.

use std::sync::Arc;

use serde_json::Value;

use super::config::Options;
use super::edit::{self, field};
use super::{Transform, Transformed, outbox_json};
use crate::event::EventError;
use crate::event::datum::Datum;
use crate::event::options::Adjustment;
use crate::event::record::Record;
use crate::event::schema::{Field, Schema};

pub(super) struct DecodeMessage {
    keep_nulls: bool,
}

impl DecodeMessage {
    pub(super) fn new(own: &Options<'_>) -> Result<Self, EventError> {
        Ok(Self { keep_nulls: own.flag("fields.null.include", false)? })
    }
}

impl Transform for DecodeMessage {
    fn apply<'a>(&mut self, mut record: Record<'a>) -> Transformed<'a> {
        let Some(schema) = record.value_schema.clone() else { return Ok(Some(record)) };
        let is_message = edit::get(&schema, &record.value, "op").and_then(|(_, op)| op.as_str()) == Some("m");
        let Some((block_schema, block)) = edit::get(&schema, &record.value, "message").filter(|_| is_message)
        else {
            return Ok(Some(record));
        };
        let (_, content) = edit::get(block_schema, block, "content").ok_or("the message has no content")?;
        let bytes =
            content.to_bytes().ok_or("the content is not bytes (binary.handling.mode must be bytes)")?;
        let json: Value =
            serde_json::from_slice(&bytes).map_err(|e| format!("the content is not JSON: {e}"))?;
        if !json.is_object() {
            return Err("the content is not a JSON object".into());
        }
        let inference = outbox_json::Inference { keep_nulls: self.keep_nulls, adjustment: Adjustment::None };
        let row = inference.schema(&json, None)?.ok_or("the content is empty")?;
        let after = outbox_json::value(&json, &row).ok_or("a number of the content is out of range")?;
        let Datum::Struct(values) = &record.value else { return Ok(Some(record)) };
        let mut fields: Vec<Field> = Vec::new();
        let mut out = Vec::new();
        for (f, v) in schema.fields().iter().zip(values) {
            match f.name.as_str() {
                "message" => {}
                "op" => {
                    fields.push(f.clone());
                    out.push(Datum::str("c"));
                }
                _ => {
                    fields.push(f.clone());
                    out.push(v.clone());
                }
            }
        }
        fields.push(field("after", row));
        out.push(after);
        let name = format!("{}.Envelope", schema.name.as_deref().unwrap_or(""));
        let mut envelope: Schema = edit::with_fields(&schema, fields).titled(name);
        envelope.version = None;
        record.value_schema = Some(Arc::new(envelope));
        record.value = Datum::Struct(out);
        (record.key_schema, record.key) = (None, Datum::Null);
        Ok(Some(record))
    }
}
