//! Failures of engine and state as the border's errors.

use crate::engine::error::EngineError;
use crate::error::{Error, Kind};
use crate::state::StateError;

pub(super) fn engine_error(error: EngineError) -> Error {
    match error {
        EngineError::Plan(what) => Error::config("this query cannot be run").because(what),
        EngineError::State(error) => state_error(error),
        EngineError::Outside(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::data("the query failed").because(error),
        },
        EngineError::Constraint(what) => Error::data("a row does not fit its sink").because(what),
        EngineError::Eval { operator, error } => {
            let failed = Error::data("an expression failed on a row").because(format!("{operator}: {error}"));
            match remedy(&error.to_string()) {
                Some(remedy) => failed.next(remedy),
                None => failed,
            }
        }
        #[allow(unreachable_patterns, reason = "kinds may be added to the engine")]
        other => Error::data("the query failed").because(other),
    }
}

/// What a query can do about a failure of an expression.
fn remedy(error: &str) -> Option<&'static str> {
    let text = error.to_ascii_lowercase();
    if text.contains("by zero") {
        Some("divide by NULLIF(divisor, 0), which gives NULL, or leave such rows out with CASE or WHERE")
    } else if ["input string", "cast", "parse", "format"].iter().any(|word| text.contains(word)) {
        Some("use TRY_CAST, which gives NULL where a value cannot be cast, or leave such rows out with WHERE")
    } else {
        None
    }
}

pub(super) fn state_error(error: StateError) -> Error {
    match &error {
        StateError::Locked { directory } => {
            Error::new(Kind::Fenced, format!("the pipeline's state in {directory} is in use"))
                .because("another process runs this pipeline")
                .next("stop it first, or give this one another name with SET 'pipeline.name'")
        }
        StateError::Newer { .. } => Error::config("the pipeline's state was written by a newer version")
            .with_source(error)
            .next("run that version, or start the pipeline anew with `millstream pipelines reset`"),
        _ => Error::data("the pipeline's state cannot be read or written").with_source(error),
    }
}

pub(super) fn closed() -> Error {
    Error::internal("a part of the pipeline ended before the others")
}
