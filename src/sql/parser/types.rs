//! Type names.

use crate::engine::types::{DataType, Field, TypeKind};
use crate::sql::dialect::Token;
use crate::sql::error::{SqlError, SqlResult};

use super::Parser;

impl Parser {
    /// `TYPE [NOT NULL | NULL]`.
    pub(super) fn data_type(&mut self) -> SqlResult<DataType> {
        self.deeper(Self::data_type_inner)
    }

    fn data_type_inner(&mut self) -> SqlResult<DataType> {
        let mut kind = self.type_kind()?;
        loop {
            // `INT ARRAY`, `INT MULTISET`
            if self.is_word("ARRAY") {
                self.at += 1;
                kind = TypeKind::Array(Box::new(DataType::new(kind)));
            } else if self.is_word("MULTISET") {
                self.at += 1;
                kind = TypeKind::Multiset(Box::new(DataType::new(kind)));
            } else {
                break;
            }
        }
        let nullable = if self.eat_words(&["NOT", "NULL"]) {
            false
        } else {
            // of `RETURNING INT NULL ON ERROR` the NULL is no part
            if !self.is_word_at(1, "ON") {
                self.eat_word("NULL");
            }
            true
        };
        Ok(DataType { kind, nullable })
    }

    fn type_kind(&mut self) -> SqlResult<TypeKind> {
        let span = self.span();
        let Token::Word { value, quoted: false } = self.peek() else {
            return Err(self.unexpected(&["a data type"]));
        };
        let name = value.to_uppercase();
        self.at += 1;
        Ok(match name.as_str() {
            "BOOLEAN" => TypeKind::Boolean,
            "TINYINT" => TypeKind::TinyInt,
            "SMALLINT" => TypeKind::SmallInt,
            "INT" | "INTEGER" => TypeKind::Int,
            "BIGINT" => TypeKind::BigInt,
            "FLOAT" => TypeKind::Float,
            "DOUBLE" => {
                self.eat_word("PRECISION");
                TypeKind::Double
            }
            "DECIMAL" | "DEC" | "NUMERIC" => {
                let (mut precision, mut scale) = (10_u8, 0_u8);
                if self.eat("(") {
                    precision = self.unsigned()?;
                    if self.eat(",") {
                        scale = self.unsigned()?;
                    }
                    self.expect(")")?;
                }
                // more digits than there are become as many as there are, as in Flink
                precision = precision.min(38);
                if precision == 0 || scale > precision {
                    return Err(SqlError::parse(
                        span,
                        "Decimal precision must be between 1 and 38 (both inclusive), the scale between 0 and the precision.",
                    ));
                }
                TypeKind::Decimal(precision, scale)
            }
            "CHAR" | "CHARACTER" => {
                if self.eat_word("VARYING") {
                    TypeKind::Varchar(self.length(1)?)
                } else {
                    TypeKind::Char(self.length(1)?)
                }
            }
            "VARCHAR" => TypeKind::Varchar(self.length(i32::MAX as u32)?),
            "STRING" => TypeKind::Varchar(i32::MAX as u32),
            "BINARY" => {
                if self.eat_word("VARYING") {
                    TypeKind::Varbinary(self.length(1)?)
                } else {
                    TypeKind::Binary(self.length(1)?)
                }
            }
            "VARBINARY" => TypeKind::Varbinary(self.length(i32::MAX as u32)?),
            "BYTES" => TypeKind::Varbinary(i32::MAX as u32),
            "DATE" => TypeKind::Date,
            "TIME" => {
                // more digits than milliseconds are not kept, in Calcite either
                let precision = self.fraction(0)?.min(3);
                self.eat_words(&["WITHOUT", "TIME", "ZONE"]);
                TypeKind::Time(precision)
            }
            "TIMESTAMP" => {
                let precision = self.fraction(6)?;
                if self.eat_words(&["WITH", "LOCAL", "TIME", "ZONE"]) {
                    TypeKind::TimestampLtz(precision)
                } else if self.eat_words(&["WITH", "TIME", "ZONE"]) {
                    return Err(SqlError::parse(span, "TIMESTAMP WITH TIME ZONE is not supported")
                        .help("use TIMESTAMP_LTZ, an instant shown in the session's time zone"));
                } else {
                    self.eat_words(&["WITHOUT", "TIME", "ZONE"]);
                    TypeKind::Timestamp(precision)
                }
            }
            "TIMESTAMP_LTZ" => TypeKind::TimestampLtz(self.fraction(6)?),
            "INTERVAL" => self.interval_type()?,
            "ARRAY" => {
                self.expect("<")?;
                let element = self.data_type()?;
                self.expect(">")?;
                TypeKind::Array(Box::new(element))
            }
            "MULTISET" => {
                self.expect("<")?;
                let element = self.data_type()?;
                self.expect(">")?;
                TypeKind::Multiset(Box::new(element))
            }
            "MAP" => {
                self.expect("<")?;
                let key = self.data_type()?;
                self.expect(",")?;
                let value = self.data_type()?;
                self.expect(">")?;
                TypeKind::Map(Box::new(key), Box::new(value))
            }
            "ROW" => {
                let close = if self.eat("<") {
                    ">"
                } else {
                    self.expect("(")?;
                    ")"
                };
                let mut fields = Vec::new();
                if matches!(self.peek(), crate::sql::dialect::Token::Symbol("<>")) || self.is(close) {
                    self.expect(close)?;
                    return Ok(TypeKind::Row(fields));
                }
                loop {
                    let name = self.ident()?.value;
                    let data_type = self.data_type()?;
                    if matches!(self.peek(), Token::Str(_)) {
                        self.at += 1; // the field's comment
                    }
                    fields.push(Field { name, data_type });
                    if !self.eat(",") {
                        break;
                    }
                }
                self.expect(close)?;
                let twice = fields.iter().enumerate().find(|(i, field)| {
                    fields.iter().take(*i).any(|before: &Field| before.name == field.name)
                });
                if let Some((_, field)) = twice {
                    return Err(SqlError::plan(
                        span,
                        format!("Field names must be unique. Found duplicates: [{}]", field.name),
                    ));
                }
                TypeKind::Row(fields)
            }
            _ => {
                self.at -= 1;
                let known = [
                    "BOOLEAN",
                    "TINYINT",
                    "SMALLINT",
                    "INT",
                    "BIGINT",
                    "FLOAT",
                    "DOUBLE",
                    "DECIMAL",
                    "CHAR",
                    "VARCHAR",
                    "STRING",
                    "BINARY",
                    "VARBINARY",
                    "BYTES",
                    "DATE",
                    "TIME",
                    "TIMESTAMP",
                    "TIMESTAMP_LTZ",
                    "ARRAY",
                    "MAP",
                    "MULTISET",
                    "ROW",
                ];
                let error = SqlError::parse(span, format!("Unknown identifier '{name}'"));
                return Err(match (error.help.is_some(), crate::sql::error::nearest(&name, known)) {
                    (false, Some(near)) => error.help(format!("did you mean {near}?")),
                    _ => error,
                });
            }
        })
    }

    fn length(&mut self, default: u32) -> SqlResult<u32> {
        if !self.eat("(") {
            return Ok(default);
        }
        let span = self.span();
        let length: u32 = self.unsigned()?;
        if length > i32::MAX as u32 {
            return Err(SqlError::parse(span, "the length of a type is between 0 and 2147483647"));
        }
        self.expect(")")?;
        Ok(length)
    }

    fn fraction(&mut self, default: u8) -> SqlResult<u8> {
        if !self.eat("(") {
            return Ok(default);
        }
        // more digits than there are become as many as there are, as in Flink
        let precision: u8 = self.unsigned()?;
        self.expect(")")?;
        Ok(precision.min(9))
    }

    fn interval_type(&mut self) -> SqlResult<TypeKind> {
        let unit = self.unit()?;
        if self.eat("(") {
            let _: u8 = self.unsigned()?;
            self.expect(")")?;
        }
        let last = if self.eat_word("TO") {
            let last = self.unit()?;
            if self.eat("(") {
                let _: u8 = self.unsigned()?;
                self.expect(")")?;
            }
            last
        } else {
            unit
        };
        Ok(if matches!(last.as_str(), "YEAR" | "MONTH") {
            TypeKind::IntervalMonths
        } else {
            TypeKind::IntervalMillis
        })
    }

    /// A time unit, upper case, singular.
    pub(super) fn unit(&mut self) -> SqlResult<String> {
        let units = [
            "MILLENNIUM",
            "CENTURY",
            "DECADE",
            "YEAR",
            "QUARTER",
            "MONTH",
            "WEEK",
            "DAY",
            "HOUR",
            "MINUTE",
            "SECOND",
            "MILLISECOND",
            "MICROSECOND",
            "NANOSECOND",
            "DOW",
            "DOY",
            "ISODOW",
            "ISOYEAR",
            "EPOCH",
        ];
        if let Token::Word { value, quoted: false } = self.peek() {
            let upper = value.to_uppercase();
            let upper = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
            let singular = upper.strip_suffix('S').filter(|s| units.contains(s)).unwrap_or(upper);
            if units.contains(&singular) {
                let out = singular.to_owned();
                self.at += 1;
                return Ok(out);
            }
        }
        Err(self.unexpected(&["YEAR", "MONTH", "DAY", "HOUR", "MINUTE", "SECOND"]))
    }
}
