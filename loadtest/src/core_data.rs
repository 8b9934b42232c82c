//! Core data of a run: loaded before it, changed during it, and how soon a change is answered.

use std::time::{Duration, Instant};

use adtrack_runtime::kinesis::{Entry, PutOutcome, Stream, Timeouts};
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
/// For preloaded programs to be answered.
const PRELOAD_TIMEOUT: Duration = Duration::from_secs(120);
/// How many of them are looked at.
const PRELOAD_PROBES: usize = 25;
/// For a change to be answered.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a program that was changed: what a time to the first right answer is off by.
const FOLLOW_PAUSE: Duration = Duration::from_millis(2);
/// Looks after the first right answer, and the pause between them.
const LOOKS_AFTER: u32 = 20;
const LOOK_PAUSE: Duration = Duration::from_millis(10);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The core-data stream.
#[derive(Debug, Clone)]
pub struct CoreDataStream(Stream);

impl CoreDataStream {
    /// The stream `name`.
    pub fn new(shared: &SdkConfig, name: String) -> Self {
        Self(Stream::new(shared, name, PUT_TIMEOUTS))
    }

    /// Puts all programs on the stream.
    pub async fn put_all<'a>(
        &self,
        programs: impl Iterator<Item = (&'a Program, bool)>,
    ) -> Result<(), String> {
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

    /// Until all are taken. A program is in here once: its records cannot overtake each other.
    async fn put_chunk(&self, mut entries: Vec<Entry>) -> Result<(), String> {
        for attempt in 1..=PUT_ATTEMPTS {
            let outcome = self.put(entries.clone()).await?;
            let mut position = 0..;
            entries.retain(|_| !position.next().is_some_and(|at| outcome.is_delivered(at)));
            if entries.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100) * attempt).await;
        }
        Err(format!("PutRecords: {} records were throttled {PUT_ATTEMPTS} times", entries.len()))
    }

    async fn put_one(&self, program: &Program, name: &str) -> Result<(), String> {
        let outcome = self.put(vec![entry(program, name, true)]).await?;
        match outcome.error_codes().next() {
            None => Ok(()),
            Some(code) => Err(format!("PutRecords: {code}")),
        }
    }

    async fn put(&self, entries: Vec<Entry>) -> Result<PutOutcome, String> {
        self.0.put(entries).await.map_err(|error| format!("PutRecords: {}", error.text))
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

/// For what is not measured. A proxy that the environment names is none of ours.
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

/// Puts the programs on the stream and waits until they are answered.
pub async fn preload(
    stream: &CoreDataStream,
    url: &str,
    programs: &[Program],
    disabled: &Program,
) -> Result<(), String> {
    let all = programs.iter().map(|program| (program, true)).chain([(disabled, false)]);
    stream.put_all(all).await?;
    let client = http_client();
    let give_up = Instant::now() + PRELOAD_TIMEOUT;
    // The last ones of each shard come last; a few at the end cover the shards.
    let probes = programs.iter().rev().take(PRELOAD_PROBES).chain([disabled]);
    for program in probes {
        // HEAD is answered as GET and records nothing.
        let url = format!("{url}/event/{}", program.id);
        loop {
            let answer = client.head(&url).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if Instant::now() > give_up {
                return Err(format!(
                    "program {} was not answered {} s after it was put on the core-data stream; is redis-updater running?",
                    program.id,
                    PRELOAD_TIMEOUT.as_secs()
                ));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// What became of the changes.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Records put on the stream.
    pub updates: u64,
    /// Of these, looked after until they were answered: one at a time.
    pub followed: u64,
    /// From putting the record to the first answer with the new value, in nanoseconds.
    pub freshness: Times,
    /// Answers with an old value after one with the new value.
    pub stale_answers: u64,
    /// Changes that were not answered within 10 s.
    pub never_answered: u64,
    /// What went wrong with putting, at last.
    pub problem: Option<String>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            updates: 0,
            followed: 0,
            freshness: run_histogram(),
            stale_answers: 0,
            never_answered: 0,
            problem: None,
        }
    }
}

enum Followed {
    Fresh { after: Duration, stale: u64 },
    Never,
}

/// Changes programs in turn, `per_second`, until `stop` turns true. The user agent of the looks at them
/// holds the run's mark, so that their rows are known, and does not end in it: they are not measured.
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
    let mut following: JoinSet<Followed> = JoinSet::new();
    for (number, program) in (0_u64..).zip(programs.iter().cycle()) {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let name = format!("loadtest {} changed {number}", program.id);
        let put = Instant::now();
        if let Err(problem) = stream.put_one(program, &name).await {
            changes.problem = Some(problem);
            continue;
        }
        changes.updates += 1;
        while let Some(Ok(followed)) = following.try_join_next() {
            changes.add(&followed);
        }
        if following.is_empty() {
            let (client, url) = (client.clone(), format!("{url}/event/{}", program.id));
            following.spawn(async move { follow(&client, &url, &name, put).await });
        }
    }
    while let Some(Ok(followed)) = following.join_next().await {
        changes.add(&followed);
    }
    changes
}

impl Changes {
    fn add(&mut self, followed: &Followed) {
        self.followed += 1;
        match followed {
            Followed::Fresh { after, stale } => {
                let nanoseconds = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
                Histogram::saturating_record(&mut self.freshness, nanoseconds);
                self.stale_answers += stale;
            }
            Followed::Never => self.never_answered += 1,
        }
    }
}

/// Asks until the answer has the new name, and a bit longer.
async fn follow(client: &reqwest::Client, url: &str, name: &str, put: Instant) -> Followed {
    let needle = format!("{name:?}");
    while !answers(client, url, &needle).await.unwrap_or(false) {
        if put.elapsed() > FOLLOW_TIMEOUT {
            return Followed::Never;
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
    let after = put.elapsed();
    let mut stale = 0;
    for _ in 0..LOOKS_AFTER {
        tokio::time::sleep(LOOK_PAUSE).await;
        // No answer is no stale answer.
        stale += u64::from(answers(client, url, &needle).await == Some(false));
    }
    Followed::Fresh { after, stale }
}

/// Whether the answer holds a text; none where there is no good answer.
async fn answers(client: &reqwest::Client, url: &str, text: &str) -> Option<bool> {
    let answer = client.get(url).send().await.ok()?.error_for_status().ok()?;
    Some(answer.text().await.ok()?.contains(text))
}
