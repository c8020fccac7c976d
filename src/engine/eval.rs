//! Expressions compiled to a tree that is walked per row.
//!
//! All names and types are resolved once; what remains per row is arithmetic on [`Value`]s. Logic is
//! three-valued: NULL is the unknown.

use std::cmp::Ordering;

use smallvec::SmallVec;

use super::context::Context;
use super::error::{EngineError, EvalError};
use super::expr::{Expr, ExprNode};
use super::functions::{self, Call, Scalar, arithmetic, cast};
use super::row::Value;
use super::types::{DataType, TypeKind};

/// The row an expression sees; of a join, the left columns and then the right ones.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    left: &'a [Value],
    right: &'a [Value],
}

impl<'a> Input<'a> {
    /// One row.
    pub fn row(row: &'a [Value]) -> Self {
        Self { left: row, right: &[] }
    }

    /// A pair of rows.
    pub fn pair(left: &'a [Value], right: &'a [Value]) -> Self {
        Self { left, right }
    }

    fn get(self, column: usize) -> &'a Value {
        const NULL: &Value = &Value::Null;
        match self.left.get(column) {
            Some(value) => value,
            None => self.right.get(column - self.left.len()).unwrap_or(NULL),
        }
    }
}

/// A compiled expression.
pub struct Evaluator {
    node: Node,
    context: Context,
}

enum Node {
    Column(usize),
    Literal(Value),
    Cast {
        input: Box<Node>,
        from: DataType,
        to: DataType,
        lenient: bool,
    },
    Case {
        branches: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    IsNotNull(Box<Node>),
    /// `IS [NOT] TRUE | FALSE`.
    Is {
        input: Box<Node>,
        truth: bool,
        negated: bool,
    },
    Compare {
        test: Test,
        left: Box<Node>,
        right: Box<Node>,
    },
    Distinct {
        left: Box<Node>,
        right: Box<Node>,
        negated: bool,
    },
    In {
        value: Box<Node>,
        list: Vec<Node>,
    },
    Coalesce(Vec<Node>),
    If(Box<Node>, Box<Node>, Box<Node>),
    IntArithmetic {
        op: Arithmetic,
        width: Width,
        left: Box<Node>,
        right: Box<Node>,
    },
    Field(Box<Node>, usize),
    Call {
        scalar: Scalar,
        strict: bool,
        args: Vec<Node>,
        types: Vec<DataType>,
        result: DataType,
    },
}

#[derive(Clone, Copy)]
enum Test {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Test {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::Ne => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::Le => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::Ge => order.is_ge(),
        }
    }
}

#[derive(Clone, Copy)]
enum Arithmetic {
    Add,
    Subtract,
    Multiply,
}

/// Width that an integer result wraps to.
#[derive(Clone, Copy)]
pub(crate) enum Width {
    Byte,
    Short,
    Int,
    Long,
}

impl Width {
    /// Of an integer type.
    pub(crate) fn of(kind: &TypeKind) -> Option<Self> {
        Some(match kind {
            TypeKind::TinyInt => Self::Byte,
            TypeKind::SmallInt => Self::Short,
            TypeKind::Int => Self::Int,
            TypeKind::BigInt => Self::Long,
            _ => return None,
        })
    }

    /// Wraps as Java's narrowing conversion does.
    #[allow(clippy::cast_possible_truncation, reason = "wrapping is the contract")]
    pub(crate) fn wrap(self, value: i64) -> i64 {
        match self {
            Self::Byte => i64::from(value as i8),
            Self::Short => i64::from(value as i16),
            Self::Int => i64::from(value as i32),
            Self::Long => value,
        }
    }
}

impl Evaluator {
    /// Compiles an expression. Errors: a function that the engine does not have.
    pub fn new(expr: &Expr, context: &Context) -> Result<Self, EngineError> {
        Ok(Self { node: compile(expr)?, context: context.clone() })
    }

    /// The column, if the expression is nothing but one.
    pub fn as_column(&self) -> Option<usize> {
        if let Node::Column(column) = self.node { Some(column) } else { None }
    }

    /// The value for a row.
    pub fn eval(&self, input: Input<'_>) -> Result<Value, EvalError> {
        self.node.eval(input, &self.context)
    }

    /// Whether a condition is TRUE (not FALSE, not unknown).
    pub fn is_true(&self, input: Input<'_>) -> Result<bool, EvalError> {
        Ok(self.node.truth(input, &self.context)? == Some(true))
    }
}

fn compile(expr: &Expr) -> Result<Node, EngineError> {
    let compile_box = |expr: &Expr| compile(expr).map(Box::new);
    Ok(match &expr.node {
        ExprNode::Column(column) => Node::Column(*column),
        ExprNode::Literal(value) => Node::Literal(value.clone()),
        ExprNode::Cast { input, lenient } => {
            let node = compile(input)?;
            if cast::is_identity(&input.data_type.kind, &expr.data_type.kind) {
                return Ok(node);
            }
            Node::Cast {
                input: Box::new(node),
                from: input.data_type.clone(),
                to: expr.data_type.clone(),
                lenient: *lenient,
            }
        }
        ExprNode::Case { branches, otherwise } => Node::Case {
            branches: branches
                .iter()
                .map(|(when, then)| Ok((compile(when)?, compile(then)?)))
                .collect::<Result<_, EngineError>>()?,
            otherwise: compile_box(otherwise)?,
        },
        ExprNode::Field { input, index } => Node::Field(compile_box(input)?, *index),
        ExprNode::Call { function, args } => compile_call(function, args, &expr.data_type)?,
    })
}

fn compile_call(function: &'static str, args: &[Expr], result: &DataType) -> Result<Node, EngineError> {
    let nodes = args.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
    let missing = || EngineError::Plan(format!("{function} lacks an argument"));
    let integers = args.iter().all(|arg| Width::of(&arg.data_type.kind).is_some());
    let test = match function {
        "=" => Some(Test::Eq),
        "<>" => Some(Test::Ne),
        "<" => Some(Test::Lt),
        "<=" => Some(Test::Le),
        ">" => Some(Test::Gt),
        ">=" => Some(Test::Ge),
        _ => None,
    };
    let arithmetic = match function {
        "+" => Some(Arithmetic::Add),
        "-" => Some(Arithmetic::Subtract),
        "*" => Some(Arithmetic::Multiply),
        _ => None,
    };
    let mut nodes = nodes.into_iter();
    let mut next = || nodes.next().map(Box::new).ok_or_else(missing);
    if let Some(test) = test {
        // A timestamp with and one without zone compare in the session's zone: the planner casts.
        return Ok(Node::Compare { test, left: next()?, right: next()? });
    }
    if let (Some(op), Some(width), true, 2) = (arithmetic, Width::of(&result.kind), integers, args.len()) {
        return Ok(Node::IntArithmetic { op, width, left: next()?, right: next()? });
    }
    Ok(match function {
        "AND" | "OR" => {
            let mut node = next()?;
            for more in nodes.map(Box::new) {
                node = Box::new(if function == "AND" { Node::And(node, more) } else { Node::Or(node, more) });
            }
            *node
        }
        "NOT" => Node::Not(next()?),
        "IS NULL" | "IS UNKNOWN" => Node::IsNull(next()?),
        "IS NOT NULL" | "IS NOT UNKNOWN" => Node::IsNotNull(next()?),
        "IS TRUE" => Node::Is { input: next()?, truth: true, negated: false },
        "IS NOT TRUE" => Node::Is { input: next()?, truth: true, negated: true },
        "IS FALSE" => Node::Is { input: next()?, truth: false, negated: false },
        "IS NOT FALSE" => Node::Is { input: next()?, truth: false, negated: true },
        "IS DISTINCT FROM" => Node::Distinct { left: next()?, right: next()?, negated: false },
        "IS NOT DISTINCT FROM" => Node::Distinct { left: next()?, right: next()?, negated: true },
        "IN" => Node::In { value: next()?, list: nodes.collect() },
        "COALESCE" | "IFNULL" => Node::Coalesce(nodes.collect()),
        "IF" => Node::If(next()?, next()?, next()?),
        _ => {
            let (scalar, strict) = functions::lookup(function)
                .ok_or_else(|| EngineError::Plan(format!("function {function} is not implemented")))?;
            let types = args.iter().map(|arg| argument_type(function, arg)).collect();
            Node::Call { scalar, strict, args: nodes.collect(), types, result: result.clone() }
        }
    })
}

/// The type of an argument; for JSON constructors NULL's type marks an argument that is JSON already.
fn argument_type(function: &str, arg: &Expr) -> DataType {
    let is_json = matches!(arg.node, ExprNode::Call { function: "JSON_OBJECT" | "JSON_ARRAY" | "JSON", .. });
    if is_json && matches!(function, "JSON_OBJECT" | "JSON_ARRAY") {
        return DataType::new(TypeKind::Null);
    }
    arg.data_type.clone()
}

impl Node {
    fn eval(&self, input: Input<'_>, context: &Context) -> Result<Value, EvalError> {
        Ok(match self {
            Self::Column(column) => input.get(*column).clone(),
            Self::Literal(value) => value.clone(),
            Self::Cast { input: node, from, to, lenient } => {
                let value = node.eval(input, context)?;
                if value.is_null() {
                    return Ok(Value::Null);
                }
                match cast::cast(&value, &from.kind, &to.kind, context) {
                    Ok(value) => value,
                    Err(_) if *lenient => Value::Null,
                    Err(error) => return Err(error),
                }
            }
            Self::Case { branches, otherwise } => {
                for (when, then) in branches {
                    if when.truth(input, context)? == Some(true) {
                        return then.eval(input, context);
                    }
                }
                otherwise.eval(input, context)?
            }
            Self::Coalesce(nodes) => {
                for node in nodes {
                    let value = node.eval(input, context)?;
                    if !value.is_null() {
                        return Ok(value);
                    }
                }
                Value::Null
            }
            Self::If(when, then, otherwise) => {
                let branch = if when.truth(input, context)? == Some(true) { then } else { otherwise };
                branch.eval(input, context)?
            }
            Self::IntArithmetic { op, width, left, right } => {
                let left = left.with(input, context, |value| Ok(value.as_int()))?;
                let right = right.with(input, context, |value| Ok(value.as_int()))?;
                let (Some(left), Some(right)) = (left, right) else { return Ok(Value::Null) };
                Value::Int(width.wrap(match op {
                    Arithmetic::Add => left.wrapping_add(right),
                    Arithmetic::Subtract => left.wrapping_sub(right),
                    Arithmetic::Multiply => left.wrapping_mul(right),
                }))
            }
            Self::Field(node, index) => node.with(input, context, |value| {
                Ok(match value {
                    Value::Row(fields) => fields.get(*index).cloned().unwrap_or(Value::Null),
                    _ => Value::Null,
                })
            })?,
            Self::Call { scalar, strict, args, types, result } => {
                let mut values = SmallVec::<[Value; 4]>::with_capacity(args.len());
                for arg in args {
                    let value = arg.eval(input, context)?;
                    if *strict && value.is_null() {
                        return Ok(Value::Null);
                    }
                    values.push(value);
                }
                scalar(&Call { args: &values, types, result, context })?
            }
            _ => self.truth(input, context)?.map_or(Value::Null, Value::Bool),
        })
    }

    /// Lets `read` see the value without a copy where it stands in the row.
    fn with<T>(
        &self,
        input: Input<'_>,
        context: &Context,
        read: impl FnOnce(&Value) -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        match self {
            Self::Column(column) => read(input.get(*column)),
            Self::Literal(value) => read(value),
            _ => read(&self.eval(input, context)?),
        }
    }

    /// The truth of a boolean expression; `None` is unknown.
    fn truth(&self, input: Input<'_>, context: &Context) -> Result<Option<bool>, EvalError> {
        Ok(match self {
            Self::And(left, right) => match left.truth(input, context)? {
                Some(false) => Some(false),
                left => match (left, right.truth(input, context)?) {
                    (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                },
            },
            Self::Or(left, right) => match left.truth(input, context)? {
                Some(true) => Some(true),
                left => match (left, right.truth(input, context)?) {
                    (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                },
            },
            Self::Not(node) => node.truth(input, context)?.map(|truth| !truth),
            Self::IsNull(node) => Some(node.with(input, context, |value| Ok(value.is_null()))?),
            Self::IsNotNull(node) => Some(node.with(input, context, |value| Ok(!value.is_null()))?),
            Self::Is { input: node, truth, negated } => {
                Some((node.truth(input, context)? == Some(*truth)) != *negated)
            }
            Self::Compare { test, left, right } => left.with(input, context, |left| {
                right.with(input, context, |right| {
                    Ok(if arithmetic::incomparable(left, right) {
                        Some(matches!(test, Test::Ne))
                    } else {
                        arithmetic::compare(left, right).map(|order| test.holds(order))
                    })
                })
            })?,
            Self::Distinct { left, right, negated } => left.with(input, context, |left| {
                right.with(input, context, |right| {
                    let same = match (left.is_null(), right.is_null()) {
                        (true, true) => true,
                        (false, false) => arithmetic::compare(left, right).is_some_and(Ordering::is_eq),
                        _ => false,
                    };
                    Ok(Some(same == *negated))
                })
            })?,
            Self::In { value, list } => value.with(input, context, |value| {
                let mut unknown = value.is_null();
                for candidate in list {
                    match candidate.with(input, context, |other| Ok(arithmetic::compare(value, other)))? {
                        Some(Ordering::Equal) => return Ok(Some(true)),
                        Some(_) => {}
                        None => unknown = true,
                    }
                }
                Ok(if unknown { None } else { Some(false) })
            })?,
            _ => self.with(input, context, |value| {
                Ok(if let Value::Bool(truth) = value { Some(*truth) } else { None })
            })?,
        })
    }
}
