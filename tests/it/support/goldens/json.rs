//! JSON with the text of numbers and the order of fields kept: 1.0 and 1.00 are different answers here.

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    /// The number's text.
    Number(String),
    Text(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { bytes: text.as_bytes(), at: 0 };
        let value = parser.value()?;
        parser.space();
        if parser.at < parser.bytes.len() {
            return Err(format!("text after the value at byte {}", parser.at));
        }
        Ok(value)
    }

    pub fn text(text: &str) -> Self {
        Json::Text(text.to_owned())
    }

    pub fn get(&self, field: &str) -> Option<&Json> {
        match self {
            Json::Object(fields) => fields.iter().find(|(n, _)| n == field).map(|(_, v)| v),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::Text(t) => Some(t),
            _ => None,
        }
    }

    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Json::Number(n) => n.parse().ok(),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        *self == Json::Null
    }

    pub fn is_object(&self) -> bool {
        matches!(self, Json::Object(_))
    }

    /// Exactly these fields, in any order.
    pub fn has_only(&self, names: &[&str]) -> bool {
        match self {
            Json::Object(fields) => {
                fields.len() == names.len() && names.iter().all(|n| fields.iter().any(|(f, _)| f == n))
            }
            _ => false,
        }
    }

    pub fn set(&mut self, field: &str, value: Json) {
        if let Json::Object(fields) = self {
            match fields.iter_mut().find(|(n, _)| n == field) {
                Some((_, v)) => *v = value,
                None => fields.push((field.to_owned(), value)),
            }
        }
    }

    /// A copy with this done to every text, field names too.
    pub fn map_texts(&self, f: &impl Fn(&str) -> String) -> Json {
        match self {
            Json::Text(t) => Json::Text(f(t)),
            Json::Array(items) => Json::Array(items.iter().map(|i| i.map_texts(f)).collect()),
            Json::Object(fields) => {
                Json::Object(fields.iter().map(|(n, v)| (f(n), v.map_texts(f))).collect())
            }
            other => other.clone(),
        }
    }

    /// A copy whose objects are sorted by field name.
    pub fn sorted(&self) -> Json {
        match self {
            Json::Array(items) => Json::Array(items.iter().map(Json::sorted).collect()),
            Json::Object(fields) => {
                let mut fields: Vec<_> = fields.iter().map(|(n, v)| (n.clone(), v.sorted())).collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Json::Object(fields)
            }
            other => other.clone(),
        }
    }
}

impl std::fmt::Display for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quote = |t: &str| serde_json::to_string(t).unwrap();
        match self {
            Json::Null => f.write_str("null"),
            Json::Bool(b) => write!(f, "{b}"),
            Json::Number(n) => f.write_str(n),
            Json::Text(t) => f.write_str(&quote(t)),
            Json::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Json::Object(fields) => {
                f.write_str("{")?;
                for (i, (name, value)) in fields.iter().enumerate() {
                    write!(f, "{}{}:{value}", if i > 0 { "," } else { "" }, quote(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        while self.bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
    }

    fn fail<T>(&self, what: &str) -> Result<T, String> {
        Err(format!("expected {what} at byte {}", self.at))
    }

    fn value(&mut self) -> Result<Json, String> {
        self.space();
        let rest = &self.bytes[self.at..];
        match rest.first() {
            Some(b'{') => {
                self.at += 1;
                let mut fields = Vec::new();
                loop {
                    self.space();
                    match self.bytes.get(self.at) {
                        Some(b'}') => {
                            self.at += 1;
                            return Ok(Json::Object(fields));
                        }
                        Some(b',') if !fields.is_empty() => self.at += 1,
                        Some(b'"') => {}
                        _ => return self.fail("a field"),
                    }
                    self.space();
                    let name = self.string()?;
                    self.space();
                    if self.bytes.get(self.at) != Some(&b':') {
                        return self.fail("a colon");
                    }
                    self.at += 1;
                    fields.push((name, self.value()?));
                }
            }
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                loop {
                    self.space();
                    match self.bytes.get(self.at) {
                        Some(b']') => {
                            self.at += 1;
                            return Ok(Json::Array(items));
                        }
                        Some(b',') if !items.is_empty() => self.at += 1,
                        Some(_) => {}
                        None => return self.fail("an item"),
                    }
                    items.push(self.value()?);
                }
            }
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => {
                let start = self.at;
                while self
                    .bytes
                    .get(self.at)
                    .is_some_and(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
                {
                    self.at += 1;
                }
                Ok(Json::Number(String::from_utf8_lossy(&self.bytes[start..self.at]).into_owned()))
            }
            _ => {
                for (word, value) in
                    [("true", Json::Bool(true)), ("false", Json::Bool(false)), ("null", Json::Null)]
                {
                    if rest.starts_with(word.as_bytes()) {
                        self.at += word.len();
                        return Ok(value);
                    }
                }
                self.fail("a value")
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return self.fail("the end of a string"),
            }
        }
        self.at += 1;
        serde_json::from_slice(&self.bytes[start..self.at])
            .map_err(|e| format!("string at byte {start}: {e}"))
    }
}
