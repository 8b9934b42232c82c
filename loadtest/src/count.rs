//! `make count`: as many rows as accepted requests, no more and no less.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::stack::RunningStack;
use crate::traffic::{self, Answered};

/// For the last row to arrive.
const PATIENCE: Duration = Duration::from_secs(60);
/// For a row that should not be there to arrive.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Sends, waits, counts. True where the counts agree and every request was accepted.
pub(crate) async fn run(stack: &RunningStack, requests: u32, rate: u32) -> Result<bool, String> {
    // Marks this run's events, so that other traffic does not disturb the count.
    let run = format!("{}-{}", std::process::id(), unix_millis());
    println!("Sending {requests} requests at {rate}/s.");
    let start = Instant::now();
    let programs = ["212312", "212313", "212314"];
    let paths = (0..requests)
        .zip(programs.iter().cycle())
        .map(|(number, program)| format!("/event/{program}?run={run}&n={number}"));
    let (accepted, follow) = mpsc::unbounded_channel();
    let send = async {
        let answers = traffic::send(stack, paths, rate, accepted).await;
        (answers, start.elapsed())
    };
    let ((answers, took), followed) = tokio::join!(send, stack.follow(follow, PATIENCE));
    let seen = followed?;
    for (status, count) in traffic::by_status(&answers) {
        println!("  {count:>7} × {status}");
    }
    println!(
        "  {:.0}/s; latency from the intended time: {}",
        f64::from(requests) / took.as_secs_f64(),
        traffic::percentiles(answers.iter().map(|answer| answer.latency).collect())
    );

    let ids = answers.iter().filter(|answer| answer.message_id.is_some()).count();
    println!("  from answer to row: {}", traffic::percentiles(seen.values().copied().collect()));
    tokio::time::sleep(AFTERMATH).await;
    let rows = stack.count_rows(&run).await?;
    let accepted = answers.iter().filter(|answer| is_accepted(answer)).count();
    let lost = ids - seen.len();
    println!("  {accepted} accepted, {rows} rows, {lost} of the accepted ids missing");

    let right = accepted == rows && lost == 0 && ids == accepted;
    let complete = u32::try_from(accepted) == Ok(requests);
    println!("{}", if right && complete { "OK: no more, no less." } else { "NOT OK." });
    Ok(right && complete)
}

fn is_accepted(answer: &Answered) -> bool {
    answer.status == Ok(200)
}

fn unix_millis() -> u128 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.as_millis())
}
