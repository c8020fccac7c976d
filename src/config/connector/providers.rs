//! Kafka Connect's config providers in connector files: `${env:NAME}`, `${file:PATH:KEY}`,
//! `${directory:DIR:FILE}`.

use std::path::Path;

use crate::error::{Error, Result};

/// Replaces the references to providers in a value. References to unknown providers stay as they are, as in
/// Kafka Connect. Fails where an environment variable, a file or a key is missing.
pub fn resolve(property: &str, value: &str) -> Result<String> {
    let mut out = String::with_capacity(value.len());
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let Some(len) = rest.get(start..).and_then(|r| r.find('}')) else { break };
        let whole = rest.get(start..=start + len).unwrap_or("");
        let inner = rest.get(start + 2..start + len).unwrap_or("");
        out.push_str(rest.get(..start).unwrap_or(""));
        match lookup(property, inner)? {
            Some(found) => out.push_str(&found),
            None => out.push_str(whole),
        }
        rest = rest.get(start + len + 1..).unwrap_or("");
    }
    out.push_str(rest);
    Ok(out)
}

fn lookup(property: &str, reference: &str) -> Result<Option<String>> {
    let Some((provider, what)) = reference.split_once(':') else { return Ok(None) };
    let missing = |what: String| {
        Error::config(format!("cannot fill in ${{{reference}}} of connector property {property}"))
            .because(what)
    };
    let found = match provider {
        // `${env:NAME}`; a path, which Connect's syntax allows, has no meaning there.
        "env" => {
            let name = what.rsplit(':').next().unwrap_or(what);
            std::env::var(name).map_err(|_| {
                missing(format!("the environment variable {name} is not set"))
                    .next("set it where millstream is started")
            })?
        }
        "file" => {
            let (path, key) =
                what.rsplit_once(':').ok_or_else(|| missing("expected ${file:PATH:KEY}".to_owned()))?;
            let text =
                std::fs::read_to_string(path).map_err(|e| missing(format!("cannot read {path}: {e}")))?;
            java_properties(&text)
                .into_iter()
                .rev()
                .find(|(k, _)| k == key)
                .map(|(_, v)| v)
                .ok_or_else(|| missing(format!("{path} has no key {key}")))?
        }
        "directory" => {
            let (dir, file) =
                what.rsplit_once(':').ok_or_else(|| missing("expected ${directory:DIR:FILE}".to_owned()))?;
            if file.contains(['/', '\\']) || file == ".." {
                return Err(missing(format!("{file} is not the name of a file in {dir}")));
            }
            let path = Path::new(dir).join(file);
            std::fs::read_to_string(&path)
                .map_err(|e| missing(format!("cannot read {}: {e}", path.display())))?
        }
        _ => return Ok(None),
    };
    Ok(Some(found))
}

/// Reads a Java properties file: `key=value`, `key: value`, comments, escapes, continued lines.
pub fn java_properties(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = line.to_owned();
        while logical.bytes().rev().take_while(|b| *b == b'\\').count() % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let mut key = String::new();
        let mut chars = logical.chars().peekable();
        while let Some(&c) = chars.peek() {
            if matches!(c, '=' | ':') || c.is_whitespace() {
                break;
            }
            chars.next();
            if c == '\\' { unescape(&mut chars, &mut key) } else { key.push(c) }
        }
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        chars.next_if(|c| matches!(c, '=' | ':'));
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let mut value = String::new();
        while let Some(c) = chars.next() {
            if c == '\\' { unescape(&mut chars, &mut value) } else { value.push(c) }
        }
        entries.push((key, value));
    }
    entries
}

fn unescape(chars: &mut impl Iterator<Item = char>, out: &mut String) {
    match chars.next() {
        Some('t') => out.push('\t'),
        Some('n') => out.push('\n'),
        Some('r') => out.push('\r'),
        Some('f') => out.push('\u{c}'),
        Some('u') => {
            let hex: String = chars.take(4).collect();
            out.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32).unwrap_or('\u{fffd}'));
        }
        Some(c) => out.push(c),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.properties");
        std::fs::write(&file, "# comment\npassword = s\\u00e4cret\\\n  !\nother:x\n").unwrap();
        std::fs::write(dir.path().join("user"), "ann").unwrap();
        let text = format!("<${{file:{}:password}}>", file.display());
        assert_eq!(resolve("p", &text).unwrap(), "<säcret!>");
        let text = format!("${{directory:{}:user}}@${{unknown:x}} ${{PGHOST}}", dir.path().display());
        assert_eq!(resolve("p", &text).unwrap(), "ann@${unknown:x} ${PGHOST}");
        let path = std::env::var("PATH").unwrap();
        assert_eq!(resolve("p", "${env:PATH}").unwrap(), path);
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = resolve("database.password", "${env:MILLSTREAM_NO_SUCH}").unwrap_err();
        assert!(error.screen().contains("MILLSTREAM_NO_SUCH"), "{error}");
        assert!(resolve("p", "${file:/no/such:x}").unwrap_err().screen().contains("/no/such"));
    }
}
