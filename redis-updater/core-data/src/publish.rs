//! `core-data publish`: a file onto the core-data stream of each region.

use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use adtrack_runtime::backoff::Backoff;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use indicatif::HumanCount;
use tokio_util::sync::CancellationToken;

use super::arguments::PublishArguments;
use super::exit::{Exit, Failure};
use super::outbox::Outbox;
use super::output;
use super::progress::Progress;
use super::signals::StopSignals;
use super::spool::{self, Spool, SpoolReader, Spooled};
use super::stream::Stream;

/// Calls in flight for each region: enough to hide a round trip, few enough for a shard's limits.
const CALLS_IN_FLIGHT: usize = 4;
/// A shard takes 1,000 records a second: what it refuses has room again within one.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(5) };
/// How long a batch is tried without a single record being taken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a region's feed ended early.
#[derive(Debug)]
enum Stop {
    /// The stream does not take records, or the temporary file cannot be read.
    Failed(Exit, String),
    /// Somebody asked for it.
    Asked,
}

/// What one region's stream got.
struct Fed {
    region: String,
    acknowledged: u64,
    retries: u64,
    took: Duration,
    stop: Option<Stop>,
}

/// What became of one batch.
#[derive(Default)]
struct Sent {
    acknowledged: Vec<ProgramId>,
    retries: u64,
    stop: Option<Stop>,
}

/// Checks the file, sends it, says what became of it.
pub async fn run(arguments: &PublishArguments) -> Result<Exit, Failure> {
    let spool = Spool::fill(&arguments.input).await?;
    output::line(format_args!("{}: {}", spool::name(&arguments.input.file), spool.counts));
    if arguments.dry_run {
        output::line("dry run: nothing is sent");
        return Ok(Exit::Success);
    }
    let streams = Stream::open(&arguments.regions, &arguments.stream).await?;
    let total = spool.counts.records();
    let progress = Progress::start("publishing", total * streams.len() as u64);
    let fed = feed_all(&streams, &spool, &progress).await;
    progress.end();
    summarise(&fed?, total)
}

/// Feeds all regions side by side; none waits for another.
async fn feed_all(
    streams: &[Stream],
    spool: &Spool,
    progress: &Progress,
) -> Result<Vec<Fed>, Failure> {
    let mut signals = StopSignals::listen()?;
    let stop = CancellationToken::new();
    let feeds =
        join_all(streams.iter().map(|stream| feed(stream, spool.records(), progress, &stop)));
    tokio::pin!(feeds);
    loop {
        tokio::select! {
            fed = &mut feeds => return Ok(fed),
            () = signals.next() => {
                if stop.is_cancelled() {
                    let message = "ended at once; what was in flight may be on the stream or not. \
                                   Publishing the file again is harmless";
                    return Err(Failure::new(Exit::Interrupted, message));
                }
                stop.cancel();
                progress.say("waiting for what is in flight; once more ends it at once");
            }
        }
    }
}

async fn feed(
    stream: &Stream,
    records: SpoolReader,
    progress: &Progress,
    stop: &CancellationToken,
) -> Fed {
    let started_at = Instant::now();
    let mut outbox = Outbox::new(records);
    let mut calls = FuturesUnordered::new();
    let mut fed = Fed {
        region: stream.region.clone(),
        acknowledged: 0,
        retries: 0,
        took: Duration::ZERO,
        stop: None,
    };
    loop {
        while fed.stop.is_none() && !stop.is_cancelled() && calls.len() < CALLS_IN_FLIGHT {
            match outbox.next_batch() {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => calls.push(put(stream, batch, stop)),
                Err(failure) => fed.stop = Some(Stop::Failed(failure.exit, failure.message)),
            }
        }
        let Some(sent) = calls.next().await else { break };
        for program_id in &sent.acknowledged {
            outbox.acknowledge(program_id);
        }
        progress.add(sent.acknowledged.len());
        fed.acknowledged += sent.acknowledged.len() as u64;
        fed.retries += sent.retries;
        fed.stop = fed.stop.or(sent.stop);
    }
    if stop.is_cancelled() {
        fed.stop = fed.stop.or(Some(Stop::Asked));
    }
    fed.took = started_at.elapsed();
    fed
}

/// Sends one batch until the stream has all of it. Of a partial failure only what failed goes again.
async fn put(stream: &Stream, mut records: Vec<Spooled>, stop: &CancellationToken) -> Sent {
    let mut sent = Sent::default();
    let mut failures = 0;
    let mut taken_at = Instant::now();
    loop {
        let problem = match stream.put(&records).await {
            Ok(outcome) => {
                let before = records.len();
                let mut position = 0..;
                records.retain(|record| {
                    let delivered = position.next().is_some_and(|at| outcome.is_delivered(at));
                    if delivered {
                        sent.acknowledged.push(record.program_id.clone());
                    }
                    !delivered
                });
                if records.is_empty() {
                    return sent;
                }
                let taken = before - records.len();
                if taken > 0 {
                    taken_at = Instant::now();
                }
                // The stream is healthy: it refused a few. One that refuses most is asked less often.
                if taken >= records.len() {
                    failures = 0;
                }
                outcome.error_codes().last().unwrap_or_default().to_owned()
            }
            Err(error) if error.permanent => {
                sent.stop = Some(Stop::Failed(Exit::Unavailable, error.text));
                return sent;
            }
            Err(error) => error.text,
        };
        if taken_at.elapsed() >= PATIENCE {
            let message = format!("nothing was taken for {} s: {problem}", PATIENCE.as_secs());
            sent.stop = Some(Stop::Failed(Exit::Unavailable, message));
            return sent;
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(BACKOFF.delay(failures)) => {}
            () = stop.cancelled() => return sent,
        }
        sent.retries += records.len() as u64;
    }
}

/// Prints what each region got. Where any got less than all, the first of them gives the exit status.
fn summarise(fed: &[Fed], total: u64) -> Result<Exit, Failure> {
    let mut failure: Option<(Exit, Vec<String>)> = None;
    for Fed { region, acknowledged, retries, took, stop } in fed {
        let seconds = took.as_secs_f64();
        // A file of a few records takes no time that would tell a rate.
        let rate = (*acknowledged as f64 / seconds.max(0.001)) as u64;
        let of = if acknowledged == &total {
            String::new()
        } else {
            format!(" of {}", HumanCount(total))
        };
        output::line(format_args!(
            "{region}: {}{of} records in {seconds:.1} s ({}/s), {} retries",
            HumanCount(*acknowledged),
            HumanCount(rate),
            HumanCount(*retries)
        ));
        let (exit, problem) = match stop {
            Some(Stop::Failed(exit, problem)) => (*exit, problem.as_str()),
            Some(Stop::Asked) if acknowledged < &total => (Exit::Interrupted, "interrupted"),
            _ => continue,
        };
        let line = format!(
            "{region}: {} of {} records are sent: {problem}",
            HumanCount(*acknowledged),
            HumanCount(total)
        );
        let (_, lines) = failure.get_or_insert((exit, Vec::new()));
        lines.push(line);
    }
    match failure {
        None => Ok(Exit::Success),
        Some((exit, lines)) => {
            let message = format!("{}. Publishing the file again is harmless", lines.join("; "));
            Err(Failure::new(exit, message))
        }
    }
}
