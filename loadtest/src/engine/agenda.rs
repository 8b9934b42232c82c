//! The requests that are due because they follow others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::connection::Planned;

/// A request that is due later than the response that it follows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Later {
    pub(super) due: u64,
    pub(super) planned: Planned,
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Later {}

impl PartialOrd for Later {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Later {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// Requests that follow others, the next one first. As many as their rate times their delay.
#[derive(Debug, Default)]
pub(super) struct Agenda(BinaryHeap<Reverse<Later>>);

impl Agenda {
    pub(super) fn add(&mut self, later: Later) {
        self.0.push(Reverse(later));
    }

    /// When the next request is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.0.peek().map(|Reverse(later)| later.due)
    }

    pub(super) fn take_due(&mut self, now: u64) -> Option<Later> {
        self.next_due().filter(|due| *due <= now)?;
        self.0.pop().map(|Reverse(later)| later)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
