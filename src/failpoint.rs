//! Named points where a crash test kills the process.
//!
//! `MILLSTREAM_FAILPOINTS="name=abort@3;other=pause"`: at the third hit of `name` the process is aborted (as
//! by SIGKILL: no destructor runs, nothing is flushed); without `@N` at the first. `pause@N` waits there for
//! ever, so that a test can kill the process itself. `slow@N` takes 20 ms there, from the Nth hit on. Without the variable a point costs one atomic load.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

const UNKNOWN: u8 = 0;
const OFF: u8 = 1;
const ON: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);
static POINTS: OnceLock<HashMap<String, Point>> = OnceLock::new();

#[derive(Debug, PartialEq, Eq)]
enum Action {
    Abort,
    Pause,
    Slow,
}

#[derive(Debug)]
struct Point {
    action: Action,
    at: u64,
    hits: AtomicU64,
}

/// A named point; see [`crate::failpoint`].
#[macro_export]
macro_rules! failpoint {
    ($name:literal) => {
        $crate::failpoint::hit($name)
    };
}

/// Passes a point. Use [`crate::failpoint!`].
#[inline]
pub fn hit(name: &str) {
    match STATE.load(Ordering::Relaxed) {
        OFF => {}
        _ => slow(name),
    }
}

#[cold]
fn slow(name: &str) {
    let points = POINTS.get_or_init(|| {
        let text = std::env::var("MILLSTREAM_FAILPOINTS").unwrap_or_default();
        let points = parse(&text);
        STATE.store(if points.is_empty() { OFF } else { ON }, Ordering::Relaxed);
        points
    });
    let Some(point) = points.get(name) else { return };
    let hit = point.hits.fetch_add(1, Ordering::Relaxed) + 1;
    match point.action {
        Action::Slow if hit >= point.at => std::thread::sleep(Duration::from_millis(20)),
        _ if hit != point.at => {}
        Action::Slow => {}
        Action::Abort => std::process::abort(),
        Action::Pause => loop {
            std::thread::park();
        },
    }
}

fn parse(text: &str) -> HashMap<String, Point> {
    let mut points = HashMap::new();
    for entry in text.split(';').map(str::trim).filter(|e| !e.is_empty()) {
        let Some((name, action)) = entry.split_once('=') else { continue };
        let (action, at) = action.split_once('@').unwrap_or((action, "1"));
        let action = match action.trim() {
            "abort" => Action::Abort,
            "pause" => Action::Pause,
            "slow" => Action::Slow,
            _ => continue,
        };
        let at = at.trim().parse().unwrap_or(1);
        points.insert(name.trim().to_owned(), Point { action, at, hits: AtomicU64::new(0) });
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_is_read() {
        let points = parse("a=abort@3; b = pause ;nonsense;c=dance");
        assert_eq!(points.len(), 2);
        assert_eq!((points["a"].at, &points["a"].action), (3, &Action::Abort));
        assert_eq!((points["b"].at, &points["b"].action), (1, &Action::Pause));
        crate::failpoint!("not set");
    }
}
