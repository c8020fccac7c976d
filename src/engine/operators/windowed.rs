//! What all operators have in common that hold rows back until their window is complete.

use super::super::error::EngineError;
use super::super::row::Change;
use super::{Emitter, Operator};

/// An operator whose results come out when windows end: in event time by the watermark, otherwise by the clock.
pub(super) trait Windowed: Send {
    /// Takes in changes of input `port`.
    fn collect(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError>;

    /// Whether windows end by the watermark.
    fn by_watermark(&self) -> bool;

    /// Gives out the windows that are complete at `reached`: a watermark, or the clock, in milliseconds.
    fn fire(&mut self, reached: i64, out: &mut Emitter) -> Result<(), EngineError>;

    /// Everything up to this watermark has come out; what belongs to it is late from now on.
    fn passed(&mut self, watermark: i64);

    /// The job goes on; [`Windowed::passed`] has been told where.
    fn resumed(&mut self) {}

    /// When the next window is complete, in milliseconds.
    fn next_end(&self) -> Option<i64>;

    /// Writes what changed into the state tables.
    fn write(&mut self) -> Result<(), EngineError>;
}

impl<T: Windowed> Operator for T {
    fn process(&mut self, port: usize, rows: &mut Vec<Change>, out: &mut Emitter) -> Result<(), EngineError> {
        self.collect(port, rows, out)
    }

    fn resume(&mut self, watermark: i64) {
        self.passed(watermark);
        self.resumed();
    }

    fn watermark(&mut self, watermark: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if self.by_watermark() {
            self.fire(watermark, out)?;
        }
        self.passed(watermark);
        out.watermark(watermark);
        Ok(())
    }

    fn clock(&mut self, now: i64, out: &mut Emitter) -> Result<(), EngineError> {
        if self.by_watermark() { Ok(()) } else { self.fire(now, out) }
    }

    fn next_timer(&self) -> Option<i64> {
        if self.by_watermark() { None } else { self.next_end() }
    }

    fn flush(&mut self) -> Result<(), EngineError> {
        self.write()
    }
}
