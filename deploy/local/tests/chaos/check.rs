//! What must hold once the faults of an epoch are over.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adtrack_proto::failed_record::FailedRecord;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use local_stack::stack::TABLE;

use crate::feed::{Feed, PROGRAMS, name, version};
use crate::load::Load;
use crate::plan::TRACKERS;
use crate::processes::report_end;
use crate::rig::{JOURNALS, Rig, client, files, names};
use crate::rows::{Row, judge};

/// How long the programs may take to come to rest, and rows and failed records to be stored. A function that
/// waits for a silent DynamoDB gives up after 28 s.
const REST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long after that responses may show old core data.
const STALE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a tracker may take to notice that a file of its journal is missing. It looks once per second.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(200);
/// Gauges of a tracker at rest. Readiness covers the rest.
const AT_REST: [(&str, &str); 6] = [
    ("adtrack_journal_bytes", "0"),
    ("adtrack_journal_outstanding_events", "0"),
    ("adtrack_journal_damaged_total", "0"),
    ("adtrack_l2_loads_in_flight", "0"),
    ("adtrack_redis_connected", "1"),
    ("adtrack_subscribed", "1"),
];
/// What a tracker at rest may use. It needs about a fifth of the memory and a quarter of the handles.
const MAX_ANONYMOUS_MIB: u64 = 128;
const MAX_HANDLES: usize = 128;

/// What a check has measured.
#[derive(Debug, Default)]
pub struct Measurements {
    pub rows: usize,
    /// Number of objects that trackers had spilled.
    pub spilled: usize,
    /// How long the check took: most of it until everything was at rest.
    pub took: Duration,
    pub anonymous_mib: Vec<u64>,
    pub handles: Vec<usize>,
}

/// Checks an epoch whose requests have numbers from `first` on. `next` is the next free one.
pub async fn check(
    rig: &Rig,
    feed: &Arc<Feed>,
    load: &Arc<Load>,
    first: u64,
    next: u64,
) -> (Measurements, Vec<String>) {
    let started_at = Instant::now();
    let mut problems = until_none(REST_TIMEOUT, async || unrest(rig).await).await;
    for tracker in 0..TRACKERS {
        report_end(rig, tracker).await;
    }
    let spilled = files(&rig.folder.join("spill")).len();
    problems.extend(redrive(rig).await);
    problems.extend(stale_programs(feed, load, next).await);
    problems.extend(std::mem::take(&mut *load.truth.problems.lock().unwrap()));

    let mut rows = Vec::new();
    let missing = until_none(REST_TIMEOUT, async || {
        rows = scan(rig).await;
        let verdict = {
            let events = load.truth.events.lock().unwrap();
            judge(&events, &rows, first, |program, name| version(feed, program, name).is_some())
        };
        verdict.missing
    })
    .await;
    problems.extend(missing.into_iter().map(|event| format!("lost: {event}")));
    {
        let events = load.truth.events.lock().unwrap();
        let is_fed = |program, name: &str| version(feed, program, name).is_some();
        problems.extend(judge(&events, &rows, first, is_fed).wrong);
    }
    problems.extend(until_none(REST_TIMEOUT, async || failed_records(rig)).await);
    rig.poison.lock().unwrap().clear();
    problems.extend(until_none(JOURNAL_TIMEOUT, async || journal_files(rig)).await);
    problems.extend(garbage(rig));

    let (anonymous_mib, handles) = usage(rig).await;
    if anonymous_mib.iter().any(|mib| *mib > MAX_ANONYMOUS_MIB) {
        problems.push(format!("trackers use {anonymous_mib:?} MiB of memory"));
    }
    if handles.iter().any(|handles| *handles > MAX_HANDLES) {
        problems.push(format!("trackers hold {handles:?} file handles"));
    }
    delete(rig, &rows).await;
    problems.extend(std::mem::take(&mut *rig.problems.lock().unwrap()));
    let measured = Measurements {
        rows: rows.len(),
        spilled,
        took: started_at.elapsed(),
        anonymous_mib,
        handles,
    };
    (measured, problems)
}

/// Waits until `find` finds nothing, and returns what it still finds in the end.
async fn until_none(timeout: Duration, mut find: impl AsyncFnMut() -> Vec<String>) -> Vec<String> {
    let give_up = Instant::now() + timeout;
    loop {
        let found = find().await;
        if found.is_empty() || Instant::now() > give_up {
            return found;
        }
        tokio::time::sleep(POLL).await;
    }
}

/// What keeps the trackers from being at rest.
async fn unrest(rig: &Rig) -> Vec<String> {
    let client = client();
    let get = async |url: String| {
        let response = client.get(url).send().await?;
        Ok::<_, reqwest::Error>((response.status(), response.text().await?))
    };
    let mut unrest = Vec::new();
    for (tracker, url) in rig.management_urls().await.into_iter().enumerate() {
        match get(format!("{url}/health/ready")).await {
            Ok((status, _)) if status.is_success() => {}
            Ok((_, body)) => unrest.push(format!("tracker {tracker} is not ready: {body}")),
            Err(error) => unrest.push(format!("tracker {tracker} does not respond: {error}")),
        }
        let Ok((_, metrics)) = get(format!("{url}/metrics")).await else { continue };
        for (name, expected) in AT_REST {
            let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            if value != Some(expected) {
                unrest.push(format!("{name} of tracker {tracker} is {value:?}"));
            }
        }
    }
    unrest
}

/// Puts what the trackers have spilled on the stream.
async fn redrive(rig: &Rig) -> Option<String> {
    let spill = rig.folder.join("spill");
    if files(&spill).is_empty() {
        return None;
    }
    let environment = rig.stack.lock().await.environment.clone();
    let output = tokio::process::Command::new(rig.binaries.join("redrive"))
        .envs(environment)
        .env("SPILL_URL", format!("file://{}", spill.display()))
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(REST_TIMEOUT, output).await;
    let is_done = output.as_ref().is_ok_and(|output| {
        output.as_ref().is_ok_and(|output| output.status.success()) && files(&spill).is_empty()
    });
    (!is_done).then(|| format!("redrive left {:?}: {output:?}", files(&spill)))
}

/// Programs of which a tracker's response does not show what was fed last. Numbers its requests from `next` on.
async fn stale_programs(feed: &Feed, load: &Load, mut next: u64) -> Vec<String> {
    until_none(STALE_TIMEOUT, async || {
        let mut stale = Vec::new();
        for (program, tracker) in
            (0..PROGRAMS).flat_map(|it| (0..TRACKERS).map(move |tracker| (it, tracker)))
        {
            let found = load.get(next, program, tracker).await;
            next += 1;
            let fed = feed.latest(program);
            let expected = match fed.is_deleted {
                true => (404, None),
                false => (200, Some(name(program, fed.version))),
            };
            if found != expected {
                stale.push(format!("tracker {tracker} has {found:?}; {expected:?} was fed"));
            }
        }
        stale
    })
    .await
}

async fn scan(rig: &Rig) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut start = None;
    loop {
        let scan = rig.dynamodb.scan().table_name(TABLE).set_exclusive_start_key(start);
        let page = scan.send().await.unwrap();
        rows.extend(page.items.unwrap_or_default());
        start = page.last_evaluated_key;
        if start.is_none() {
            return rows;
        }
    }
}

/// Deletes the rows, so that the next scan is no longer than this one.
async fn delete(rig: &Rig, rows: &[Row]) {
    for chunk in rows.chunks(25) {
        let deletions = chunk.iter().map(|row| {
            let id: AttributeValue = row["id"].clone();
            let delete = DeleteRequest::builder().key("id", id).build().unwrap();
            WriteRequest::builder().delete_request(delete).build()
        });
        let call = rig.dynamodb.batch_write_item().request_items(TABLE, deletions.collect());
        call.send().await.unwrap();
    }
}

/// How the failure store differs from the poison that the machine has put on the streams.
fn failed_records(rig: &Rig) -> Vec<String> {
    let poison = rig.poison.lock().unwrap();
    let mut missing: BTreeSet<_> =
        poison.iter().map(|(function, data)| ((*function).to_owned(), data.clone())).collect();
    drop(poison);
    let mut unexpected = Vec::new();
    let files = files(&rig.folder.join("failed-records"));
    for file in &files {
        let record = std::fs::read(file).map(|json| serde_json::from_slice::<FailedRecord>(&json));
        let found = record.ok().and_then(Result::ok).map(|record| {
            let data = STANDARD.decode(record.data).unwrap_or_default();
            (record.function, String::from_utf8_lossy(&data).into_owned())
        });
        if !found.is_some_and(|found| missing.remove(&found)) {
            unexpected.push(format!("{} is in the failure store", file.display()));
        }
    }
    let missing = missing
        .iter()
        .map(|(function, data)| format!("{data:?} is not in the failure store of {function}"));
    let differences: Vec<_> = missing.chain(unexpected).collect();
    if differences.is_empty() {
        for file in files {
            std::fs::remove_file(file).unwrap();
        }
    }
    differences
}

/// Journals that lack a file, or have one too many.
fn journal_files(rig: &Rig) -> Vec<String> {
    let found = JOURNALS.map(|journal| (journal, names(&rig.folder.join(journal))));
    let wrong = found.into_iter().filter(|(_, names)| *names != rig.journal_files);
    wrong.map(|(journal, names)| format!("the files of {journal} are {names:?}")).collect()
}

/// Files that should not be there.
fn garbage(rig: &Rig) -> Vec<String> {
    let left = ["tmp", "spill", "on-failure"].map(|folder| files(&rig.folder.join(folder)));
    left.concat().iter().map(|path| format!("left behind: {}", path.display())).collect()
}

/// Anonymous memory and number of file handles of each tracker.
async fn usage(rig: &Rig) -> (Vec<u64>, Vec<usize>) {
    let mut stack = rig.stack.lock().await;
    let processes = stack.trackers().iter_mut().filter_map(|tracker| tracker.process().id());
    let usage = processes.map(|id| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let kib =
            status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().split(' ').next());
        let kib: u64 = kib.and_then(|kib| kib.parse().ok()).unwrap_or_default();
        (kib / 1024, files(Path::new(&format!("/proc/{id}/fd"))).len())
    });
    usage.unzip()
}
