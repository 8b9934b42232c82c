//! Core data: cache lookups, Redis reads, updates and verification.

use prometheus::{Histogram, IntCounter, IntGauge};

use super::registrar::{REQUEST_BUCKETS, Registrar};

/// Metrics of core data. Each is described where it is registered, below.
#[derive(Debug)]
pub struct ProgramMetrics {
    pub local_hits: IntCounter,
    pub local_negative_hits: IntCounter,
    pub local_stale_hits: IntCounter,
    pub local_misses: IntCounter,
    pub local_entries: IntGauge,
    pub loads_found: IntCounter,
    pub loads_absent: IntCounter,
    pub loads_failed: IntCounter,
    pub loads_rejected: IntCounter,
    pub loads_invalid: IntCounter,
    pub load_seconds: Histogram,
    pub loads_in_flight: IntGauge,
    pub updates_applied: IntCounter,
    pub updates_ignored: IntCounter,
    pub updates_not_held: IntCounter,
    pub updates_malformed: IntCounter,
    pub updates_unconfirmed: IntCounter,
    pub contradictions_found: IntCounter,
    pub contradictions_resolved: IntCounter,
    pub subscribed: IntGauge,
    pub subscriptions: IntCounter,
    pub redis_connected: IntGauge,
    pub core_data_loaded: IntGauge,
    pub verifications: IntCounter,
    pub verified_at: IntGauge,
}

impl ProgramMetrics {
    pub(super) fn new(registrar: &Registrar<'_>) -> prometheus::Result<Self> {
        let lookups = registrar.counters(
            "adtrack_l1_lookups_total",
            "Lookups in L1: hit, negative_hit (known not to exist, or deleted), stale_hit (served \
             past its TTL or unverified, because Redis is unavailable), miss (Redis was asked)",
            "result",
        )?;
        let loads = registrar.counters(
            "adtrack_l2_loads_total",
            "Reads of Redis: found, absent, failed, rejected (too many waiting)",
            "result",
        )?;
        let updates = registrar.counters(
            "adtrack_updates_total",
            "Core-data updates received by pub/sub: applied, ignored (older), not_held \
             (L1 is full of others), malformed, unconfirmed (doubtful, and not in Redis)",
            "result",
        )?;
        let contradictions = registrar.counters(
            "adtrack_l1_contradictions_total",
            "Programs of which Redis holds an older version than L1: found, resolved (still so a \
             minute later: L1 has taken what Redis holds)",
            "stage",
        )?;
        Ok(Self {
            local_hits: lookups.with_label_values(&["hit"]),
            local_negative_hits: lookups.with_label_values(&["negative_hit"]),
            local_stale_hits: lookups.with_label_values(&["stale_hit"]),
            local_misses: lookups.with_label_values(&["miss"]),
            local_entries: registrar.gauge("adtrack_l1_entries", "Programs in L1")?,
            loads_found: loads.with_label_values(&["found"]),
            loads_absent: loads.with_label_values(&["absent"]),
            loads_failed: loads.with_label_values(&["failed"]),
            loads_rejected: loads.with_label_values(&["rejected"]),
            loads_invalid: registrar.counter(
                "adtrack_l2_invalid_total",
                "Reads of programs that Redis holds in a form that cannot be used: malformed, not a \
                 hash, or another program's",
            )?,
            load_seconds: registrar.histogram(
                "adtrack_l2_load_seconds",
                "Duration of a read of Redis",
                &REQUEST_BUCKETS,
            )?,
            loads_in_flight: registrar
                .gauge("adtrack_l2_loads_in_flight", "Reads of Redis in progress")?,
            updates_applied: updates.with_label_values(&["applied"]),
            updates_ignored: updates.with_label_values(&["ignored"]),
            updates_not_held: updates.with_label_values(&["not_held"]),
            updates_malformed: updates.with_label_values(&["malformed"]),
            updates_unconfirmed: updates.with_label_values(&["unconfirmed"]),
            contradictions_found: contradictions.with_label_values(&["found"]),
            contradictions_resolved: contradictions.with_label_values(&["resolved"]),
            subscribed: registrar.gauge("adtrack_subscribed", "1 while subscribed to pub/sub")?,
            subscriptions: registrar.counter(
                "adtrack_subscriptions_total",
                "Subscriptions made; every one after the first follows a lost subscription",
            )?,
            redis_connected: registrar
                .gauge("adtrack_redis_connected", "1 while the data connection to Redis is up")?,
            core_data_loaded: registrar.gauge(
                "adtrack_core_data_loaded",
                "1 while Redis holds the core data that it should: alarm on this one",
            )?,
            verifications: registrar.counter(
                "adtrack_l1_verifications_total",
                "Complete verifications of L1 against Redis",
            )?,
            verified_at: registrar.gauge(
                "adtrack_l1_verified_timestamp_seconds",
                "When L1 was last verified against Redis, Unix time",
            )?,
        })
    }
}
