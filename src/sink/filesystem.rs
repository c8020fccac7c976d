//! The filesystem connector as a sink: one file an epoch, which appears whole or not at all.

use std::io::Write;
use std::path::PathBuf;

use async_trait::async_trait;

use super::{Fence, Output, Reduction, Sink, SinkId, format_error};
use crate::engine::format::{self, Encoder, FormatContext};
use crate::engine::plan::TableRef;
use crate::error::{Error, Result};

/// Writes rows as lines of files `part-PIPELINE-SINK-EPOCH` in the table's `path`. An epoch that is written again
/// replaces its own file, so that no fence is needed.
#[derive(Debug)]
pub struct FilesystemSink {
    directory: PathBuf,
    id: SinkId,
    encoder: Encoder,
}

impl FilesystemSink {
    /// From the sink's table.
    ///
    /// # Errors
    /// Where `path` is missing or the format cannot be written.
    pub fn new(table: &TableRef, id: SinkId, context: &FormatContext) -> Result<Self> {
        let path = table
            .options
            .get("path")
            .ok_or_else(|| Error::config(format!("table {}: option 'path' is missing", table.name)))?;
        let path = path.strip_prefix("file://").unwrap_or(path);
        let encoder = format::encoder(table, context).map_err(|e| format_error(&table.name, e))?;
        Ok(Self { directory: PathBuf::from(path), id, encoder })
    }

    fn write_file(&self, epoch: u64, output: &Output) -> Result<()> {
        let mut bytes = Vec::new();
        for change in &output.changes {
            let written =
                self.encoder.value(change, &mut bytes).map_err(|e| format_error(&self.id.sink, e))?;
            if written {
                bytes.push(b'\n');
            }
        }
        let failed = |e: std::io::Error| {
            Error::transient(format!("cannot write files in {}", self.directory.display())).with_source(e)
        };
        std::fs::create_dir_all(&self.directory).map_err(failed)?;
        let name = format!("part-{}-{}-{epoch:012}", self.id.pipeline, self.id.sink);
        // Readers of the directory skip names that begin with a dot.
        let hidden = self.directory.join(format!(".{name}.inprogress"));
        let mut file = std::fs::File::create(&hidden).map_err(failed)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        std::fs::rename(&hidden, self.directory.join(name)).map_err(failed)?;
        std::fs::File::open(&self.directory).and_then(|d| d.sync_all()).map_err(failed)
    }
}

#[async_trait]
impl Sink for FilesystemSink {
    fn describe(&self) -> String {
        format!("files in {}", self.directory.display())
    }

    fn reduction(&self) -> Reduction {
        Reduction::None
    }

    fn is_fenced(&self) -> bool {
        false
    }

    async fn fence(&mut self) -> Result<Option<Fence>> {
        Ok(None)
    }

    async fn claim(&mut self, _: Option<&Fence>, _: &Fence) -> Result<bool> {
        Ok(true)
    }

    async fn write(&mut self, epoch: u64, output: &Output) -> Result<()> {
        tokio::task::block_in_place(|| self.write_file(epoch, output))
    }
}
