//! The core data of a run: loads programs before it, changes them during it, and measures how soon
//! responses show a change.

use std::time::{Duration, Instant};

use adtrack_runtime::kinesis::{Entry, PutError, PutOutcome, Stream, Timeouts};
use aws_config::SdkConfig;
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::recorder::{Times, run_histogram};
use crate::request::Program;

/// `PutRecords`' limit.
const RECORDS_PER_CALL: usize = 500;
const PUT_ATTEMPTS: u32 = 10;
const PUT_TIMEOUTS: Timeouts =
    Timeouts { connect: Duration::from_secs(3), call: Duration::from_secs(15) };
/// How long to wait until the tracker knows the preloaded programs.
const PRELOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How many of the preloaded programs are checked.
const PRELOAD_PROBES: usize = 25;
/// How long to wait for a response with a changed value.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause between two probes of a changed program: the error of the measured time.
const FOLLOW_PAUSE: Duration = Duration::from_millis(2);
/// Probes after the first response with the new value, to find stale ones, and the pause between them.
const STALE_PROBES: u32 = 20;
const STALE_PROBE_PAUSE: Duration = Duration::from_millis(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The core-data stream.
#[derive(Debug, Clone)]
pub struct CoreDataStream(Stream);

/// Why programs are not as a run needs them.
#[derive(Debug, thiserror::Error)]
pub enum CoreDataError {
    /// A call failed.
    #[error("PutRecords: {0}")]
    Call(#[from] PutError),
    /// The stream rejected a record, with this error code.
    #[error("PutRecords: {0}")]
    Rejected(String),
    /// The stream still rejected this many records after all retries.
    #[error("PutRecords: {0} records were throttled {PUT_ATTEMPTS} times")]
    Throttled(usize),
    /// The tracker does not know a program that is on the stream.
    #[error(
        "the tracker does not know program {0} {seconds} s after it was put on the core-data stream; \
         is redis-updater running?",
        seconds = PRELOAD_TIMEOUT.as_secs()
    )]
    Unknown(String),
}

impl CoreDataStream {
    /// The stream `name`.
    pub fn new(shared: &SdkConfig, name: String) -> Self {
        Self(Stream::new(shared, name, PUT_TIMEOUTS))
    }

    /// Puts all programs on the stream.
    pub async fn put_all<'a>(
        &self,
        programs: impl Iterator<Item = (&'a Program, bool)>,
    ) -> Result<(), CoreDataError> {
        let mut entries = programs.map(|(program, valid)| {
            let name = format!("loadtest {}", program.id);
            entry(program, &name, valid)
        });
        loop {
            let chunk: Vec<_> = entries.by_ref().take(RECORDS_PER_CALL).collect();
            if chunk.is_empty() {
                return Ok(());
            }
            self.put_chunk(chunk).await?;
        }
    }

    /// Puts a chunk, and retries throttled records. A chunk has one record per program, so that a retry
    /// cannot reorder the records of a program.
    async fn put_chunk(&self, mut entries: Vec<Entry>) -> Result<(), CoreDataError> {
        for attempt in 1..=PUT_ATTEMPTS {
            let outcome = self.put(entries.clone()).await?;
            let mut position = 0..;
            entries.retain(|_| !position.next().is_some_and(|at| outcome.is_delivered(at)));
            if entries.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100) * attempt).await;
        }
        Err(CoreDataError::Throttled(entries.len()))
    }

    async fn put_one(&self, program: &Program, name: &str) -> Result<(), CoreDataError> {
        let outcome = self.put(vec![entry(program, name, true)]).await?;
        match outcome.error_codes().next() {
            None => Ok(()),
            Some(code) => Err(CoreDataError::Rejected(code.to_owned())),
        }
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<PutOutcome, CoreDataError> {
        Ok(self.0.put(entries).await?)
    }
}

fn entry(program: &Program, name: &str, valid: bool) -> Entry {
    let data = record(program, name, valid).into_bytes();
    Entry { partition_key: program.id.clone(), data }
}

fn record(program: &Program, name: &str, valid: bool) -> String {
    json!({
        "programId": program.id, "programName": name, "checksum": program.checksum,
        "customerId": program.customer_id,
        "customerName": format!("Customer {}", program.customer_id),
        "valid": valid, "test": true,
        "landingUrl": format!("https://shop.example/p/{}", program.id),
        "fallbackUrl": "https://shop.example/", "allowedHosts": ["shop.example"],
    })
    .to_string()
}

const USER_AGENT: &str = concat!("adtrack-loadtest/", env!("CARGO_PKG_VERSION"));

/// A client for requests that are not measured. It ignores proxies that the environment names.
pub fn http_client() -> reqwest::Client {
    http_client_as(USER_AGENT)
}

fn http_client_as(user_agent: &str) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .user_agent(user_agent)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .unwrap_or_default()
}

/// Puts the programs on the stream and waits until the tracker knows them.
///
/// # Errors
///
/// If the stream refuses the records, or if the tracker does not know the programs after 120 s.
pub async fn preload(
    stream: &CoreDataStream,
    url: &str,
    programs: &[Program],
    disabled: &Program,
) -> Result<(), CoreDataError> {
    let all = programs.iter().map(|program| (program, true)).chain([(disabled, false)]);
    stream.put_all(all).await?;
    let client = http_client();
    let give_up = Instant::now() + PRELOAD_TIMEOUT;
    // Each shard is stored in order, so the last few programs cover all shards.
    let probes = programs.iter().rev().take(PRELOAD_PROBES).chain([disabled]);
    for program in probes {
        // HEAD gets the same response as GET and records nothing.
        let url = format!("{url}/event/{}", program.id);
        loop {
            let response = client.head(&url).send().await;
            if response.is_ok_and(|response| response.status().is_success()) {
                break;
            }
            if Instant::now() > give_up {
                return Err(CoreDataError::Unknown(program.id.clone()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The changes of core data during a run, and what became of them.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Records put on the stream.
    pub updates: u64,
    /// Updates that were followed until a response showed them; one at a time.
    pub followed: u64,
    /// From putting the record to the first response with the new value, in nanoseconds.
    pub freshness: Times,
    /// Responses with the old value after one with the new value.
    pub stale_responses: u64,
    /// Updates that no response showed within 10 s.
    pub never_seen: u64,
    /// The last error of putting a record.
    pub problem: Option<String>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            updates: 0,
            followed: 0,
            freshness: run_histogram(),
            stale_responses: 0,
            never_seen: 0,
            problem: None,
        }
    }
}

enum FollowOutcome {
    Seen { after: Duration, stale: u64 },
    NeverSeen,
}

/// Changes programs in turn, `per_second`, until `stop` turns true. The user agent of the probes
/// contains the run's mark, so that their rows can be found, but does not end in it, so that they do not
/// count as the run's.
pub async fn change(
    stream: &CoreDataStream,
    url: &str,
    mark: &str,
    programs: &[Program],
    per_second: f64,
    mut stop: watch::Receiver<bool>,
) -> Changes {
    let mut changes = Changes::default();
    if per_second <= 0.0 {
        return changes;
    }
    let client = http_client_as(&format!("{USER_AGENT} {mark} look"));
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    let mut following: JoinSet<FollowOutcome> = JoinSet::new();
    for (number, program) in (0_u64..).zip(programs.iter().cycle()) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let name = format!("loadtest {} changed {number}", program.id);
        let put = Instant::now();
        if let Err(error) = stream.put_one(program, &name).await {
            changes.problem = Some(error.to_string());
            continue;
        }
        changes.updates += 1;
        while let Some(Ok(outcome)) = following.try_join_next() {
            changes.record(&outcome);
        }
        if following.is_empty() {
            let (client, url) = (client.clone(), format!("{url}/event/{}", program.id));
            following.spawn(async move { follow(&client, &url, &name, put).await });
        }
    }
    while let Some(Ok(outcome)) = following.join_next().await {
        changes.record(&outcome);
    }
    changes
}

impl Changes {
    fn record(&mut self, outcome: &FollowOutcome) {
        self.followed += 1;
        match outcome {
            FollowOutcome::Seen { after, stale } => {
                let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                Histogram::saturating_record(&mut self.freshness, nanoseconds);
                self.stale_responses += stale;
            }
            FollowOutcome::NeverSeen => self.never_seen += 1,
        }
    }
}

/// Probes a program until a response has the new name, and then a little longer for stale ones.
async fn follow(client: &reqwest::Client, url: &str, name: &str, put: Instant) -> FollowOutcome {
    let needle = format!("{name:?}");
    while !response_contains(client, url, &needle).await.unwrap_or(false) {
        if put.elapsed() > FOLLOW_TIMEOUT {
            return FollowOutcome::NeverSeen;
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
    let after = put.elapsed();
    let mut stale = 0;
    for _ in 0..STALE_PROBES {
        tokio::time::sleep(STALE_PROBE_PAUSE).await;
        // A request without a response is not a stale response.
        stale += u64::from(response_contains(client, url, &needle).await == Some(false));
    }
    FollowOutcome::Seen { after, stale }
}

/// Whether the response's body contains `text`; `None` if there is no successful response.
async fn response_contains(client: &reqwest::Client, url: &str, text: &str) -> Option<bool> {
    let response = client.get(url).send().await.ok()?.error_for_status().ok()?;
    Some(response.text().await.ok()?.contains(text))
}
