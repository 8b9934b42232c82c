//! The ECS task.

use prometheus::{IntCounter, IntGauge};

use super::registrar::Registrar;

/// Metrics of the ECS task. Each is described where it is registered, below.
#[derive(Debug)]
pub struct TaskMetrics {
    pub protected: IntGauge,
    pub protection_failed: IntCounter,
}

impl TaskMetrics {
    pub(super) fn new(registrar: &Registrar<'_>) -> prometheus::Result<Self> {
        Ok(Self {
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
