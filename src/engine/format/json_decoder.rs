//! The json format: one object a record, or an array of them.

use super::json::{JsonOptions, ObjectReader};
use super::metadata::Layout;
use super::parser::{Kind, Parser};
use super::{Decoder, FormatContext, FormatError, FormatOptions, Input};
use crate::engine::plan::TableRef;
use crate::engine::row::{Change, RowKind, Value};

/// Decoder of the value of `json` tables.
pub(super) struct JsonDecoder {
    value: ObjectReader,
    layout: Layout,
    ignore_errors: bool,
    slots: Vec<Value>,
    skipped: Option<FormatError>,
}

impl JsonDecoder {
    pub(super) fn new(
        table: &TableRef,
        options: &FormatOptions,
        context: &FormatContext,
    ) -> Result<Self, FormatError> {
        let layout = Layout::new(table, context, false)?;
        let json = JsonOptions::new(options)?;
        Ok(Self {
            value: ObjectReader::new(layout.physical.clone(), json).looking_for_absent(),
            ignore_errors: json.ignore_errors,
            slots: Vec::new(),
            skipped: None,
            layout,
        })
    }

    /// Reads an object, or an array of them. What comes behind it is not looked at, as in Flink.
    fn read(&mut self, input: &Input<'_>, bytes: &[u8], out: &mut Vec<Change>) -> Result<(), FormatError> {
        let mut p = Parser::new(bytes)?;
        let object = |p: &mut Parser<'_>, this: &mut Self, out: &mut Vec<Change>| {
            match p.peek()? {
                Kind::Object => {}
                Kind::Null => return Err(FormatError::new("null is not a JSON object")),
                _ => return Err(FormatError::new("not a JSON object")),
            }
            this.slots.clear();
            this.value.read(p, &mut this.slots)?;
            let row = this.layout.row(&mut this.slots, input, None);
            out.push(Change { kind: RowKind::Insert, row });
            Ok(())
        };
        if p.peek()? == Kind::Array {
            return p.array(|p| object(p, self, out));
        }
        object(&mut p, self, out)
    }
}

impl Decoder for JsonDecoder {
    fn decode(&mut self, input: &Input<'_>, out: &mut Vec<Change>) -> Result<(), FormatError> {
        let Some(bytes) = input.value else { return Ok(()) };
        let before = out.len();
        match self.read(input, bytes, out) {
            Ok(()) => Ok(()),
            Err(error) if self.ignore_errors => {
                out.truncate(before);
                self.skipped = Some(error);
                Ok(())
            }
            Err(mut error) => {
                out.truncate(before);
                let at = error.column.as_ref().map(|c| format!("Fail to deserialize at field: {c}. "));
                let what = format!("Failed to deserialize JSON: {}{}", at.unwrap_or_default(), error.what);
                error.what = what.into();
                Err(error)
            }
        }
    }

    fn wants_headers(&self) -> bool {
        self.layout.wants_headers()
    }

    fn take_absent(&mut self, ended: bool) -> Option<String> {
        // Writers may leave out what is null.
        self.value.take_absent(if ended { 1 } else { 100 })
    }

    fn skips(&self) -> bool {
        self.ignore_errors
    }

    fn take_skipped(&mut self) -> Option<FormatError> {
        self.skipped.take()
    }
}
