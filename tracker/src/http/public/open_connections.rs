//! Counts the public listener's connections. Beyond the limit, a few more are let in for health checks: a load
//! balancer must be able to tell a tracker that is busy from one that is dead.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Connections beyond the limit that are accepted and may ask for health checks only.
pub(super) const HEALTH_CHECK_RESERVE: usize = 64;

/// The open connections, over all workers. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct OpenConnections {
    open: Arc<AtomicUsize>,
    limit: usize,
}

/// The place of one connection among the open ones, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    open: Arc<AtomicUsize>,
    is_reserve: bool,
}

impl OpenConnections {
    pub(super) fn new(limit: usize) -> Self {
        Self { open: Arc::default(), limit }
    }

    /// How many connections to accept, over all workers.
    pub(super) fn limit_with_reserve(&self) -> usize {
        self.limit + HEALTH_CHECK_RESERVE
    }

    pub(super) fn take_slot(&self) -> ConnectionSlot {
        let others = self.open.fetch_add(1, Ordering::Relaxed);
        ConnectionSlot { open: Arc::clone(&self.open), is_reserve: others >= self.limit }
    }
}

impl ConnectionSlot {
    /// Whether the connection is beyond the limit.
    pub(super) fn is_reserve(&self) -> bool {
        self.is_reserve
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_beyond_the_limit_are_in_the_reserve() {
        let connections = OpenConnections::new(2);
        let slots: Vec<_> = (0..3).map(|_| connections.take_slot()).collect();
        assert_eq!(
            slots.iter().map(ConnectionSlot::is_reserve).collect::<Vec<_>>(),
            [false, false, true]
        );

        drop(slots);
        assert!(!connections.take_slot().is_reserve());
    }
}
