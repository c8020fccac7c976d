//! `sasl.jaas.config`: `org.…PlainLoginModule required username="…" password="…";`

use crate::error::{Error, Result};

/// What a login module was told.
#[derive(Clone, Default)]
pub struct Login {
    /// `username`.
    pub username: Option<String>,
    /// `password`.
    pub password: Option<String>,
}

/// Reads one JAAS entry.
///
/// # Errors
/// [`crate::Kind::Config`]: not a JAAS entry, or a login module that is not supported. The text is not repeated,
/// it holds a password.
pub fn parse(text: &str) -> Result<Login> {
    let wrong = |why: &str| {
        Error::config("sasl.jaas.config cannot be read").because(why.to_owned()).next(
            "write, for example, org.apache.kafka.common.security.scram.ScramLoginModule required username=\"…\" password=\"…\";",
        )
    };
    let mut rest = text.trim();
    let module = word(&mut rest);
    let known = module.rsplit('.').next().unwrap_or("");
    if !matches!(known, "PlainLoginModule" | "ScramLoginModule") {
        return Err(wrong("the login module is not supported; PlainLoginModule and ScramLoginModule are"));
    }
    let flag = word(&mut rest);
    if !["required", "requisite", "sufficient", "optional"].iter().any(|f| f.eq_ignore_ascii_case(flag)) {
        return Err(wrong("'required' does not follow the login module"));
    }
    let mut login = Login::default();
    loop {
        rest = rest.trim_start();
        if let Some(end) = rest.strip_prefix(';') {
            return if end.trim().is_empty() { Ok(login) } else { Err(wrong("something follows the ';'")) };
        }
        let Some((name, after)) = rest.split_once('=') else { return Err(wrong("it does not end with ';'")) };
        rest = after.trim_start();
        let value = value(&mut rest).ok_or_else(|| wrong("a quote is not closed"))?;
        match name.trim() {
            "username" => login.username = Some(value),
            "password" => login.password = Some(value),
            _ => {}
        }
    }
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}

fn value(rest: &mut &str) -> Option<String> {
    let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = rest.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(rest.len());
        let (value, after) = rest.split_at(end);
        *rest = after;
        return Some(value.to_owned());
    };
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            c if c == quote => {
                *rest = rest.get(at + c.len_utf8()..)?;
                return Some(out);
            }
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read() {
        let login = parse("a.b.PlainLoginModule required\n  username='x y' password=z;").unwrap();
        assert_eq!((login.username.as_deref(), login.password.as_deref()), (Some("x y"), Some("z")));
        for bad in [
            "",
            "a.PlainLoginModule",
            "a.Krb5LoginModule required;",
            "a.PlainLoginModule required username=\"x;",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
