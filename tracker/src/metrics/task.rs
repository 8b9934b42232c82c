//! The ECS task.

use prometheus::{IntCounter, IntGauge};

use super::registrar::Registrar;

/// The ECS task. Each metric has its description below, where it is registered.
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
                "1 while ECS is kept from ending this task, because events wait in its journal",
            )?,
            protection_failed: registrar.counter(
                "adtrack_task_protection_failed_total",
                "Calls of the ECS agent that did not set the task's protection",
            )?,
        })
    }
}
