//! `core-data publish`: sends a file to the core-data stream of each region.

use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::output;
use futures::StreamExt;
use futures::future::join_all;
use futures::stream::FuturesUnordered;
use indicatif::HumanCount;
use tokio_util::sync::CancellationToken;

use super::arguments::PublishArguments;
use super::exit::{Exit, Failure};
use super::outbox::Outbox;
use super::progress::Progress;
use super::signals::StopSignals;
use super::spool::{self, Spool, SpoolReader, SpooledRecord};
use super::stream::Stream;

/// Calls in flight per region: enough to hide a round trip, few enough for a shard's limits.
const CALLS_IN_FLIGHT: usize = 4;
/// Between two calls with the same records. A throttled shard has room again within a second, which the first
/// few delays cover; the ceiling is for a stream that takes nothing at all.
const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(100), ceiling: Duration::from_secs(5) };
/// How long a batch is retried while the stream takes none of its records.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// Why publishing to a region ended early.
#[derive(Debug)]
enum Stop {
    /// The stream does not take records, or the temporary file cannot be read.
    Failed(Exit, String),
    /// A signal asked for it.
    Interrupted,
}

/// What one region's stream received.
struct RegionOutcome {
    region: String,
    acknowledged: u64,
    retries: u64,
    took: Duration,
    stop: Option<Stop>,
}

/// What one batch's calls did.
#[derive(Default)]
struct BatchOutcome {
    acknowledged: Vec<ProgramId>,
    retries: u64,
    stop: Option<Stop>,
}

/// Checks the file, sends it and prints a summary.
pub async fn run(arguments: &PublishArguments) -> Result<Exit, Failure> {
    let spool = Spool::fill(&arguments.input).await?;
    output::line(format_args!("{}: {}", spool::name(&arguments.input.file), spool.counts));
    if arguments.dry_run {
        output::line("dry run: nothing is sent");
        return Ok(Exit::Success);
    }
    let streams = Stream::open(&arguments.streams.regions, &arguments.streams.stream).await?;
    let total = spool.counts.records();
    let progress = Progress::start("publishing", total * streams.len() as u64);
    let outcomes = publish_to_all(&streams, &spool, &progress).await;
    progress.finish();
    let exit = summarise(&outcomes?, total)?;
    output::line(format_args!(
        "if this is all core data, and Redis is new or was emptied: core-data mark-loaded --count {}",
        spool.programs_left
    ));
    Ok(exit)
}

/// Sends one record, for as long as a batch is retried.
pub async fn put_one(stream: &Stream, record: SpooledRecord) -> Result<(), Failure> {
    match put(stream, vec![record], &CancellationToken::new()).await.stop {
        Some(Stop::Failed(exit, problem)) => Err(Failure::new(
            exit,
            format!("{}: the record was not sent: {problem}", stream.region),
        )),
        Some(Stop::Interrupted) | None => Ok(()),
    }
}

/// Publishes to all regions concurrently; none waits for another.
async fn publish_to_all(
    streams: &[Stream],
    spool: &Spool,
    progress: &Progress,
) -> Result<Vec<RegionOutcome>, Failure> {
    let mut signals = StopSignals::listen()?;
    let stop = CancellationToken::new();
    let regions =
        join_all(streams.iter().map(|stream| publish_to(stream, spool.records(), progress, &stop)));
    tokio::pin!(regions);
    loop {
        tokio::select! {
            outcomes = &mut regions => return Ok(outcomes),
            () = signals.next() => {
                if stop.is_cancelled() {
                    let message = "stopped at once; records in flight may or may not be on the stream. \
                                   Publishing the file again is harmless";
                    return Err(Failure::new(Exit::Interrupted, message));
                }
                stop.cancel();
                progress.print("waiting for calls in flight; a second signal stops at once");
            }
        }
    }
}

async fn publish_to(
    stream: &Stream,
    records: SpoolReader,
    progress: &Progress,
    stop: &CancellationToken,
) -> RegionOutcome {
    let started_at = Instant::now();
    let mut outbox = Outbox::new(records);
    let mut calls = FuturesUnordered::new();
    let mut outcome = RegionOutcome {
        region: stream.region.clone(),
        acknowledged: 0,
        retries: 0,
        took: Duration::ZERO,
        stop: None,
    };
    loop {
        while outcome.stop.is_none() && !stop.is_cancelled() && calls.len() < CALLS_IN_FLIGHT {
            match outbox.next_batch() {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => calls.push(put(stream, batch, stop)),
                Err(failure) => outcome.stop = Some(Stop::Failed(failure.exit, failure.message)),
            }
        }
        let Some(batch) = calls.next().await else { break };
        for program_id in &batch.acknowledged {
            outbox.acknowledge(program_id);
        }
        progress.add(batch.acknowledged.len());
        outcome.acknowledged += batch.acknowledged.len() as u64;
        outcome.retries += batch.retries;
        outcome.stop = outcome.stop.or(batch.stop);
    }
    if stop.is_cancelled() {
        outcome.stop = outcome.stop.or(Some(Stop::Interrupted));
    }
    outcome.took = started_at.elapsed();
    outcome
}

/// Sends one batch until the stream has all of it. After a partial failure, only the rejected records
/// are sent again.
async fn put(
    stream: &Stream,
    mut records: Vec<SpooledRecord>,
    stop: &CancellationToken,
) -> BatchOutcome {
    let mut batch = BatchOutcome::default();
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
                        batch.acknowledged.push(record.program_id.clone());
                    }
                    !delivered
                });
                if records.is_empty() {
                    return batch;
                }
                let taken = before - records.len();
                if taken > 0 {
                    taken_at = Instant::now();
                }
                // A stream that rejects only a few records is healthy. Back off only if it rejects most.
                if taken >= records.len() {
                    failures = 0;
                }
                outcome.error_codes().last().unwrap_or_default().to_owned()
            }
            Err(error) if error.permanent => {
                batch.stop = Some(Stop::Failed(Exit::Unavailable, error.text));
                return batch;
            }
            Err(error) => error.text,
        };
        if taken_at.elapsed() >= RETRY_LIMIT {
            let message =
                format!("the stream took no record for {} s: {problem}", RETRY_LIMIT.as_secs());
            batch.stop = Some(Stop::Failed(Exit::Unavailable, message));
            return batch;
        }
        failures += 1;
        tokio::select! {
            () = tokio::time::sleep(BACKOFF.delay(failures)) => {}
            () = stop.cancelled() => return batch,
        }
        batch.retries += records.len() as u64;
    }
}

/// Prints what each region received. If any did not get all records, the first of them determines the
/// exit status.
fn summarise(outcomes: &[RegionOutcome], total: u64) -> Result<Exit, Failure> {
    let mut failure: Option<(Exit, Vec<String>)> = None;
    for RegionOutcome { region, acknowledged, retries, took, stop } in outcomes {
        let seconds = took.as_secs_f64();
        // A few records take too little time for a meaningful rate.
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
            Some(Stop::Interrupted) if acknowledged < &total => (Exit::Interrupted, "interrupted"),
            _ => continue,
        };
        let line = format!(
            "{region}: {} of {} records were sent: {problem}",
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
