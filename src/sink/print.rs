//! The print and blackhole connectors.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Output, Reduction, Sink};
use crate::engine::print;
use crate::engine::types::Field;
use crate::error::{Error, Result};

/// Where print sinks write.
#[derive(Clone, Debug, Default)]
pub enum PrintTarget {
    /// Standard output (`'standard-error'='true'`: standard error).
    #[default]
    Terminal,
    /// A list of lines.
    Capture(Arc<Mutex<Vec<String>>>),
}

/// Writes every change as a line, as Flink's print connector does: `identifier> +I[1, ann]`.
#[derive(Debug)]
pub struct PrintSink {
    target: PrintTarget,
    prefix: String,
    to_stderr: bool,
    schema: Vec<Field>,
}

impl PrintSink {
    /// From a table's WITH options and the columns of its rows.
    pub fn new(options: &BTreeMap<String, String>, schema: Vec<Field>, target: PrintTarget) -> Self {
        let prefix = options.get("print-identifier").filter(|i| !i.is_empty());
        Self {
            target,
            prefix: prefix.map(|i| format!("{i}> ")).unwrap_or_default(),
            to_stderr: crate::engine::options::flag(options, "standard-error", false),
            schema,
        }
    }
}

#[async_trait]
impl Sink for PrintSink {
    fn describe(&self) -> String {
        "print".into()
    }

    fn reduction(&self) -> Reduction {
        Reduction::None
    }

    async fn write(&mut self, _: u64, output: &Output) -> Result<()> {
        let mut text = String::new();
        match &self.target {
            PrintTarget::Capture(lines) => {
                let mut lines = lines.lock();
                for change in &output.changes {
                    let mut line = self.prefix.clone();
                    print::change(&mut line, change, &self.schema);
                    lines.push(line);
                }
                return Ok(());
            }
            PrintTarget::Terminal => {
                for change in &output.changes {
                    text.push_str(&self.prefix);
                    print::change(&mut text, change, &self.schema);
                    text.push('\n');
                }
            }
        }
        let written = if self.to_stderr {
            std::io::stderr().lock().write_all(text.as_bytes())
        } else {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        };
        written.map_err(|e| {
            Error::new(crate::Kind::Stopped, "cannot print: the output is closed").with_source(e)
        })
    }
}

/// Takes everything and keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct BlackholeSink;

#[async_trait]
impl Sink for BlackholeSink {
    fn describe(&self) -> String {
        "blackhole".into()
    }

    fn reduction(&self) -> Reduction {
        Reduction::None
    }

    async fn write(&mut self, _: u64, _: &Output) -> Result<()> {
        Ok(())
    }
}
