//! Journal and stream.

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};

use super::registrar::{CALL_BUCKETS, EVENTS_BUCKETS, Registrar};

/// Metrics of journal and stream. Each is described where it is registered, below.
#[derive(Debug)]
pub struct DeliveryMetrics {
    pub journal_bytes: IntGauge,
    pub journal_capacity: IntGauge,
    pub journal_oldest_seconds: Gauge,
    pub journal_outstanding: IntGauge,
    pub journal_replayed: IntCounter,
    pub journal_damaged: IntCounter,
    pub journal_lost_files: IntGauge,
    pub events_per_record: Histogram,
    pub delivered_events: IntCounter,
    pub put_records_calls: IntCounter,
    pub put_records_seconds: Histogram,
    pub delivered_records: IntCounter,
    pub retried_records: IntCounter,
    pub failed_records: IntCounterVec,
    pub failed_calls: IntCounterVec,
}

impl DeliveryMetrics {
    pub(super) fn new(registrar: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            journal_bytes: registrar.gauge(
                "adtrack_journal_bytes",
                "Bytes of accepted events that Kinesis has not acknowledged",
            )?,
            journal_capacity: registrar
                .gauge("adtrack_journal_capacity_bytes", "Size of the journal in bytes")?,
            journal_oldest_seconds: registrar.float_gauge(
                "adtrack_journal_oldest_seconds",
                "Age of the oldest event that Kinesis has not acknowledged: alarm on this one",
            )?,
            journal_outstanding: registrar.gauge(
                "adtrack_journal_outstanding_events",
                "Events read from the journal and not acknowledged yet",
            )?,
            journal_replayed: registrar.counter(
                "adtrack_journal_replayed_events_total",
                "Events found in the journal at the start",
            )?,
            journal_damaged: registrar.counter(
                "adtrack_journal_damaged_total",
                "Damaged stretches of the journal that were skipped",
            )?,
            journal_lost_files: registrar.gauge(
                "adtrack_journal_lost_files",
                "Files of the journal that are set aside as damaged, and how often one was removed, shortened or unreadable since the start",
            )?,
            events_per_record: registrar.histogram(
                "adtrack_events_per_record",
                "Events in a Kinesis record",
                &EVENTS_BUCKETS,
            )?,
            delivered_events: registrar
                .counter("adtrack_events_delivered_total", "Events that Kinesis acknowledged")?,
            put_records_calls: registrar
                .counter("adtrack_put_records_calls_total", "PutRecords calls")?,
            put_records_seconds: registrar.histogram(
                "adtrack_put_records_seconds",
                "Duration of a PutRecords call",
                &CALL_BUCKETS,
            )?,
            delivered_records: registrar
                .counter("adtrack_records_delivered_total", "Records that Kinesis acknowledged")?,
            retried_records: registrar
                .counter("adtrack_records_retried_total", "Records sent again")?,
            failed_records: registrar.counters(
                "adtrack_records_failed_total",
                "Records that a PutRecords response reported as failed, by error code",
                "code",
            )?,
            failed_calls: registrar.counters(
                "adtrack_put_records_failed_total",
                "PutRecords calls that failed as a whole, by cause",
                "cause",
            )?,
        })
    }
}
