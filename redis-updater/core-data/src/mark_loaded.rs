//! `core-data mark-loaded`: sets how many programs Redis should hold.

use adtrack_runtime::{errln, output};
use indicatif::HumanCount;

use super::arguments::MarkLoadedArguments;
use super::exit::{Exit, Failure};
use super::redis::Redis;

pub async fn run(arguments: &MarkLoadedArguments) -> Result<Exit, Failure> {
    let count = arguments.count;
    if count == 0 && !arguments.allow_empty {
        let message = "--count=\"0\": every program would be unknown, with 404, which clients do not \
                       retry; for a Redis that is to hold no program, add --allow-empty";
        return Err(Failure::new(Exit::Usage, message));
    }
    let redis = Redis::new(&arguments.redis)?;
    let connection = redis.connect().await?;
    connection.mark_loaded(count).await?;
    output::line(format_args!("adtrack:loaded is {count}"));
    if let Some(held) = connection.too_few_held(count).await? {
        errln!(
            "Redis holds {} so far, far fewer than {}: trackers report no program as unknown until more \
             arrive",
            HumanCount(held),
            HumanCount(count)
        );
    }
    Ok(Exit::Success)
}
