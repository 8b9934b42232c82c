//! A function under measurement: its process, its CPU time, its memory.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use local_stack::lambda::{Function, FunctionSettings, Invoke, Record, payload};
use local_stack::process::own_binary;
use procfs::process::Process;

use crate::{Arguments, Error};

/// Longer than the largest batch takes under a profiler.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Least CPU time of a turn, so that the resolution of a tick is fine enough.
const ENOUGH_SECONDS: f64 = 0.5;

const STREAM: &str = "arn:aws:kinesis:bench";
const SHARD: &str = "shardId-000000000000";

/// CPU time, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cpu {
    pub user: f64,
    pub kernel: f64,
}

impl Cpu {
    pub fn total(self) -> f64 {
        self.user + self.kernel
    }
}

/// A batch, and the process that handles it repeatedly.
pub struct Bench {
    pub name: String,
    /// Number of events or programs in the batch.
    pub entries: usize,
    /// Time from the start of the process to its first poll for an invocation.
    pub polled_after: Duration,
    function: Arc<Function>,
    payload: Vec<u8>,
    /// CPU time per entry, in seconds, of each turn.
    turns: Vec<Cpu>,
}

impl Bench {
    /// Starts a process of `function` for the batch.
    pub async fn start(
        arguments: &Arguments,
        function: &str,
        name: &str,
        entries: usize,
        records: &[Record],
        environment: Vec<(String, String)>,
        log_folder: &Path,
    ) -> Result<Self, Error> {
        let function = Function::new(FunctionSettings {
            name: function.to_owned(),
            binary: std::path::absolute(own_binary(&arguments.binaries, function)?)?,
            environment,
            timeout: TIMEOUT,
            concurrency: 1,
            log_folder: log_folder.to_owned(),
        });
        let polled_after = function.cold_start().await?;
        let payload = payload(STREAM, SHARD, records);
        Ok(Self {
            name: name.to_owned(),
            entries,
            polled_after,
            function,
            payload,
            turns: Vec::new(),
        })
    }

    /// Goes on with another batch.
    pub fn replace_batch(&mut self, records: &[Record], entries: usize) {
        self.payload = payload(STREAM, SHARD, records);
        self.entries = entries;
    }

    /// Size of the payload of an invocation.
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    /// Invokes the function once. It is an error if the function reports failures.
    pub async fn invoke(&self) -> Result<(), Error> {
        let response = self.function.invoke(self.payload.clone().into()).await?;
        let response = String::from_utf8_lossy(&response).into_owned();
        if response != r#"{"batchItemFailures":[]}"# {
            return Err(format!("{}: {response}", self.name).into());
        }
        Ok(())
    }

    /// Invokes the function until it has used enough CPU time to measure.
    pub async fn turn(&mut self) -> Result<(), Error> {
        let before = self.cpu()?;
        for entries in (self.entries..).step_by(self.entries) {
            self.invoke().await?;
            let now = self.cpu()?;
            let (user, kernel) = (now.user - before.user, now.kernel - before.kernel);
            if user + kernel >= ENOUGH_SECONDS {
                let entries = entries as f64;
                self.turns.push(Cpu { user: user / entries, kernel: kernel / entries });
                break;
            }
        }
        Ok(())
    }

    /// Column heads of [`Self::figures`].
    pub const HEAD: &str = "  µs: min  median     max  kernel per core/s  peak MB";

    /// CPU time per entry over all turns, the kernel's share of it, entries per second that one core can
    /// process, and the peak memory of the process.
    pub fn figures(&self) -> Result<String, Error> {
        let mut turns = self.turns.clone();
        turns.sort_by(|a, b| a.total().total_cmp(&b.total()));
        let median = turns[turns.len() / 2];
        let [min, middle, max] =
            [turns[0], median, turns[turns.len() - 1]].map(|turn| turn.total() * 1e6);
        let kernel = median.kernel / median.total() * 100.0;
        let per_second = 1e6 / middle;
        let memory = self.peak_memory()?;
        Ok(format!(
            "{min:>8.1} {middle:>7.1} {max:>7.1} {kernel:>6.0}% {per_second:>10.0} {memory:>8.0}"
        ))
    }

    /// CPU time of the process so far.
    pub fn cpu(&self) -> Result<Cpu, Error> {
        let stat = self.process()?.stat()?;
        let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
        Ok(Cpu { user: seconds(stat.utime), kernel: seconds(stat.stime) })
    }

    /// Peak memory of the process, in MB.
    pub fn peak_memory(&self) -> Result<f64, Error> {
        let kilobytes = self.process()?.status()?.vmhwm.ok_or("VmHWM")?;
        Ok(kilobytes as f64 * 1_024.0 / 1e6)
    }

    fn process(&self) -> Result<Process, Error> {
        let id = self.function.idle_process().ok_or("the function ended")?;
        Ok(Process::new(i32::try_from(id)?)?)
    }

    pub async fn stop(self) {
        self.function.stop().await;
    }
}
