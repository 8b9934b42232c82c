//! What the person who runs the stack sees, and the file that points tools at it.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use local_stack::ports::Port;
use local_stack::stack::{CORE_DATA_STREAM, EVENT_STREAM, TABLE};
use local_stack::{Stack, StackError, StackOptions};

/// Writes `export NAME=value` lines. The values hold nothing that a shell would read otherwise, but
/// for a folder's name.
pub(crate) fn write_environment(
    file: &Path,
    environment: &[(String, String)],
) -> Result<(), StackError> {
    let mut text = format!("# adtrack local stack, process {}\n", std::process::id());
    for (name, value) in environment {
        let quoted = value.replace('\'', r"'\''");
        let needs_quotes =
            value.contains(|c: char| !c.is_ascii_alphanumeric() && !"_-./:".contains(c));
        let value = if needs_quotes { format!("'{quoted}'") } else { value.clone() };
        let _ = writeln!(text, "export {name}={value}");
    }
    std::fs::write(file, text).map_err(|error| StackError::File(file.to_owned(), error))
}

/// Removes the file, unless another stack has written it since.
pub(crate) fn remove_environment(file: &Path) {
    let own = format!("process {}\n", std::process::id());
    if std::fs::read_to_string(file).is_ok_and(|text| text.contains(&own)) {
        // A file that stays points at a stack that is gone; nothing worse.
        let _ = std::fs::remove_file(file);
    }
}

/// Says what runs where, and what to try.
pub(crate) fn announce(stack: &Stack, options: &StackOptions, env_file: &Path, took: Duration) {
    let value = |name: &str| {
        let found = stack.environment.iter().find(|(candidate, _)| candidate == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let (kinesis, dynamodb) =
        (value("AWS_ENDPOINT_URL_KINESIS"), value("AWS_ENDPOINT_URL_DYNAMODB"));
    let functions = if options.functions { "kinesis-consumer, redis-updater" } else { "" };
    let rows = [
        ("tracker", stack.tracker_url(), "public: /event/{programId}, /health/check".to_owned()),
        ("", stack.management_url(), "management: /metrics, /cache/{programId}".to_owned()),
        ("Kinesis", kinesis, format!("embedded; streams {EVENT_STREAM}, {CORE_DATA_STREAM}")),
        ("DynamoDB", dynamodb, format!("embedded; table {TABLE}")),
        ("Redis", value("REDIS_URL"), "redis-server".to_owned()),
        ("functions", functions, "their real binaries".to_owned()),
    ];
    println!("\nadtrack runs on this machine (ready in {:.1} s)\n", took.as_secs_f32());
    for (part, place, note) in rows.into_iter().filter(|(_, place, _)| !place.is_empty()) {
        println!("  {part:<10} {place:<33} {note}");
    }
    println!("  logs, failed records              {}", options.folder.display());
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
            println!("  Port {port} was busy: {part} took the next free one.");
        }
    }
    println!("\nIn a second terminal:\n");
    println!("  . {}", env_file.display());
    println!("  curl -i $TRACKER_URL/event/212313");
    println!("  make demo\n");
    println!("Ctrl-C stops everything.");
}
