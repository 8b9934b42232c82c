//! `core-data publish`.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use local_stack::faults::Fault;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::local::{Local, RunOutput, deleted, interrupt, program};

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_reach_redis_with_the_right_versions() {
    let local = Local::start().await;
    let lines = [
        program("a", "a1"),
        program("b", "b1"),
        deleted("gone"),
        program("a", "a2"),
        program("gone", "back"),
        deleted("b"),
    ];
    let lines = local.file("lines", &lines.join("\n"));
    let published = local.publish(&lines).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    assert!(
        published.out.contains("6 records: 4 programs, 2 deletions, 0 skipped"),
        "{published:?}"
    );
    assert!(published.out.contains("us-east-1: 6 records in "), "{published:?}");
    let verified = local.run(&["verify", lines.to_str().unwrap(), "--wait", "20"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert!(verified.out.ends_with("3 programs compared, 0 differ\n"), "{verified:?}");

    let table = "programId,programName,checksum,customerId,customerName,valid,allowedHosts\n\
                 t,\"in a\ntable\",1,1,c,true,a.example b.example\n";
    let table = local.file("table.csv", table);
    assert_eq!(local.publish(&table).await.status, Some(0));
    let array = format!("[{},\n{}]", program("x", "x"), program("a", "a3"));
    let mut child = local
        .command(&["publish", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(array.as_bytes()).await.unwrap();
    assert!(child.wait().await.unwrap().success());
    let array = local.file("array.json", &array);
    for file in [&table, &array] {
        let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", "20"]).await;
        assert_eq!(verified.status, Some(0), "{verified:?}");
    }
    assert_eq!(local.count_programs_with_last_version().await, (5, 5));
    let names = local.names_on_stream().await;
    assert_eq!(names["a"], ["a1", "a2", "a3"]);
    assert_eq!(
        (&names["b"][..], &names["gone"][..]),
        (&["b1", "-"].map(String::from)[..], &["-", "back"].map(String::from)[..])
    );
    let sent = local.records_on_stream().await;
    let (_, sent) = sent.iter().find(|(_, json)| json["programId"] == "x").unwrap();
    assert_eq!(sent["customerId"], 1, "a number, although the file has a string");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_records_is_refused_unless_that_is_allowed() {
    let local = Local::start().await;
    let header = "programId,programName,checksum,customerId,customerName,valid\n";
    for content in ["", "\n", "[]", header] {
        let file = local.file("empty", content);
        let file = file.to_str().unwrap();
        for command in ["publish", "verify"] {
            let refused = local.run(&[command, file]).await;
            assert_eq!(refused.status, Some(65), "{content:?}: {refused:?}");
            assert!(refused.err.contains("has no records: nothing is done"), "{refused:?}");
            let allowed = local.run(&[command, file, "--allow-empty"]).await;
            assert_eq!(allowed.status, Some(0), "{content:?}: {allowed:?}");
        }
    }
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_occurs_twice_is_named() {
    let local = Local::start().await;
    let records = [program("a", "1"), program("b", "1"), deleted("a"), program("a", "2")];
    let file = local.file("twice", &records.join("\n"));
    let checked = local.run(&["publish", file.to_str().unwrap(), "--dry-run"]).await;
    assert_eq!(checked.status, Some(0), "{checked:?}");
    let warning = "warning: 2 records are about a program that the file has before, such as a; \
                   the last record of a program counts";
    assert!(checked.err.contains(warning), "{checked:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_are_refused_and_suspicious_ones_named() {
    let local = Local::start().await;
    let with = |members: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(&program("a", "1")).unwrap();
        json.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        json.to_string()
    };
    for (members, problem) in [
        (json!({"parameterAliases": {"amount": "payout"}}), r#"as in {"payout":"amount"}"#),
        (json!({"parameterAliases": {"s1": "clickId"}}), r#"did you mean "click_id"?"#),
        (json!({"statusAliases": {"1": "aproved"}}), r#"did you mean "approved"?"#),
        (json!({"statusAliases": {"approved ": "approved"}}), "has blanks"),
        (json!({"statusAliases": {"{status}": "approved"}}), "is a macro that nobody filled"),
        (json!({"landingUrl": "https://h.example/?c={CLICK_ID}"}), "it has no click id"),
    ] {
        let file = local.file("wrong", &with(members));
        let refused = local.publish(&file).await;
        assert_eq!(refused.status, Some(65), "{refused:?}");
        assert!(refused.err.contains(problem), "{refused:?}");
    }
    for (rest, warning) in [
        (
            "?c={click_id}&d={clickid}",
            "{clickid} is not filled as it was meant, {click_id} is (1 programs, such as a)",
        ),
        (
            "?c=__CLICK_ID__",
            "__CLICK_ID__ is not filled as it was meant, {click_id} is (1 programs",
        ),
        (
            "?s={sub}",
            "the shop gets no click id, so no conversion can be matched to a click: none of {sub} is",
        ),
        ("?c=#{click_id}", "the shop gets no click id: {click_id} is only behind #"),
    ] {
        let url = format!("https://h.example/{rest}");
        let file = local.file("suspicious", &with(json!({"landingUrl": url})));
        let published = local.publish(&file).await;
        assert_eq!(published.status, Some(0), "{published:?}");
        let warning = format!("warning: member `landingUrl`: {warning}");
        assert!(published.err.contains(&warning), "{published:?}");
    }
    local.stop().await;
}

/// 3,000 records of 700 programs, so that many wait for an earlier record of their program.
fn many_records() -> (String, BTreeMap<String, Vec<String>>) {
    let mut names = BTreeMap::<String, Vec<String>>::new();
    let records: Vec<String> = (0..3_000)
        .map(|number| {
            let (id, name) = (format!("p{}", scrambled(number) % 700), format!("n{number}"));
            let record = program(&id, &name);
            names.entry(id).or_default().push(name);
            record
        })
        .collect();
    (records.join("\n"), names)
}

/// A pseudo-random number, the same on every run.
fn scrambled(number: u64) -> u64 {
    number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_failed_records_again_and_keeps_each_programs_order() {
    let local = Local::start().await;
    local.faults.set(&[
        (Fault::Partial(0.3), 0.8),
        (Fault::Throttled, 0.1),
        (Fault::ServerError, 0.1),
    ]);
    let (records, names) = many_records();
    let file = local.file("many", &records);
    let published = local.publish(&file).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    assert!(published.out.contains("3,000 records in "), "{published:?}");
    assert!(!published.out.contains(" 0 retries"), "{published:?}");
    // None of these faults reports a record as failed that the stream has.
    assert_eq!(local.names_on_stream().await, names);
    let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", "30"]).await;
    assert_eq!(verified.status, Some(0), "{verified:?}");
    assert_eq!(local.count_programs_with_last_version().await, (names.len(), names.len()));
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_response_duplicates_records_but_reorders_none() {
    let local = Local::start().await;
    local.faults.set(&[(Fault::Reset, 0.4)]);
    let (records, names) = many_records();
    let published = local.publish(&local.file("many", &records)).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    let mut on_stream = local.names_on_stream().await;
    on_stream.values_mut().for_each(Vec::dedup);
    assert_eq!(on_stream, names);
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_nothing_of_an_invalid_file_without_skip_invalid() {
    let local = Local::start().await;
    let lines = [program("a", "a"), program("b b", "b"), "{".into(), program("c", "c")];
    let file = local.file("bad", &lines.join("\n"));
    let path = file.to_str().unwrap();
    let rejected = local.publish(&file).await;
    assert_eq!((rejected.status, rejected.out.as_str()), (Some(65), ""), "{rejected:?}");
    let errors: Vec<&str> = rejected.err.lines().collect();
    let column = lines[1].find("\"b b\"").unwrap() + 1;
    assert!(errors[0].starts_with(&format!("{path}:2:{column}: member `programId`")), "{errors:?}");
    assert!(errors[1].starts_with(&format!("{path}:3:1: EOF")), "{errors:?}");
    assert!(errors[2].contains("2 errors: nothing is done"), "{errors:?}");
    assert_eq!(errors.len(), 3);
    let dry = local.run(&["publish", path, "--skip-invalid", "--dry-run"]).await;
    assert_eq!(dry.status, Some(0), "{dry:?}");
    assert!(dry.out.contains("2 records: 2 programs, 0 deletions, 2 skipped"), "{dry:?}");
    assert!(local.records_on_stream().await.is_empty());

    let skipped = local.run(&["publish", path, "--skip-invalid"]).await;
    assert_eq!(skipped.status, Some(0), "{skipped:?}");
    assert_eq!(skipped.err.lines().count(), 2, "{skipped:?}");
    assert_eq!(local.names_on_stream().await.len(), 2);

    let many = local.file("many-errors", &"{\n".repeat(150));
    let rejected = local.run(&["publish", many.to_str().unwrap()]).await;
    assert_eq!((rejected.status, rejected.err.lines().count()), (Some(65), 102), "{rejected:?}");
    assert!(rejected.err.contains("\nand 50 more\n"), "{rejected:?}");
    let none_left = local.run(&["publish", many.to_str().unwrap(), "--skip-invalid"]).await;
    assert_eq!(none_left.status, Some(65));
    let broken = local.file("broken.json", &format!("[{},", program("d", "d")));
    let rejected = local.run(&["publish", broken.to_str().unwrap(), "--skip-invalid"]).await;
    assert_eq!(rejected.status, Some(65), "{rejected:?}");
    let misspelt = local.file("misspelt", &deleted("d").replace('}', ",\"landingURL\":1}"));
    let warned = local.run(&["publish", misspelt.to_str().unwrap(), "--dry-run"]).await;
    assert_eq!(warned.status, Some(0));
    assert!(warned.err.contains("warning: \"landingURL\" is not a member"), "{warned:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_permanent_errors_at_once() {
    let local = Local::start().await;
    let file = local.file("one", &program("a", "a"));
    let path = file.to_str().unwrap();
    let absent = local.run(&["publish", path, "--stream", "no-such-stream"]).await;
    assert_eq!(absent.status, Some(69), "{absent:?}");
    assert!(absent.err.contains("0 of 1 records were sent"), "{absent:?}");
    assert!(absent.err.contains("ResourceNotFoundException") && absent.err.contains("harmless"));

    let anonymous = local
        .command(&["publish", path])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let anonymous = RunOutput::from(anonymous.await.unwrap());
    assert_eq!(anonymous.status, Some(69), "{anonymous:?}");
    assert!(anonymous.err.contains("no credentials") && anonymous.err.lines().count() == 1);
    let dry = local.command(&["publish", path, "--dry-run"]).env_clear().output().await.unwrap();
    assert_eq!(dry.status.code(), Some(0));

    let without_region = local
        .command(&["publish", path])
        .env_remove("AWS_REGION")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let without_region = RunOutput::from(without_region.await.unwrap());
    assert_eq!(
        (without_region.status, without_region.err.lines().count()),
        (Some(64), 1),
        "{without_region:?}"
    );
    for (arguments, named) in [
        (&["publish"][..], "FILE"),
        (&[], "subcommand"),
        (&["get", "a b"], "PROGRAM_ID"),
        (&["verify", path, "--wait", "x"], "--wait"),
        (&["publish", path, "--format", "xml"], "--format"),
    ] {
        let usage = local.run(arguments).await;
        assert_eq!((usage.status, usage.err.lines().count()), (Some(64), 1), "{usage:?}");
        assert!(usage.err.contains(named), "{usage:?}");
    }
    let missing = local.run(&["publish", "/no/such/file"]).await;
    assert_eq!(missing.status, Some(66), "{missing:?}");
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_named_region_gets_every_record_once() {
    let local = Local::start().await;
    let file = local.file("one", &program("a", "a"));
    let regions = ["--region", "eu-west-1", "--region", "us-east-1", "--region", "eu-west-1"];
    let published = local.run(&[&["publish", file.to_str().unwrap()], &regions[..]].concat()).await;
    assert_eq!(published.status, Some(0), "{published:?}");
    let lines: Vec<&str> = published.out.lines().skip(1).collect();
    assert!(lines[0].starts_with("eu-west-1: 1 records") && lines[1].starts_with("us-east-1: 1 "));
    // The embedded Kinesis has one stream for all regions.
    assert_eq!(local.names_on_stream().await["a"], ["a", "a"]);
    local.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_finishes_calls_in_flight_and_reports_progress() {
    let local = Local::start().await;
    local.faults.set(&[(Fault::Latency(Duration::from_millis(700)), 1.0)]);
    let records: Vec<String> = (0..20_000).map(|n| program(&format!("p{n}"), "n")).collect();
    let file = local.file("many", &records.join("\n"));
    let mut child = local
        .command(&["publish", file.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
    out.next_line().await.unwrap().expect("the file's counts");
    // The calls start now; each takes 700 ms.
    tokio::time::sleep(Duration::from_millis(1_000)).await;
    interrupt(&child);
    let region = out.next_line().await.unwrap().expect("the region's summary");
    let ended = RunOutput::from(child.wait_with_output().await.unwrap());
    assert_eq!(ended.status, Some(130), "{ended:?}");
    assert!(ended.err.contains("records were sent: interrupted"), "{ended:?}");
    let sent: usize = region
        .strip_prefix("us-east-1: ")
        .and_then(|rest| rest.split(' ').next())
        .unwrap()
        .replace(',', "")
        .parse()
        .unwrap();
    assert!(sent > 0 && sent < 20_000, "{region} {ended:?}");
    assert_eq!(local.records_on_stream().await.len(), sent);
    local.stop().await;
}

/// 200,000 programs with `ADTRACK_PROVE`, otherwise a hundredth of them.
#[tokio::test(flavor = "multi_thread")]
async fn all_programs_of_a_large_file_reach_redis_with_the_right_version() {
    let prove = std::env::var_os("ADTRACK_PROVE").is_some();
    let (count, wait) = if prove { (200_000, "300") } else { (2_000, "30") };
    let local = Local::start().await;
    let mut table = "programId,programName,checksum,customerId,customerName,valid,validFrom,landingUrl,allowedHosts\n".to_owned();
    for number in 0..count {
        table.push_str(&format!(
            "p-{number},Program {number},{},{},Customer {},true,2026-01-01T00:00:00Z,\
             https://shop.example/p/{number}?click={{click_id}},shop.example\n",
            scrambled(number),
            number % 1_000,
            number % 1_000,
        ));
    }
    let file = local.file("large.csv", &table);
    let started_at = Instant::now();
    let published = local.publish(&file).await;
    let published_after = started_at.elapsed();
    assert_eq!(published.status, Some(0), "{published:?}");
    let verified = local.run(&["verify", file.to_str().unwrap(), "--wait", wait]).await;
    let stored_after = started_at.elapsed();
    let summary = verified.out.lines().last();
    assert_eq!(verified.status, Some(0), "{summary:?} {}", verified.err);
    let (current, programs) = local.count_programs_with_last_version().await;
    println!(
        "{}published after {:.1} s, checking the file included; all in Redis after {:.1} s; \
         {current} of {programs} programs have the version of their record",
        published.out,
        published_after.as_secs_f64(),
        stored_after.as_secs_f64()
    );
    assert_eq!((current, programs), (count as usize, count as usize));
    local.stop().await;
}
