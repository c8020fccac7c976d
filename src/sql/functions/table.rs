//! Functions whose arguments and result follow a simple pattern.

use crate::engine::expr::{Expr, ExprNode};
use crate::engine::row::Value;
use crate::engine::types::{DataType, TypeKind};
use crate::sql::error::{Span, SqlResult};
use crate::sql::types::{
    UNBOUNDED, call, cast_to, is_binary, is_integer, is_numeric, is_string, is_temporal, is_timestamp,
};

use super::{misfit, to_double};

/// (name, canonical name, parameters, result).
///
/// Parameters, a letter each: `s` string, `i` integer (as INT), `l` integer (as BIGINT), `n` number, `d` number
/// (as DOUBLE), `b` boolean, `y` bytes, `z` string or bytes, `t` DATE, TIME, TIMESTAMP or TIMESTAMP_LTZ, `q` string or integer, `h` string or integer (as BIGINT), `w`
/// a timestamp or a string, `a` string or number, `x` anything; `?` before those that may be left out; `*` repeats the last one.
/// Result: a type, `!` after it where NULL may come of arguments that are not NULL, `#` where it never is NULL.
const TABLE: &[(&str, &str, &str, &str)] = &[
    ("CHAR_LENGTH", "CHAR_LENGTH", "s", "INT"),
    ("CHARACTER_LENGTH", "CHAR_LENGTH", "s", "INT"),
    ("ASCII", "ASCII", "s", "INT"),
    ("CHR", "CHR", "l", "STRING!"),
    ("SUBSTRING", "SUBSTRING", "si?i", "TRIMMED!"),
    ("SUBSTR", "SUBSTRING", "si?i", "TRIMMED!"),
    ("LEFT", "LEFT", "si", "TRIMMED!"),
    ("RIGHT", "RIGHT", "si", "TRIMMED!"),
    ("POSITION", "POSITION", "ss", "INT"),
    ("LOCATE", "LOCATE", "ss?i", "INT"),
    ("INSTR", "INSTR", "ss?ii", "INT"),
    ("LTRIM", "LTRIM", "s?s", "TRIMMED"),
    ("RTRIM", "RTRIM", "s?s", "TRIMMED"),
    ("BTRIM", "BTRIM", "s?s", "STRING"),
    ("LPAD", "LPAD", "sis", "STRING"),
    ("RPAD", "RPAD", "sis", "STRING"),
    ("REPEAT", "REPEAT", "si", "STRING"),
    ("REVERSE", "REVERSE", "s", "STRING"),
    ("REPLACE", "REPLACE", "sss", "STRING"),
    ("TRANSLATE", "TRANSLATE", "sss", "STRING"),
    ("CONCAT", "CONCAT", "s*", "STRING"),
    ("CONCAT_WS", "CONCAT_WS", "s?s*", "STRING"),
    ("SPLIT_INDEX", "SPLIT_INDEX", "sqi", "STRING!"),
    ("SPLIT", "SPLIT", "ss", "ARRAY"),
    ("STR_TO_MAP", "STR_TO_MAP", "s?ss", "MAP!"),
    ("REGEXP_REPLACE", "REGEXP_REPLACE", "sss", "STRING"),
    ("REGEXP_EXTRACT", "REGEXP_EXTRACT", "ss?i", "STRING!"),
    ("REGEXP_EXTRACT_ALL", "REGEXP_EXTRACT_ALL", "ss?i", "ARRAY!"),
    ("REGEXP", "REGEXP", "ss", "BOOLEAN"),
    ("REGEXP_COUNT", "REGEXP_COUNT", "ss", "INT!"),
    ("REGEXP_SUBSTR", "REGEXP_SUBSTR", "ss", "STRING!"),
    ("INET_ATON", "INET_ATON", "s", "BIGINT!"),
    ("INET_NTOA", "INET_NTOA", "l", "STRING!"),
    ("JSON", "JSON", "s", "STRING"),
    ("REGEXP_INSTR", "REGEXP_INSTR", "ss", "INT!"),
    ("STARTSWITH", "STARTSWITH", "zz", "BOOLEAN"),
    ("ENDSWITH", "ENDSWITH", "zz", "BOOLEAN"),
    ("MD5", "MD5", "z", "CHAR32"),
    ("SHA1", "SHA1", "z", "CHAR40"),
    ("SHA224", "SHA224", "z", "CHAR56"),
    ("SHA256", "SHA256", "z", "CHAR64"),
    ("SHA384", "SHA384", "z", "CHAR96"),
    ("SHA512", "SHA512", "z", "CHAR128"),
    ("TO_BASE64", "TO_BASE64", "z", "STRING"),
    ("FROM_BASE64", "FROM_BASE64", "s", "STRING"),
    ("ENCODE", "ENCODE", "ss", "BYTES"),
    ("DECODE", "DECODE", "ys", "STRING"),
    ("URL_ENCODE", "URL_ENCODE", "s", "STRING!"),
    ("URL_DECODE", "URL_DECODE", "s?s", "STRING!"),
    ("PARSE_URL", "PARSE_URL", "ss?s", "STRING!"),
    ("IS_ALPHA", "IS_ALPHA", "a", "BOOLEAN#"),
    ("IS_DIGIT", "IS_DIGIT", "a", "BOOLEAN#"),
    ("IS_DECIMAL", "IS_DECIMAL", "a", "BOOLEAN#"),
    ("PRINTF", "PRINTF", "s?x*", "STRING!"),
    ("UUID", "UUID", "", "CHAR36"),
    ("BIN", "BIN", "l", "STRING"),
    ("HEX", "HEX", "h", "STRING"),
    ("UNHEX", "UNHEX", "s", "BYTES!"),
    ("POWER", "POWER", "dd", "DOUBLE"),
    ("SQRT", "SQRT", "d", "DOUBLE"),
    ("EXP", "EXP", "d", "DOUBLE"),
    ("LN", "LN", "d", "DOUBLE"),
    ("LOG10", "LOG10", "d", "DOUBLE"),
    ("LOG2", "LOG2", "d", "DOUBLE"),
    ("LOG", "LOG", "dd", "DOUBLE"),
    ("SIN", "SIN", "d", "DOUBLE"),
    ("COS", "COS", "d", "DOUBLE"),
    ("TAN", "TAN", "d", "DOUBLE"),
    ("COT", "COT", "d", "DOUBLE"),
    ("ASIN", "ASIN", "d", "DOUBLE"),
    ("ACOS", "ACOS", "d", "DOUBLE"),
    ("ATAN", "ATAN", "d", "DOUBLE"),
    ("ATAN2", "ATAN2", "dd", "DOUBLE"),
    ("SINH", "SINH", "d", "DOUBLE"),
    ("COSH", "COSH", "d", "DOUBLE"),
    ("TANH", "TANH", "d", "DOUBLE"),
    ("DEGREES", "DEGREES", "d", "DOUBLE"),
    ("RADIANS", "RADIANS", "d", "DOUBLE"),
    ("PI", "PI", "", "DOUBLE"),
    ("E", "E", "", "DOUBLE"),
    ("RAND", "RAND", "?i", "DOUBLE"),
    ("RAND_INTEGER", "RAND_INTEGER", "i?i", "INT"),
    ("DATE_FORMAT", "DATE_FORMAT", "ws", "STRING!"),
    ("TO_TIMESTAMP", "TO_TIMESTAMP", "s?s", "TIMESTAMP3!"),
    ("TO_TIMESTAMP_LTZ", "TO_TIMESTAMP_LTZ", "x?xx", "LTZ!"),
    ("TO_DATE", "TO_DATE", "s?s", "DATE!"),
    ("UNIX_TIMESTAMP", "UNIX_TIMESTAMP", "?ss", "BIGINT"),
    ("FROM_UNIXTIME", "FROM_UNIXTIME", "l?s", "STRING!"),
    ("CONVERT_TZ", "CONVERT_TZ", "sss", "STRING!"),
    ("CURRENT_TIMESTAMP", "CURRENT_TIMESTAMP", "", "LTZ3"),
    ("NOW", "CURRENT_TIMESTAMP", "", "LTZ3"),
    ("CURRENT_ROW_TIMESTAMP", "CURRENT_ROW_TIMESTAMP", "", "LTZ3"),
    ("PROCTIME", "PROCTIME", "", "LTZ3"),
    ("LOCALTIMESTAMP", "LOCALTIMESTAMP", "", "TIMESTAMP3"),
    ("CURRENT_DATE", "CURRENT_DATE", "", "DATE"),
    ("CURRENT_TIME", "LOCALTIME", "", "TIME0"),
    ("LOCALTIME", "LOCALTIME", "", "TIME0"),
    ("SOURCE_WATERMARK", "SOURCE_WATERMARK", "", "LTZ3"),
];

/// Functions that take no bare NULL: Flink's older ones, which Calcite resolves.
const WITHOUT_BARE_NULL: &[&str] = &[
    "ACOS",
    "ASCII",
    "ASIN",
    "ATAN",
    "ATAN2",
    "BIN",
    "CHARACTER_LENGTH",
    "CHAR_LENGTH",
    "CHR",
    "CONCAT",
    "CONCAT_WS",
    "CONVERT_TZ",
    "COS",
    "COSH",
    "COT",
    "DATE_FORMAT",
    "DECODE",
    "DEGREES",
    "ENCODE",
    "EXP",
    "FROM_BASE64",
    "FROM_UNIXTIME",
    "HEX",
    "INSTR",
    "IS_ALPHA",
    "IS_DECIMAL",
    "IS_DIGIT",
    "LEFT",
    "LN",
    "LOCATE",
    "LOG",
    "LOG10",
    "LOG2",
    "LPAD",
    "LTRIM",
    "MD5",
    "PARSE_URL",
    "POWER",
    "RADIANS",
    "RAND_INTEGER",
    "REGEXP",
    "REGEXP_EXTRACT",
    "REGEXP_REPLACE",
    "REPEAT",
    "REPLACE",
    "REVERSE",
    "RIGHT",
    "RPAD",
    "RTRIM",
    "SHA1",
    "SHA224",
    "SHA256",
    "SHA384",
    "SHA512",
    "SIN",
    "SINH",
    "SPLIT_INDEX",
    "SQRT",
    "STR_TO_MAP",
    "SUBSTR",
    "SUBSTRING",
    "TAN",
    "TANH",
    "TO_BASE64",
    "TO_DATE",
    "TO_TIMESTAMP",
    "TRANSLATE",
    "UNIX_TIMESTAMP",
];

/// Names of all scalar functions, for the nearest-name help.
pub fn names() -> impl Iterator<Item = &'static str> {
    const OTHERS: &[&str] = &[
        "COALESCE",
        "IFNULL",
        "NULLIF",
        "IF",
        "GREATEST",
        "LEAST",
        "MOD",
        "ABS",
        "SIGN",
        "FLOOR",
        "CEIL",
        "ROUND",
        "TRUNCATE",
        "UPPER",
        "LOWER",
        "INITCAP",
        "TRIM",
        "OVERLAY",
        "SHA2",
        "ELT",
        "TYPEOF",
        "EXTRACT",
        "YEAR",
        "QUARTER",
        "MONTH",
        "WEEK",
        "DAYOFYEAR",
        "DAYOFMONTH",
        "DAYOFWEEK",
        "HOUR",
        "MINUTE",
        "SECOND",
        "TIMESTAMPDIFF",
        "TIMESTAMPADD",
        "CURRENT_WATERMARK",
        "CARDINALITY",
        "ELEMENT",
        "MAP_KEYS",
        "MAP_VALUES",
        "MAP_ENTRIES",
        "MAP_FROM_ARRAYS",
        "ARRAY_CONTAINS",
        "ARRAY_POSITION",
        "ARRAY_REMOVE",
        "ARRAY_APPEND",
        "ARRAY_PREPEND",
        "ARRAY_DISTINCT",
        "ARRAY_REVERSE",
        "ARRAY_SORT",
        "ARRAY_SLICE",
        "ARRAY_MAX",
        "ARRAY_MIN",
        "ARRAY_CONCAT",
        "ARRAY_UNION",
        "ARRAY_EXCEPT",
        "ARRAY_INTERSECT",
        "ARRAY_JOIN",
        "JSON_VALUE",
        "JSON_QUERY",
        "JSON_EXISTS",
        "JSON_OBJECT",
        "JSON_ARRAY",
        "JSON_STRING",
        "JSON_QUOTE",
        "JSON_UNQUOTE",
    ];
    TABLE.iter().map(|(name, ..)| *name).chain(OTHERS.iter().copied())
}

/// Resolves by the table; gives the arguments back when the name is not in it.
pub fn resolve(name: &str, args: Vec<Expr>, span: Span) -> SqlResult<Result<Expr, Vec<Expr>>> {
    let Some((_, canonical, params, result)) = TABLE.iter().find(|(n, ..)| *n == name) else {
        return Ok(Err(args));
    };
    let required = params.split('?').next().unwrap_or("").chars().filter(|c| *c != '*').count();
    let letters: Vec<char> = params.chars().filter(|c| *c != '?' && *c != '*').collect();
    let repeats = params.ends_with('*');
    let odd = name == "STR_TO_MAP" && args.len() == 2;
    if odd || args.len() < required || (!repeats && args.len() > letters.len()) {
        return Err(misfit(name, &args, &form(name, &letters), span));
    }
    if WITHOUT_BARE_NULL.contains(&name) {
        super::no_bare_null(&args, span)?;
    }
    // STARTSWITH and ENDSWITH look for a text in a text, or for bytes in bytes
    let bytes = args.iter().filter(|arg| is_binary(&arg.data_type.kind)).count();
    if matches!(name, "STARTSWITH" | "ENDSWITH") && bytes == 1 {
        return Err(misfit(name, &args, &form(name, &letters), span));
    }
    let nullable = super::any_nullable(&args);
    let mut out = Vec::with_capacity(args.len());
    for (i, arg) in args.iter().enumerate() {
        let letter = letters.get(i).or(letters.last()).copied().unwrap_or('x');
        match coerce(arg.clone(), letter) {
            Some(arg) => out.push(arg),
            None => return Err(misfit(name, &args, &form(name, &letters), span)),
        }
    }
    let (type_name, forced) = match result.strip_suffix('!') {
        Some(rest) => (rest, Some(true)),
        None => match result.strip_suffix('#') {
            Some(rest) => (rest, Some(false)),
            None => (*result, None),
        },
    };
    let kind = match type_name {
        "INT" => TypeKind::Int,
        "BIGINT" => TypeKind::BigInt,
        "DOUBLE" => TypeKind::Double,
        "BOOLEAN" => TypeKind::Boolean,
        "BYTES" => TypeKind::Varbinary(UNBOUNDED),
        "DATE" => TypeKind::Date,
        "TIME0" => TypeKind::Time(0),
        "TIMESTAMP3" => TypeKind::Timestamp(3),
        "LTZ3" => TypeKind::TimestampLtz(3),
        // the number's unit is the precision, milliseconds at least
        "LTZ" => TypeKind::TimestampLtz(match out.get(1).map(|arg| &arg.node) {
            Some(ExprNode::Literal(Value::Int(n @ 4..=9))) => u8::try_from(*n).unwrap_or(3),
            _ => 3,
        }),
        // trimming keeps the length there was
        "TRIMMED" => match out.first().map(|arg| &arg.data_type.kind) {
            Some(TypeKind::Char(n) | TypeKind::Varchar(n)) => TypeKind::Varchar(*n),
            _ => TypeKind::Varchar(UNBOUNDED),
        },
        "ARRAY" => TypeKind::Array(Box::new(DataType::string())),
        "MAP" => TypeKind::Map(Box::new(DataType::string()), Box::new(DataType::string())),
        other => match other.strip_prefix("CHAR").and_then(|n| n.parse().ok()) {
            Some(n) => TypeKind::Char(n),
            None => TypeKind::Varchar(UNBOUNDED),
        },
    };
    Ok(Ok(call(canonical, out, DataType { kind, nullable: forced.unwrap_or(nullable) })))
}

fn form(name: &str, letters: &[char]) -> String {
    let types: Vec<&str> = letters
        .iter()
        .map(|letter| match letter {
            's' => "<CHARACTER_STRING>",
            'i' | 'l' => "<INTEGER_NUMERIC>",
            'n' | 'd' => "<NUMERIC>",
            'b' => "<BOOLEAN>",
            'y' => "<BINARY_STRING>",
            'z' => "<STRING>",
            't' | 'w' => "<DATETIME>",
            _ => "<ANY>",
        })
        .collect();
    format!("{name}({})", types.join(", "))
}

fn coerce(arg: Expr, letter: char) -> Option<Expr> {
    let kind = arg.data_type.kind.clone();
    let null = kind == TypeKind::Null;
    let string = TypeKind::Varchar(UNBOUNDED);
    let target = match letter {
        's' if null => Some(string),
        's' if is_string(&kind) => None,
        'q' | 'h' if is_string(&kind) => None,
        'h' if is_integer(&kind) => Some(TypeKind::BigInt),
        'h' if null => Some(string),
        'q' if is_integer(&kind) => Some(TypeKind::Int),
        'q' if null => Some(string),
        'i' if is_integer(&kind) || null => Some(TypeKind::Int),
        'l' if is_integer(&kind) || null => Some(TypeKind::BigInt),
        'n' if is_numeric(&kind) => None,
        'd' if is_numeric(&kind) || null => return Some(to_double(arg)),
        'b' if kind == TypeKind::Boolean || null => Some(TypeKind::Boolean),
        'y' if is_binary(&kind) => None,
        'z' if is_string(&kind) || is_binary(&kind) => None,
        'z' if null => Some(string),
        't' if is_temporal(&kind) => None,
        'w' if is_timestamp(&kind) || is_string(&kind) => None,
        'w' if null => Some(TypeKind::Timestamp(3)),
        'x' if null => Some(string),
        'x' => None,
        'a' if is_string(&kind) || is_numeric(&kind) => None,
        _ => return None,
    };
    Some(match target {
        Some(target) => cast_to(arg, &target),
        None => arg,
    })
}
