//! Samples the tracker's process, its metrics and the machine, once per slice.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::process;

/// One sample. A value that cannot be read is `None`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Time of the sample, seconds from the start; negative before it.
    pub at_seconds: f64,
    /// CPU time that the tracker has used so far.
    pub tracker_cpu: Option<Duration>,
    /// CPU time that this program has used so far.
    pub harness_cpu: Option<Duration>,
    /// Busy time of the machine so far.
    pub machine_cpu: Option<Duration>,
    /// The tracker's anonymous memory.
    pub rss_anon_bytes: Option<u64>,
    /// The tracker's open files.
    pub open_files: Option<u64>,
    /// Accepted events that Kinesis has not acknowledged.
    pub journal_bytes: Option<u64>,
    /// Age of the oldest of these events.
    pub journal_oldest_seconds: Option<f64>,
}

/// Takes samples while a run goes on.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// The tracker's process id, if it runs on this machine.
    pub tracker: Option<u32>,
    /// URL of the tracker's management listener.
    pub management_url: Option<String>,
    /// Start of the run.
    pub start: Instant,
    /// Time between two samples.
    pub every: Duration,
}

impl Sampler {
    /// Takes samples until `stop` turns true, and a last one then.
    pub async fn run(self, mut stop: watch::Receiver<bool>) -> Vec<Sample> {
        let client = crate::core_data::http_client();
        let mut samples = Vec::new();
        let mut ticks = tokio::time::interval_at(self.start.into(), self.every);
        loop {
            let is_last = tokio::select! {
                _ = ticks.tick() => false,
                _ = stop.wait_for(|stop| *stop) => true,
            };
            samples.push(self.take(&client).await);
            if is_last {
                return samples;
            }
        }
    }

    async fn take(&self, client: &reqwest::Client) -> Sample {
        let metrics = match &self.management_url {
            Some(url) => get_metrics(client, url).await.unwrap_or_default(),
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
            // /proc counts in units of 10 ms, the metric in whole seconds.
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

async fn get_metrics(client: &reqwest::Client, url: &str) -> Option<String> {
    let response = client.get(format!("{url}/metrics")).send().await.ok()?;
    response.error_for_status().ok()?.text().await.ok()
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
    fn finds_the_value_of_a_metric() {
        let text = "# HELP a b\na_total 5\na 2.5\nb{x=\"y\"} 1\n";
        assert_eq!(value(text, "a"), Some(2.5));
        assert_eq!(value(text, "a_total"), Some(5.0));
        assert_eq!(value(text, "b"), None);
    }
}
