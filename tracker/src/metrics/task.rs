//! The process, its background tasks and its ECS task.

use prometheus::{IntCounter, IntGauge, IntGaugeVec};

use super::registrar::Registrar;

/// Metrics of the process. Each is described where it is registered, below.
#[derive(Debug)]
pub struct TaskMetrics {
    pub stalled: IntGaugeVec,
    pub dropped_log_lines: IntCounter,
    pub protected: IntGauge,
    pub protection_failed: IntCounter,
}

impl TaskMetrics {
    pub(super) fn new(registrar: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
            stalled: registrar.gauges(
                "adtrack_task_stalled",
                "1 while a background task makes no progress, by task",
                "task",
            )?,
            dropped_log_lines: registrar.counter(
                "adtrack_log_lines_dropped_total",
                "Log lines dropped because nobody read standard output in time",
            )?,
            protected: registrar.gauge(
                "adtrack_task_protected",
                "1 while the task is protected from being stopped by ECS, because events wait in its journal",
            )?,
            protection_failed: registrar.counter(
                "adtrack_task_protection_failed_total",
                "Calls to the ECS agent that failed to set the task's protection",
            )?,
        })
    }
}
