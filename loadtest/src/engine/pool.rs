//! The connections of a worker, by slot. The slot is the connection's token.

use mio::Registry;

use super::connection::Connection;

/// Longest time, in nanoseconds, after which an idle connection is reused. Servers close connections
/// that were idle for some seconds (actix-web: 5), and a request on a closing connection would fail
/// through no fault of the server.
const IDLE_LIMIT: u64 = 4_000_000_000;

/// A connection that waits for a request, since a time in nanoseconds. It may have been closed since
/// then: its slot is then empty or has another connection.
#[derive(Debug, Clone, Copy)]
struct Idle {
    slot: usize,
    serial: u64,
    since: u64,
}

#[derive(Debug, Default)]
pub(super) struct Pool {
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    idle: Vec<Idle>,
}

impl Pool {
    pub(super) fn get(&self, slot: usize) -> Option<&Connection> {
        self.connections.get(slot)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Connection> {
        self.connections.get_mut(slot)?.as_mut()
    }

    /// A slot without a connection.
    pub(super) fn reserve(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        })
    }

    pub(super) fn fill(&mut self, slot: usize, connection: Connection) {
        self.connections[slot] = Some(connection);
    }

    /// Gives back a slot that was not filled.
    pub(super) fn release(&mut self, slot: usize) {
        self.free.push(slot);
    }

    pub(super) fn close(&mut self, slot: usize, registry: &Registry) {
        if let Some(mut connection) = self.connections[slot].take() {
            connection.deregister(registry);
            self.free.push(slot);
        }
    }

    /// The connection that was used last, so that few stay in use; `None` if all were idle too long.
    pub(super) fn take_idle(&mut self, now: u64, registry: &Registry) -> Option<usize> {
        loop {
            let last = self.idle.pop()?;
            if !self.is_open(last) {
                continue;
            }
            if now.saturating_sub(last.since) <= IDLE_LIMIT {
                return Some(last.slot);
            }
            self.close(last.slot, registry);
        }
    }

    pub(super) fn add_idle(&mut self, slot: usize, serial: u64, since: u64) {
        // Closed connections are removed from time to time, not one by one: after a spike, a server
        // closes thousands at once.
        if self.idle.len() > 2 * self.connections.len() {
            let mut all = std::mem::take(&mut self.idle);
            all.retain(|idle| self.is_open(*idle));
            self.idle = all;
        }
        self.idle.push(Idle { slot, serial, since });
    }

    fn is_open(&self, idle: Idle) -> bool {
        self.get(idle.slot).is_some_and(|open| open.serial == idle.serial)
    }
}
