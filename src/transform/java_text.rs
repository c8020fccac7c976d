//! `toString()` of Kafka Connect's values, which `StringConverter` writes: `Struct{id=1,name=x}`.

use crate::event::datum::Datum;
use crate::event::schema::{Kind, Schema};
use crate::event::simple;
use crate::java::simple_date::SimpleDateFormat;

const DECIMAL: &str = "org.apache.kafka.connect.data.Decimal";

/// Appends a value's text.
pub(super) fn write(out: &mut Vec<u8>, schema: Option<&Schema>, datum: &Datum<'_>) {
    match datum {
        Datum::Struct(values) => {
            out.extend_from_slice(b"Struct{");
            let mut first = true;
            for (field, value) in schema.map_or(&[][..], Schema::fields).iter().zip(values) {
                if value.is_null() {
                    continue;
                }
                if !first {
                    out.push(b',');
                }
                first = false;
                out.extend_from_slice(field.name.as_bytes());
                out.push(b'=');
                write(out, Some(&field.schema), value);
            }
            out.push(b'}');
        }
        Datum::Array(items) => {
            let element = schema.and_then(|s| match &s.kind {
                Kind::Array(element) => Some(element.as_ref()),
                _ => None,
            });
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                write(out, element, item);
            }
            out.push(b']');
        }
        Datum::Map(pairs) => {
            let (keys, values) = match schema.map(|s| &s.kind) {
                Some(Kind::Map(keys, values)) => (Some(keys.as_ref()), Some(values.as_ref())),
                _ => (None, None),
            };
            out.push(b'{');
            for (i, (k, v)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.extend_from_slice(b", ");
                }
                write(out, keys, k);
                out.push(b'=');
                write(out, values, v);
            }
            out.push(b'}');
        }
        Datum::Bytes(_) | Datum::Short(_) | Datum::Hex(_)
            if schema.is_none_or(|s| s.name.as_deref() != Some(DECIMAL)) =>
        {
            // what a ByteBuffer says of itself
            let len = datum.to_bytes().map_or(0, |b| b.len());
            let text = format!("java.nio.HeapByteBuffer[pos=0 lim={len} cap={len}]");
            out.extend_from_slice(text.as_bytes());
        }
        Datum::Int(n) => match schema.and_then(|s| simple::date_millis(s, *n)) {
            Some(ms) => {
                let format = SimpleDateFormat::new("EEE MMM dd HH:mm:ss zzz yyyy").ok();
                let text = format.and_then(|f| f.format_utc(ms)).unwrap_or_default();
                out.extend_from_slice(text.as_bytes());
            }
            None => out.extend_from_slice(itoa::Buffer::new().format(*n).as_bytes()),
        },
        datum => match datum.as_str() {
            Some(text) => out.extend_from_slice(text.as_bytes()),
            None => simple::header(out, schema.unwrap_or(&Schema::new(Kind::String)), datum, None),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_struct() {
        let schema = Schema::structure([
            ("id", Schema::new(Kind::Int32)),
            ("none", Schema::new(Kind::String).optional()),
            ("name", Schema::new(Kind::String)),
            ("b", Schema::new(Kind::Bytes)),
        ]);
        let bytes = Datum::Bytes(vec![1, 2].into());
        let datum = Datum::Struct(vec![Datum::Int(1), Datum::Null, Datum::str("x y"), bytes]);
        let mut out = Vec::new();
        write(&mut out, Some(&schema), &datum);
        assert_eq!(out, b"Struct{id=1,name=x y,b=java.nio.HeapByteBuffer[pos=0 lim=2 cap=2]}");
    }
}
