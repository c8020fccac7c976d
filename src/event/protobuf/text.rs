//! The text of a proto3 file, laid out as Confluent's `ProtobufSchema` does: registries compare texts.

use std::fmt::Write as _;

use super::{Field, Label, Message};

/// The file of the wrapper messages, which keys and values that are no structs are registered with.
pub(super) const WRAPPERS_FILE: &str = concat!(
    "syntax = \"proto3\";\npackage google.protobuf;\n\n",
    "option java_package = \"com.google.protobuf\";\n",
    "option java_outer_classname = \"WrappersProto\";\n",
    "option java_multiple_files = true;\n",
    "option go_package = \"google.golang.org/protobuf/types/known/wrapperspb\";\n",
    "option cc_enable_arenas = true;\n",
    "option objc_class_prefix = \"GPB\";\n",
    "option csharp_namespace = \"Google.Protobuf.WellKnownTypes\";\n\n",
    "message DoubleValue {\n  double value = 1 [json_name = \"value\"];\n}\n",
    "message FloatValue {\n  float value = 1 [json_name = \"value\"];\n}\n",
    "message Int64Value {\n  int64 value = 1 [json_name = \"value\"];\n}\n",
    "message UInt64Value {\n  uint64 value = 1 [json_name = \"value\"];\n}\n",
    "message Int32Value {\n  int32 value = 1 [json_name = \"value\"];\n}\n",
    "message UInt32Value {\n  uint32 value = 1 [json_name = \"value\"];\n}\n",
    "message BoolValue {\n  bool value = 1 [json_name = \"value\"];\n}\n",
    "message StringValue {\n  string value = 1 [json_name = \"value\"];\n}\n",
    "message BytesValue {\n  bytes value = 1 [json_name = \"value\"];\n}\n",
);

pub(super) fn file(package: Option<&str>, imports: &[&str], root: &Message) -> String {
    let mut out = String::from("syntax = \"proto3\";\n");
    if let Some(package) = package {
        let _ = writeln!(out, "package {package};");
    }
    if !imports.is_empty() {
        out.push('\n');
    }
    for import in imports {
        let _ = writeln!(out, "import \"{import}\";");
    }
    out.push('\n');
    out.push_str(&message(root));
    out
}

/// Appends lines, each two spaces further in; an empty line gets the spaces too.
fn indented(out: &mut String, lines: &str) {
    for line in lines.lines() {
        out.push_str("  ");
        out.push_str(line);
        out.push('\n');
    }
}

fn message(m: &Message) -> String {
    let mut out = format!("message {} {{", m.name);
    if !m.fields.is_empty() {
        out.push('\n');
    }
    for f in &m.fields {
        indented(&mut out, &field(f));
    }
    if !m.nested.is_empty() {
        out.push('\n');
    }
    for nested in &m.nested {
        indented(&mut out, &message(nested));
    }
    out.push_str("}\n");
    out
}

fn field(f: &Field) -> String {
    let label = match f.label {
        Label::None => "",
        Label::Optional => "optional ",
        Label::Repeated => "repeated ",
    };
    let mut out = format!("{label}{} {} = {}", f.type_name, f.name, f.number);
    let mut options = Vec::new();
    if f.label == Label::Optional {
        options.push("deprecated = false".to_owned());
    }
    if !f.params.is_empty() {
        options.push(meta(&f.params));
    }
    match options.as_slice() {
        [] => {}
        [one] => {
            let _ = write!(out, " [{one}]");
        }
        [several @ .., last] => {
            out.push_str(" [\n");
            for option in several {
                indented(&mut out, &format!("{option},"));
            }
            indented(&mut out, last);
            out.push(']');
        }
    }
    out.push_str(";\n");
    out
}

/// The option that keeps what Connect knows of a field and Protobuf does not.
fn meta(params: &[(&'static str, String)]) -> String {
    let mut list = String::new();
    for (i, (key, value)) in params.iter().enumerate() {
        let (key, value) = (format!("key: \"{key}\""), format!("value: \"{}\"", escaped(value)));
        // as Confluent's converter writes them
        let (first, second) = if key.contains("connect.") { (key, value) } else { (value, key) };
        let comma = if i + 1 < params.len() { "," } else { "" };
        indented(&mut list, &format!("{{\n  {first},\n  {second}\n}}{comma}"));
    }
    let mut out = String::from("(confluent.field_meta) = {\n");
    indented(&mut out, &format!("params: [\n{list}]"));
    out.push('}');
    out
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\'', "\\'").replace('\n', "\\n")
}
