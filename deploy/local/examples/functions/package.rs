//! What a package is like from outside: how long it takes to start and for a batch, and its memory.

use std::time::{Duration, Instant};

use crate::Error;
use crate::measure::Bench;

/// Invocations of a process after its first.
const WARM: u32 = 5;

/// What processes that got the same batch took. Each was a new one.
#[derive(Default)]
pub struct Times {
    /// From the process's start to its first poll.
    polled: Vec<Duration>,
    /// From there to its first answer, in all.
    first: Vec<Duration>,
    /// An invocation after that.
    warm: Vec<Duration>,
    /// CPU time of those, in seconds.
    warm_cpu: f64,
    /// The most memory of any, in MB.
    peak: f64,
}

impl Times {
    /// Has a process that has just started answer its first invocation and others, and ends it.
    pub async fn add(&mut self, bench: Bench) -> Result<(), Error> {
        self.polled.push(bench.polled_after);
        let first = timed(&bench).await?;
        self.first.push(bench.polled_after + first);
        let before = bench.cpu()?;
        for _ in 0..WARM {
            self.warm.push(timed(&bench).await?);
        }
        self.warm_cpu += bench.cpu()?.total() - before.total();
        self.peak = self.peak.max(bench.peak_memory()?);
        bench.stop().await;
        Ok(())
    }

    /// The columns of [`Self::figures`].
    pub const HEAD: &str = "ms: poll   max  answer    max   batch    max  CPU  peak MB";

    /// Medians and maxima of start to poll, start to first answer, and a batch, in milliseconds.
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

async fn timed(bench: &Bench) -> Result<Duration, Error> {
    let begun = Instant::now();
    bench.invoke().await?;
    Ok(begun.elapsed())
}

/// In milliseconds.
fn median_and_max(times: &[Duration]) -> (f64, f64) {
    let mut sorted: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    (median, sorted.last().copied().unwrap_or_default())
}
