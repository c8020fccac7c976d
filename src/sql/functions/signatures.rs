//! What Flink says where a function is called with arguments that it does not take.
//!
//! `signatures.tsv` has a line for every function: its name; for operators the number of arguments that the message
//! names, the numbers that are taken, and the forms; for functions of the newer kind the word `signatures`, the
//! family of types that a single signature asks for, and the signatures.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::engine::expr::Expr;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlError};
use crate::sql::types::{calcite, family, is_integer, is_numeric, is_string};

/// A function as the messages know it.
enum Signature {
    /// An operator: the number named, the numbers taken, the forms.
    Operator { expects: &'static str, takes: Vec<usize>, forms: Option<&'static str> },
    /// A function with signatures, and the family of types they ask for.
    Function { family: Option<&'static str>, signatures: Vec<&'static str> },
}

static SIGNATURES: LazyLock<HashMap<&'static str, Signature>> = LazyLock::new(|| {
    let some = |text: &'static str| (text != "-").then_some(text);
    include_str!("signatures.tsv")
        .lines()
        .filter_map(|line| {
            let mut parts = line.split('\t');
            let (name, expects, takes, last) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
            let signature = if expects == "signatures" {
                Signature::Function { family: some(takes), signatures: last.split(" | ").collect() }
            } else {
                let takes = takes.split(',').filter_map(|n| n.parse().ok()).collect();
                Signature::Operator { expects, takes, forms: some(last) }
            };
            Some((name, signature))
        })
        .collect()
});

/// Types as Calcite names their families where no function is found.
pub(super) fn families(args: &[Expr]) -> String {
    let of = |kind: &TypeKind| {
        if is_string(kind) {
            "CHARACTER".to_owned()
        } else if is_numeric(kind) {
            "NUMERIC".to_owned()
        } else {
            family(kind)
        }
    };
    args.iter().map(|arg| format!("<{}>", of(&arg.data_type.kind))).collect::<Vec<_>>().join(", ")
}

/// The number of arguments is one that the function does not take.
pub fn wrong_number(name: &str, count: usize, span: Span) -> Option<Box<SqlError>> {
    match SIGNATURES.get(name) {
        Some(Signature::Operator { expects, takes, .. }) if !takes.is_empty() => {
            // functions of any number are known up to five
            let any = takes.contains(&5) && count > 5;
            (!any && !takes.contains(&count)).then(|| {
                SqlError::plan(
                    span,
                    format!(
                        "Invalid number of arguments to function '{name}'. Was expecting {expects} arguments"
                    ),
                )
            })
        }
        _ => None,
    }
}

/// The forms that the function is known by.
pub fn forms(name: &str) -> Option<&'static str> {
    match SIGNATURES.get(name)? {
        Signature::Operator { forms, .. } => *forms,
        Signature::Function { .. } => None,
    }
}

/// The error of a known function whose arguments do not fit.
pub fn refusal(name: &str, args: &[Expr], span: Span) -> Option<Box<SqlError>> {
    let types: Vec<DataType> = args.iter().map(|arg| arg.data_type.clone()).collect();
    if let Some(error) = wrong_number(name, args.len(), span) {
        return Some(error);
    }
    match SIGNATURES.get(name)? {
        Signature::Operator { forms, .. } => {
            let types: Vec<String> = types.iter().map(|t| format!("<{}>", calcite(&t.kind))).collect();
            let types = types.join(", ");
            let forms = (*forms)?;
            Some(SqlError::plan(
                span,
                format!(
                    "Cannot apply '{name}' to arguments of type '{name}({types})'. Supported form(s): {forms}"
                ),
            ))
        }
        Signature::Function { family, signatures } => {
            let count = |signature: &&str| {
                let inner = signature.split_once('(').map_or("", |(_, inner)| inner).trim_end_matches(')');
                if inner.is_empty() { 0 } else { inner.split(", ").count() }
            };
            let open = signatures.iter().any(|signature| signature.contains("..."));
            let listed = signatures.join("\n");
            if !open && !signatures.iter().any(|signature| count(signature) == types.len()) {
                return Some(SqlError::plan(
                    span,
                    format!(
                        "No match found for function signature {name}({}).\nSupported signatures are:\n{listed}",
                        families(args)
                    ),
                ));
            }
            let other = |t: &&DataType| match *family {
                Some("CHARACTER_STRING") => !is_string(&t.kind),
                Some("INTEGER_NUMERIC") => !is_integer(&t.kind),
                _ => false,
            };
            let reason = match (family, types.iter().find(other)) {
                (Some(family), Some(found)) => format!(
                    "\nUnsupported argument type. Expected type of family '{family}' but actual type was '{found}'."
                ),
                _ => String::new(),
            };
            let types: Vec<String> = types.iter().map(DataType::to_string).collect();
            Some(SqlError::plan(
                span,
                format!(
                    "Invalid function call:\n{name}({})\nInvalid input arguments. Expected signatures are:\n{listed}{reason}",
                    types.join(", ")
                ),
            ))
        }
    }
}
