//! `core-data watch`: updates as they are pushed.

use std::io::{self, Write};
use std::time::Duration;

use adtrack_proto::ProgramId;
use adtrack_proto::program::Update;
use adtrack_runtime::backoff::Backoff;

use super::arguments::WatchArguments;
use super::exit::{Exit, Failure};
use super::redis::Redis;
use super::signals::StopSignals;

const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(200), ceiling: Duration::from_secs(5) };

/// Prints them until it is asked to end, or nobody reads them any more.
pub async fn run(arguments: &WatchArguments) -> Result<Exit, Failure> {
    let redis = Redis::new(&arguments.redis)?;
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        () = watch(&redis, arguments.program.as_ref()) => {}
        () = signals.next() => {}
    }
    Ok(Exit::Success)
}

/// Ends when standard output is closed.
async fn watch(redis: &Redis, program: Option<&ProgramId>) {
    let mut failures = 0;
    loop {
        let ended = match redis.subscribe().await {
            Ok(subscription) => {
                failures = 0;
                eprintln!("subscribed");
                subscription.serve(|message| !concerns(message, program) || print(message)).await
            }
            Err(failure) => Err(failure),
        };
        let Err(failure) = ended else { return };
        failures += 1;
        // A long outage is said once.
        if failures == 1 {
            eprintln!("not subscribed: {failure}. What is pushed meanwhile is missed");
        }
        tokio::time::sleep(BACKOFF.delay(failures)).await;
    }
}

/// Whether a message is one of those asked for. What is no update is nobody's.
fn concerns(message: &[u8], program: Option<&ProgramId>) -> bool {
    program.is_none_or(|program| {
        Update::from_json(message).is_ok_and(|update| update.core_data.program_id() == program)
    })
}

/// False once nobody reads.
fn print(message: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(message).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()).is_ok()
}
