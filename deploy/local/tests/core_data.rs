//! Whatever happens to Redis, core data is pushed and not stale, and a cold cache causes no stampede.
//!
//! The long form runs with `make prove`, which sets `ADTRACK_PROVE`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::time::{Duration, Instant};

use aws_sdk_kinesis::primitives::Blob;
use helpers::{
    Traffic, client, connection, get_event, long_or_short, metric, percentile, program, run_alone,
    start_stack, store, until,
};
use local_stack::ports::Port;
use local_stack::stack::CORE_DATA_STREAM;
use local_stack::tcp_proxy::{Passing, TcpProxy};
use local_stack::{RedisServer, Stack};
use serde_json::json;
use tempfile::TempDir;

/// Starts a stack whose Redis is behind a proxy, with this many programs, all of them in L1.
async fn warm_stack(programs: u64) -> (Stack, RedisServer, TcpProxy, TempDir) {
    let own = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &own.path().join("redis")).await.unwrap();
    let proxy = TcpProxy::start(redis.address()).await.unwrap();
    let mut connection = connection(&redis).await;
    store(&mut connection, &(0..programs).map(|n| program(n, 1)).collect::<Vec<_>>()).await;
    let url = format!("redis://{}", proxy.address);
    let (stack, _folder) = start_stack(&[("REDIS_URL", url)], &[]).await;
    until("L1 is verified", async || metric(&stack, "adtrack_l1_verifications_total").await > 0.0)
        .await;
    let client = client();
    for number in 0..programs {
        assert_eq!(get_event(&client, stack.tracker_url(), number).await.0, 200);
    }
    (stack, redis, proxy, own)
}

#[tokio::test(flavor = "multi_thread")]
async fn update_reaches_responses_in_milliseconds() {
    let _alone = run_alone().await;
    let (stack, redis, _proxy, _folder) = warm_stack(100).await;
    let url = stack.tracker_url().to_owned();
    let traffic = Traffic::start(&url, long_or_short(2_000, 200), 100, |_, _| false);
    let (client, mut connection) = (client(), connection(&redis).await);
    let until_seen = async |name: String| {
        let since = Instant::now();
        while get_event(&client, &url, 0).await.1 != name {
            assert!(since.elapsed() < Duration::from_secs(20), "no response has {name}");
        }
    };
    let mut pushed = Vec::new();
    for version in 2..long_or_short(302, 22) {
        let since = Instant::now();
        store(&mut connection, &[program(0, version)]).await;
        until_seen(format!("v{version}")).await;
        pushed.push(since.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let kinesis = stack.kinesis().await;
    let mut streamed = Vec::new();
    for number in 0..long_or_short(100, 5) {
        let name = format!("streamed {number}");
        let data = json!({"programId": "p0", "programName": name, "checksum": "1",
            "customerId": 1, "customerName": "c", "valid": true});
        let put = kinesis.put_record().stream_name(CORE_DATA_STREAM).partition_key("p0");
        let since = Instant::now();
        put.data(Blob::new(data.to_string())).send().await.unwrap();
        until_seen(name).await;
        streamed.push(since.elapsed());
    }
    for (from, times) in [("PUBLISH", &mut pushed), ("PutRecord", &mut streamed)] {
        println!(
            "from {from} to the response: p50 {:?}, p99 {:?} ({} updates)",
            percentile(times, 50),
            percentile(times, 99),
            times.len()
        );
    }
    let responses = traffic.end().await;
    assert_eq!(responses.statuses.keys().collect::<Vec<_>>(), [&200]);
    stack.stop().await;
}

/// Redis does not respond, and no connection is closed. Once it responds again, no response has a value
/// from before the changes made in the meantime.
#[tokio::test(flavor = "multi_thread")]
async fn finds_changes_made_while_redis_was_silent() {
    let _alone = run_alone().await;
    const PROGRAMS: u64 = 2_000;
    let (stack, redis, proxy, _folder) = warm_stack(PROGRAMS).await;
    let url = stack.tracker_url().to_owned();
    let traffic = Traffic::start(&url, long_or_short(1_000, 300), PROGRAMS, |n, name| {
        n < 1_000 && name == "v1"
    });
    proxy.set(Passing::Nothing);
    let mut connection = connection(&redis).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    store(&mut connection, &(0..1_000).map(|n| program(n, 2)).collect::<Vec<_>>()).await;
    tokio::time::sleep(Duration::from_secs(long_or_short(10, 3))).await;
    let verifications = metric(&stack, "adtrack_l1_verifications_total").await;
    proxy.set(Passing::All);
    let recovered_at = Instant::now();
    until("L1 is verified again", async || {
        metric(&stack, "adtrack_l1_verifications_total").await > verifications
    })
    .await;
    println!("verified {:.2} s after Redis was back", recovered_at.elapsed().as_secs_f64());
    tokio::time::sleep(Duration::from_secs(6).saturating_sub(recovered_at.elapsed())).await;
    let meanwhile = traffic.take();
    let last = meanwhile
        .last_stale
        .map_or(0.0, |last| last.saturating_duration_since(recovered_at).as_secs_f64());
    println!("the last stale response came {last:.2} s after Redis was back");
    assert_eq!(meanwhile.statuses.keys().collect::<Vec<_>>(), [&200]);
    let client = client();
    let (requests, mut stale) = (long_or_short(100_000, 2_000), 0);
    for number in 0..requests {
        let number = number % PROGRAMS;
        let expected = if number < 1_000 { "v2" } else { "v1" };
        stale += u64::from(get_event(&client, &url, number).await.1 != expected);
    }
    let responses = traffic.end().await;
    println!("stale responses 6 s later: {stale} of {requests}");
    assert_eq!((stale, responses.last_stale), (0, None));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn survives_redis_restarting_empty() {
    let _alone = run_alone().await;
    const PROGRAMS: u64 = 1_000;
    let (stack, mut redis, _proxy, _folder) = warm_stack(PROGRAMS).await;
    let url = stack.tracker_url().to_owned();
    let traffic = Traffic::start(&url, long_or_short(2_000, 300), PROGRAMS, |_, _| false);
    tokio::time::sleep(Duration::from_secs(long_or_short(10, 2))).await;
    let mut before = traffic.take();
    redis.kill().await;
    let killed_at = Instant::now();
    let client = client();
    let mut refusals = Vec::new();
    while killed_at.elapsed() < Duration::from_secs(long_or_short(30, 3)) {
        let sent_at = Instant::now();
        let (status, _) = get_event(&client, &url, PROGRAMS + 1).await;
        assert_eq!(status, 503, "never 404");
        if killed_at.elapsed() > Duration::from_secs(2) {
            refusals.push(sent_at.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut during = traffic.take();
    redis.start_again().await.unwrap();
    // Redis is empty: whether a program exists is unknown.
    tokio::time::sleep(Duration::from_millis(long_or_short(2_000, 500))).await;
    assert_eq!(get_event(&client, &url, PROGRAMS + 1).await.0, 503);
    let mut connection = connection(&redis).await;
    store(&mut connection, &(0..PROGRAMS + 2).map(|n| program(n, 2)).collect::<Vec<_>>()).await;
    let refilled_at = Instant::now();
    until("core data is right again", async || {
        get_event(&client, &url, PROGRAMS + 1).await == (200, "v2".to_owned())
            && get_event(&client, &url, PROGRAMS - 1).await == (200, "v2".to_owned())
    })
    .await;
    let right_after = refilled_at.elapsed();
    let after = traffic.end().await;
    println!(
        "p99 {:?} before, {:?} without Redis; uncached 503 in {:?} (p50), {:?} (p99); \
         right {right_after:?} after the refill; responses {:?}, {:?}, {:?}",
        percentile(&mut before.times, 99),
        percentile(&mut during.times, 99),
        percentile(&mut refusals, 50),
        percentile(&mut refusals, 99),
        before.statuses,
        during.statuses,
        after.statuses
    );
    for responses in [&before, &during, &after] {
        assert_eq!(
            responses.statuses.keys().collect::<Vec<_>>(),
            [&200],
            "what is cached is served"
        );
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flood_of_unknown_ids_does_not_evict_the_hot_set() {
    let _alone = run_alone().await;
    const HOT: u64 = 1_000;
    let own = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &own.path().join("redis")).await.unwrap();
    let mut connection = connection(&redis).await;
    store(&mut connection, &(0..HOT).map(|n| program(n, 1)).collect::<Vec<_>>()).await;
    let settings = [("REDIS_URL", redis.url())];
    // Little more room than for the hot set: any eviction would hit it.
    let (stack, _folder) = start_stack(&settings, &[("CACHE_CAPACITY", "1100")]).await;
    until("L1 is verified", async || metric(&stack, "adtrack_l1_verifications_total").await > 0.0)
        .await;
    let (url, client) = (stack.tracker_url().to_owned(), client());
    for number in 0..HOT {
        assert_eq!(get_event(&client, &url, number).await.0, 200);
    }
    let found = r#"adtrack_l2_loads_total{result="found"}"#;
    let before = metric(&stack, found).await;
    let traffic = Traffic::start(&url, long_or_short(1_000, 300), HOT, |_, _| false);
    let each = long_or_short(2_000, 100);
    let floods = (0..50_u64).map(|flood| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            for _ in 0..each {
                let number = 1_000_000_000 + fastrand::u64(0..1_000_000_000) * 50 + flood;
                let (status, _) = get_event(&client, &url, number).await;
                assert_eq!(status, 404);
            }
        })
    });
    for flood in futures::future::join_all(floods).await {
        flood.unwrap();
    }
    // A bulk update while the hot set is served.
    store(&mut connection, &(10_000..20_000).map(|n| program(n, 1)).collect::<Vec<_>>()).await;
    let responses = traffic.end().await;
    let misses = metric(&stack, found).await - before;
    let hits = responses.times.len() as f64;
    println!(
        "{} unknown ids, 10,000 programs fed; hot set: {hits} requests, {misses} misses",
        each * 50
    );
    assert_eq!(responses.statuses.keys().collect::<Vec<_>>(), [&200]);
    assert!(misses < hits / 100.0, "{misses} of {hits}");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn warm_start_loads_every_program_once() {
    let _alone = run_alone().await;
    let programs = long_or_short(100_000, 2_000);
    let own = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &own.path().join("redis")).await.unwrap();
    let mut connection = connection(&redis).await;
    store(&mut connection, &(0..programs).map(|n| program(n, 1)).collect::<Vec<_>>()).await;
    for rate in ["20000", "1000000"] {
        let cpu = async || {
            let info: redis::InfoDict = redis.command(&["INFO", "cpu"]).await.unwrap();
            let used = |name| info.get::<f64>(name).unwrap();
            used("used_cpu_user") + used("used_cpu_sys")
        };
        let settings = [("REDIS_URL", redis.url())];
        let warm =
            [("WARM_UP_SECONDS", "60"), ("WARM_UP_RATE", rate), ("CACHE_CAPACITY", "200000")];
        let (mut stack, _folder) = start_stack(&settings, &warm).await;
        stack.kill_tracker().await;
        let (started_at, before) = (Instant::now(), cpu().await);
        stack.start_tracker_again().await.unwrap();
        let (ready, spent) = (started_at.elapsed(), cpu().await - before);
        println!(
            "at most {rate}/s: {programs} programs {:.2} s after the start, {spent:.2} s of Redis' \
             CPU, {:.1} MiB of RssAnon",
            ready.as_secs_f64(),
            helpers::anonymous_mib(&mut stack)
        );
        assert_eq!(metric(&stack, "adtrack_l1_entries").await, programs as f64);
        let client = client();
        for number in (0..programs).step_by(97) {
            assert_eq!(get_event(&client, stack.tracker_url(), number).await.0, 200);
        }
        assert_eq!(metric(&stack, r#"adtrack_l2_loads_total{result="found"}"#).await, 0.0);
        stack.stop().await;
    }
}

/// Redis loses everything and then gets one update. No tracker, running or restarted, reports an existing program
/// as unknown, before or after all core data is published again and marked as loaded.
#[tokio::test(flavor = "multi_thread")]
async fn one_update_after_a_loss_makes_no_program_unknown() {
    let _alone = run_alone().await;
    const PROGRAMS: u64 = 200;
    let (mut stack, _folder) = start_stack(&[], &[]).await;
    let kinesis = stack.kinesis().await;
    let publish = async |numbers: std::ops::Range<u64>| {
        for number in numbers {
            let data = json!({"programId": format!("p{number}"), "programName": "n",
                "checksum": "1", "customerId": 1, "customerName": "c", "valid": true});
            let put = kinesis.put_record().stream_name(CORE_DATA_STREAM);
            let put = put.partition_key(number.to_string()).data(Blob::new(data.to_string()));
            put.send().await.unwrap();
        }
    };
    let holds = async |stack: &Stack, keys: u64| {
        until("Redis holds them", async || {
            stack.redis.command::<u64>(&["DBSIZE"]).await.unwrap() == keys
        })
        .await;
    };
    let client = client();
    publish(0..PROGRAMS).await;
    holds(&stack, PROGRAMS).await;
    let count = PROGRAMS.to_string();
    let _: () = stack.redis.command(&["SET", "adtrack:loaded", &count]).await.unwrap();
    for number in [0, PROGRAMS - 1] {
        assert_eq!(get_event(&client, stack.tracker_url(), number).await.0, 200);
    }

    let _: () = stack.redis.command(&["FLUSHALL"]).await.unwrap();
    publish(7..8).await;
    holds(&stack, 1).await;
    for is_new in [false, true] {
        if is_new {
            stack.kill_tracker().await;
            stack.start_tracker_again().await.unwrap();
        }
        let mut statuses = std::collections::BTreeMap::<u16, u64>::new();
        for number in 0..PROGRAMS {
            let (status, _) = get_event(&client, stack.tracker_url(), number).await;
            *statuses.entry(status).or_default() += 1;
        }
        println!("new: {is_new}, responses {statuses:?}");
        assert_eq!(statuses.get(&404), None, "{statuses:?}");
        assert_eq!(metric(&stack, "adtrack_core_data_loaded").await, 0.0);
    }

    publish(0..PROGRAMS).await;
    holds(&stack, PROGRAMS).await;
    assert_eq!(get_event(&client, stack.tracker_url(), PROGRAMS).await.0, 503, "not marked yet");
    let _: () = stack.redis.command(&["SET", "adtrack:loaded", &count]).await.unwrap();
    until("an unknown program is unknown", async || {
        get_event(&client, stack.tracker_url(), PROGRAMS).await.0 == 404
    })
    .await;
    for number in 0..PROGRAMS {
        assert_eq!(get_event(&client, stack.tracker_url(), number).await.0, 200);
    }
    stack.stop().await;
}
