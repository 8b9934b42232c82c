//! Requests of ad clients.

use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::registrar::{EVENTS_BUCKETS, REQUEST_BUCKETS, Registrar};
use crate::domain::{Refusal, Repairs};

/// Metrics of ad clients' requests. Each is described where it is registered, below.
#[derive(Debug)]
pub struct HttpMetrics {
    pub requests_accepted: IntCounter,
    requests_refused: Vec<IntCounter>,
    repaired: Vec<IntCounter>,
    pub repaired_share_max: Gauge,
    pub refused_share_max: Gauge,
    pub share_jumps: IntGauge,
    pub request_seconds: Histogram,
    pub batch_seconds: Histogram,
    pub events_per_batch: Histogram,
}

impl HttpMetrics {
    pub(super) fn new(registrar: &Registrar<'_>) -> prometheus::Result<Self> {
        let requests = registrar.counters(
            "adtrack_requests_total",
            "Tracking requests by outcome: accepted, or the problem's code; each item of a batch counts",
            "answer",
        )?;
        let repaired = registrar.counters(
            "adtrack_repaired_total",
            "Recorded events that were repaired first, by reason; an event may have several \
             (docs/LIMITS.md lists them)",
            "reason",
        )?;
        Ok(Self {
            repaired: Repairs::REASONS
                .iter()
                .map(|reason| repaired.with_label_values(&[reason]))
                .collect(),
            requests_accepted: requests.with_label_values(&["accepted"]),
            requests_refused: Refusal::codes()
                .map(|code| requests.with_label_values(&[code]))
                .collect(),
            repaired_share_max: registrar.float_gauge(
                "adtrack_program_repaired_share_max",
                "The greatest share of a program's recent requests that were repaired, among programs with at \
                 least 100; conversions and other events are apart",
            )?,
            refused_share_max: registrar.float_gauge(
                "adtrack_program_refused_share_max",
                "The same of requests that were refused for what they say",
            )?,
            share_jumps: registrar.gauge(
                "adtrack_program_share_jumps",
                "Shares of programs' requests that are repaired or refused that are above 10 % and more than \
                 twice what they were in the hours before; the log names the programs: alarm on this one",
            )?,
            request_seconds: registrar.histogram(
                "adtrack_request_seconds",
                "Time from a tracking request's headers to its response",
                &REQUEST_BUCKETS,
            )?,
            batch_seconds: registrar.histogram(
                "adtrack_batch_seconds",
                "Time from the headers of a batch (POST /events) to its response",
                &REQUEST_BUCKETS,
            )?,
            events_per_batch: registrar.histogram(
                "adtrack_events_per_batch",
                "Items of a batch (POST /events), accepted or not",
                &EVENTS_BUCKETS,
            )?,
        })
    }

    /// Counts a recorded event by what was repaired in its request.
    pub fn count_repairs(&self, repairs: Repairs) {
        for position in repairs.positions() {
            self.repaired[position].inc();
        }
    }

    /// Counts a refused request by its code.
    pub fn count_refusal(&self, refusal: &Refusal) {
        self.requests_refused[refusal.index()].inc();
    }
}
