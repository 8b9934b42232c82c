//! `core-data repair`: publishes one program in place of a wrong version.

use adtrack_proto::Version;
use adtrack_proto::program::REPLACES;
use adtrack_runtime::output;
use futures::future::join_all;

use super::arguments::RepairArguments;
use super::exit::{Exit, Failure};
use super::publish;
use super::spool::{self, Spool, SpooledRecord};
use super::stream::Stream;

pub async fn run(arguments: &RepairArguments) -> Result<Exit, Failure> {
    let RepairArguments { input, program, replaces, streams } = arguments;
    let spool = Spool::fill(input).await?;
    let mut found = None;
    for record in spool.records() {
        let record = record?;
        if record.program_id == *program {
            found = Some(record);
        }
    }
    let Some(record) = found else {
        let message = format!("{} has no record of {program}", spool::name(&input.file));
        return Err(Failure::new(Exit::Data, message));
    };
    let record = with_replaces(record, replaces);
    let streams = Stream::open(&streams.regions, &streams.stream).await?;
    let puts = streams.iter().map(|stream| publish::put_one(stream, record.clone()));
    for (stream, put) in streams.iter().zip(join_all(puts).await) {
        put?;
        output::line(format_args!(
            "{}: {program} is published in place of version {replaces}",
            stream.region
        ));
    }
    Ok(Exit::Success)
}

/// Adds the member that names the version to replace.
fn with_replaces(record: SpooledRecord, replaces: &Version) -> SpooledRecord {
    // A version has neither quotes nor backslashes, and a record has members.
    let json = record.json.replacen('{', &format!("{{\"{REPLACES}\":\"{replaces}\","), 1);
    SpooledRecord { json, ..record }
}
