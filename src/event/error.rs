//! What can go wrong between a wire tuple and an event.

/// An error of the encoder. Never holds a row's value.
#[derive(Debug, thiserror::Error, Clone, PartialEq, Eq)]
pub enum EventError {
    /// A property has a value that cannot be used.
    #[error("property {name} has the value '{value}', expected {expected}")]
    Option {
        /// Property.
        name: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A row has another number of columns than the table's description.
    #[error("a row of {table} has {found} columns, its description has {expected}")]
    ColumnCount {
        /// `schema.table`.
        table: String,
        /// Columns of the description.
        expected: usize,
        /// Columns of the row.
        found: usize,
    },
    /// `message.key.columns` names a column the table does not have.
    #[error("message.key.columns names column {column}, which table {table} does not have")]
    KeyColumn {
        /// `schema.table`.
        table: String,
        /// Column.
        column: String,
    },
    /// A value that its column cannot hold: one that may not be null has no other.
    #[error("a value of column {column} of table {table} cannot be converted, and may not be null instead")]
    Value {
        /// `schema.table`.
        table: String,
        /// Column.
        column: String,
    },
    /// A value that the server did not send, and that no placeholder can stand for (`millstream.strict.values`).
    #[error(
        "the server did not send column {column} of table {table}: it is large and the update left it as it was; \
         with ALTER TABLE {table} REPLICA IDENTITY FULL it does"
    )]
    NotSent {
        /// `schema.table`.
        table: String,
        /// Column.
        column: String,
    },
    /// A transform failed.
    #[error("transform {transform} failed on a record of topic {topic}: {cause}")]
    Transform {
        /// Name of the transform.
        transform: String,
        /// Topic of the record.
        topic: String,
        /// Why.
        cause: String,
    },
    /// A converter cannot write a record.
    #[error("converter {converter} cannot write a record of topic {topic}: {cause}")]
    Converter {
        /// Class of the converter.
        converter: String,
        /// Topic of the record.
        topic: String,
        /// Why.
        cause: String,
        /// Whether it may work later: the schema registry is away.
        may_heal: bool,
    },
    /// A schema registry cannot be used at a connector's start.
    #[error("property {property}: {cause}")]
    Registry {
        /// Property with its address.
        property: String,
        /// Why.
        cause: String,
        /// Whether it may work later.
        may_heal: bool,
    },
}

impl EventError {
    /// Whether the same may be done later.
    pub fn may_heal(&self) -> bool {
        matches!(
            self,
            EventError::Converter { may_heal: true, .. } | EventError::Registry { may_heal: true, .. }
        )
    }
}

impl From<EventError> for crate::Error {
    fn from(e: EventError) -> Self {
        match &e {
            EventError::Option { .. } | EventError::KeyColumn { .. } => crate::Error::config(e.to_string()),
            _ if e.may_heal() => crate::Error::transient(e.to_string()),
            EventError::Registry { .. } => crate::Error::config(e.to_string()),
            _ => crate::Error::data(e.to_string()),
        }
    }
}
