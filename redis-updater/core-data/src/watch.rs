//! `core-data watch`: prints updates as they are pushed.

use std::time::Duration;

use adtrack_proto::ProgramId;
use adtrack_proto::program::Update;
use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::{errln, output};

use super::arguments::WatchArguments;
use super::exit::{Exit, Failure};
use super::redis::Redis;
use super::signals::StopSignals;

const BACKOFF: Backoff =
    Backoff { base: Duration::from_millis(200), ceiling: Duration::from_secs(5) };

/// Prints updates until a signal or a closed standard output ends it.
pub async fn run(arguments: &WatchArguments) -> Result<Exit, Failure> {
    let redis = Redis::new(&arguments.redis)?;
    let mut signals = StopSignals::listen()?;
    tokio::select! {
        () = watch(&redis, arguments.program.as_ref()) => {}
        () = signals.next() => {}
    }
    Ok(Exit::Success)
}

/// Returns when standard output accepts no more.
async fn watch(redis: &Redis, program: Option<&ProgramId>) {
    let mut failures = 0;
    loop {
        let result = match redis.subscribe().await {
            Ok(subscription) => {
                failures = 0;
                errln!("subscribed");
                subscription.run(|message| !concerns(message, program) || print(message)).await
            }
            Err(failure) => Err(failure),
        };
        let Err(failure) = result else { return };
        failures += 1;
        // Reports a long outage only once.
        if failures == 1 {
            errln!("not subscribed: {failure}. Updates that are pushed meanwhile are missed");
        }
        tokio::time::sleep(BACKOFF.delay(failures)).await;
    }
}

/// Whether `message` is to be printed: everything, or only valid updates of `program`.
fn concerns(message: &[u8], program: Option<&ProgramId>) -> bool {
    program.is_none_or(|program| {
        Update::from_json(message).is_ok_and(|update| update.core_data.program_id() == program)
    })
}

/// Returns false once standard output accepts no more.
fn print(message: &[u8]) -> bool {
    output::write(|out| out.write_all(message).and_then(|()| out.write_all(b"\n")))
}
