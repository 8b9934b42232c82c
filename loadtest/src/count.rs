//! `make count`: checks that every accepted request became exactly one row.

use std::time::{Duration, Instant};

use adtrack_runtime::outln;
use tokio::sync::mpsc;

use crate::stack::{RunningStack, StackError};
use crate::traffic::{self, SentRequest};

/// How long to wait for the last row.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for surplus rows after the last expected one.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What to send.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) requests: u32,
    /// Requests per second.
    pub(crate) rate: u32,
}

/// Sends requests, waits for their rows and counts them. True if the counts agree and every request
/// was accepted.
pub(crate) async fn run(stack: &RunningStack, load: &Load) -> Result<bool, StackError> {
    let Load { requests, rate } = *load;
    // Marks this run's events, so that other traffic does not count.
    let run = format!("{}-{}", std::process::id(), unix_millis());
    outln!("Sending {requests} requests at {rate}/s.");
    let start = Instant::now();
    let programs = ["212312", "212313", "212314"];
    let paths = (0..requests)
        .zip(programs.iter().cycle())
        .map(|(number, program)| format!("/event/{program}?run={run}&n={number}"));
    let (accepted, follow) = mpsc::unbounded_channel();
    let send = async {
        let sent = traffic::send(stack, paths, rate, accepted).await;
        (sent, start.elapsed())
    };
    let ((sent, took), followed) = tokio::join!(send, stack.follow(follow, PATIENCE));
    let delays = followed?;
    for (status, count) in traffic::count_by_status(&sent) {
        outln!("  {count:>7} × {status}");
    }
    outln!(
        "  {:.0}/s; latency from the intended time: {}",
        f64::from(requests) / took.as_secs_f64(),
        traffic::format_percentiles(sent.iter().map(|request| request.latency).collect())
    );

    let ids = sent.iter().filter(|request| request.message_id.is_some()).count();
    outln!(
        "  from response to row: {}",
        traffic::format_percentiles(delays.values().copied().collect())
    );
    tokio::time::sleep(AFTERMATH).await;
    let rows = stack.count_rows(&run).await?;
    let accepted = sent.iter().filter(|request| is_accepted(request)).count();
    let lost = ids - delays.len();
    outln!("  {accepted} accepted, {rows} rows, {lost} of the accepted ids missing");

    let counts_agree = accepted == rows && lost == 0 && ids == accepted;
    let complete = u32::try_from(accepted) == Ok(requests);
    let ok = counts_agree && complete;
    outln!("{}", if ok { "OK: each request became exactly one row." } else { "NOT OK." });
    Ok(ok)
}

fn is_accepted(request: &SentRequest) -> bool {
    request.status == Some(200)
}

fn unix_millis() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.as_millis())
}
