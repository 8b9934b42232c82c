//! A worker: a thread that sends its share of the schedule over connections of its own.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::iter::{Skip, StepBy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::setpriority_process;

use super::addresses::{Attempt, Rotation};
use super::agenda::Agenda;
use super::connection::{ConnectionState, Exchange, Planned};
use super::job::{Accepted, Job, Outbox, Start};
use super::pool::Pool;
use super::response::{self, Parsed, Response};
use super::timer::Timer;
use crate::recorder::{Failure, Latency, Slice, TIMED_OUT, Totals};
use crate::schedule::Times;

mod acceptance;
mod journey;
mod opening;

/// Most events handled before the next requests are sent: due requests wait for these.
const EVENTS: usize = 64;
/// Most requests sent before the next responses are read: responses wait for these.
const BURST: usize = 32;
/// Longest wait, in nanoseconds: a stop is noticed within this time.
const LONGEST_WAIT: u64 = 50_000_000;
/// Real clients have machines of their own. Here, senders go before everything else on the machine, so
/// that requests are sent when they are due.
const NICENESS: i32 = -10;
const READ_BUFFER: usize = 64 * 1024;
const TIMER: Token = Token(usize::MAX);

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
    /// Most requests in flight.
    room: usize,
    /// Requests that are due from this time on count for the run's latencies, nanoseconds.
    counted_from: u64,
    start: Start,
    stop: Arc<AtomicBool>,
    outbox: Outbox,
    poll: Poll,
    timer: Timer,
    /// The time that the timer is set for.
    alarm: u64,
    random: fastrand::Rng,
    pool: Pool,
    rotation: Rotation,
    /// In order, and only if there is more than one address.
    attempts: VecDeque<Attempt>,
    /// Slot of the request that was sent last.
    last_sent: Option<usize>,
    /// In order, because all time-outs are equally long.
    deadlines: VecDeque<Deadline>,
    /// Requests that follow others.
    agenda: Agenda,
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
            room: job.room_of(number),
            counted_from: nanoseconds(job.warm_up),
            rotation: Rotation::new(job.addresses.clone(), number),
            job,
            number,
            start,
            stop,
            outbox,
            poll,
            timer,
            alarm: 0,
            random: fastrand::Rng::with_seed(seed),
            pool: Pool::default(),
            attempts: VecDeque::new(),
            last_sent: None,
            deadlines: VecDeque::new(),
            agenda: Agenda::default(),
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
                self.agenda.clear();
            }
            let mut burst = 0;
            while burst < BURST {
                let now = self.now();
                if let Some(later) = self.agenda.take_due(now) {
                    self.send(later.due, later.planned)?;
                } else if let Some(intended) = next
                    && intended <= now
                {
                    let planned = self.draw();
                    self.send(intended, planned)?;
                    next = next_of(&mut times);
                } else {
                    break;
                }
                burst += 1;
            }
            self.expire_attempts();
            self.expire_requests();
            self.send_finished_slices();
            if next.is_none() && self.agenda.is_empty() && self.in_flight == 0 {
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
        let attempt = self.attempts.front().map(|attempt| attempt.at);
        let until = [next, self.agenda.next_due(), deadline, attempt]
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

    /// The next request of the schedule.
    fn draw(&mut self) -> Planned {
        Planned {
            kind: self.job.traffic.draw_kind(&mut self.random),
            visitor: self.job.traffic.draw_visitor(&mut self.random),
            seed: self.random.u64(..),
            is_follow_up: false,
            is_repeat: false,
        }
    }

    /// Sends a request, or counts why it cannot be sent.
    fn send(&mut self, intended: u64, planned: Planned) -> io::Result<()> {
        let now = self.now();
        let kind = planned.kind;
        self.totals.due += 1;
        self.totals.follow_ups += u64::from(planned.is_follow_up);
        self.slice.due += u64::from(!planned.is_follow_up);
        let lag = now - intended;
        if intended >= self.counted_from {
            self.totals.lag.saturating_record(lag);
        }
        self.slice.lag.saturating_record(lag);
        if self.in_flight >= self.room {
            self.leave_unsent(intended, &planned, Failure::Overflow);
            return Ok(());
        }
        let slot = match self.pool.take_idle(now, self.poll.registry()) {
            Some(slot) => slot,
            None => match self.open(now) {
                Ok(slot) => slot,
                Err(error) => {
                    let failure = self.connect_failure(&error);
                    self.leave_unsent(intended, &planned, failure);
                    return Ok(());
                }
            },
        };
        let Some(connection) = self.pool.get_mut(slot) else { return Ok(()) };
        let buffer = connection.request_buffer();
        let mut random = fastrand::Rng::with_seed(planned.seed);
        self.job.traffic.write(kind, &planned.visitor, &mut random, buffer);
        connection.exchange = Some(Exchange { intended, sent: now, planned });
        self.in_flight += 1;
        self.totals.sent += 1;
        self.slice.count_sent(planned.is_follow_up);
        self.last_sent = Some(slot);
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

    /// Counts a request that is not sent. Had it been sent, its response would have come no earlier than
    /// that of the request sent last, which was ahead of it: its latency is counted when that one ends.
    #[cold]
    fn leave_unsent(&mut self, intended: u64, planned: &Planned, failure: Failure) {
        let kind = planned.kind;
        self.record_failure(kind, failure);
        if !failure.is_of_the_harness() {
            // As far as the harness is concerned, it was sent: the target refused it.
            self.totals.sent += 1;
            self.slice.count_sent(planned.is_follow_up);
            return;
        }
        let ahead = self.last_sent.and_then(|slot| self.pool.get_mut(slot));
        if let Some(connection) = ahead.filter(|connection| connection.exchange.is_some()) {
            connection.unsent.push((kind, intended));
        }
    }

    /// Counts the latencies of the requests that were not sent because of the one that ends now.
    #[cold]
    fn record_unsent(&mut self, slot: usize, now: u64) {
        let Some(connection) = self.pool.get_mut(slot) else { return };
        for (kind, intended) in std::mem::take(&mut connection.unsent) {
            let latency = Latency { kind, status: TIMED_OUT, from_intended: now - intended };
            self.totals.record_unsent(&latency, intended >= self.counted_from);
            self.slice.latency.saturating_record(latency.from_intended);
        }
    }

    /// Handles an event on a connection: writes, reads, and finishes the request if it is complete.
    fn on_connection_event(&mut self, slot: usize, to_the_end: bool) {
        let Some(connection) = self.pool.get_mut(slot) else { return };
        match connection.check_connected() {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return self.on_connect_error(slot, &error),
        }
        let received =
            connection.flush().and_then(|()| connection.receive(&mut self.scratch, to_the_end));
        let is_closed = !matches!(received, Ok(ConnectionState::Open));
        let Some(exchange) = connection.exchange else {
            // Idle: the server closed the connection, or sent bytes without a request.
            if is_closed || !connection.input.is_empty() {
                self.pool.close(slot, self.poll.registry());
            }
            return;
        };
        let is_head = self.job.traffic.kinds[exchange.planned.kind].is_head;
        // An error is not the end of a body whose end only the closing shows.
        let is_ended = matches!(received, Ok(ConnectionState::Closed));
        match response::parse(&connection.input, is_head, is_ended) {
            Parsed::Whole(response) => self.finish(slot, exchange, &response, is_closed),
            Parsed::Malformed => self.break_off(slot, Failure::Malformed),
            Parsed::Partial if is_closed && !connection.is_established() => {
                self.break_off(slot, Failure::Connect);
            }
            Parsed::Partial if is_closed => self.break_off(slot, Failure::Reset),
            Parsed::Partial => {}
        }
    }

    /// Counts a response, and frees its connection.
    fn finish(&mut self, slot: usize, exchange: Exchange, response: &Response, is_closed: bool) {
        let now = self.now();
        let planned = exchange.planned;
        let kind = &self.job.traffic.kinds[planned.kind];
        let is_expected = kind.expects(response.status);
        self.record_latency(exchange, response.status, now);
        self.totals.record_response(exchange.planned.kind, response.status, is_expected);
        if is_expected {
            self.slice.expected_responses += 1;
        } else {
            self.slice.failures[Failure::Status.index()] += 1;
        }
        self.in_flight -= 1;
        let Some(connection) = self.pool.get_mut(slot) else { return };
        let has_unsent = !connection.unsent.is_empty();
        connection.exchange = None;
        let reusable = self.job.keep_alive
            && !response.closes
            && !is_closed
            && connection.input.len() == response.end;
        let mut input = std::mem::take(&mut connection.input);
        let serial = connection.serial;
        let first_id = self.accept(&planned, response, &input, now);
        if let Some(connection) = self.pool.get_mut(slot) {
            // The next response uses the same memory.
            input.clear();
            connection.input = input;
        }
        if has_unsent {
            self.record_unsent(slot, now);
        }
        if planned.is_repeat {
            self.check_repeat(&planned, first_id);
        } else if let Some(id) = first_id.filter(|_| is_expected) {
            self.plan_follow_ups(planned, id, now);
        }
        if reusable {
            self.pool.add_idle(slot, serial, now);
        } else {
            self.pool.close(slot, self.poll.registry());
        }
    }

    /// Closes a connection whose request failed, and counts the failure.
    #[cold]
    fn break_off(&mut self, slot: usize, failure: Failure) {
        let exchange = self.pool.get(slot).and_then(|connection| connection.exchange);
        if let Some(exchange) = exchange {
            self.in_flight -= 1;
            self.record_failure(exchange.planned.kind, failure);
            if matches!(failure, Failure::Reset | Failure::Timeout | Failure::Malformed) {
                // The event of a repeat was accepted before.
                if !exchange.planned.is_repeat {
                    self.totals.open_events += self.job.traffic.kinds[exchange.planned.kind].events;
                }
            }
            self.record_unsent(slot, self.now());
        }
        self.pool.close(slot, self.poll.registry());
    }

    fn record_failure(&mut self, kind: usize, failure: Failure) {
        self.totals.record_failure(kind, failure);
        self.slice.failures[failure.index()] += 1;
    }

    /// Breaks off requests that have waited for too long.
    fn expire_requests(&mut self) {
        let now = self.now();
        while let Some(deadline) = self.deadlines.front().copied() {
            let is_waiting = self.pool.get(deadline.slot).is_some_and(|connection| {
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
                if let Some(exchange) = self.pool.get(deadline.slot).and_then(|c| c.exchange) {
                    self.record_latency(exchange, TIMED_OUT, now);
                }
                self.break_off(deadline.slot, Failure::Timeout);
            }
        }
    }

    /// `status`: of the response, or [`TIMED_OUT`].
    fn record_latency(&mut self, exchange: Exchange, status: u16, now: u64) {
        let from_intended = now - exchange.intended;
        self.slice.latency.saturating_record(from_intended);
        if exchange.intended >= self.counted_from {
            let latency = Latency { kind: exchange.planned.kind, status, from_intended };
            self.totals.record_latency(&latency, now - exchange.sent);
        }
    }

    fn send_finished_slices(&mut self) {
        let current = self.now() / nanoseconds(self.job.slice).max(1);
        while self.slice.index < current {
            self.send_slice();
        }
    }

    fn send_slice(&mut self) {
        self.rotation.refresh();
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
