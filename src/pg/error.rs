//! What PostgreSQL's errors mean to a user: class, cause and next step.

use std::fmt;
use std::io;

use super::config::ConnectConfig;
use crate::error::{Error, Kind};

/// An error that the server reported (PostgreSQL's documentation, "Error and Notice Message Fields").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerError {
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Detail; left out of [`fmt::Display`] because it may hold row values.
    pub detail: Option<String>,
    /// Hint.
    pub hint: Option<String>,
}

impl ServerError {
    /// Reads the body of an ErrorResponse or NoticeResponse: fields of a type byte and a NUL-ended string.
    /// What is not UTF-8 is read as well as it can be.
    pub(super) fn from_body(body: &[u8]) -> Self {
        let mut error = Self::default();
        for field in body.split(|b| *b == 0) {
            let Some((kind, text)) = field.split_first() else { break };
            let text = String::from_utf8_lossy(text).into_owned();
            match kind {
                b'C' => error.code = text,
                b'M' => error.message = text,
                b'D' => error.detail = Some(text),
                b'H' => error.hint = Some(text),
                _ => {}
            }
        }
        error
    }

    pub(super) fn from_db(db: &tokio_postgres::error::DbError) -> Self {
        Self {
            code: db.code().code().to_owned(),
            message: db.message().to_owned(),
            detail: db.detail().map(ToOwned::to_owned),
            hint: db.hint().map(ToOwned::to_owned),
        }
    }

    /// Whether trying again may help, by SQLSTATE.
    pub fn is_transient(&self) -> bool {
        let of = |length: usize| {
            let code = self.code.get(..length)?;
            RETRIED.iter().find(|(known, _)| *known == code)
        };
        match of(5).or_else(|| of(2)) {
            Some((_, retried)) => match retried {
                Retried::Yes => true,
                Retried::No => false,
                Retried::OnAStandby => self.says_standby(),
            },
            None => false,
        }
    }

    /// A failover is under way: the standby that answers is not promoted yet.
    fn says_standby(&self) -> bool {
        let words = ["in recovery", "synchronized from the primary", "read-only transaction"];
        let detail = self.detail.as_deref().unwrap_or_default();
        words.iter().any(|words| self.message.contains(words) || detail.contains(words))
    }
}

/// Whether an error is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retried {
    Yes,
    No,
    /// Where the server says it because it is a standby.
    OnAStandby,
}

/// What is tried again: a whole SQLSTATE counts before its class. What is not listed is permanent.
const RETRIED: &[(&str, Retried)] = &[
    ("08", Retried::Yes),           // connection exceptions
    ("40", Retried::Yes),           // transaction rollback: serialization, deadlock
    ("53", Retried::Yes),           // insufficient resources: connections, memory, disk
    ("53400", Retried::No),         // configuration_limit_exceeded: all replication slots are in use
    ("57", Retried::Yes),           // operator intervention: shutdown, starting up, statement timeout
    ("57P04", Retried::No),         // database_dropped
    ("58", Retried::Yes),           // system errors outside of PostgreSQL
    ("58P01", Retried::No),         // undefined_file: WAL that was removed
    ("55P03", Retried::Yes),        // lock_not_available
    ("55000", Retried::OnAStandby), // object_not_in_prerequisite_state
    ("0A000", Retried::OnAStandby), // feature_not_supported
    ("25P03", Retried::Yes),        // idle_in_transaction_session_timeout
    ("25P04", Retried::Yes),        // transaction_timeout
    ("25006", Retried::OnAStandby), // read_only_sql_transaction
];

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", without_value(&self.code, &self.message), self.code)
    }
}

impl std::error::Error for ServerError {}

/// A notice that says that changes are being left out: from PostgreSQL 18 on the server only warns of a
/// publication that is not there (at this point of the WAL), and sends nothing of its tables. That would be a
/// silent loss, so it is the error that older servers make of it.
pub(super) fn publication_skipped(notice: &[u8]) -> Option<ServerError> {
    // The routine is the same in every language of the server's messages.
    let routine = notice.split(|b| *b == 0).find_map(|field| field.strip_prefix(b"R"));
    (routine == Some(b"LoadPublications")).then(|| {
        let notice = ServerError::from_body(notice);
        let message = match notice.detail {
            Some(detail) => format!("{}: {detail}", notice.message),
            None => notice.message,
        };
        ServerError { code: "42704".to_owned(), message, detail: None, hint: notice.hint }
    })
}

/// The server's SQLSTATE behind an error, where the server reported one.
pub fn sqlstate(error: &Error) -> Option<&str> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(server) = error.downcast_ref::<ServerError>() {
            return Some(&server.code);
        }
        source = error.source();
    }
    None
}

/// An error of a statement or command: `what` says what was being done.
pub(super) fn server_error(what: impl Into<String>, error: ServerError) -> Error {
    let (kind, next) = classify(&error);
    let mut out = Error::new(kind, what.into());
    if let Some(hint) = &error.hint {
        out = out.because(format!("{error}; hint: {hint}"));
    }
    if let Some(next) = next {
        out = out.next(next);
    }
    out.with_source(error)
}

fn classify(error: &ServerError) -> (Kind, Option<&'static str>) {
    let message = error.message.as_str();
    if error.is_transient() {
        let next = match error.code.as_str() {
            "53300" => Some("raise max_connections (or max_wal_senders), or close other sessions"),
            "57P03" => Some("the server is starting or stopping; try again in a moment"),
            "55000" | "0A000" | "25006" => Some(
                "the server is a standby: it goes on once that is promoted, or with the primary's address",
            ),
            _ => None,
        };
        return (Kind::Transient, next);
    }
    match error.code.as_str() {
        "28P01" => (Kind::Refused, Some("check the user and the password")),
        "28000" if message.contains("pg_hba.conf") => (
            Kind::Refused,
            Some(
                "add a line for this user, database and address to the server's pg_hba.conf, or check sslmode",
            ),
        ),
        "28000" => (Kind::Refused, Some("check that the role exists and may log in (ALTER ROLE name LOGIN)")),
        "3D000" => (Kind::Refused, Some("check the name of the database")),
        "42501" if ["replication", "walsender", "WAL sender"].iter().any(|word| message.contains(word)) => {
            (Kind::Refused, Some("give the role the privilege: ALTER ROLE name REPLICATION"))
        }
        "42501" => (Kind::Refused, Some("give the role the missing privilege (GRANT …)")),
        "55006" if message.contains("replication slot") => (
            Kind::Fenced,
            Some(
                "another process reads from this slot: stop it, or give this connector a slot of its own; \
                 after a crash the server needs up to wal_sender_timeout to notice",
            ),
        ),
        "42710" if message.contains("replication slot") => {
            (Kind::Refused, Some("give each connector a slot name of its own, or drop the old slot"))
        }
        "42704" if message.contains("publication") => (
            Kind::Refused,
            Some(
                "create the publication before the slot (CREATE PUBLICATION …); a slot older than its \
                 publication cannot read it",
            ),
        ),
        "42704" if message.contains("replication slot") => (
            Kind::Refused,
            Some("the slot was dropped: what it held back is lost; take a new snapshot with a new slot"),
        ),
        "57P04" => (Kind::Refused, Some("the database was dropped: check database.dbname")),
        "54000" => (
            Kind::Data,
            Some(
                "a row is larger than PostgreSQL itself can send (1 GiB): leave its column out of the publication \
                 (column list, PostgreSQL 15 and later), or make the value smaller",
            ),
        ),
        "XX000" if message.contains("invalid memory alloc request size") => (
            Kind::Data,
            Some(
                "a row is larger than PostgreSQL itself can send (1 GiB): leave its column out of the publication \
                 (column list, PostgreSQL 15 and later), or make the value smaller",
            ),
        ),
        "53400" => (Kind::Refused, Some("raise max_replication_slots, or drop slots that nobody reads")),
        "58P01" if message.contains("WAL") => (
            Kind::Refused,
            Some(
                "the server has removed WAL that was still needed: take a new snapshot; see wal_keep_size and \
                 max_slot_wal_keep_size",
            ),
        ),
        "55000" if message.contains("wal_level") => {
            (Kind::Refused, Some("set wal_level = logical in postgresql.conf and restart the server"))
        }
        "55000" if message.contains("replication slot") => (
            Kind::Refused,
            Some(
                "the slot can no longer be read (the server gave up its WAL): drop it and take a new snapshot",
            ),
        ),
        // Data exceptions and violated constraints: the rows are what does not fit.
        code if code.starts_with("22") || code.starts_with("23") => (Kind::Data, None),
        _ => (Kind::Refused, None),
    }
}

/// A data exception's message may quote the value (`invalid input syntax for type uuid: "…"`), and row values
/// are shown nowhere.
fn without_value(code: &str, message: &str) -> String {
    match message.split_once(": \"") {
        Some((text, _)) if code.starts_with("22") => format!("{text} (value not shown)"),
        _ => message.to_owned(),
    }
}

/// An error from tokio-postgres: `what` says what was being done.
pub fn sql_error(what: impl Into<String>, error: tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return server_error(what, ServerError::from_db(db));
    }
    let broken = error.is_closed()
        || std::error::Error::source(&error).is_some_and(|s| s.downcast_ref::<io::Error>().is_some());
    let kind = if broken { Kind::Transient } else { Kind::Internal };
    Error::new(kind, what.into()).with_source(error)
}

/// The socket failed in the middle of a session.
pub(super) fn connection_lost(config: &ConnectConfig, error: io::Error) -> Error {
    let cause = if error.kind() == io::ErrorKind::UnexpectedEof {
        "the server closed the connection".to_owned()
    } else {
        error.to_string()
    };
    Error::transient(format!("the connection to {} was lost", config.describe()))
        .because(cause)
        .with_source(error)
}

/// The server said something that this point of the protocol does not allow.
pub(super) fn protocol_error(config: &ConnectConfig, why: impl fmt::Display) -> Error {
    Error::new(Kind::Data, format!("{} does not follow the protocol", config.describe()))
        .because(why)
        .next("check that host and port are those of a PostgreSQL server, not of a pooler or proxy")
}

/// Why a session could not be started; decides whether the next rung of the sslmode ladder is tried.
#[derive(Debug)]
pub(super) enum StartError {
    /// The server answered with an error.
    Server(ServerError),
    /// The TLS handshake failed.
    Tls(Error),
    /// Anything else, where another attempt is no use.
    Other(Error),
}

impl StartError {
    /// libpq and pgjdbc try again without TLS (`prefer`) or with it (`allow`) after a failed handshake, or when
    /// pg_hba.conf has no line for this kind of connection.
    pub(super) fn other_rung_may_help(&self) -> bool {
        match self {
            Self::Server(error) => error.code == "28000",
            Self::Tls(_) => true,
            Self::Other(_) => false,
        }
    }

    pub(super) fn into_error(self, config: &ConnectConfig) -> Error {
        match self {
            Self::Server(error) => server_error(format!("cannot log in to {}", config.describe()), error),
            Self::Tls(error) | Self::Other(error) => error,
        }
    }
}

impl From<Error> for StartError {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_that_is_skipped_is_an_error_in_any_language() {
        let notice = b"SWARNUNG\0VWARNING\0C55000\0M\xc3\xbcberspringe \"p\"\0DFehlt.\0RLoadPublications\0\0";
        let error = publication_skipped(notice).unwrap();
        assert_eq!(
            (error.code.as_str(), error.message.as_str()),
            ("42704", "\u{fc}berspringe \"p\": Fehlt.")
        );
        assert_eq!(publication_skipped(b"SNOTICE\0C00000\0Mhello\0RLoadOther\0\0"), None);
        assert_eq!(publication_skipped(b""), None);
    }

    fn error(code: &str, message: &str) -> Error {
        server_error(
            "x",
            ServerError { code: code.into(), message: message.into(), ..ServerError::default() },
        )
    }

    #[test]
    fn what_may_heal_is_told_from_what_cannot() {
        for (code, message) in [
            ("57P01", "terminating connection due to administrator command"),
            ("57P03", "the database system is starting up"),
            ("53300", "sorry, too many clients already"),
            ("40001", "could not serialize access"),
            ("08006", "connection failure"),
            ("0A000", "logical decoding cannot be used while in recovery"),
            ("25006", "cannot execute CREATE PUBLICATION in a read-only transaction"),
            ("53100", "could not extend file: No space left on device"),
            ("57014", "canceling statement due to statement timeout"),
            ("55P03", "canceling statement due to lock timeout"),
            ("58030", "could not read file"),
            ("55000", "cannot use replication slot \"s\": it is being synchronized from the primary server"),
        ] {
            assert!(error(code, message).is_transient(), "{code} {message}");
        }
        for (code, message) in [
            ("28P01", "password authentication failed"),
            ("28000", "role is not permitted to log in"),
            ("3D000", "database does not exist"),
            ("42501", "permission denied for table t"),
            ("42P01", "relation does not exist"),
            ("57P04", "database was dropped"),
            ("55000", "cannot read from logical replication slot"),
            ("58P01", "requested WAL segment has already been removed"),
            ("XX000", "invalid memory alloc request size 1073741824"),
            ("0A000", "feature not supported"),
            ("53400", "all replication slots are in use"),
            ("55006", "replication slot is active"),
            ("42704", "publication does not exist"),
            ("", "no code at all"),
        ] {
            assert!(!error(code, message).is_transient(), "{code} {message}");
        }
        for code in ["28P01", "3D000", "57P04", "54000"] {
            assert!(error(code, "").next_step().is_some(), "{code}");
        }
    }
}
