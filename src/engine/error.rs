//! What can fail in the engine.

use crate::state::StateError;

/// A failure of a running query. `runtime` adds the pipeline and the position in the input.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The plan asks for what the engine does not have.
    #[error("{0}")]
    Plan(String),
    /// An expression failed on a row: a cast, a division by zero, a NULL row time, …
    #[error("{operator}: {error}")]
    Eval {
        /// What was computed: a column, a condition, or the name of the plan node.
        operator: String,
        /// What failed.
        error: EvalError,
    },
    /// A row does not fit its sink.
    #[error("{0}")]
    Constraint(String),
    /// What the engine asks for rows (a lookup join's database) failed.
    #[error("{0}")]
    Outside(Box<dyn std::error::Error + Send + Sync>),
    /// The state store.
    #[error(transparent)]
    State(#[from] StateError),
}

/// A failure of an expression. The text is as near to Flink's as is helpful.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvalError(pub String);

impl EvalError {
    /// From what is wrong.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}
