//! The tracker's Prometheus metrics, a struct per subsystem. Handles are resolved once, so that requests
//! only increment atomics.

mod delivery;
mod http;
mod programs;
mod registrar;
mod task;

use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};

use delivery::DeliveryMetrics;
use http::HttpMetrics;
use programs::ProgramMetrics;
use registrar::Registrar;
use task::TaskMetrics;

/// All metrics of one tracker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests of ad clients.
    pub http: HttpMetrics,
    /// Core data: cache lookups, Redis reads, updates and verification.
    pub programs: ProgramMetrics,
    /// Journal and stream.
    pub delivery: DeliveryMetrics,
    /// The process, its background tasks and its ECS task.
    pub task: TaskMetrics,
}

impl Metrics {
    /// Registers all metrics. Fails if two have the same name, which is a bug.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(ProcessCollector::for_self()))?;
        let registrar = Registrar(&registry);
        Ok(Self {
            http: HttpMetrics::new(&registrar)?,
            programs: ProgramMetrics::new(&registrar)?,
            delivery: DeliveryMetrics::new(&registrar)?,
            task: TaskMetrics::new(&registrar)?,
            registry,
        })
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> prometheus::Result<String> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Refusal;

    #[test]
    fn counts_every_refusal_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.http.count_refusal(&Refusal::Overloaded);
        let text = metrics.render().unwrap();
        for code in Refusal::codes() {
            let count = i32::from(code == "overloaded");
            let line = format!("adtrack_requests_total{{answer=\"{code}\"}} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
