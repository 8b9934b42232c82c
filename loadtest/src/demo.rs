//! `make demo`: shows in a minute what the pipeline does.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use adtrack_runtime::outln;
use tokio::sync::mpsc;

use crate::stack::{RunningStack, StackError};
use crate::traffic::{self, SentRequest, count_by_status, format_percentiles};

const REQUESTS: usize = 300;
const RATE: u32 = 100;
/// How long to wait for the last row, and for the changed program.
const PATIENCE: Duration = Duration::from_secs(20);

/// One path of each kind, and what it shows.
const KINDS: [(&str, &str); 10] = [
    ("/event/212313?checksum=124&customerId=9124", "valid"),
    ("/event/212312?campaign=autumn", "valid, with a parameter of its own"),
    ("/impression/212313.gif?placement=top", "an impression: a transparent pixel"),
    ("/click/212313?placement=top", "a click: a redirect to the landing page"),
    ("/conversion/212313?event_name=sale&amount=19.90&currency=EUR", "a conversion"),
    ("/event/disabled", "recorded as not valid: switched off"),
    ("/event/not-started", "recorded as not valid: too early"),
    ("/event/ended", "recorded as not valid: too late"),
    ("/event/212314?checksum=wrong", "refused: parameter_mismatch"),
    ("/event/unknown", "refused: program_not_found"),
];

/// Runs the demo. True if every accepted event became a row and the core-data change arrived.
pub(crate) async fn run(stack: &RunningStack) -> Result<bool, StackError> {
    outln!("1. {REQUESTS} requests at {RATE}/s to {}\n", stack.tracker_url);
    let paths = KINDS.iter().cycle().take(REQUESTS).map(|(path, _)| (*path).to_owned());
    let (accepted, follow) = mpsc::unbounded_channel();
    // Looks for rows while requests are sent, so that the time from response to row is right.
    let (requests, rows) =
        tokio::join!(traffic::send(stack, paths, RATE, accepted), stack.follow(follow, PATIENCE));
    let rows = rows?;
    show_responses(&requests);
    let stored = show_rows(stack, &requests, &rows).await?;
    let accepted = send_batch(stack).await?;
    let changed = change_program(stack).await?;
    Ok(stored && accepted && changed)
}

/// Sends three events in one request, of which the last names an unknown program.
async fn send_batch(stack: &RunningStack) -> Result<bool, StackError> {
    outln!("3. A batch: POST /events, with an impression, a conversion, and a mistake\n");
    let body = serde_json::json!([
        {"programId": "212313", "eventType": "impression", "eventId": "demo-1"},
        {"programId": "212313", "eventType": "conversion", "transactionId": "demo-order-1",
         "eventName": "sale", "amount": "19.90", "currency": "EUR"},
        {"programId": "unknown"},
    ]);
    let request = traffic::client().post(format!("{}/events", stack.tracker_url));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let response = request.timeout(PATIENCE).send().await?;
    let status = response.status();
    let text = response.text().await?;
    outln!("   {} {text}\n", status.as_u16());
    let body: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    Ok(body["accepted"] == 2 && body["refused"] == 1)
}

fn show_responses(requests: &[SentRequest]) {
    for (kind, meaning) in KINDS {
        let of_kind: Vec<_> =
            requests.iter().filter(|request| request.path == kind).cloned().collect();
        for (status, count) in count_by_status(&of_kind) {
            outln!("   {count:>4} × {status}   GET {kind:<62} {meaning}");
        }
    }
    if let Some(example) = requests.iter().find(|request| request.path == KINDS[0].0) {
        outln!("\n   {}", example.body);
    }
    let latencies = requests.iter().map(|request| request.latency).collect();
    outln!("\n   latency                {}\n", format_percentiles(latencies));
}

async fn show_rows(
    stack: &RunningStack,
    requests: &[SentRequest],
    rows: &HashMap<String, Duration>,
) -> Result<bool, StackError> {
    let accepted: Vec<_> =
        requests.iter().filter_map(|request| request.message_id.clone()).collect();
    let found = accepted.iter().filter(|id| rows.contains_key(*id)).count();
    outln!("2. Their rows in DynamoDB, through Kinesis and kinesis-consumer\n");
    outln!("   {found} of {} accepted events have a row", accepted.len());
    if let Some(id) = accepted.first() {
        outln!("\n   {}", stack.describe_row(id).await?);
    }
    let delays = rows.values().copied().collect();
    outln!("\n   from response to row   {}\n", format_percentiles(delays));
    Ok(found == accepted.len())
}

/// Renames a program, and waits for a response with the new name.
async fn change_program(stack: &RunningStack) -> Result<bool, StackError> {
    let id = "212314";
    let name = format!("program3, renamed at {}", unix_seconds());
    outln!("4. A core-data change: program {id} is renamed on the core-data stream\n");
    let json = serde_json::json!({
        "programId": id, "programName": name, "checksum": "125", "customerId": 9125,
        "customerName": "Customer3", "valid": true, "landingUrl": "https://shop.example/p/3",
        "fallbackUrl": "https://shop.example/", "allowedHosts": ["shop.example"],
    });
    let put = Instant::now();
    stack.put_core_data(id, json.to_string()).await?;
    let client = traffic::client();
    let url = format!("{}/event/{id}", stack.tracker_url);
    while put.elapsed() < PATIENCE {
        let response = client.get(&url).timeout(PATIENCE).send().await?;
        let body = response.text().await.unwrap_or_default();
        if body.contains(&name) {
            outln!(
                "   from PutRecord to the first response with the new name {:.2?}",
                put.elapsed()
            );
            outln!("   (redis-updater stored it in Redis, pub/sub pushed it to the tracker)\n");
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    outln!("   no response had the new name within {PATIENCE:?}\n");
    Ok(false)
}

fn unix_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.as_secs())
}
