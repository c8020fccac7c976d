//! What the demo shows: plain lines, and on a terminal one line at the bottom that lives.

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::probe::Trace;
use crate::error::Result;

/// The demo's output.
#[derive(Debug)]
pub(super) struct Screen {
    bar: ProgressBar,
    live: bool,
    last: Instant,
    closing: Option<String>,
}

impl Screen {
    pub(super) fn new(live: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        let target =
            if terminal { ProgressDrawTarget::stdout_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        Self { bar, live: live && terminal, last: Instant::now(), closing: None }
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        self.bar.suspend(|| {
            // Nobody is left to tell when standard output is closed.
            let _ = writeln!(std::io::stdout(), "{text}");
        });
    }

    /// The line that closes everything, printed when this is dropped.
    pub(super) fn closing(&mut self, text: String) {
        self.closing = Some(text);
    }

    /// Waits for a part to start and says how long it took.
    pub(super) async fn step<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begin = Instant::now();
        self.bar.set_message(format!("{what} …"));
        self.bar.enable_steady_tick(Duration::from_millis(100));
        let result = work.await;
        self.bar.disable_steady_tick();
        if result.is_ok() {
            self.line(&format!("{:>8.3} s  {what}", begin.elapsed().as_secs_f64()));
        }
        result
    }

    /// How far a fixed workload is; on a terminal a line at the bottom, otherwise a line every few seconds.
    pub(super) fn progress(&mut self, done: u64, wanted: u64) {
        self.bottom(format!("{done} of {wanted} changes"), Duration::from_secs(5));
    }

    /// The live summary.
    pub(super) fn summary(&mut self, changes: u64, elapsed: Duration, latencies: &[Duration]) {
        let rate = changes as f64 / elapsed.as_secs_f64().max(0.001);
        let mut text = format!("{changes} changes, {rate:.0}/s");
        if let (Some(p50), Some(p99)) = (percentile(latencies, 50), percentile(latencies, 99)) {
            text.push_str(&format!(", commit to target row p50 {} p99 {}", millis(p50), millis(p99)));
        }
        if self.live {
            text.push_str("   (Ctrl-C ends)");
        }
        self.bottom(text, Duration::from_secs(5));
    }

    fn bottom(&mut self, text: String, every: Duration) {
        if !self.bar.is_hidden() {
            self.bar.set_message(text);
            self.bar.tick();
        } else if self.last.elapsed() >= every {
            self.last = Instant::now();
            self.line(&text);
        }
    }

    /// The hops of one change.
    pub(super) fn trace(&self, trace: &Trace) {
        self.line(&format!("\nchange {}", trace.change));
        for hop in &trace.hops {
            self.line(&format!("  {:>10}  {:<7} {}", format!("+{}", millis(hop.after)), hop.name, hop.text));
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some(text) = self.closing.take() {
            self.line(&text);
        }
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

fn percentile(values: &[Duration], percent: usize) -> Option<Duration> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_few_values() {
        let values: Vec<Duration> = (1..=10).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Some(Duration::from_millis(6)));
        assert_eq!(percentile(&values, 99), Some(Duration::from_millis(10)));
        assert_eq!(percentile(&[], 50), None);
    }
}
