//! Runs the load generator against servers, as a run of the program does.

use std::net::SocketAddr;
use std::time::Duration;

use loadtest::engine::{self, Accepted, Addresses, Job, Merger, Tls};
use loadtest::recorder::{Failure, Slice, Totals};
use loadtest::request::Traffic;
use loadtest::scenario::{Connections, Scenario};

/// No failures.
pub const NONE: [(&str, u64); 0] = [];

/// What the harness reports.
pub struct Outcome {
    pub totals: Totals,
    pub slices: Vec<Slice>,
    pub accepted: Vec<Accepted>,
}

impl Outcome {
    pub fn status(&self, wanted: u16) -> u64 {
        let of_status = self.totals.statuses().filter(|(_, status, _)| *status == wanted);
        of_status.map(|(.., count)| count).sum()
    }

    /// Failures by kind, without zeros.
    pub fn failures(&self) -> Vec<(&'static str, u64)> {
        let all = Failure::ALL.map(|failure| (failure.name(), self.totals.failures(failure)));
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// A scenario of one phase with uniform arrivals.
pub fn scenario(rate: u32, duration: &str, rest: &str) -> Scenario {
    let phase = format!(
        "description = \"t\"\n[[phase]]\nkind = \"constant\"\nrate = {rate}\nduration = \"{duration}\"\n"
    );
    Scenario::parse(&format!("{phase}{rest}"), "test").unwrap()
}

/// An endpoint that requests `path`.
pub fn endpoint(path: &str, rest: &str) -> String {
    format!("[[endpoint]]\nname = \"e\"\npath = \"{path}\"\n{rest}\n")
}

pub fn run(addresses: &[SocketAddr], tls: Option<Tls>, scenario: &Scenario) -> Outcome {
    let job = Job {
        traffic: Traffic::new(scenario, "reference.example", "0123abcd"),
        schedule: scenario.schedule(1),
        seed: 1,
        addresses: Addresses::new(addresses.to_vec()),
        tls,
        keep_alive: scenario.requests.connections == Connections::KeepAlive,
        timeout: scenario.requests.timeout.0,
        max_in_flight: scenario.room(10_000),
        warm_up: scenario.harness.warm_up.0,
        workers: 1,
        slice: Duration::from_millis(250),
        follow: true,
    };
    let (running, mut streams) = engine::start(job).unwrap();
    let mut merger = Merger::new(1);
    let mut slices = Vec::new();
    while let Some(slice) = streams.slices.blocking_recv() {
        slices.extend(merger.add(slice));
    }
    slices.extend(merger.rest());
    let mut accepted = Vec::new();
    while let Some(events) = streams.accepted.blocking_recv() {
        accepted.extend(events);
    }
    Outcome { totals: running.finish().unwrap(), slices, accepted }
}
