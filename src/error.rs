//! The one error type of the module borders that do I/O, and what a user sees of it.
//!
//! The synchronous cores (`event`, `engine`, `sql`, `state`, the pgoutput decoder) have small error
//! enums of their own; they become an [`Error`] where they meet a topic, a socket or a file.

use std::borrow::Cow;
use std::fmt;

/// Result with the border [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure it is; decides whether it is retried and which exit code it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// May heal by itself: a server restarts, a connection drops.
    Transient,
    /// The user's configuration, SQL text or command line is wrong. Never retried.
    Config,
    /// The other side refuses for good: password, privilege, a missing object. Never retried.
    Refused,
    /// Data that cannot be read, decoded or stored. Never retried, nothing is skipped.
    Data,
    /// Another process or writer owns the thing (slot, log, pipeline), or has fenced this one.
    Fenced,
    /// A stop was asked for while the work was under way.
    Stopped,
    /// A fault of Millstream itself.
    Internal,
}

/// An error at a module border: what failed, why, and what to do next, on one screen.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: Kind,
    what: Cow<'static, str>,
    cause: Option<String>,
    next: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A new error: `what` says what failed and where, in one sentence without a full stop.
    pub fn new(kind: Kind, what: impl Into<Cow<'static, str>>) -> Self {
        Self { inner: Box::new(Inner { kind, what: what.into(), cause: None, next: None, source: None }) }
    }

    /// [`Kind::Config`].
    pub fn config(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Config, what)
    }

    /// [`Kind::Transient`].
    pub fn transient(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Transient, what)
    }

    /// [`Kind::Refused`].
    pub fn refused(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Refused, what)
    }

    /// [`Kind::Data`].
    pub fn data(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Data, what)
    }

    /// [`Kind::Internal`].
    pub fn internal(what: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Kind::Internal, what)
    }

    /// Adds the cause as text (a server's own message, say). Never a row value, never a secret.
    #[must_use]
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.inner.cause = Some(cause.to_string());
        self
    }

    /// Adds what the user should do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<Cow<'static, str>>) -> Self {
        self.inner.next = Some(next.into());
        self
    }

    /// Keeps the lower error; its text is shown as the cause where none was given.
    #[must_use]
    pub fn with_source(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.inner.source = Some(Box::new(source));
        self
    }

    /// The class of the failure.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        self.inner.kind == Kind::Transient
    }

    /// What failed, without cause and remedy.
    pub fn what(&self) -> &str {
        &self.inner.what
    }

    /// What to do next, where it is known.
    pub fn next_step(&self) -> Option<&str> {
        self.inner.next.as_deref()
    }

    /// The cause: the text given, or the chain of lower errors.
    pub fn cause(&self) -> Option<String> {
        if let Some(cause) = &self.inner.cause {
            return Some(cause.clone());
        }
        let mut source: Option<&dyn std::error::Error> = match &self.inner.source {
            Some(boxed) => Some(boxed.as_ref()),
            None => None,
        };
        let mut parts: Vec<String> = Vec::new();
        while let Some(error) = source {
            let text = error.to_string();
            if parts.last().is_none_or(|last| !last.contains(&text)) {
                parts.push(text);
            }
            source = error.source();
        }
        if parts.is_empty() { None } else { Some(parts.join(": ")) }
    }

    /// The one-screen form for a terminal: `error:`, `cause:`, `next:` lines.
    pub fn screen(&self) -> String {
        let mut out = format!("error: {}", self.inner.what);
        if let Some(cause) = self.cause() {
            out.push_str("\ncause: ");
            out.push_str(&cause);
        }
        if let Some(next) = &self.inner.next {
            out.push_str("\nnext:  ");
            out.push_str(next);
        }
        out
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.what)?;
        if let Some(cause) = self.cause() {
            write!(f, ": {cause}")?;
        }
        if let Some(next) = &self.inner.next {
            write!(f, " ({next})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.inner.source {
            Some(boxed) => Some(boxed.as_ref()),
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn screen_has_what_cause_and_next_step() {
        let error = Error::refused("cannot log in to PostgreSQL at db:5432 as ann")
            .because("password authentication failed")
            .next("check database.user and database.password");
        assert_eq!(
            error.screen(),
            "error: cannot log in to PostgreSQL at db:5432 as ann\n\
             cause: password authentication failed\n\
             next:  check database.user and database.password"
        );
    }
}
