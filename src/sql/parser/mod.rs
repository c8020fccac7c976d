//! Flink's grammar: a recursive descent over the tokens of sqlparser's tokenizer (docs/adr says why).

mod alter;
mod ddl;
mod expr;
mod functions;
mod keyword;
mod query;
mod show;
mod statement;
mod types;
mod window;

use super::ast::{Expr, Hint, Ident, Query, Statement};
use super::dialect::{Placed, Token, is_reserved, tokenize};
use super::error::{Span, SqlError, SqlResult, nearest};

/// How deep expressions and queries may nest.
const MAX_DEPTH: usize = 48;

/// A cursor over the tokens.
pub(super) struct Parser {
    text: String,
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    /// Expressions being parsed, of the innermost query.
    expressions: usize,
    /// Queries being parsed.
    queries: usize,
    /// Tables and queries of the outermost query so far.
    inputs: usize,
}

/// Parses a script: statements separated by semicolons.
pub fn parse_script(script: &str) -> SqlResult<Vec<Statement>> {
    let mut parser = Parser::new(script)?;
    let mut out = Vec::new();
    loop {
        while parser.eat(";") {}
        if parser.done() {
            return Ok(out);
        }
        out.push(parser.statement()?);
        if !parser.done() && !parser.is(";") {
            return Err(parser.unexpected(&["\";\""]));
        }
    }
}

/// Parses one scalar expression.
pub fn parse_expression(text: &str) -> SqlResult<Expr> {
    let mut parser = Parser::new(text)?;
    let expr = parser.expr()?;
    if parser.done() { Ok(expr) } else { Err(parser.unexpected(&["the end of the expression"])) }
}

/// Parses a column type.
pub fn parse_type(text: &str) -> SqlResult<crate::engine::types::DataType> {
    let mut parser = Parser::new(text)?;
    let data_type = parser.data_type()?;
    if parser.done() { Ok(data_type) } else { Err(parser.unexpected(&["the end of the type"])) }
}

impl Parser {
    fn new(text: &str) -> SqlResult<Self> {
        let tokens = tokenize(text)?;
        Ok(Self { text: text.to_owned(), tokens, at: 0, depth: 0, expressions: 0, queries: 0, inputs: 0 })
    }

    fn peek(&self) -> &Token {
        self.peek_at(0)
    }

    fn peek_at(&self, ahead: usize) -> &Token {
        self.tokens.get(self.at + ahead).map_or(&Token::End, |placed| &placed.token)
    }

    fn span(&self) -> Span {
        self.tokens.get(self.at).or(self.tokens.last()).map_or(Span::default(), |placed| placed.span)
    }

    /// The place of the token before.
    fn before(&self) -> Span {
        self.at.checked_sub(1).and_then(|i| self.tokens.get(i)).map_or(Span::default(), |placed| placed.span)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        if self.at < self.tokens.len() {
            self.at += 1;
        }
        token
    }

    fn done(&self) -> bool {
        *self.peek() == Token::End
    }

    /// Whether the next token is this symbol.
    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(s) if *s == symbol)
    }

    fn is_at(&self, ahead: usize, symbol: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Symbol(s) if *s == symbol)
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, symbol: &str) -> SqlResult<()> {
        if self.eat(symbol) { Ok(()) } else { Err(self.unexpected(&[&format!("\"{symbol}\"")])) }
    }

    /// Whether the next token is this keyword.
    fn is_word(&self, word: &str) -> bool {
        self.is_word_at(0, word)
    }

    fn is_word_at(&self, ahead: usize, word: &str) -> bool {
        matches!(self.peek_at(ahead), Token::Word { value, quoted: false } if value.eq_ignore_ascii_case(word))
    }

    /// Takes these keywords, all or none.
    fn eat_words(&mut self, words: &[&str]) -> bool {
        let found = words.iter().enumerate().all(|(i, word)| self.is_word_at(i, word));
        if found {
            self.at += words.len();
        }
        found
    }

    fn eat_word(&mut self, word: &str) -> bool {
        self.eat_words(&[word])
    }

    fn expect_word(&mut self, word: &str) -> SqlResult<()> {
        if self.eat_word(word) { Ok(()) } else { Err(self.unexpected(&[word])) }
    }

    /// The error for what stands here instead of one of these.
    fn unexpected(&self, wanted: &[&str]) -> Box<SqlError> {
        let found = match self.peek() {
            Token::End => "the end of the text".to_owned(),
            Token::Word { value, .. } => format!("\"{value}\""),
            Token::Number(text) => format!("\"{text}\""),
            Token::Str(text) => format!("'{text}'"),
            Token::Hex(text) => format!("X'{text}'"),
            Token::Symbol(text) => format!("\"{text}\""),
            Token::Hint(_) => "a hint".to_owned(),
        };
        let span = self.span();
        // where an expression could stand, Flink names the keyword
        let keyword = match self.peek() {
            Token::Word { value, quoted: false }
                if wanted
                    .iter()
                    .any(|w| matches!(*w, "an expression" | "a name" | "a statement" | "SELECT"))
                    && is_reserved(value)
                    // as Flink's parser knows its keywords
                    && value.chars().all(|c| !c.is_lowercase()) =>
            {
                Some(format!("Incorrect syntax near the keyword '{value}'"))
            }
            _ => None,
        };
        let head = keyword.unwrap_or_else(|| format!("Encountered {found}"));
        let error = SqlError::parse(
            span,
            format!(
                "{head} at line {}, column {}. Was expecting: {}",
                span.line,
                span.column,
                wanted.join(" or ")
            ),
        );
        // a mark is missing, rather than a word wrong
        let marks = |mark: &str| wanted.contains(&mark);
        match self.peek() {
            Token::Word { value, quoted: false } if marks("\";\"") && statement::begins(value) => {
                error.help(format!("a ';' is missing before {value}"))
            }
            Token::Word { value, quoted: false }
                if marks("\",\"") && ddl::OTHER_DATABASES.contains(&value.to_uppercase().as_str()) =>
            {
                error.help(format!("Flink's tables know no {}: leave it out", value.to_uppercase()))
            }
            Token::Word { value, .. } | Token::Str(value) if marks("\",\"") => {
                error.help(format!("is a ',' missing before {value}?"))
            }
            Token::Word { value, quoted: false } if is_reserved(value) => error.help(format!(
                "'{value}' is a reserved word; a name like this stands in backticks: `{value}`"
            )),
            Token::Word { value, quoted: false } => {
                match nearest(value, wanted.iter().copied().filter(|w| w.chars().all(char::is_alphabetic))) {
                    Some(near) => error.help(format!("did you mean {near}?")),
                    None => error,
                }
            }
            _ => error,
        }
    }

    /// A name: any quoted word, or one that is not reserved.
    fn ident(&mut self) -> SqlResult<Ident> {
        match self.peek() {
            Token::Word { value, quoted } if *quoted || !is_reserved(value) => {
                let value = value.clone();
                let span = self.span();
                self.at += 1;
                Ok(Ident { value, span })
            }
            _ => Err(self.unexpected(&["a name"])),
        }
    }

    /// The script's text from this token up to the one before the next.
    fn text_since(&self, from: usize) -> String {
        let place = |at: usize| {
            let Some(span) = self.tokens.get(at).map(|placed| placed.span) else { return self.text.len() };
            let mut begin = 0;
            for (i, line) in self.text.split_inclusive('\n').enumerate() {
                if i + 1 == span.line as usize {
                    let column = span.column.saturating_sub(1) as usize;
                    return begin + line.char_indices().nth(column).map_or(line.len(), |(at, _)| at);
                }
                begin += line.len();
            }
            self.text.len()
        };
        let end = if self.done() { self.text.len() } else { place(self.at) };
        self.text.get(place(from)..end).unwrap_or_default().trim().to_owned()
    }

    /// `[catalog.[database.]]name`, all parts.
    fn path(&mut self) -> SqlResult<Vec<Ident>> {
        let mut parts = vec![self.ident()?];
        while self.eat(".") {
            parts.push(self.ident()?);
        }
        Ok(parts)
    }

    /// `[catalog.[database.]]name`: what stands before the name, and the name.
    fn placed_name(&mut self) -> SqlResult<(Vec<Ident>, Ident)> {
        let mut database = self.path()?;
        match database.pop() {
            Some(name) => Ok((database, name)),
            None => Err(self.unexpected(&["a name"])),
        }
    }

    /// `[catalog.[database.]]name`: the last part counts.
    fn table_name(&mut self) -> SqlResult<Ident> {
        let mut name = self.ident()?;
        while self.eat(".") {
            let next = self.ident()?;
            name = Ident { span: name.span.to(next.span), value: next.value };
        }
        Ok(name)
    }

    fn string(&mut self) -> SqlResult<String> {
        match self.peek() {
            Token::Str(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected(&["a string in single quotes"])),
        }
    }

    fn unsigned<T: std::str::FromStr>(&mut self) -> SqlResult<T> {
        match self.peek() {
            Token::Number(text) => match text.parse() {
                Ok(number) => {
                    self.at += 1;
                    Ok(number)
                }
                Err(_) => Err(self.unexpected(&["a whole number in range"])),
            },
            _ => Err(self.unexpected(&["a whole number"])),
        }
    }

    /// `item, item, …`
    fn list<T>(&mut self, mut item: impl FnMut(&mut Self) -> SqlResult<T>) -> SqlResult<Vec<T>> {
        let mut out = vec![item(self)?];
        while self.eat(",") {
            out.push(item(self)?);
        }
        Ok(out)
    }

    /// `(item, item, …)`
    fn in_parens<T>(&mut self, item: impl FnMut(&mut Self) -> SqlResult<T>) -> SqlResult<Vec<T>> {
        self.expect("(")?;
        let out = self.list(item)?;
        self.end_of_list()?;
        Ok(out)
    }

    /// The parenthesis that ends a list.
    fn end_of_list(&mut self) -> SqlResult<()> {
        if self.eat(")") { Ok(()) } else { Err(self.unexpected(&["\",\"", "\")\""])) }
    }

    /// `('k' = 'v', …)` with the places of the keys.
    fn options(&mut self) -> SqlResult<Vec<(String, String, Span)>> {
        self.expect("(")?;
        let mut out = Vec::new();
        if !self.is(")") {
            loop {
                let span = self.span();
                let key = self.string()?;
                self.expect("=")?;
                out.push((key, self.string()?, span));
                if !self.eat(",") {
                    break;
                }
            }
        }
        self.end_of_list()?;
        Ok(out)
    }

    /// `/*+ NAME('k'='v', …), NAME2(…) */` where it stands; none elsewhere.
    fn hints(&mut self) -> SqlResult<Vec<Hint>> {
        let mut out = Vec::new();
        while let Token::Hint(text) = self.peek() {
            let mut inner =
                Parser::new(&text.clone()).map_err(|e| SqlError::parse(self.span(), e.message))?;
            let span = self.span();
            self.at += 1;
            while !inner.done() {
                let Token::Word { value, .. } = inner.next() else {
                    return Err(SqlError::parse(span, "a hint has the form NAME('key'='value', …)"));
                };
                let mut options = Vec::new();
                if inner.eat("(") {
                    while !inner.eat(")") {
                        let key = match inner.next() {
                            Token::Str(text) | Token::Word { value: text, .. } | Token::Number(text) => text,
                            _ => {
                                return Err(SqlError::parse(
                                    span,
                                    "a hint has the form NAME('key'='value', …)",
                                ));
                            }
                        };
                        let value = if inner.eat("=") {
                            match inner.next() {
                                Token::Str(text) | Token::Word { value: text, .. } | Token::Number(text) => {
                                    text
                                }
                                _ => return Err(SqlError::parse(span, "a hint's value is missing")),
                            }
                        } else {
                            String::new()
                        };
                        options.push((key, value));
                        inner.eat(",");
                        if inner.done() {
                            break;
                        }
                    }
                }
                out.push(Hint { name: value.to_uppercase(), options });
                inner.eat(",");
            }
        }
        Ok(out)
    }

    /// Guards against a text that nests without end.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> SqlResult<T>) -> SqlResult<T> {
        if self.depth >= MAX_DEPTH {
            return Err(SqlError::parse(self.span(), "the text nests too deep"));
        }
        self.depth += 1;
        let out = inner(self);
        self.depth -= 1;
        out
    }

    fn boxed_query(&mut self) -> SqlResult<Box<Query>> {
        Ok(Box::new(self.query()?))
    }
}

#[cfg(test)]
mod tests;
