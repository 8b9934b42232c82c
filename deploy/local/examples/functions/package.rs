//! Measures a package from outside: how long it takes to start and to handle a batch, and its memory.

use std::time::{Duration, Instant};

use crate::Error;
use crate::measure::Bench;

/// Number of invocations of a process after its first.
const WARM: u32 = 5;

/// Times of new processes that handled the same batch.
#[derive(Default)]
pub struct Times {
    /// From the start of a process to its first poll.
    polled: Vec<Duration>,
    /// From the start of a process to its first response.
    first: Vec<Duration>,
    /// Of each later invocation.
    warm: Vec<Duration>,
    /// CPU time of the later invocations, in seconds.
    warm_cpu: f64,
    /// Highest peak memory, in MB.
    peak: f64,
}

impl Times {
    /// Measures the first and the later invocations of a new process, and stops it.
    pub async fn add(&mut self, bench: Bench) -> Result<(), Error> {
        self.polled.push(bench.polled_after);
        let first = time_invocation(&bench).await?;
        self.first.push(bench.polled_after + first);
        let before = bench.cpu()?;
        for _ in 0..WARM {
            self.warm.push(time_invocation(&bench).await?);
        }
        self.warm_cpu += bench.cpu()?.total() - before.total();
        self.peak = self.peak.max(bench.peak_memory()?);
        bench.stop().await;
        Ok(())
    }

    /// Column heads of [`Self::figures`].
    pub const HEAD: &str = "ms: poll   max   first    max   batch    max  CPU  peak MB";

    /// Medians and maxima, in milliseconds, of start to first poll, start to first response, and a batch;
    /// then CPU time per batch and peak memory.
    pub fn figures(&self) -> String {
        let [(poll, poll_max), (first, first_max), (warm, warm_max)] =
            [&self.polled, &self.first, &self.warm].map(|times| median_and_max(times));
        let cpu = self.warm_cpu * 1e3 / self.warm.len().max(1) as f64;
        let peak = self.peak;
        format!(
            "{poll:>8.0} {poll_max:>5.0} {first:>7.0} {first_max:>6.0} {warm:>7.0} {warm_max:>6.0} \
             {cpu:>4.0} {peak:>8.0}"
        )
    }
}

async fn time_invocation(bench: &Bench) -> Result<Duration, Error> {
    let started_at = Instant::now();
    bench.invoke().await?;
    Ok(started_at.elapsed())
}

/// Median and maximum in milliseconds.
fn median_and_max(times: &[Duration]) -> (f64, f64) {
    let mut sorted: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (median, sorted.last().copied().unwrap_or_default())
}
