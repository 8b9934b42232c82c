//! A look at the tracker and the machine from outside, once a slice.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::process;

/// What a look saw. Members that cannot be seen are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// When, seconds from the start; negative before it.
    pub at_seconds: f64,
    /// CPU time that the tracker has used so far.
    pub tracker_cpu: Option<Duration>,
    /// CPU time that this program has used so far.
    pub harness_cpu: Option<Duration>,
    /// Busy time of the machine so far.
    pub machine_cpu: Option<Duration>,
    /// The tracker's anonymous memory.
    pub rss_anon_bytes: Option<u64>,
    /// The tracker's file handles.
    pub open_files: Option<u64>,
    /// What waits for Kinesis.
    pub journal_bytes: Option<u64>,
    /// The age of the oldest of it.
    pub journal_oldest_seconds: Option<f64>,
}

/// Where to look.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// The tracker's process, where it is on this machine.
    pub tracker: Option<u32>,
    /// Its management.
    pub management_url: Option<String>,
    /// The beginning of the run.
    pub start: Instant,
    /// Between two looks.
    pub every: Duration,
}

impl Sampler {
    /// Looks until `stop` turns true, and once more then.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Vec<Sample> {
        let client = crate::core_data::http_client();
        let mut samples = Vec::new();
        let mut ticks = tokio::time::interval_at(self.start.into(), self.every);
        loop {
            let stopped = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            samples.push(self.look(&client).await);
            if stopped {
                return samples;
            }
        }
    }

    async fn look(&self, client: &reqwest::Client) -> Sample {
        let metrics = match &self.management_url {
            Some(url) => metrics(client, url).await.unwrap_or_default(),
            None => String::new(),
        };
        let now = Instant::now();
        let seconds = match now.checked_duration_since(self.start) {
            Some(since) => since.as_secs_f64(),
            None => -(self.start - now).as_secs_f64(),
        };
        let gauge = |name| value(&metrics, name).map(|value| value as u64);
        let cpu = value(&metrics, "process_cpu_seconds_total");
        let cpu = cpu.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Sample {
            at_seconds: seconds,
            // /proc counts in 10 ms, the metrics in whole seconds.
            tracker_cpu: self.tracker.and_then(process::cpu_time).or(cpu),
            harness_cpu: process::cpu_time(std::process::id()),
            machine_cpu: process::machine_cpu_time(),
            rss_anon_bytes: self
                .tracker
                .and_then(process::rss_anon)
                .or_else(|| gauge("process_resident_memory_bytes")),
            open_files: self
                .tracker
                .and_then(process::open_files)
                .or_else(|| gauge("process_open_fds")),
            journal_bytes: gauge("adtrack_journal_bytes"),
            journal_oldest_seconds: value(&metrics, "adtrack_journal_oldest_seconds"),
        }
    }
}

async fn metrics(client: &reqwest::Client, url: &str) -> Option<String> {
    let answer = client.get(format!("{url}/metrics")).send().await.ok()?;
    answer.error_for_status().ok()?.text().await.ok()
}

/// The value of a metric without labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    metrics
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        .and_then(|value| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metrics_value_is_found() {
        let text = "# HELP a b\na_total 5\na 2.5\nb{x=\"y\"} 1\n";
        assert_eq!(value(text, "a"), Some(2.5));
        assert_eq!(value(text, "a_total"), Some(5.0));
        assert_eq!(value(text, "b"), None);
    }
}
