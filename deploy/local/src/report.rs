//! What the person who runs the stack sees.

use std::time::Duration;

use adtrack_runtime::outln;
use local_stack::ports::Port;
use local_stack::stack::{CORE_DATA_STREAM, EVENT_STREAM, TABLE};
use local_stack::{Stack, StackOptions};

use crate::env_file::EnvFile;

/// Says what runs where, and what to try.
pub(crate) fn announce(stack: &Stack, options: &StackOptions, env_file: &EnvFile, took: Duration) {
    let value = |name: &str| {
        let found = stack.environment.iter().find(|(candidate, _)| candidate == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let (kinesis, dynamodb) =
        (value("AWS_ENDPOINT_URL_KINESIS"), value("AWS_ENDPOINT_URL_DYNAMODB"));
    let functions =
        if options.functions { "kinesis-consumer, archiver, redis-updater" } else { "" };
    let rows = [
        ("tracker", stack.tracker_url(), "public: /event/{programId}, /health/check".to_owned()),
        ("", stack.management_url(), "management: /metrics, /cache/{programId}".to_owned()),
        ("Kinesis", kinesis, format!("embedded; streams {EVENT_STREAM}, {CORE_DATA_STREAM}")),
        ("DynamoDB", dynamodb, format!("embedded; table {TABLE}")),
        ("Redis", value("REDIS_URL"), "redis-server".to_owned()),
        ("functions", functions, "their real binaries".to_owned()),
    ];
    outln!("\nadtrack runs on this machine (ready in {:.1} s)\n", took.as_secs_f32());
    for (part, place, note) in rows.into_iter().filter(|(_, place, _)| !place.is_empty()) {
        outln!("  {part:<10} {place:<33} {note}");
    }
    outln!("  logs, failed records, archive     {}", options.folder.display());
    for (part, default, url) in [
        ("the tracker", options.ports.tracker, stack.tracker_url()),
        ("its management", options.ports.management, stack.management_url()),
        ("Kinesis", options.ports.kinesis, kinesis),
        ("DynamoDB", options.ports.dynamodb, dynamodb),
        ("Redis", options.ports.redis, value("REDIS_URL")),
    ] {
        if let Port::From(port) = default
            && !url.is_empty()
            && !url.ends_with(&format!(":{port}"))
        {
            outln!("  Port {port} was busy: {part} took the next free one.");
        }
    }
    let file = env_file.path.display();
    let mut demo = "make demo".to_owned();
    if env_file.is_second_choice {
        outln!("  Another stack runs here: this one's environment is in {file}.");
        demo = format!("make demo ENV_FILE={file}");
    }
    outln!("\nIn a second terminal:\n");
    outln!("  . {file}");
    outln!("  curl -i $TRACKER_URL/event/212313");
    outln!("  {demo}\n");
    outln!("Ctrl-C stops everything.");
}
