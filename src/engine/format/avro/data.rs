//! Avro's binary form: rows out of it by the writer's schema, and rows into it.

use super::schema::{Logical, Schema, Type};
use crate::engine::format::FormatError;
use crate::engine::row::{Instant, Row, Value};
use crate::engine::types::{DataType, Field, TypeKind};

const MAX_DEPTH: usize = 64;

fn short() -> FormatError {
    FormatError::new("the Avro data ends too early or is not of its schema")
}

/// What is left to read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(short)?;
        self.0 = rest;
        Ok(head)
    }

    fn long(&mut self) -> Result<i64, FormatError> {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = *self.take(1)?.first().ok_or_else(short)?;
            value |= u64::from(byte & 0x7F).checked_shl(shift).ok_or_else(short)?;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
            shift += 7;
        }
    }

    fn length(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.long()?).map_err(|_| short())
    }

    fn text(&mut self) -> Result<&'a str, FormatError> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).map_err(|_| FormatError::new("text that is not UTF-8"))
    }

    /// Calls back for each element of an array or map.
    fn blocks(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), FormatError>,
    ) -> Result<(), FormatError> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                each(self)?;
            }
        }
    }

    /// Skips a value.
    pub(super) fn skip(&mut self, schema: &Schema, of: &Type, depth: usize) -> Result<(), FormatError> {
        if depth > MAX_DEPTH {
            return Err(short());
        }
        match schema.resolve(of) {
            Type::Null => {}
            Type::Boolean => drop(self.take(1)?),
            Type::Int(_) | Type::Long(_) | Type::Enum(_) => drop(self.long()?),
            Type::Float => drop(self.take(4)?),
            Type::Double => drop(self.take(8)?),
            Type::Bytes(_) | Type::String => {
                let length = self.length()?;
                self.take(length)?;
            }
            Type::Fixed(size, _) => drop(self.take(*size)?),
            Type::Array(element) => self.blocks(|r| r.skip(schema, element, depth + 1))?,
            Type::Map(value) => self.blocks(|r| {
                r.text()?;
                r.skip(schema, value, depth + 1)
            })?,
            Type::Union(types) => {
                let branch = self.length()?;
                self.skip(schema, types.get(branch).ok_or_else(short)?, depth + 1)?;
            }
            Type::Record(fields) => {
                for (_, of) in fields {
                    self.skip(schema, of, depth + 1)?;
                }
            }
            Type::Named(_) => return Err(short()),
        }
        Ok(())
    }

    /// Reads a record into one value per wanted field, by name; what it lacks is NULL.
    pub(super) fn record(
        &mut self,
        schema: &Schema,
        fields: &[(String, Type)],
        wanted: &[Field],
        depth: usize,
    ) -> Result<Vec<Value>, FormatError> {
        let mut row = vec![Value::Null; wanted.len()];
        for (place, (name, of)) in fields.iter().enumerate() {
            let same = |(_, field): &(usize, &Field)| field.name == *name;
            let guess = wanted.get(place).map(|field| (place, field)).filter(same);
            match guess.or_else(|| wanted.iter().enumerate().find(same)) {
                Some((column, field)) => {
                    let value = self
                        .value(schema, of, &field.data_type, depth + 1)
                        .map_err(|e| e.in_column(&field.name))?;
                    if let Some(slot) = row.get_mut(column) {
                        *slot = value;
                    }
                }
                None => self.skip(schema, of, depth + 1)?,
            }
        }
        Ok(row)
    }

    /// Reads a value as a type of the table.
    pub(super) fn value(
        &mut self,
        schema: &Schema,
        of: &Type,
        wanted: &DataType,
        depth: usize,
    ) -> Result<Value, FormatError> {
        if depth > MAX_DEPTH {
            return Err(short());
        }
        let of = schema.resolve(of);
        let mismatch = || FormatError::new(format!("cannot read {} from Avro's {}", wanted.kind, name(of)));
        Ok(match (of, &wanted.kind) {
            (Type::Null, _) => Value::Null,
            (Type::Union(types), _) => {
                let branch = self.length()?;
                return self.value(schema, types.get(branch).ok_or_else(short)?, wanted, depth + 1);
            }
            (Type::Boolean, TypeKind::Boolean) => Value::Bool(self.take(1)? != [0]),
            (Type::Int(logical) | Type::Long(logical), kind) => {
                let n = self.long()?;
                whole(n, *logical, kind).ok_or_else(mismatch)?
            }
            (Type::Float, kind) => {
                let f = f32::from_le_bytes(self.take(4)?.try_into().map_err(|_| short())?);
                match kind {
                    TypeKind::Float => Value::Float(f),
                    TypeKind::Double => Value::Double(f64::from(f)),
                    _ => return Err(mismatch()),
                }
            }
            (Type::Double, TypeKind::Double) => {
                Value::Double(f64::from_le_bytes(self.take(8)?.try_into().map_err(|_| short())?))
            }
            (Type::String, TypeKind::Varchar(_) | TypeKind::Char(_)) => Value::str(self.text()?),
            (Type::Enum(symbols), TypeKind::Varchar(_) | TypeKind::Char(_)) => {
                let symbol = self.length()?;
                Value::str(symbols.get(symbol).ok_or_else(short)?)
            }
            (Type::Bytes(_) | Type::String | Type::Fixed(..), kind) => {
                let length = if let Type::Fixed(size, _) = of { *size } else { self.length()? };
                let bytes = self.take(length)?;
                match (of, kind) {
                    (
                        Type::Bytes(Logical::Decimal(scale)) | Type::Fixed(_, Logical::Decimal(scale)),
                        TypeKind::Decimal(precision, wanted),
                    ) => {
                        let unscaled = crate::engine::format::json::big_endian(bytes)
                            .ok_or_else(|| FormatError::new("a decimal of more than 38 digits"))?;
                        super::rescaled(unscaled, *scale, *precision, *wanted)
                    }
                    (
                        Type::Bytes(_) | Type::String | Type::Fixed(..),
                        TypeKind::Binary(_) | TypeKind::Varbinary(_),
                    ) => Value::Bytes(bytes.into()),
                    (Type::Bytes(Logical::None), TypeKind::Varchar(_) | TypeKind::Char(_)) => {
                        Value::str(std::str::from_utf8(bytes).map_err(|_| mismatch())?)
                    }
                    _ => return Err(mismatch()),
                }
            }
            (Type::Array(element), TypeKind::Array(wanted)) => {
                let mut values = Vec::new();
                self.blocks(|r| {
                    values.push(r.value(schema, element, wanted, depth + 1)?);
                    Ok(())
                })?;
                Value::Array(values.into())
            }
            (Type::Map(value), TypeKind::Map(_, wanted)) => {
                let mut entries = Vec::new();
                self.blocks(|r| {
                    let key = Value::str(r.text()?);
                    entries.push((key, r.value(schema, value, wanted, depth + 1)?));
                    Ok(())
                })?;
                Value::Map(entries.into())
            }
            (Type::Record(fields), TypeKind::Row(wanted)) => {
                Value::Row(self.record(schema, fields, wanted, depth)?.into())
            }
            _ => return Err(mismatch()),
        })
    }
}

fn whole(n: i64, logical: Logical, kind: &TypeKind) -> Option<Value> {
    let int = |low: i64, high: i64| (low..=high).contains(&n).then_some(Value::Int(n));
    #[allow(clippy::cast_precision_loss, reason = "as Avro promotes a long")]
    Some(match kind {
        TypeKind::TinyInt => int(i64::from(i8::MIN), i64::from(i8::MAX))?,
        TypeKind::SmallInt => int(i64::from(i16::MIN), i64::from(i16::MAX))?,
        TypeKind::Int => int(i64::from(i32::MIN), i64::from(i32::MAX))?,
        TypeKind::BigInt => Value::Int(n),
        TypeKind::Float => Value::Float(n as f32),
        TypeKind::Double => Value::Double(n as f64),
        TypeKind::Date => Value::Date(i32::try_from(n).ok()?),
        TypeKind::Time(_) if logical == Logical::TimeMicros => Value::Time(i32::try_from(n / 1000).ok()?),
        TypeKind::Time(_) => Value::Time(i32::try_from(n).ok()?),
        TypeKind::Timestamp(_) => Value::Timestamp(instant(n, logical)),
        TypeKind::TimestampLtz(_) => Value::TimestampLtz(instant(n, logical)),
        _ => return None,
    })
}

fn instant(n: i64, logical: Logical) -> Instant {
    let nanos_each = match logical {
        Logical::TimestampMicros => 1_000,
        Logical::TimestampNanos => 1,
        _ => return Instant::from_millis(n),
    };
    let each_milli = 1_000_000 / nanos_each;
    let nanos = u32::try_from(n.rem_euclid(each_milli) * nanos_each).unwrap_or(0);
    Instant { millis: n.div_euclid(each_milli), nanos }
}

fn name(of: &Type) -> &'static str {
    match of {
        Type::Null => "null",
        Type::Boolean => "boolean",
        Type::Int(_) => "int",
        Type::Long(_) => "long",
        Type::Float => "float",
        Type::Double => "double",
        Type::Bytes(_) => "bytes",
        Type::String => "string",
        Type::Fixed(..) => "fixed",
        Type::Enum(_) => "enum",
        Type::Array(_) => "array",
        Type::Map(_) => "map",
        Type::Union(_) => "union",
        Type::Record(_) => "record",
        Type::Named(_) => "named type",
    }
}

fn put_long(out: &mut Vec<u8>, n: i64) {
    let mut rest = (n << 1 ^ n >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7F).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_long(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    out.extend_from_slice(bytes);
}

/// Appends a row as the record of [`super::schema::of_columns`].
pub(super) fn put_record(
    out: &mut Vec<u8>,
    columns: &[(usize, Field)],
    row: &[Value],
) -> Result<(), FormatError> {
    for (column, field) in columns {
        let value = row.get(*column).unwrap_or(&Value::Null);
        put_value(out, value, &field.data_type).map_err(|e| e.in_column(&field.name))?;
    }
    Ok(())
}

/// Appends the envelope of [`super::schema::of_envelope`]: a create, or a delete.
pub(super) fn put_envelope(
    out: &mut Vec<u8>,
    columns: &[(usize, Field)],
    row: &Row,
    create: bool,
) -> Result<(), FormatError> {
    if create {
        put_long(out, 0);
    }
    put_long(out, 1);
    put_record(out, columns, row)?;
    if !create {
        put_long(out, 0);
    }
    put_long(out, 1);
    put_bytes(out, if create { b"c" } else { b"d" });
    Ok(())
}

fn put_value(out: &mut Vec<u8>, value: &Value, data_type: &DataType) -> Result<(), FormatError> {
    if data_type.nullable {
        put_long(out, i64::from(!value.is_null()));
        if value.is_null() {
            return Ok(());
        }
    }
    match (value, &data_type.kind) {
        (Value::Null, _) => return Err(FormatError::new("NULL in a column that is NOT NULL")),
        (Value::Bool(b), _) => out.push(u8::from(*b)),
        (Value::Int(n), _) => put_long(out, *n),
        (Value::Float(f), _) => out.extend_from_slice(&f.to_le_bytes()),
        (Value::Double(d), _) => out.extend_from_slice(&d.to_le_bytes()),
        (Value::Str(text), _) => put_bytes(out, text.as_bytes()),
        (Value::Bytes(bytes), _) => put_bytes(out, bytes),
        (Value::Decimal(d), TypeKind::Decimal(..)) => {
            let all = d.unscaled().to_be_bytes();
            // The shortest two's complement.
            let fill = if d.unscaled() < 0 { 0xFF } else { 0 };
            let mut start = 0;
            while start < 15
                && all.get(start) == Some(&fill)
                && all.get(start + 1).is_some_and(|next| (next & 0x80 != 0) == (fill != 0))
            {
                start += 1;
            }
            put_bytes(out, all.get(start..).unwrap_or_default());
        }
        (Value::Date(days), _) => put_long(out, i64::from(*days)),
        (Value::Time(millis), _) => put_long(out, i64::from(*millis)),
        (
            Value::Timestamp(at) | Value::TimestampLtz(at),
            TypeKind::Timestamp(p) | TypeKind::TimestampLtz(p),
        ) => {
            let micros = at.millis.saturating_mul(1000).saturating_add(i64::from(at.nanos / 1000));
            put_long(out, if *p <= 3 { at.millis } else { micros });
        }
        (Value::Array(values), TypeKind::Array(element)) => {
            if !values.is_empty() {
                put_long(out, i64::try_from(values.len()).unwrap_or(i64::MAX));
                for value in values.iter() {
                    put_value(out, value, element)?;
                }
            }
            put_long(out, 0);
        }
        (Value::Map(entries), TypeKind::Map(_, of)) => {
            if !entries.is_empty() {
                put_long(out, i64::try_from(entries.len()).unwrap_or(i64::MAX));
                for (key, value) in entries.iter() {
                    let key = key.as_str().ok_or_else(|| FormatError::new("keys of Avro's maps are text"))?;
                    put_bytes(out, key.as_bytes());
                    put_value(out, value, of)?;
                }
            }
            put_long(out, 0);
        }
        (Value::Row(values), TypeKind::Row(fields)) => {
            for (value, field) in values.iter().zip(fields) {
                put_value(out, value, &field.data_type).map_err(|e| e.in_column(&field.name))?;
            }
        }
        (_, kind) => return Err(FormatError::new(format!("a value does not fit its type {kind}"))),
    }
    Ok(())
}
