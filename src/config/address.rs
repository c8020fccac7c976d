//! `--connect-to HOST:PORT=HOST:PORT`: other addresses for what connector and SQL files name.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// Replacements of network addresses, applied at connect time (as curl's option of this name).
///
/// The name from the file stays what TLS certificates are checked against; only the socket goes elsewhere.
/// A target that starts with `/` is a directory of Unix sockets. Several replacements of the same name are
/// alternatives: a database's primary is looked for among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressMap {
    entries: Vec<Mapping>,
}

/// One replacement, `HOST:PORT=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Host as written in the file; empty stands for any host.
    pub host: String,
    /// Port as written in the file; `None` stands for any port.
    pub port: Option<u16>,
    /// Host to connect to; empty keeps the original.
    pub to_host: String,
    /// Port to connect to; `None` keeps the original.
    pub to_port: Option<u16>,
}

impl AddressMap {
    /// A map of these replacements; the first that fits is taken.
    pub fn new(entries: Vec<Mapping>) -> Self {
        Self { entries }
    }

    /// Whether there are no replacements.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a replacement behind the others.
    pub fn push(&mut self, mapping: Mapping) {
        self.entries.push(mapping);
    }

    /// Where to connect for this address: the replacement (the first, where there are alternatives), or the
    /// address itself.
    pub fn resolve<'a>(&'a self, host: &'a str, port: u16) -> (&'a str, u16) {
        self.alternatives(host, port).next().unwrap_or((host, port))
    }

    /// All replacements of this address, in their order; none where it stays itself.
    pub fn alternatives<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> impl Iterator<Item = (&'a str, u16)> + use<'a> {
        let fits = move |entry: &&Mapping| {
            let host_fits = entry.host.is_empty() || entry.host.eq_ignore_ascii_case(host);
            host_fits && entry.port.is_none_or(|p| p == port)
        };
        let first = self.entries.iter().find(fits);
        let same = move |entry: &&Mapping| {
            first.is_some_and(|f| f.host.eq_ignore_ascii_case(&entry.host) && f.port == entry.port)
        };
        self.entries.iter().filter(same).map(move |entry| {
            let to_host = if entry.to_host.is_empty() { host } else { entry.to_host.as_str() };
            (to_host, entry.to_port.unwrap_or(port))
        })
    }
}

impl FromStr for Mapping {
    type Err = Error;

    /// Reads `HOST:PORT=HOST:PORT`; IPv6 addresses stand in brackets.
    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::config(format!("--connect-to {text} is not HOST:PORT=HOST:PORT"))
                .because(why.to_owned())
                .next("write, for example, --connect-to kafka:9092=127.0.0.1:19092")
        };
        let (from, to) = text.split_once('=').ok_or_else(|| wrong("there is no '='"))?;
        let (host, port) = split(from).ok_or_else(|| wrong("the left side has no valid port"))?;
        let (to_host, to_port) = split(to).ok_or_else(|| wrong("the right side has no valid port"))?;
        Ok(Self { host, port, to_host, to_port })
    }
}

impl fmt::Display for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |p: Option<u16>| p.map(|p| p.to_string()).unwrap_or_default();
        write!(f, "{}:{}={}:{}", self.host, port(self.port), self.to_host, port(self.to_port))
    }
}

/// `host:port` into its parts, brackets of IPv6 taken off.
fn split(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(texts: &[&str]) -> AddressMap {
        AddressMap::new(texts.iter().map(|t| t.parse().unwrap()).collect())
    }

    #[test]
    fn the_first_that_fits_is_taken() {
        let map = map(&["source:5432=127.0.0.1:40001", "source:=10.0.0.1:", ":9092=[::1]:19092"]);
        assert_eq!(map.resolve("source", 5432), ("127.0.0.1", 40001));
        assert_eq!(map.resolve("SOURCE", 5433), ("10.0.0.1", 5433));
        assert_eq!(map.resolve("kafka", 9092), ("::1", 19092));
        assert_eq!(map.resolve("target", 5432), ("target", 5432));
    }

    #[test]
    fn the_same_name_again_is_an_alternative() {
        let map = map(&["db:5432=a:1", "db:=c:3", "DB:5432=b:2", "other:5432=d:4"]);
        assert_eq!(map.alternatives("db", 5432).collect::<Vec<_>>(), [("a", 1), ("b", 2)]);
        assert_eq!(map.resolve("db", 5432), ("a", 1));
        assert_eq!(map.alternatives("db", 1).collect::<Vec<_>>(), [("c", 3)]);
        assert_eq!(map.alternatives("x", 1).count(), 0);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a:1", "a:1=b", "a=b:1", "a:x=b:1", "a:1=b:99999"] {
            assert!(text.parse::<Mapping>().is_err(), "{text}");
        }
    }
}
