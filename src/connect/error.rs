//! Answers of the API that are not the ones asked for.

use crate::error::{Error, Kind};

/// An answer of the API that is not the one asked for: Kafka Connect's `{"error_code","message"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, also the `error_code`.
    pub status: u16,
    /// For a person.
    pub message: String,
}

impl ApiError {
    /// A new one.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn not_found(name: &str) -> Self {
        Self::new(404, format!("Connector {name} not found"))
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.kind() {
            Kind::Config | Kind::Data => 400,
            Kind::Fenced => 409,
            Kind::Transient | Kind::Refused | Kind::Stopped | Kind::Internal => 500,
        };
        Self::new(status, error.to_string())
    }
}
