//! What the tracker counts, as Prometheus reads it. Handles are resolved once, so that a request
//! adds to plain atomics.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

use crate::domain::Refusal;

/// From 50 µs: an answer from L1 takes about as long.
const REQUEST_BUCKETS: [f64; 14] =
    [5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0];
const EVENTS_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
const CALL_BUCKETS: [f64; 12] = [1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1.0, 2.0, 6.0];

/// All metrics of one tracker.
#[derive(Debug)]
#[expect(missing_docs, reason = "each has its description where it is registered, below")]
pub struct Metrics {
    registry: Registry,
    pub requests_accepted: IntCounter,
    requests_refused: [IntCounter; Refusal::CODES.len()],
    pub request_seconds: Histogram,
    pub batch_seconds: Histogram,
    pub events_per_batch: Histogram,
    pub local_hits: IntCounter,
    pub local_negative_hits: IntCounter,
    pub local_stale_hits: IntCounter,
    pub local_misses: IntCounter,
    pub local_entries: IntGauge,
    pub loads_found: IntCounter,
    pub loads_absent: IntCounter,
    pub loads_failed: IntCounter,
    pub loads_rejected: IntCounter,
    pub load_seconds: Histogram,
    pub loads_in_flight: IntGauge,
    pub updates_applied: IntCounter,
    pub updates_ignored: IntCounter,
    pub updates_not_held: IntCounter,
    pub updates_malformed: IntCounter,
    pub subscribed: IntGauge,
    pub subscriptions: IntCounter,
    pub redis_connected: IntGauge,
    pub verifications: IntCounter,
    pub verified_at: IntGauge,
    pub journal_bytes: IntGauge,
    pub journal_capacity: IntGauge,
    pub journal_oldest_seconds: Gauge,
    pub journal_outstanding: IntGauge,
    pub journal_replayed: IntCounter,
    pub journal_damaged: IntCounter,
    pub events_per_record: Histogram,
    pub delivered_events: IntCounter,
    pub put_records_calls: IntCounter,
    pub put_records_seconds: Histogram,
    pub delivered_records: IntCounter,
    pub retried_records: IntCounter,
    pub failed_records: IntCounterVec,
    pub failed_calls: IntCounterVec,
    pub task_protected: IntGauge,
    pub task_protection_failed: IntCounter,
}

impl Metrics {
    /// Registers them. Fails where a name is taken, which is a bug.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        let in_registry = Registrar(&registry);
        let requests = in_registry.counters(
            "adtrack_requests_total",
            "Tracking requests by answer: accepted, or the problem's code; of a batch, each item",
            "answer",
        )?;
        let lookups = in_registry.counters(
            "adtrack_l1_lookups_total",
            "Look-ups in L1: hit, negative_hit (known to be unknown), stale_hit (served \
             past its TTL or unverified, because Redis is away), miss (Redis was asked)",
            "result",
        )?;
        let loads = in_registry.counters(
            "adtrack_l2_loads_total",
            "Reads of Redis: found, absent, failed, rejected (too many waiting)",
            "result",
        )?;
        let updates = in_registry.counters(
            "adtrack_updates_total",
            "Core-data updates received by pub/sub: applied, ignored (not newer), not_held \
             (L1 is full of others), malformed",
            "result",
        )?;
        Ok(Self {
            requests_accepted: requests.with_label_values(&["accepted"]),
            requests_refused: Refusal::CODES.map(|code| requests.with_label_values(&[code])),
            request_seconds: in_registry.histogram(
                "adtrack_request_seconds",
                "Time from a tracking request's headers to its answer",
                &REQUEST_BUCKETS,
            )?,
            batch_seconds: in_registry.histogram(
                "adtrack_batch_seconds",
                "Time from the headers of a batch (POST /events) to its answer",
                &REQUEST_BUCKETS,
            )?,
            events_per_batch: in_registry.histogram(
                "adtrack_events_per_batch",
                "Items of a batch (POST /events), accepted or not",
                &EVENTS_BUCKETS,
            )?,
            local_hits: lookups.with_label_values(&["hit"]),
            local_negative_hits: lookups.with_label_values(&["negative_hit"]),
            local_stale_hits: lookups.with_label_values(&["stale_hit"]),
            local_misses: lookups.with_label_values(&["miss"]),
            local_entries: in_registry.gauge("adtrack_l1_entries", "Programs in L1")?,
            loads_found: loads.with_label_values(&["found"]),
            loads_absent: loads.with_label_values(&["absent"]),
            loads_failed: loads.with_label_values(&["failed"]),
            loads_rejected: loads.with_label_values(&["rejected"]),
            load_seconds: in_registry.histogram(
                "adtrack_l2_load_seconds",
                "Time of a read of Redis",
                &REQUEST_BUCKETS,
            )?,
            loads_in_flight: in_registry
                .gauge("adtrack_l2_loads_in_flight", "Reads of Redis under way")?,
            updates_applied: updates.with_label_values(&["applied"]),
            updates_ignored: updates.with_label_values(&["ignored"]),
            updates_not_held: updates.with_label_values(&["not_held"]),
            updates_malformed: updates.with_label_values(&["malformed"]),
            subscribed: in_registry
                .gauge("adtrack_subscribed", "1 while the pub/sub subscription stands")?,
            subscriptions: in_registry.counter(
                "adtrack_subscriptions_total",
                "Subscriptions made; each but the first repairs a break",
            )?,
            redis_connected: in_registry
                .gauge("adtrack_redis_connected", "1 while the data connection to Redis stands")?,
            verifications: in_registry.counter(
                "adtrack_l1_verifications_total",
                "Whole verifications of L1 against Redis",
            )?,
            verified_at: in_registry.gauge(
                "adtrack_l1_verified_timestamp_seconds",
                "When L1 was last verified against Redis, Unix time",
            )?,
            journal_bytes: in_registry.gauge(
                "adtrack_journal_bytes",
                "Bytes of accepted events that Kinesis has not acknowledged",
            )?,
            journal_capacity: in_registry
                .gauge("adtrack_journal_capacity_bytes", "Bytes that the journal takes")?,
            journal_oldest_seconds: in_registry.float_gauge(
                "adtrack_journal_oldest_seconds",
                "Age of the oldest event that Kinesis has not acknowledged: the one to alarm on",
            )?,
            journal_outstanding: in_registry.gauge(
                "adtrack_journal_outstanding_events",
                "Events read from the journal and not acknowledged yet",
            )?,
            journal_replayed: in_registry.counter(
                "adtrack_journal_replayed_events_total",
                "Events that the start found in the journal",
            )?,
            journal_damaged: in_registry.counter(
                "adtrack_journal_damaged_total",
                "Stretches of the journal that were damaged and skipped",
            )?,
            events_per_record: in_registry.histogram(
                "adtrack_events_per_record",
                "Events in a Kinesis record",
                &EVENTS_BUCKETS,
            )?,
            delivered_events: in_registry
                .counter("adtrack_events_delivered_total", "Events that Kinesis acknowledged")?,
            put_records_calls: in_registry
                .counter("adtrack_put_records_calls_total", "PutRecords calls")?,
            put_records_seconds: in_registry.histogram(
                "adtrack_put_records_seconds",
                "Time of a PutRecords call",
                &CALL_BUCKETS,
            )?,
            delivered_records: in_registry
                .counter("adtrack_records_delivered_total", "Records that Kinesis acknowledged")?,
            retried_records: in_registry
                .counter("adtrack_records_retried_total", "Records sent again")?,
            failed_records: in_registry.counters(
                "adtrack_records_failed_total",
                "Records that a PutRecords answer named as failed, by error code",
                "code",
            )?,
            failed_calls: in_registry.counters(
                "adtrack_put_records_failed_total",
                "PutRecords calls that failed as a whole, by cause",
                "cause",
            )?,
            task_protected: in_registry.gauge(
                "adtrack_task_protected",
                "1 while ECS is kept from ending this task, because events wait in its journal",
            )?,
            task_protection_failed: in_registry.counter(
                "adtrack_task_protection_failed_total",
                "Calls of the ECS agent that did not set the task's protection",
            )?,
            registry,
        })
    }

    /// Counts a refused request.
    pub fn refused(&self, refusal: &Refusal) {
        self.requests_refused[refusal.index()].inc();
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    fn float_gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<IntGauge> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_counter_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.refused(&Refusal::Overloaded);
        let text = metrics.render().unwrap();
        for code in Refusal::CODES {
            let count = i32::from(code == "overloaded");
            let line = format!("adtrack_requests_total{{answer=\"{code}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
