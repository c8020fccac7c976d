//! Writing frames to a partition's files: first unseen, then published or taken back.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::frame::FrameMeta;
use super::segment::{Segment, SegmentRef, SegmentState};
use super::store::Partition;

/// The end of a partition, held by the committer.
#[derive(Debug)]
pub struct Appender {
    /// The partition.
    pub partition: Arc<Partition>,
    segment_bytes: u64,
    segment: SegmentRef,
    file: Option<File>,
    position: u64,
    next: i64,
    staged: Vec<(SegmentRef, FrameMeta)>,
    rolled: Vec<SegmentRef>,
}

impl Appender {
    /// At the committed end of a partition.
    pub fn new(partition: &Arc<Partition>, segment_bytes: u64) -> Self {
        let (segment, next) = {
            let view = partition.view.read();
            let segment = view.segments.last().map_or_else(
                || Arc::new(Segment::new(&partition.dir, view.end, 0, SegmentState::empty(view.end))),
                Arc::clone,
            );
            (segment, view.end)
        };
        let position = segment.len();
        Self {
            partition: Arc::clone(partition),
            segment_bytes,
            segment,
            file: None,
            position,
            next,
            staged: Vec::new(),
            rolled: Vec::new(),
        }
    }

    /// Takes an offset for a record.
    pub fn take_offset(&mut self) -> i64 {
        let offset = self.next;
        self.next += 1;
        offset
    }

    /// For recovery: stages and publishes frames of the journal as they are.
    ///
    /// # Errors
    /// Of the file system; `Ok(false)` when they do not begin where the partition ends.
    pub fn apply(&mut self, bytes: &[u8], frames: &[FrameMeta]) -> std::io::Result<bool> {
        for frame in frames {
            if frame.first != self.next {
                return Ok(false);
            }
            self.next = frame.last + 1;
        }
        self.stage(bytes, frames)?;
        self.publish();
        Ok(true)
    }

    /// Writes frames at the end; nobody sees them before [`Appender::publish`].
    ///
    /// # Errors
    /// Of the file system; [`Appender::take_back`] must follow.
    pub fn stage(&mut self, bytes: &[u8], frames: &[FrameMeta]) -> std::io::Result<()> {
        let mut run = 0..0;
        let mut run_start = self.position;
        for frame in frames {
            if self.position > 0 && self.position + frame.size as u64 > self.segment_bytes {
                self.write(bytes, run.clone(), run_start)?;
                self.roll(frame.first);
                run = frame.position..frame.position;
                run_start = 0;
            }
            if run.is_empty() {
                run = frame.position..frame.position;
            }
            run.end = frame.position + frame.size;
            self.position += frame.size as u64;
            self.staged.push((Arc::clone(&self.segment), *frame));
        }
        self.write(bytes, run, run_start)
    }

    /// Closes the active segment, if there is anything in it: the next record goes to a new file.
    pub fn roll_if_used(&mut self) -> bool {
        if self.position == 0 {
            return false;
        }
        self.roll(self.next);
        self.publish();
        true
    }

    fn roll(&mut self, base: i64) {
        self.segment = Arc::new(Segment::new(&self.partition.dir, base, 0, SegmentState::empty(base)));
        self.rolled.push(Arc::clone(&self.segment));
        self.file = None;
        self.position = 0;
    }

    fn write(&mut self, bytes: &[u8], run: std::ops::Range<usize>, at: u64) -> std::io::Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        let file = match self.file.take() {
            Some(file) => file,
            None => File::options().create(true).write(true).truncate(false).open(&self.segment.path)?,
        };
        file.write_all_at(bytes.get(run).unwrap_or_default(), at)?;
        self.file = Some(file);
        Ok(())
    }

    /// Lets readers see what was staged.
    pub fn publish(&mut self) {
        let mut view = self.partition.view.write();
        view.segments.append(&mut self.rolled);
        for (segment, frame) in self.staged.drain(..) {
            segment.publish(frame.first, frame.last, frame.max_timestamp, frame.size as u64);
        }
        view.end = self.next;
    }

    /// Gives up what was staged.
    ///
    /// # Errors
    /// Of the file system: the rest stays in the file but is never seen, the next frame is written over it.
    pub fn take_back(&mut self) -> std::io::Result<()> {
        self.staged.clear();
        for segment in self.rolled.drain(..) {
            segment.remove_files();
        }
        let fresh = Self::new(&self.partition, self.segment_bytes);
        let Self { segment, position, next, .. } = fresh;
        (self.segment, self.position, self.next, self.file) = (segment, position, next, None);
        match File::options().write(true).open(&self.segment.path) {
            Ok(file) => file.set_len(self.position),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    }
}
