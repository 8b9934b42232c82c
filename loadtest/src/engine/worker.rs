//! A worker: a thread that sends its share of the schedule over connections of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::iter::{Skip, StepBy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::setpriority_process;

use super::connection::{Connection, ConnectionState, Exchange};
use super::job::{Accepted, Job, Outbox, Start};
use super::response::{self, Parsed, Response};
use super::timer::Timer;
use crate::recorder::{Failure, Slice, Totals};
use crate::schedule::Times;

/// Most events handled before the next requests are sent: due requests wait for these.
const EVENTS: usize = 64;
/// Most requests sent before the next responses are read: responses wait for these.
const BURST: usize = 32;
/// Longest time, in nanoseconds, after which an idle connection is reused. Servers close connections
/// that were idle for some seconds (actix-web: 5), and a request on a closing connection would fail
/// through no fault of the server.
const IDLE_LIMIT: u64 = 4_000_000_000;
/// Longest wait, in nanoseconds: a stop is noticed within this time.
const LONGEST_WAIT: u64 = 50_000_000;
/// Real clients have machines of their own. Here, senders go before everything else on the machine, so
/// that requests are sent when they are due.
const NICENESS: i32 = -10;
const READ_BUFFER: usize = 64 * 1024;
const TIMER: Token = Token(usize::MAX);

/// A connection that waits for a request, since a time in nanoseconds. It may have been closed since
/// then: its slot is then empty or has another connection.
#[derive(Debug, Clone, Copy)]
struct Idle {
    slot: usize,
    serial: u64,
    since: u64,
}

/// The time-out of a request.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: u64,
    slot: usize,
    serial: u64,
    intended: u64,
}

pub(super) struct Worker {
    job: Arc<Job>,
    number: usize,
    start: Start,
    stop: Arc<AtomicBool>,
    outbox: Outbox,
    poll: Poll,
    timer: Timer,
    /// The time that the timer is set for.
    alarm: u64,
    random: fastrand::Rng,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    idle: Vec<Idle>,
    /// In order, because all time-outs are equally long.
    deadlines: VecDeque<Deadline>,
    in_flight: usize,
    serial: u64,
    totals: Totals,
    slice: Slice,
    accepted: Vec<Accepted>,
    scratch: Vec<u8>,
}

impl Worker {
    pub(super) fn new(
        job: Arc<Job>,
        number: usize,
        start: Start,
        stop: Arc<AtomicBool>,
        outbox: Outbox,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        let seed = job.seed.wrapping_add(number as u64);
        Ok(Self {
            totals: Totals::new(job.traffic.kinds.len()),
            job,
            number,
            start,
            stop,
            outbox,
            poll,
            timer,
            alarm: 0,
            random: fastrand::Rng::with_seed(seed),
            connections: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            deadlines: VecDeque::new(),
            in_flight: 0,
            serial: 0,
            slice: Slice::new(0),
            accepted: Vec::new(),
            scratch: vec![0; READ_BUFFER],
        })
    }

    /// Sends all requests, waits for those in flight, and returns what it counted.
    pub(super) fn run(mut self) -> io::Result<Totals> {
        let mut times = self.times();
        let mut next = next_of(&mut times);
        let mut events = Events::with_capacity(EVENTS);
        // Needs CAP_SYS_NICE; without it, the lag shows the effect.
        let _ = setpriority_process(None, NICENESS);
        // Before the start, `now` is 0, which is also the first intended time.
        std::thread::sleep(self.start.instant.saturating_duration_since(Instant::now()));
        loop {
            if self.stop.load(Ordering::Relaxed) {
                next = None;
            }
            let mut burst = 0;
            while let Some(intended) = next
                && intended <= self.now()
                && burst < BURST
            {
                self.send(intended)?;
                next = next_of(&mut times);
                burst += 1;
            }
            self.expire_requests();
            self.send_finished_slices();
            if next.is_none() && self.in_flight == 0 {
                break;
            }
            self.wait(next, &mut events)?;
            for event in &events {
                if event.token() != TIMER {
                    self.on_connection_event(
                        event.token().0,
                        event.is_read_closed() || event.is_error(),
                    );
                }
            }
        }
        self.send_slice();
        Ok(self.totals)
    }

    /// Every n-th of the schedule's times, starting at this worker's number.
    fn times(&self) -> StepBy<Skip<Times>> {
        self.job.schedule.times().skip(self.number).step_by(self.job.workers)
    }

    /// Nanoseconds since the start of the run.
    fn now(&self) -> u64 {
        nanoseconds(self.start.instant.elapsed())
    }

    /// Waits for a response, the next intended time or the next time-out.
    fn wait(&mut self, next: Option<u64>, events: &mut Events) -> io::Result<()> {
        let now = self.now();
        let deadline = self.deadlines.front().map(|deadline| deadline.at);
        let until = [next, deadline]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
            .min(now + LONGEST_WAIT);
        let timeout = if until <= now {
            Some(Duration::ZERO)
        } else {
            // If a response ended the last wait, the timer may still be set for this time.
            if until != self.alarm {
                self.timer.set(Duration::from_nanos(until - now))?;
                self.alarm = until;
            }
            None
        };
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            waited => waited,
        }
    }

    /// Sends a request, or counts why it cannot be sent.
    fn send(&mut self, intended: u64) -> io::Result<()> {
        let now = self.now();
        self.totals.due += 1;
        self.slice.sent += 1;
        let lag = now - intended;
        self.totals.lag.saturating_record(lag);
        self.slice.lag.saturating_record(lag);
        if self.in_flight >= self.job.max_in_flight / self.job.workers {
            // No request is drawn: it counts as the first kind.
            self.record_failure(0, Failure::Overflow);
            return Ok(());
        }
        let slot = match self.idle_slot(now) {
            Some(slot) => slot,
            None => match self.open() {
                Ok(slot) => slot,
                Err(error) => {
                    self.record_failure(0, connect_failure(&error));
                    return Ok(());
                }
            },
        };
        let Some(connection) = &mut self.connections[slot] else { return Ok(()) };
        let buffer = connection.request_buffer();
        let kind = self.job.traffic.write(&mut self.random, buffer);
        connection.exchange = Some(Exchange { intended, kind });
        self.in_flight += 1;
        self.deadlines.push_back(Deadline {
            at: now + nanoseconds(self.job.timeout),
            slot,
            serial: connection.serial,
            intended,
        });
        if connection.flush().is_err() {
            self.break_off(slot, Failure::Reset);
        }
        Ok(())
    }

    /// The connection that was used last, so that few stay in use; `None` if all were idle too long.
    fn idle_slot(&mut self, now: u64) -> Option<usize> {
        loop {
            let last = self.idle.pop()?;
            if !self.is_open(last) {
                continue;
            }
            if now.saturating_sub(last.since) <= IDLE_LIMIT {
                return Some(last.slot);
            }
            self.close(last.slot);
        }
    }

    fn is_open(&self, idle: Idle) -> bool {
        self.connections[idle.slot].as_ref().is_some_and(|open| open.serial == idle.serial)
    }

    fn add_idle(&mut self, idle: Idle) {
        // Closed connections are removed from time to time, not one by one: after a spike, a server
        // closes thousands at once.
        if self.idle.len() > 2 * self.connections.len() {
            let mut all = std::mem::take(&mut self.idle);
            all.retain(|idle| self.is_open(*idle));
            self.idle = all;
        }
        self.idle.push(idle);
    }

    fn open(&mut self) -> io::Result<usize> {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.serial += 1;
        let addresses = &self.job.addresses;
        let address = addresses[self.serial as usize % addresses.len()];
        let tls = self.job.tls.as_ref();
        let opened = Connection::open(address, tls, self.poll.registry(), Token(slot), self.serial);
        match opened {
            Ok(connection) => {
                self.connections[slot] = Some(connection);
                Ok(slot)
            }
            Err(error) => {
                self.free.push(slot);
                Err(error)
            }
        }
    }

    fn close(&mut self, slot: usize) {
        if let Some(mut connection) = self.connections[slot].take() {
            connection.deregister(self.poll.registry());
            self.free.push(slot);
        }
    }

    /// Handles an event on a connection: writes, reads, and finishes the request if it is complete.
    fn on_connection_event(&mut self, slot: usize, to_the_end: bool) {
        let Some(connection) = self.connections.get_mut(slot).and_then(Option::as_mut) else {
            return;
        };
        match connection.check_connected() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.break_off(slot, connect_failure(&error)),
        }
        let received =
            connection.flush().and_then(|()| connection.receive(&mut self.scratch, to_the_end));
        let Some(exchange) = connection.exchange else {
            // Idle: the server closed the connection, or sent bytes without a request.
            if !matches!(received, Ok(ConnectionState::Open)) || !connection.input.is_empty() {
                self.close(slot);
            }
            return;
        };
        let is_head = self.job.traffic.kinds[exchange.kind].is_head;
        match response::parse(&connection.input, is_head) {
            Parsed::Whole(response) => {
                let is_closed = !matches!(received, Ok(ConnectionState::Open));
                self.finish(slot, exchange, &response, is_closed);
            }
            Parsed::Malformed => self.break_off(slot, Failure::Malformed),
            Parsed::Partial if !matches!(received, Ok(ConnectionState::Open)) => {
                self.break_off(slot, Failure::Reset);
            }
            Parsed::Partial => {}
        }
    }

    /// Counts a response, and frees its connection.
    fn finish(&mut self, slot: usize, exchange: Exchange, response: &Response, is_closed: bool) {
        let now = self.now();
        let kind = &self.job.traffic.kinds[exchange.kind];
        let (is_expected, events) = (kind.expects(response.status), kind.events);
        self.record_latency(now - exchange.intended);
        self.totals.record_response(exchange.kind, response.status, is_expected);
        if is_expected {
            self.slice.expected_responses += 1;
        } else {
            self.slice.failures[Failure::Status.index()] += 1;
        }
        self.in_flight -= 1;
        let Some(connection) = &mut self.connections[slot] else { return };
        if events > 0 && (200..400).contains(&response.status) {
            let at_ms = self.start.unix_ms + now / 1_000_000;
            let body = &connection.input[response.body.clone()];
            let before = self.accepted.len();
            self.accepted.extend(response::message_ids(body).map(|id| Accepted { id, at_ms }));
            let identified = (self.accepted.len() - before) as u64;
            self.totals.accepted_events += events;
            self.totals.unidentified_events += events.saturating_sub(identified);
            if !self.job.follow {
                self.accepted.clear();
            }
        }
        connection.exchange = None;
        let reusable = self.job.keep_alive
            && !response.closes
            && !is_closed
            && connection.input.len() == response.body.end;
        connection.input.clear();
        let serial = connection.serial;
        if reusable {
            self.add_idle(Idle { slot, serial, since: now });
        } else {
            self.close(slot);
        }
    }

    /// Closes a connection whose request failed, and counts the failure.
    fn break_off(&mut self, slot: usize, failure: Failure) {
        let exchange = self.connections[slot].as_ref().and_then(|connection| connection.exchange);
        if let Some(exchange) = exchange {
            self.in_flight -= 1;
            self.record_failure(exchange.kind, failure);
            if matches!(failure, Failure::Reset | Failure::Timeout | Failure::Malformed) {
                self.totals.open_events += self.job.traffic.kinds[exchange.kind].events;
            }
        }
        self.close(slot);
    }

    fn record_failure(&mut self, kind: usize, failure: Failure) {
        self.totals.record_failure(kind, failure);
        self.slice.failures[failure.index()] += 1;
    }

    /// Breaks off requests that have waited for too long.
    fn expire_requests(&mut self) {
        let now = self.now();
        while let Some(deadline) = self.deadlines.front().copied() {
            let is_waiting = self.connections[deadline.slot].as_ref().is_some_and(|connection| {
                let exchange = connection.exchange;
                connection.serial == deadline.serial
                    && exchange.is_some_and(|exchange| exchange.intended == deadline.intended)
            });
            if is_waiting && deadline.at > now {
                break;
            }
            self.deadlines.pop_front();
            if is_waiting {
                // The response would have taken at least this long.
                self.record_latency(now - deadline.intended);
                self.break_off(deadline.slot, Failure::Timeout);
            }
        }
    }

    fn record_latency(&mut self, latency: u64) {
        self.totals.latency.saturating_record(latency);
        self.slice.latency.saturating_record(latency);
    }

    fn send_finished_slices(&mut self) {
        let current = self.now() / nanoseconds(self.job.slice).max(1);
        while self.slice.index < current {
            self.send_slice();
        }
    }

    fn send_slice(&mut self) {
        let next = Slice::new(self.slice.index + 1);
        let mut slice = std::mem::replace(&mut self.slice, next);
        slice.in_flight = self.in_flight as u64;
        // Fails if the run was given up.
        let _ = self.outbox.slices.send(slice);
        if !self.accepted.is_empty() {
            let _ = self.outbox.accepted.send(std::mem::take(&mut self.accepted));
        }
    }
}

fn next_of(times: &mut impl Iterator<Item = Duration>) -> Option<u64> {
    times.next().map(nanoseconds)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn connect_failure(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Refused,
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Failure::Reset,
        _ => Failure::Connect,
    }
}
