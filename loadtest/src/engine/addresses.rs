//! The addresses of the target: which of them the next connection goes to.
//!
//! Connections go to all addresses in turn. One that fails, or does not connect within 250 ms while there
//! are others, is avoided for some seconds, and the request goes to the next one (as RFC 8305 asks of
//! clients, though one attempt after the other). The addresses may change during a run.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Nanoseconds after which another address is tried.
pub(super) const ATTEMPT: u64 = 250_000_000;
/// Nanoseconds for which an address is avoided after a failure.
const AVOIDANCE: u64 = 5_000_000_000;

/// When a connection has to be established, or else another address is tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) at: u64,
    pub(super) slot: usize,
    pub(super) serial: u64,
}

/// The addresses of a target, shared by the workers.
#[derive(Debug, Clone)]
pub struct Addresses(Arc<Mutex<Vec<SocketAddr>>>);

impl Addresses {
    /// These addresses; at least one.
    pub fn new(addresses: Vec<SocketAddr>) -> Self {
        Self(Arc::new(Mutex::new(addresses)))
    }

    /// Replaces the addresses, unless there are none.
    pub fn replace(&self, addresses: Vec<SocketAddr>) {
        if !addresses.is_empty() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        }
    }
}

/// A worker's view of the addresses.
#[derive(Debug)]
pub(super) struct Rotation {
    shared: Addresses,
    addresses: Vec<SocketAddr>,
    /// When each address may be used again, nanoseconds since the start of the run.
    avoid_until: Vec<u64>,
    next: usize,
}

impl Rotation {
    pub(super) fn new(shared: Addresses, first: usize) -> Self {
        let mut rotation =
            Self { shared, addresses: Vec::new(), avoid_until: Vec::new(), next: first };
        rotation.refresh();
        rotation
    }

    /// Takes over the shared addresses if they have changed.
    pub(super) fn refresh(&mut self) {
        let shared = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *shared != self.addresses {
            self.addresses.clone_from(&shared);
            self.avoid_until = vec![0; self.addresses.len()];
        }
    }

    pub(super) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// The next address that is not avoided, or the next one if all are.
    pub(super) fn next(&mut self, now: u64) -> (usize, SocketAddr) {
        let count = self.addresses.len();
        let at = |step: usize| (self.next + step) % count;
        let step = (0..count).find(|step| self.avoid_until[at(*step)] <= now).unwrap_or(0);
        let index = at(step);
        self.next = (index + 1) % count;
        (index, self.addresses[index])
    }

    pub(super) fn avoid(&mut self, index: usize, now: u64) {
        if let Some(until) = self.avoid_until.get_mut(index) {
            *until = now + AVOIDANCE;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
    }

    #[test]
    fn avoids_an_address_for_a_while_after_a_failure() {
        let mut rotation = Rotation::new(Addresses::new(addresses(&[1, 2, 3])), 0);
        let ports = |rotation: &mut Rotation, now| -> Vec<u16> {
            (0..4).map(|_| rotation.next(now).1.port()).collect()
        };
        assert_eq!(ports(&mut rotation, 0), [1, 2, 3, 1]);
        rotation.avoid(1, 0);
        assert_eq!(ports(&mut rotation, 1), [3, 1, 3, 1]);
        assert_eq!(ports(&mut rotation, AVOIDANCE), [2, 3, 1, 2]);
        (0..3).for_each(|index| rotation.avoid(index, 0));
        assert_eq!(ports(&mut rotation, 1), [3, 1, 2, 3]);
    }

    #[test]
    fn follows_addresses_that_change() {
        let shared = Addresses::new(addresses(&[1]));
        let mut rotation = Rotation::new(shared.clone(), 5);
        shared.replace(addresses(&[2, 3]));
        assert_eq!(rotation.next(0).1.port(), 1);
        rotation.refresh();
        assert_eq!((rotation.next(0).1.port(), rotation.len()), (2, 2));
        shared.replace(Vec::new());
        rotation.refresh();
        assert_eq!(rotation.len(), 2);
    }
}
