//! `core-data get`, `verify` and `watch`.

use std::collections::HashMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::local::{Local, deleted, interrupt, program};

fn full_disk() -> Stdio {
    std::fs::File::options().write(true).open("/dev/full").unwrap().into()
}

/// A pipe that its reader has closed.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_what_redis_holds() {
    let mut local = Local::start().await;
    let empty = local.run(&["get", "a"]).await;
    assert_eq!(empty.status, Some(1), "{empty:?}");
    assert!(empty.err.contains("no core data at all"), "{empty:?}");
    let file = local.file("two", &[program("a", "name"), deleted("b")].join("\n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    assert_eq!(
        local.run(&["verify", file.to_str().unwrap(), "--wait", "20"]).await.status,
        Some(0)
    );
    let versions: HashMap<String, String> = local
        .records_on_stream()
        .await
        .into_iter()
        .map(|(number, json)| (json["programId"].as_str().unwrap().into(), format!("0.{number}")))
        .collect();
    for (id, member, value) in [("a", "programName", json!("name")), ("b", "deleted", json!(true))]
    {
        let got = local.run(&["get", id]).await;
        assert_eq!(got.status, Some(0), "{got:?}");
        let json: Value = serde_json::from_str(&got.out).unwrap();
        assert_eq!((&json[member], &json["version"]), (&value, &json!(versions[id])), "{got:?}");
        assert_eq!(
            local
                .run(&["publish", "--dry-run", local.file("got", &got.out).to_str().unwrap()])
                .await
                .err,
            ""
        );
    }
    let unmarked = local.run(&["get", "c"]).await;
    assert!(unmarked.err.contains("run core-data mark-loaded"), "{unmarked:?}");
    let marked = local.run(&["mark-loaded", "--count", "1"]).await;
    assert_eq!((marked.status, marked.err.as_str()), (Some(0), ""), "{marked:?}");
    let lost = local.run_into(&["get", "a"], full_disk()).await;
    assert_eq!(lost.status, Some(74), "{lost:?}");
    assert!(lost.err.contains("standard output: No space left"), "{lost:?}");
    let verify = ["verify", file.to_str().unwrap()];
    assert_eq!(local.run_into(&verify, full_disk()).await.status, Some(74));
    assert_eq!(local.run_into(&verify, closed_pipe()).await.status, Some(0));
    let unread = local.run_into(&["get", "a"], closed_pipe()).await;
    assert_eq!((unread.status, unread.err.as_str()), (Some(0), ""), "{unread:?}");
    let unknown = local.run(&["get", "c"]).await;
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
    assert!(unknown.err.contains("Redis does not hold c:"), "{unknown:?}");
    local.redis.kill().await;
    let unavailable = local.run(&["get", "a"]).await;
    assert_eq!(
        (unavailable.status, unavailable.err.lines().count()),
        (Some(69), 1),
        "{unavailable:?}"
    );
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_reports_an_empty_redis_as_one_problem() {
    let local = Local::start().await;
    let two = local.file("two", &[program("a", "x"), program("b", "x")].join("\n"));
    let verify_two = async || local.run(&["verify", two.to_str().unwrap()]).await;
    let empty = verify_two().await;
    assert_eq!(empty.status, Some(1), "{empty:?}");
    assert!(empty.err.contains("run core-data mark-loaded"), "{empty:?}");
    assert_eq!(empty.out.lines().count(), 1, "no program is listed: {empty:?}");

    // One of the programs is there. Whether Redis is marked or not, the other one is listed.
    let one = local.file("one", &program("a", "x"));
    assert_eq!(local.publish(&one).await.status, Some(0));
    let arrived = local.run(&["verify", one.to_str().unwrap(), "--wait", "20"]).await;
    assert_eq!(arrived.status, Some(0), "{arrived:?}");
    for mark in [None, Some("2")] {
        if let Some(count) = mark {
            assert_eq!(local.run(&["mark-loaded", "--count", count]).await.status, Some(0));
        }
        let partial = verify_two().await;
        assert_eq!((partial.status, partial.err.as_str()), (Some(1), ""), "{partial:?}");
        let lines: Vec<&str> = partial.out.lines().skip(1).collect();
        assert_eq!(lines, ["b: missing", "2 programs compared, 1 differ"], "{partial:?}");
    }
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_lists_the_differences() {
    let local = Local::start().await;
    let held = [program("same", "x"), program("other", "x"), deleted("gone"), program("kept", "x")];
    let held = local.file("held", &held.join("\n"));
    assert_eq!(local.publish(&held).await.status, Some(0));
    assert_eq!(
        local.run(&["verify", held.to_str().unwrap(), "--wait", "20"]).await.status,
        Some(0)
    );
    let mut connection = local.redis.connection().await.unwrap();
    let _: () =
        redis::cmd("SET").arg("program:{odd}").arg(1).query_async(&mut connection).await.unwrap();
    let mut changed: Value = serde_json::from_str(&program("other", "y")).unwrap();
    changed["landingUrl"] = json!("https://h/");
    let wanted = [
        program("same", "an earlier one"),
        program("same", "x"),
        changed.to_string(),
        program("gone", "x"),
        deleted("kept"),
        deleted("never-there"),
        program("missing", "x"),
        program("odd", "x"),
    ];
    let wanted = local.file("wanted", &wanted.join("\n"));
    let verified = local.run(&["verify", wanted.to_str().unwrap()]).await;
    assert_eq!(verified.status, Some(1), "{verified:?}");
    let lines: Vec<&str> = verified.out.lines().skip(1).collect();
    assert_eq!(lines.len(), 6, "{lines:#?}");
    assert!(lines[0].starts_with("other: different (version 0."), "{lines:#?}");
    assert!(
        lines[0].ends_with(
            "): landingUrl: file \"https://h/\", Redis nothing; programName: file \"y\", Redis \"x\""
        ),
        "{lines:#?}"
    );
    assert!(lines[1].starts_with("gone: deleted in Redis (version 0."), "{lines:#?}");
    assert!(lines[2].starts_with("kept: deleted in the file, held in Redis"), "{lines:#?}");
    assert_eq!(lines[3], "missing: missing");
    assert!(lines[4].starts_with("odd: unreadable"), "{lines:#?}");
    assert_eq!(lines[5], "7 programs compared, 5 differ");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_updates_and_resubscribes_after_an_outage() {
    let mut local = Local::start().await;
    let spawn = |arguments: &[&str]| {
        let mut command = local.command(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut all = spawn(&["watch"]);
    let mut one = spawn(&["watch", "--program", "b"]);
    let mut errors = BufReader::new(all.stderr.take().unwrap()).lines();
    let mut errors_of_one = BufReader::new(one.stderr.take().unwrap()).lines();
    assert_eq!(errors.next_line().await.unwrap().unwrap(), "subscribed");
    assert_eq!(errors_of_one.next_line().await.unwrap().unwrap(), "subscribed");
    let mut pushed = BufReader::new(all.stdout.take().unwrap()).lines();
    let mut pushed_of_b = BufReader::new(one.stdout.take().unwrap()).lines();
    let file = local.file("two", &[program("a", "1"), program("b", "1")].join("\n"));
    assert_eq!(local.publish(&file).await.status, Some(0));
    let mut ids = Vec::new();
    for _ in 0..2 {
        let json: Value =
            serde_json::from_str(&pushed.next_line().await.unwrap().unwrap()).unwrap();
        assert!(json["version"].as_str().unwrap().starts_with("0."));
        ids.push(json["programId"].as_str().unwrap().to_owned());
    }
    ids.sort();
    assert_eq!(ids, ["a", "b"]);
    assert!(pushed_of_b.next_line().await.unwrap().unwrap().contains("\"programId\":\"b\""));

    local.redis.kill().await;
    let lost = errors.next_line().await.unwrap().unwrap();
    assert!(lost.starts_with("not subscribed: Redis at ") && lost.contains("are missed"), "{lost}");
    local.redis.start_again().await.unwrap();
    assert_eq!(errors.next_line().await.unwrap().unwrap(), "subscribed");
    assert_eq!(local.publish(&file).await.status, Some(0));
    assert!(pushed.next_line().await.unwrap().is_some());

    interrupt(&all);
    assert_eq!(all.wait().await.unwrap().code(), Some(0));
    // Its output is closed, so it ends at the next update that it would print.
    while errors_of_one.next_line().await.unwrap().unwrap() != "subscribed" {}
    drop(pushed_of_b);
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while one.try_wait().unwrap().is_none() {
        assert!(Instant::now() < give_up_at, "it goes on with a closed output");
        assert_eq!(local.publish(&file).await.status, Some(0));
    }
    assert_eq!(one.wait().await.unwrap().code(), Some(0));
    local.stop().await;
}
