//! A queue of timers that gives equal times in the order in which Flink's heap does.

/// A binary heap by time. Which of several entries of the same time comes first depends on the moves inside the
/// heap; they are those of Flink's `HeapPriorityQueue`, so that results come out in the same order.
#[derive(Debug)]
pub(super) struct Timers<T> {
    heap: Vec<(i64, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: Vec::new() }
    }
}

impl<T> Timers<T> {
    fn less(&self, left: usize, right: usize) -> bool {
        match (self.heap.get(left), self.heap.get(right)) {
            (Some(left), Some(right)) => left.0 < right.0,
            _ => false,
        }
    }

    /// Adds a timer.
    pub(super) fn push(&mut self, time: i64, what: T) {
        self.heap.push((time, what));
        let mut at = self.heap.len() - 1;
        while at > 0 {
            let parent = (at - 1) / 2;
            if !self.less(at, parent) {
                break;
            }
            self.heap.swap(at, parent);
            at = parent;
        }
    }

    /// Takes the first timer, if it is due at `now`.
    pub(super) fn pop_due(&mut self, now: i64) -> Option<(i64, T)> {
        self.heap.first().filter(|(time, _)| *time <= now)?;
        let first = self.heap.swap_remove(0);
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let child = if self.less(right, left) { right } else { left };
            if !self.less(child, at) {
                break;
            }
            self.heap.swap(child, at);
            at = child;
        }
        Some(first)
    }
}
