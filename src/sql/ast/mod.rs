//! The syntax tree: what the parser saw, with places, before any name is resolved.

mod call;
mod ddl;
mod show;
mod walk;

pub use call::{Call, FrameStart, Interval, OrderItem, Over, WindowSpec};
pub use ddl::{AlterAction, ColumnDef, ColumnKind, CreateTable, Place};
pub use show::{Details, Pattern, Show, ShowKind};

use crate::engine::types::DataType;

use super::error::Span;

/// A name and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Ident {
    /// The name, without quotes; case counts.
    pub value: String,
    /// Where.
    pub span: Span,
}

/// A scalar expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
}

/// Kinds of expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// `a`, `t.a`, `t.a.b`.
    Name(Vec<Ident>),
    /// A number as written.
    Number(String),
    /// A string.
    Str(String),
    /// `X'…'`.
    Bytes(Vec<u8>),
    /// TRUE or FALSE.
    Bool(bool),
    /// NULL.
    Null,
    /// `DATE '…'`, `TIME '…'`, `TIMESTAMP '…'`: keyword and text.
    Typed(&'static str, String),
    /// `INTERVAL '…' unit [TO unit]`.
    Interval(Interval),
    /// A word that is an argument by itself: a time unit, BOTH, …
    Keyword(String),
    /// `-`, `+`, `NOT`.
    Unary(&'static str, Box<Expr>),
    /// Arithmetic, comparison, AND, OR, `||`.
    Binary(&'static str, Box<Expr>, Box<Expr>),
    /// `IS [NOT] NULL | TRUE | FALSE | UNKNOWN`.
    Is(Box<Expr>, &'static str, bool),
    /// `IS [NOT] JSON [VALUE | OBJECT | ARRAY | SCALAR]`.
    IsJson(Box<Expr>, &'static str, bool),
    /// `IS [NOT] DISTINCT FROM`: the flag says NOT.
    IsDistinct(Box<Expr>, Box<Expr>, bool),
    /// `[NOT] BETWEEN [SYMMETRIC] low AND high`.
    Between {
        /// What is tested.
        expr: Box<Expr>,
        /// Lower bound.
        low: Box<Expr>,
        /// Upper bound.
        high: Box<Expr>,
        /// NOT.
        negated: bool,
        /// SYMMETRIC.
        symmetric: bool,
    },
    /// `[NOT] IN (…)`.
    InList(Box<Expr>, Vec<Expr>, bool),
    /// `[NOT] IN (query)`.
    InQuery(Box<Expr>, Box<Query>, bool),
    /// `EXISTS (query)`.
    Exists(Box<Query>),
    /// `(query)` as a value.
    Subquery(Box<Query>),
    /// `[NOT] LIKE | SIMILAR TO pattern [ESCAPE e]`.
    Like {
        /// What is tested.
        expr: Box<Expr>,
        /// The pattern.
        pattern: Box<Expr>,
        /// ESCAPE.
        escape: Option<Box<Expr>>,
        /// SIMILAR TO.
        similar: bool,
        /// NOT.
        negated: bool,
    },
    /// CASE.
    Case {
        /// `CASE operand WHEN …`.
        operand: Option<Box<Expr>>,
        /// WHEN … THEN ….
        branches: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// CAST or TRY_CAST (the flag).
    Cast(Box<Expr>, DataType, bool),
    /// A function call.
    Call(Box<Call>),
    /// `base[index]`.
    Item(Box<Expr>, Box<Expr>),
    /// `(row).field` or `f(x).field`.
    Field(Box<Expr>, Ident),
    /// `(a, b, …)` or `ROW(a, b)`.
    Row(Vec<Expr>),
    /// `(start, end) OVERLAPS (start, end)`.
    Overlaps(Box<[Expr; 4]>),
    /// `*` (no name), `t.*` or `row.*` as a select item.
    Wildcard(Vec<Ident>),
}

/// A query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// WITH.
    pub ctes: Vec<(Ident, Vec<Ident>, Query)>,
    /// SELECT, VALUES or a set operation.
    pub body: SetExpr,
    /// ORDER BY.
    pub order: Vec<OrderItem>,
    /// OFFSET.
    pub offset: Option<u64>,
    /// LIMIT or FETCH FIRST.
    pub limit: Option<u64>,
    /// Where.
    pub span: Span,
}

/// A query's body.
#[derive(Clone, Debug, PartialEq)]
pub enum SetExpr {
    /// SELECT.
    Select(Box<Select>),
    /// A query in parentheses.
    Query(Box<Query>),
    /// VALUES.
    Values(Vec<Vec<Expr>>),
    /// UNION, INTERSECT, EXCEPT; the flag says ALL.
    SetOp(&'static str, bool, Box<SetExpr>, Box<SetExpr>, Span),
}

/// SELECT.
#[derive(Clone, Debug, PartialEq)]
pub struct Select {
    /// DISTINCT.
    pub distinct: bool,
    /// Hints after SELECT.
    pub hints: Vec<Hint>,
    /// Select items with aliases.
    pub items: Vec<(Expr, Option<Ident>)>,
    /// FROM.
    pub from: Option<TableExpr>,
    /// WHERE.
    pub filter: Option<Expr>,
    /// GROUP BY.
    pub group: Option<Vec<GroupItem>>,
    /// QUALIFY.
    pub qualify: Option<Expr>,
    /// HAVING.
    pub having: Option<Expr>,
    /// WINDOW.
    pub windows: Vec<(Ident, WindowSpec)>,
    /// Where.
    pub span: Span,
}

/// An item of GROUP BY.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupItem {
    /// An expression.
    Expr(Expr),
    /// GROUPING SETS (…).
    Sets(Vec<GroupItem>),
    /// ROLLUP (…).
    Rollup(Vec<Vec<Expr>>),
    /// CUBE (…).
    Cube(Vec<Vec<Expr>>),
    /// `(a, b)` or `()`.
    Tuple(Vec<Expr>),
}

/// `/*+ NAME('k'='v') */`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hint {
    /// Upper-case name.
    pub name: String,
    /// Options.
    pub options: Vec<(String, String)>,
}

/// `AS name (columns)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Alias {
    /// Name.
    pub name: Ident,
    /// Columns.
    pub columns: Vec<Ident>,
}

/// Something in FROM.
#[derive(Clone, Debug, PartialEq)]
pub enum TableExpr {
    /// A table or a view.
    Table {
        /// `[catalog.[database.]]name`.
        name: Vec<Ident>,
        /// Hints.
        hints: Vec<Hint>,
        /// FOR SYSTEM_TIME AS OF.
        system_time: Option<Box<Expr>>,
        /// Alias.
        alias: Option<Alias>,
    },
    /// A query in parentheses.
    Derived {
        /// The query.
        query: Box<Query>,
        /// LATERAL.
        lateral: bool,
        /// Alias.
        alias: Option<Alias>,
    },
    /// TUMBLE, HOP, CUMULATE, SESSION.
    Window {
        /// Upper-case name and place.
        name: Ident,
        /// What is cut into windows.
        input: Box<TableExpr>,
        /// PARTITION BY (SESSION).
        partition: Vec<Ident>,
        /// DESCRIPTOR.
        time: Ident,
        /// Intervals, in the order of the positional call.
        sizes: Vec<Expr>,
        /// Alias.
        alias: Option<Alias>,
    },
    /// UNNEST(expr) [WITH ORDINALITY].
    Unnest {
        /// The collection.
        expr: Box<Expr>,
        /// WITH ORDINALITY.
        ordinality: bool,
        /// Alias.
        alias: Option<Alias>,
    },
    /// A join.
    Join {
        /// Left side.
        left: Box<TableExpr>,
        /// Right side.
        right: Box<TableExpr>,
        /// Its kind.
        kind: JoinKind,
        /// ON, USING or nothing.
        condition: JoinCondition,
        /// Where.
        span: Span,
    },
}

/// Kinds of join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinKind {
    /// INNER, CROSS and the comma.
    Inner,
    /// LEFT.
    Left,
    /// RIGHT.
    Right,
    /// FULL.
    Full,
    /// LEFT SEMI (Flink has it from EXISTS and IN only).
    Semi,
    /// LEFT ANTI.
    Anti,
}

/// A join's condition.
#[derive(Clone, Debug, PartialEq)]
pub enum JoinCondition {
    /// ON.
    On(Box<Expr>),
    /// USING.
    Using(Vec<Ident>),
    /// NATURAL.
    Natural,
    /// CROSS JOIN and the comma.
    None,
    /// JOIN without ON, as the NEXMark scripts write it, with the condition in WHERE.
    Missing,
}

/// A statement and its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// What it is.
    pub kind: StatementKind,
    /// Where it starts.
    pub span: Span,
}

/// Statements.
#[derive(Clone, Debug, PartialEq)]
pub enum StatementKind {
    /// CREATE TABLE.
    CreateTable(Box<CreateTable>),
    /// CREATE VIEW.
    CreateView {
        /// Name.
        name: Ident,
        /// `[catalog.]database` before the name.
        database: Vec<Ident>,
        /// Column names.
        columns: Vec<Ident>,
        /// TEMPORARY.
        temporary: bool,
        /// IF NOT EXISTS.
        if_not_exists: bool,
        /// COMMENT.
        comment: Option<String>,
        /// Its query.
        query: Box<Query>,
        /// The query as written.
        text: String,
    },
    /// DROP TABLE or VIEW (the flag).
    Drop {
        /// Name.
        name: Ident,
        /// VIEW.
        view: bool,
        /// TEMPORARY.
        temporary: bool,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// ALTER TABLE … SET (…) / RESET (…) / RENAME TO.
    AlterTable {
        /// Name.
        name: Ident,
        /// SET.
        set: Vec<(String, String)>,
        /// RESET.
        reset: Vec<String>,
        /// RENAME TO.
        rename: Option<Ident>,
        /// ADD, MODIFY, DROP, RENAME of columns, key and watermark.
        actions: Vec<AlterAction>,
        /// ALTER VIEW … RENAME TO.
        view: bool,
        /// IF EXISTS.
        if_exists: bool,
    },
    /// CREATE OR REPLACE TABLE.
    ReplaceTable(Box<CreateTable>),
    /// ALTER VIEW … AS.
    AlterView {
        /// Name.
        name: Ident,
        /// The new query.
        query: Box<Query>,
        /// The query as written.
        text: String,
    },
    /// INSERT INTO.
    Insert(Box<Insert>),
    /// A statement set.
    StatementSet(Vec<Insert>),
    /// A bare query.
    Query(Box<Query>),
    /// SET 'k' = 'v'; SET alone lists.
    Set(Option<(String, String)>),
    /// RESET ['k'].
    Reset(Option<String>),
    /// EXPLAIN.
    Explain {
        /// What is asked for beside the plan.
        details: Details,
        /// What is explained.
        statement: Box<Statement>,
    },
    /// SHOW.
    Show(Box<Show>),
    /// DESCRIBE name.
    Describe(Ident),
    /// USE, and whatever else changes nothing here.
    Ignored(String),
    /// CREATE, DROP or USE of a database or catalog: names only, tables are found by their last name.
    Namespace {
        /// CREATE, DROP, USE.
        verb: &'static str,
        /// A catalog; else a database.
        catalog: bool,
        /// Its name.
        name: Ident,
        /// IF EXISTS, IF NOT EXISTS.
        lenient: bool,
        /// DROP DATABASE … CASCADE.
        cascade: bool,
        /// WITH options.
        options: Vec<(String, String)>,
    },
}

/// INSERT INTO.
#[derive(Clone, Debug, PartialEq)]
pub struct Insert {
    /// `[catalog.]database`, where it is given.
    pub database: Vec<Ident>,
    /// The target.
    pub table: Ident,
    /// Target columns.
    pub columns: Vec<Ident>,
    /// OPTIONS hint on the target.
    pub hints: Vec<Hint>,
    /// The query.
    pub query: Query,
    /// ON CONFLICT DO …
    pub conflict: Option<crate::engine::plan::OnConflict>,
    /// Where.
    pub span: Span,
}
