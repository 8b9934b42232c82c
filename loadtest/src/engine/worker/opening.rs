//! How a worker opens connections: to an address of the target that works.

use std::io::{self, ErrorKind};

use mio::Token;

use super::Worker;
use crate::engine::addresses::{ATTEMPT, Attempt};
use crate::engine::connection::Connection;
use crate::limits::own_limit;
use crate::recorder::Failure;

impl Worker {
    pub(super) fn open(&mut self, now: u64) -> io::Result<usize> {
        let slot = self.pool.reserve();
        self.serial += 1;
        let tls = self.job.tls.as_ref();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let to = self.rotation.next(now);
            let registry = self.poll.registry();
            match Connection::open(to, tls, registry, Token(slot), self.serial) {
                Ok(mut connection) => {
                    connection.attempts = attempts;
                    self.pool.fill(slot, connection);
                    self.watch_attempt(slot, self.serial, now);
                    return Ok(slot);
                }
                Err(error) => {
                    self.rotation.avoid(to.0, now);
                    if attempts >= self.rotation.len() || own_limit(&error).is_some() {
                        self.pool.release(slot);
                        return Err(error);
                    }
                }
            }
        }
    }

    pub(super) fn watch_attempt(&mut self, slot: usize, serial: u64, now: u64) {
        if self.rotation.len() > 1 {
            self.attempts.push_back(Attempt { at: now + ATTEMPT, slot, serial });
        }
    }

    /// Lets a connection that cannot be established go to another address. False if none is left.
    #[cold]
    pub(super) fn try_next_address(&mut self, slot: usize) -> io::Result<bool> {
        let now = self.now();
        let Some(connection) = self.pool.get_mut(slot) else { return Ok(false) };
        self.rotation.avoid(connection.address, now);
        if connection.attempts >= self.rotation.len() {
            return Ok(false);
        }
        let to = self.rotation.next(now);
        connection.reopen(to, self.job.tls.as_ref(), self.poll.registry(), Token(slot))?;
        let serial = connection.serial;
        self.watch_attempt(slot, serial, now);
        Ok(true)
    }

    /// Lets connections that take too long go to another address.
    pub(super) fn expire_attempts(&mut self) {
        while let Some(attempt) = self.attempts.front().copied() {
            let waits = self.pool.get(attempt.slot).is_some_and(|connection| {
                connection.serial == attempt.serial && !connection.is_connected()
            });
            if waits && attempt.at > self.now() {
                break;
            }
            self.attempts.pop_front();
            if waits && let Err(error) = self.try_next_address(attempt.slot) {
                let failure = self.connect_failure(&error);
                self.break_off(attempt.slot, failure);
            }
        }
    }

    #[cold]
    pub(super) fn on_connect_error(&mut self, slot: usize, error: &io::Error) {
        let failure = match self.try_next_address(slot) {
            Ok(true) => return,
            Ok(false) => self.connect_failure(error),
            Err(error) => self.connect_failure(&error),
        };
        self.break_off(slot, failure);
    }

    #[cold]
    pub(super) fn connect_failure(&mut self, error: &io::Error) -> Failure {
        if let Some(limit) = own_limit(error) {
            self.totals.own_limit = Some(limit);
            return Failure::Harness;
        }
        match error.kind() {
            ErrorKind::ConnectionRefused => Failure::Refused,
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
            _ => Failure::Connect,
        }
    }
}
