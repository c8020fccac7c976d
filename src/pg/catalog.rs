//! What the catalog says of captured tables and types: the input of the event encoder.

use std::collections::HashMap;
use std::sync::Arc;

use super::pgoutput::ReplicaIdentity;

mod query;

pub use query::{
    PublicationInfo, ServerFacts, SlotInfo, TableName, list_tables, load_tables, load_types, publication,
    server_facts, slot,
};

/// What kind of type a `pg_type` row is, with what the encoder needs of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// A base type: told apart by OID (built in) or name (extensions: hstore, citext, ltree, vector, geometry…).
    Base,
    /// An enum, its labels by `enumsortorder`.
    Enum(Vec<String>),
    /// A domain over another type, with that type's modifier.
    Domain {
        /// Base type OID.
        base: u32,
        /// `typtypmod`.
        typmod: i32,
    },
    /// An array; its element type.
    Array(u32),
    /// A composite type.
    Composite,
    /// A range or multirange.
    Range,
    /// Pseudo types and whatever else.
    Other,
}

/// One row of `pg_type`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgType {
    /// OID.
    pub oid: u32,
    /// Schema of the type.
    pub schema: String,
    /// `typname`.
    pub name: String,
    /// Kind and details.
    pub kind: TypeKind,
    /// `typdelim`: between the elements of an array of this type (`,`; `;` for box).
    pub delimiter: u8,
}

/// All types of a database by OID.
#[derive(Clone, Debug, Default)]
pub struct TypeRegistry {
    types: HashMap<u32, Arc<PgType>>,
}

impl TypeRegistry {
    /// Adds or replaces a type.
    pub fn insert(&mut self, t: PgType) {
        self.types.insert(t.oid, Arc::new(t));
    }

    /// The type with this OID.
    pub fn get(&self, oid: u32) -> Option<&Arc<PgType>> {
        self.types.get(&oid)
    }

    /// The first type with this name, in any schema.
    pub fn by_name(&self, name: &str) -> Option<&Arc<PgType>> {
        self.types.values().find(|t| t.name == name)
    }
}

/// A column of a captured table, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnInfo {
    /// `attname`.
    pub name: String,
    /// `attnum`.
    pub attnum: i16,
    /// Type OID.
    pub type_oid: u32,
    /// `atttypmod`, -1 for none.
    pub typmod: i32,
    /// `attnotnull` is false, and so is a domain's `typnotnull`.
    pub optional: bool,
    /// `pg_get_expr(adbin, adrelid)`, where the column has a default or is generated.
    pub default_expr: Option<String>,
    /// `GENERATED ALWAYS AS … STORED`.
    pub generated: bool,
    /// `GENERATED … AS IDENTITY`.
    pub identity: bool,
    /// `col_description`.
    pub comment: Option<String>,
}

/// A captured table, as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// OID.
    pub oid: u32,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Columns by `attnum`, dropped ones left out.
    pub columns: Vec<ColumnInfo>,
    /// Names of the primary key's columns in key order; without a primary key those of the first unique index
    /// over plain columns (Debezium takes that one); empty without any.
    pub key: Vec<String>,
    /// Whether `key` is the primary key.
    pub key_is_primary: bool,
    /// `relreplident`.
    pub identity: ReplicaIdentity,
}
