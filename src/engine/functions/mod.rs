//! Scalar functions by canonical name.
//!
//! The planner resolves a call to one of [`NAMES`], casts the arguments and fixes the result type; the engine
//! evaluates. Unless said otherwise arguments stand in SQL's order and a NULL argument gives NULL. Keywords of
//! the special syntaxes become string literals:
//!
//! | name | arguments |
//! |---|---|
//! | `EXTRACT` | unit (`YEAR`, `DOW`, `EPOCH`, …), value |
//! | `FLOOR`, `CEIL` | value \[, unit\] |
//! | `TIMESTAMPDIFF`, `TIMESTAMPADD` | unit, a, b |
//! | `TRIM` | `BOTH`, `LEADING` or `TRAILING`; characters; string |
//! | `POSITION` | searched text, string |
//! | `OVERLAY` | string, replacement, from \[, for\] |
//! | `LIKE`, `SIMILAR` | string, pattern \[, escape\] |
//! | `IN` | value, candidates… (three-valued) |
//! | `BETWEEN` is rewritten to comparisons | |
//! | `JSON_VALUE` | json, path, on empty (`NULL`, `ERROR`, `DEFAULT`), default, on error, default |
//! | `JSON_QUERY` | json, path, wrapper (`WITHOUT`, `CONDITIONAL`, `UNCONDITIONAL`), on empty (`NULL`, `EMPTY ARRAY`, `EMPTY OBJECT`, `ERROR`), on error |
//! | `JSON_EXISTS` | json, path, on error (`TRUE`, `FALSE`, `UNKNOWN`, `ERROR`) |
//! | `JSON_OBJECT` | `NULL` or `ABSENT` on null; key, value, … |
//! | `JSON_ARRAY` | `NULL` or `ABSENT` on null; values… |
//! | `IS JSON` | value; `VALUE`, `SCALAR`, `ARRAY` or `OBJECT` |
//! | `ITEM` | array and index from 1, or map and key |
//! | `ARRAY`, `ROW` | elements… (constructors; NULLs kept) |
//! | `MAP` | key, value, … |
//! | `TYPEOF` is folded by the planner | |

use super::context::Context;
use super::error::EvalError;
use super::row::Value;
use super::types::DataType;

pub(crate) mod arithmetic;
pub(crate) mod cast;
mod collection;
pub(crate) mod json;
mod json_path;
mod json_tree;
mod math;
mod network;
pub(crate) mod pattern;
mod printf;
mod simple_date;
mod string;
mod text;
pub(crate) mod time;

/// The canonical names.
pub const NAMES: &[&str] = &[
    // operators
    "+",
    "-",
    "*",
    "/",
    "%",
    "NEGATE",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "AND",
    "OR",
    "NOT",
    "IS NULL",
    "IS NOT NULL",
    "IS TRUE",
    "IS NOT TRUE",
    "IS FALSE",
    "IS NOT FALSE",
    "IS UNKNOWN",
    "IS NOT UNKNOWN",
    "IS DISTINCT FROM",
    "IS NOT DISTINCT FROM",
    "IN",
    "LIKE",
    "SIMILAR",
    "||",
    "OVERLAPS",
    // conditional
    "COALESCE",
    "NULLIF",
    "IF",
    "IFNULL",
    "GREATEST",
    "LEAST",
    // numbers
    "ABS",
    "CEIL",
    "FLOOR",
    "ROUND",
    "TRUNCATE",
    "SIGN",
    "POWER",
    "SQRT",
    "EXP",
    "LN",
    "LOG",
    "LOG10",
    "LOG2",
    "PI",
    "E",
    "SIN",
    "COS",
    "TAN",
    "COT",
    "ASIN",
    "ACOS",
    "ATAN",
    "ATAN2",
    "SINH",
    "COSH",
    "TANH",
    "DEGREES",
    "RADIANS",
    "RAND",
    "RAND_INTEGER",
    "BIN",
    "HEX",
    "UNHEX",
    "UUID",
    // strings
    "CHAR_LENGTH",
    "UPPER",
    "LOWER",
    "INITCAP",
    "SUBSTRING",
    "LEFT",
    "RIGHT",
    "POSITION",
    "LOCATE",
    "INSTR",
    "TRIM",
    "LTRIM",
    "RTRIM",
    "BTRIM",
    "LPAD",
    "RPAD",
    "REPEAT",
    "REVERSE",
    "REPLACE",
    "OVERLAY",
    "TRANSLATE",
    "CONCAT",
    "CONCAT_WS",
    "SPLIT_INDEX",
    "SPLIT",
    "STR_TO_MAP",
    "REGEXP_REPLACE",
    "REGEXP_EXTRACT",
    "REGEXP_EXTRACT_ALL",
    "REGEXP",
    "REGEXP_COUNT",
    "REGEXP_SUBSTR",
    "REGEXP_INSTR",
    "STARTSWITH",
    "ENDSWITH",
    "ASCII",
    "CHR",
    "MD5",
    "SHA1",
    "SHA224",
    "SHA256",
    "SHA384",
    "SHA512",
    "SHA2",
    "TO_BASE64",
    "FROM_BASE64",
    "ENCODE",
    "DECODE",
    "URL_ENCODE",
    "URL_DECODE",
    "PARSE_URL",
    "IS_ALPHA",
    "IS_DIGIT",
    "IS_DECIMAL",
    "ELT",
    "PRINTF",
    // time
    "EXTRACT",
    "DATE_FORMAT",
    "TO_TIMESTAMP",
    "TO_TIMESTAMP_LTZ",
    "TO_DATE",
    "TIMESTAMPDIFF",
    "TIMESTAMPADD",
    "UNIX_TIMESTAMP",
    "FROM_UNIXTIME",
    "CONVERT_TZ",
    "CURRENT_TIMESTAMP",
    "LOCALTIMESTAMP",
    "CURRENT_DATE",
    "CURRENT_TIME",
    "LOCALTIME",
    "NOW",
    "CURRENT_ROW_TIMESTAMP",
    "PROCTIME",
    "CURRENT_WATERMARK",
    // collections
    "ARRAY",
    "MAP",
    "ROW",
    "ITEM",
    "CARDINALITY",
    "ELEMENT",
    "ARRAY_CONTAINS",
    "ARRAY_DISTINCT",
    "ARRAY_SORT",
    "ARRAY_JOIN",
    "ARRAY_MAX",
    "ARRAY_MIN",
    "ARRAY_CONCAT",
    "ARRAY_SLICE",
    "ARRAY_REVERSE",
    "ARRAY_POSITION",
    "ARRAY_REMOVE",
    "ARRAY_UNION",
    "ARRAY_APPEND",
    "ARRAY_PREPEND",
    "ARRAY_EXCEPT",
    "ARRAY_INTERSECT",
    "MAP_KEYS",
    "MAP_VALUES",
    "MAP_ENTRIES",
    "MAP_FROM_ARRAYS",
    "MAP_UNION",
    // JSON
    "JSON_VALUE",
    "JSON_QUERY",
    "JSON_EXISTS",
    "JSON_OBJECT",
    "JSON_ARRAY",
    "JSON_STRING",
    "JSON",
    "IS JSON",
    "JSON_QUOTE",
    "INET_ATON",
    "INET_NTOA",
    "JSON_UNQUOTE",
];

/// A call of a scalar function.
pub(crate) struct Call<'a> {
    /// Values of the arguments.
    pub args: &'a [Value],
    /// Their types.
    pub types: &'a [DataType],
    /// Type of the result.
    pub result: &'a DataType,
    /// Session.
    pub context: &'a Context,
}

impl<'a> Call<'a> {
    /// An argument; NULL where there is none.
    pub(crate) fn arg(&self, at: usize) -> &'a Value {
        const NULL: &Value = &Value::Null;
        self.args.get(at).unwrap_or(NULL)
    }

    /// A string argument.
    pub(crate) fn str(&self, at: usize) -> Result<&'a str, EvalError> {
        self.arg(at).as_str().ok_or_else(|| EvalError::new(format!("argument {} is not a string", at + 1)))
    }

    /// An integer argument.
    pub(crate) fn int(&self, at: usize) -> Result<i64, EvalError> {
        match self.arg(at) {
            Value::Int(number) => Ok(*number),
            other => arithmetic::to_i64(other)
                .ok_or_else(|| EvalError::new(format!("argument {} is not a whole number", at + 1))),
        }
    }

    /// A number argument as DOUBLE.
    pub(crate) fn double(&self, at: usize) -> Result<f64, EvalError> {
        arithmetic::to_f64(self.arg(at))
            .ok_or_else(|| EvalError::new(format!("argument {} is not a number", at + 1)))
    }
}

/// A scalar function.
pub(crate) type Scalar = fn(&Call<'_>) -> Result<Value, EvalError>;

/// The function of a name, and whether a NULL argument makes its result NULL without a call.
pub(crate) fn lookup(name: &str) -> Option<(Scalar, bool)> {
    arithmetic::lookup(name)
        .or_else(|| math::lookup(name))
        .or_else(|| string::lookup(name))
        .or_else(|| text::lookup(name))
        .or_else(|| time::lookup(name))
        .or_else(|| collection::lookup(name))
        .or_else(|| network::lookup(name))
        .or_else(|| json::lookup(name))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_name_has_an_evaluation() {
        // These are compiled to nodes of their own, or fixed when the job is planned.
        let nodes = [
            "=",
            "<>",
            "<",
            "<=",
            ">",
            ">=",
            "AND",
            "OR",
            "NOT",
            "IS NULL",
            "IS NOT NULL",
            "IS TRUE",
            "IS NOT TRUE",
            "IS FALSE",
            "IS NOT FALSE",
            "IS UNKNOWN",
            "IS NOT UNKNOWN",
            "IS DISTINCT FROM",
            "IS NOT DISTINCT FROM",
            "IN",
            "COALESCE",
            "IF",
            "IFNULL",
            "CURRENT_WATERMARK",
        ];
        for name in super::NAMES {
            assert!(nodes.contains(name) || super::lookup(name).is_some(), "{name}");
        }
    }
}
