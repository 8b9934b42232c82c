//! One sender: its part of the schedule, its connections.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::iter::{Skip, StepBy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::setpriority_process;

use super::connection::{Connection, Exchange, Open};
use super::job::{Accepted, Job, Outbox, Start};
use super::response::{self, Parsed, Response};
use super::timer::Timer;
use crate::recorder::{Failure, Slice, Totals};
use crate::schedule::Times;

/// Events of one wait: requests that come due meanwhile wait for them.
const EVENTS: usize = 64;
/// Requests sent before answers are looked at again: these wait meanwhile.
const BURST: usize = 32;
/// Servers close connections that were idle for some seconds (actix-web: 5); a request on one that
/// is being closed would fail by our own fault.
const IDLE_LIMIT: u64 = 4_000_000_000;
/// How soon a request to stop is seen.
const LONGEST_WAIT: u64 = 50_000_000;
/// Clients have machines of their own: here they go before whatever else runs, so that a request is
/// sent when it is due.
const NICENESS: i32 = -10;
const READ_BUFFER: usize = 64 * 1024;
const TIMER: Token = Token(usize::MAX);

/// A connection that waits for a request; since when, in nanoseconds. It may have been closed since:
/// then its place is empty or has another.
#[derive(Debug, Clone, Copy)]
struct Idle {
    slot: usize,
    serial: u64,
    since: u64,
}

/// A request's time-out.
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
    /// What the timer is set for.
    alarm: u64,
    random: fastrand::Rng,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    idle: Vec<Idle>,
    /// All time-outs are equally long: the first is the next.
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

    /// Sends all, waits for what is in flight, and returns what it saw.
    pub(super) fn run(mut self) -> io::Result<Totals> {
        let mut times = self.times();
        let mut next = next_of(&mut times);
        let mut events = Events::with_capacity(EVENTS);
        // Only the system's administrator may; without it the lag shows what that costs.
        let _ = setpriority_process(None, NICENESS);
        // Before it the clock below stands at 0, which is the first intended time.
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
            self.expire();
            self.turn_slices();
            if next.is_none() && self.in_flight == 0 {
                break;
            }
            self.wait(next, &mut events)?;
            for event in &events {
                if event.token() != TIMER {
                    self.attend(event.token().0, event.is_read_closed() || event.is_error());
                }
            }
        }
        self.hand_on_slice();
        Ok(self.totals)
    }

    /// Every n-th of the schedule's times, from its own number on.
    fn times(&self) -> StepBy<Skip<Times>> {
        self.job.schedule.times().skip(self.number).step_by(self.job.workers)
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        nanoseconds(self.start.instant.elapsed())
    }

    /// Waits for an answer, the next intended time or the next time-out.
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
            // Where an answer woke it, the timer is still set for the same moment.
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

    /// Sends a request, or counts why not.
    fn send(&mut self, intended: u64) -> io::Result<()> {
        let now = self.now();
        self.totals.due += 1;
        self.slice.sent += 1;
        let lag = now - intended;
        self.totals.lag.saturating_record(lag);
        self.slice.lag.saturating_record(lag);
        if self.in_flight >= self.job.max_in_flight / self.job.workers {
            // Which it would have been is not drawn: it counts as the first kind.
            self.fail(0, Failure::Overflow);
            return Ok(());
        }
        let slot = match self.idle_slot(now) {
            Some(slot) => slot,
            None => match self.open() {
                Ok(slot) => slot,
                Err(error) => {
                    self.fail(0, connect_failure(&error));
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

    /// The connection that was used last, so that few stay in use; none where all are too old.
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

    /// Remembers a connection that waits for a request.
    fn add_idle(&mut self, idle: Idle) {
        // What was closed is forgotten now and then, and not each time: a server closes thousands at
        // once after a spike.
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

    /// Something happened on a connection.
    fn attend(&mut self, slot: usize, to_the_end: bool) {
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
            // Idle: nothing is due. It was closed, or the server speaks out of turn.
            if !matches!(received, Ok(Open::Yes)) || !connection.input.is_empty() {
                self.close(slot);
            }
            return;
        };
        let is_head = self.job.traffic.kinds[exchange.kind].is_head;
        match response::parse(&connection.input, is_head) {
            Parsed::Whole(response) => {
                let ended = !matches!(received, Ok(Open::Yes));
                self.finish(slot, exchange, &response, ended);
            }
            Parsed::Malformed => self.break_off(slot, Failure::Malformed),
            Parsed::Partial if !matches!(received, Ok(Open::Yes)) => {
                self.break_off(slot, Failure::Reset);
            }
            Parsed::Partial => {}
        }
    }

    /// Counts an answer, and frees its connection.
    fn finish(&mut self, slot: usize, exchange: Exchange, response: &Response, ended: bool) {
        let now = self.now();
        let kind = &self.job.traffic.kinds[exchange.kind];
        let (expected, events) = (kind.expects(response.status), kind.events);
        self.record_latency(now - exchange.intended);
        self.totals.answer(exchange.kind, response.status, expected);
        if expected {
            self.slice.answered += 1;
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
            && !ended
            && connection.input.len() == response.body.end;
        connection.input.clear();
        let serial = connection.serial;
        if reusable {
            self.add_idle(Idle { slot, serial, since: now });
        } else {
            self.close(slot);
        }
    }

    /// Ends a connection whose request fails.
    fn break_off(&mut self, slot: usize, failure: Failure) {
        let exchange = self.connections[slot].as_ref().and_then(|connection| connection.exchange);
        if let Some(exchange) = exchange {
            self.in_flight -= 1;
            self.fail(exchange.kind, failure);
            if matches!(failure, Failure::Reset | Failure::Timeout | Failure::Malformed) {
                self.totals.open_events += self.job.traffic.kinds[exchange.kind].events;
            }
        }
        self.close(slot);
    }

    fn fail(&mut self, kind: usize, failure: Failure) {
        self.totals.failure(kind, failure);
        self.slice.failures[failure.index()] += 1;
    }

    /// Breaks off what waited for too long.
    fn expire(&mut self) {
        let now = self.now();
        while let Some(deadline) = self.deadlines.front().copied() {
            let waits = self.connections[deadline.slot].as_ref().is_some_and(|connection| {
                let exchange = connection.exchange;
                connection.serial == deadline.serial
                    && exchange.is_some_and(|exchange| exchange.intended == deadline.intended)
            });
            if waits && deadline.at > now {
                break;
            }
            self.deadlines.pop_front();
            if waits {
                // It took at least as long.
                self.record_latency(now - deadline.intended);
                self.break_off(deadline.slot, Failure::Timeout);
            }
        }
    }

    fn record_latency(&mut self, latency: u64) {
        self.totals.latency.saturating_record(latency);
        self.slice.latency.saturating_record(latency);
    }

    /// Hands on the slices that are over.
    fn turn_slices(&mut self) {
        let current = self.now() / nanoseconds(self.job.slice).max(1);
        while self.slice.index < current {
            self.hand_on_slice();
        }
    }

    fn hand_on_slice(&mut self) {
        let following = Slice::new(self.slice.index + 1);
        let mut slice = std::mem::replace(&mut self.slice, following);
        slice.in_flight = self.in_flight as u64;
        // Nobody listens any more where the run is given up.
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
