//! Redis lost its data, in part or as a whole, or holds foreign or forged data.

use std::time::Duration;

use adtrack_proto::program::Update;
use adtrack_proto::store_script::Bounds;
use local_stack::RedisServer;
use local_stack::ports::{self, Port};
use local_stack::tcp_proxy::{Passing, TcpProxy};
use serde_json::json;

use crate::helpers::{Setup, TestApp, deletion, program, store, store_unmarked, until};

async fn store_programs(redis: &RedisServer, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let update = program(&format!("p{number}"), "n", "0.1");
        store_unmarked(redis, &update, &Bounds::default()).await;
    }
}

async fn is_unavailable(app: &TestApp, id: &str) -> bool {
    let (status, body) = app.get_json(&format!("/event/{id}")).await;
    status == 503 && body["code"] == "core_data_unavailable"
}

async fn until_loaded(app: &TestApp, loaded: bool) {
    until("readiness reports whether core data is loaded", async || {
        let reason = json!("core_data_not_loaded");
        app.problems().await.contains(&reason) != loaded
            && app.metric("adtrack_core_data_loaded").await == f64::from(u8::from(loaded))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_update_of_an_emptied_redis_makes_no_other_program_unknown() {
    let app = Setup::default().start().await;
    let _: () = app.redis.command(&["SET", "adtrack:loaded", "6"]).await.unwrap();
    assert_eq!(app.get_json("/event/unknown").await.0, 404);
    let _: () = app.redis.command(&["FLUSHALL"]).await.unwrap();
    let update = program("212313", "updated", "0.1");
    store_unmarked(&app.redis, &update, &Bounds::default()).await;
    until("the update is there", async || app.name_of("212313").await == "updated").await;
    for id in ["212312", "212314", "another"] {
        assert!(is_unavailable(&app, id).await, "{id}");
    }
    until_loaded(&app, false).await;
    assert_eq!(
        app.get_json("/health/check").await.0,
        200,
        "a new task would know even fewer programs"
    );
    // All core data is published again, and marked.
    for update in adtrack_proto::samples::updates() {
        store_unmarked(&app.redis, &update, &Bounds::default()).await;
    }
    let _: () = app.redis.command(&["SET", "adtrack:loaded", "6"]).await.unwrap();
    until_loaded(&app, true).await;
    assert_eq!(app.name_of("212314").await, "program3");
    assert_eq!(app.get_json("/event/another").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn far_fewer_programs_than_the_mark_says_are_not_loaded() {
    let app = Setup { samples: false, ..Setup::default() }.start().await;
    // The mark may be set before the programs arrive.
    let _: () = app.redis.command(&["SET", "adtrack:loaded", "100"]).await.unwrap();
    store_programs(&app.redis, 0..10).await;
    until_loaded(&app, false).await;
    assert!(is_unavailable(&app, "p70").await);
    assert_eq!(app.name_of("p7").await, "n", "what is there is served");
    store_programs(&app.redis, 10..100).await;
    until_loaded(&app, true).await;
    assert_eq!(app.name_of("p70").await, "n");
    assert_eq!(app.get_json("/event/unknown").await.0, 404);
    // Most of them are lost, and the mark is not: as in a cluster whose other nodes were emptied.
    for number in 20..100 {
        let key = format!("program:{{p{number}}}");
        let _: u64 = app.redis.command(&["DEL", &key]).await.unwrap();
    }
    until_loaded(&app, false).await;
    assert_eq!(app.name_of("p70").await, "n", "what L1 holds is served");
    assert_eq!(app.request_management(reqwest::Method::POST, "/cache/purge").await.0, 204);
    assert!(is_unavailable(&app, "p70").await);
    assert_eq!(app.name_of("p7").await, "n");
}

/// Before it counted, redis-updater set the mark to 1 after each batch, whatever Redis held. During a
/// deployment both versions may run in turn.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_number_is_a_mark() {
    let app = Setup { samples: false, ..Setup::default() }.start().await;
    store_programs(&app.redis, 0..20).await;
    let nines = "9".repeat(23);
    let marks = ["abc", "", "-5", "6.0", "NaN", &nines].map(|mark| (mark, 503));
    let marks = [("1", 404), ("0", 404)].into_iter().chain(marks);
    for (number, (mark, status)) in marks.enumerate() {
        let _: () = app.redis.command(&["SET", "adtrack:loaded", mark]).await.unwrap();
        until_loaded(&app, status == 404).await;
        let unknown = app.get_json(&format!("/event/unknown-{number}")).await;
        assert_eq!(unknown.0, status, "{mark:?}");
    }
    let _: u64 = app.redis.command(&["DEL", "adtrack:loaded"]).await.unwrap();
    let _: u64 = app.redis.command(&["LPUSH", "adtrack:loaded", "1"]).await.unwrap();
    assert!(is_unavailable(&app, "unknown").await);
    assert_eq!(app.name_of("p7").await, "n", "a foreign key is not a mark, and does no harm");
}

/// In a cluster, one node that does not respond is enough for that.
#[tokio::test(flavor = "multi_thread")]
async fn serves_programs_while_they_cannot_be_counted() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
    store(&redis, &program("p", "here", "0.1")).await;
    let _: () = redis.command(&["ACL", "SETUSER", "default", "-dbsize"]).await.unwrap();
    let app = Setup::default().start_on(redis, folder).await;
    until("it is healthy", async || app.get_json("/health/check").await.0 == 200).await;
    assert_eq!(app.name_of("p").await, "here");
    assert!(is_unavailable(&app, "unknown").await);
    until_loaded(&app, false).await;
    let _: () = app.redis.command(&["ACL", "SETUSER", "default", "+dbsize"]).await.unwrap();
    until_loaded(&app, true).await;
    assert_eq!(app.get_json("/event/unknown").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn filling_with_samples_sets_the_mark_to_their_number() {
    let app = Setup { samples: false, ..Setup::flags(&["--sample-programs=true"]) }.start().await;
    for expected in ["6", "6"] {
        assert_eq!(app.request_management(reqwest::Method::POST, "/cache/fill").await.0, 200);
        let mark: String = app.redis.command(&["GET", "adtrack:loaded"]).await.unwrap();
        assert_eq!(mark, expected);
    }
    until_loaded(&app, true).await;
    assert_eq!(app.get_json("/event/unknown").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_serve_a_program_under_the_id_of_another() {
    let app = Setup::default().start().await;
    let copy = ["COPY", "program:{212313}", "program:{forged}"];
    let _: bool = app.redis.command(&copy).await.unwrap();
    assert!(is_unavailable(&app, "forged").await);
    assert_eq!(app.metric("adtrack_l2_invalid_total").await, 1.0);
    // What L1 holds stays when Redis holds something else.
    assert_eq!(app.name_of("212314").await, "program3");
    let replace = ["COPY", "program:{212313}", "program:{212314}", "REPLACE"];
    let _: bool = app.redis.command(&replace).await.unwrap();
    let _: u64 = app.redis.command(&["HSET", "program:{212314}", "version", "0.9"]).await.unwrap();
    let _: u64 = app.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    until("verification reads it", async || app.metric("adtrack_l2_invalid_total").await > 1.0)
        .await;
    assert_eq!(app.name_of("212314").await, "program3");
    // The next true update of the program replaces it, although its version is lower.
    store(&app.redis, &program("212314", "true", "0.1")).await;
    until("it is repaired", async || app.name_of("212314").await == "true").await;
    app.until_ready().await;
}

const NINES: &str = "99999999999999999999999999999999999999999999999999999999";

async fn announce(app: &TestApp, message: &str) {
    let publish = ["PUBLISH", adtrack_proto::keys::DEFAULT_CHANNEL, message];
    assert_eq!(app.redis.command::<u32>(&publish).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn does_not_believe_a_message_with_a_version_that_redis_does_not_hold() {
    let app = Setup::default().start().await;
    store(&app.redis, &program("p", "true", "0.5")).await;
    until("the program is held", async || app.name_of("p").await == "true").await;
    let versions = [format!("0.{NINES}"), "9.1".to_owned(), format!("0.{}", "1".repeat(129))];
    for (number, version) in (1_u8..).zip(&versions) {
        announce(&app, &program("p", "forged", version).to_json()).await;
        announce(&app, &deletion("p", version).to_json()).await;
        let refused = r#"adtrack_updates_total{result="unconfirmed"}"#;
        app.until_metric(refused, f64::from(2 * number)).await;
        assert_eq!(app.name_of("p").await, "true", "{version}");
    }
    // Of a program that L1 does not hold.
    announce(&app, &program("212313", "forged", "9.1").to_json()).await;
    announce(&app, &deletion("p", "9.2").to_json()).await;
    app.until_metric(r#"adtrack_updates_total{result="unconfirmed"}"#, 7.0).await;
    assert_eq!(app.name_of("212313").await, "program2");
    // One that claims to replace the true version.
    for (version, result) in [("0.6", "unconfirmed"), ("0.3", "ignored")] {
        let message = deletion("p", version).to_json();
        let metric = format!(r#"adtrack_updates_total{{result="{result}"}}"#);
        let before = app.metric(&metric).await;
        announce(&app, &message.replacen('{', r#"{"replaces":"0.5","#, 1)).await;
        app.until_metric(&metric, before + 1.0).await;
        assert_eq!(app.name_of("p").await, "true", "{version}");
    }
    // A true update, and one of a stream that replaces this one.
    for (name, version) in [("next", "0.6"), ("replaced stream", "1.2"), ("and again", "1.3")] {
        store(&app.redis, &program("p", name, version)).await;
        until("it is served", async || app.name_of("p").await == name).await;
    }
    assert_eq!(app.metric("adtrack_l1_contradictions_total{stage=\"found\"}").await, 0.0);
}

/// Nothing is wrong with its version, except that no record has it.
#[tokio::test(flavor = "multi_thread")]
async fn recovers_from_a_forged_message_with_a_possible_version() {
    let app = Setup::flags(&["--cache-ttl-seconds=1"]).start().await;
    for (forged, status) in [
        (program("p", "forged", "0.1000").to_json(), 200),
        (deletion("p", "0.1000").to_json(), 404),
    ] {
        store(&app.redis, &program("p", "true", "0.5")).await;
        until("the program is served", async || app.name_of("p").await == "true").await;
        announce(&app, &forged).await;
        until("the forged message is believed", async || {
            app.get_json("/event/p").await.0 == status && app.name_of("p").await != "true"
        })
        .await;
        until("what Redis holds is served", async || app.name_of("p").await == "true").await;
    }
    assert_eq!(app.metric("adtrack_l1_contradictions_total{stage=\"found\"}").await, 2.0);
    assert_eq!(app.metric("adtrack_l1_contradictions_total{stage=\"resolved\"}").await, 2.0);
    store(&app.redis, &program("p", "next", "0.6")).await;
    until("updates go on", async || app.name_of("p").await == "next").await;
}

/// The second forged version is the only one that the true update replaces in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn recovers_from_a_hash_that_was_forged_twice_or_deleted() {
    let app = Setup::flags(&["--cache-ttl-seconds=1"]).start().await;
    let hash = "program:{p}";
    for (number, first) in (1_u8..).zip([format!("0.{NINES}"), "6.1".to_owned()]) {
        for second in [&["HSET", hash, "version", "7.1"][..], &["DEL", hash]] {
            let _: u64 = app.redis.command(&["DEL", hash]).await.unwrap();
            assert_eq!(app.request_management(reqwest::Method::POST, "/cache/purge").await.0, 204);
            let name = format!("true {number}");
            store(&app.redis, &program("p", "before", "0.4")).await;
            let _: u64 = app.redis.command(&["HSET", hash, "version", &first]).await.unwrap();
            let _: u64 = app.redis.command(&["HSET", hash, "programName", "forged"]).await.unwrap();
            until("it is read", async || app.name_of("p").await == "forged").await;
            let _: u64 = app.redis.command(second).await.unwrap();
            let bounds = Bounds { highest_epoch: Some(1), ..Bounds::default() };
            assert_eq!(store_unmarked(&app.redis, &program("p", &name, "0.5"), &bounds).await, 1);
            until("the true one is served", async || app.name_of("p").await == name).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_skips_a_key_of_another_type() {
    let app = Setup::default().start().await;
    for id in ["212313", "212314"] {
        assert_eq!(app.get_json(&format!("/event/{id}")).await.0, 200);
    }
    let _: u64 = app.redis.command(&["DEL", "program:{212313}"]).await.unwrap();
    let _: u64 = app.redis.command(&["LPUSH", "program:{212313}", "x"]).await.unwrap();
    let verified = app.metric("adtrack_l1_verifications_total").await;
    let _: u64 = app.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    app.until_metric("adtrack_l1_verifications_total", verified + 1.0).await;
    app.until_ready().await;
    assert_eq!(app.metric("adtrack_l2_invalid_total").await, 1.0);
    assert_eq!(app.name_of("212313").await, "program2", "what L1 holds is served");
    store(&app.redis, &program("212313", "repaired", "0.1")).await;
    until("an update repairs it", async || app.name_of("212313").await == "repaired").await;
}

/// A program whose version no record can have: true updates replace it in Redis, but look older.
async fn forged(app: &TestApp) -> (Update, Bounds) {
    store(&app.redis, &program("p", "forged", "999.5")).await;
    until("the forged program is held", async || app.name_of("p").await == "forged").await;
    let bounds = Bounds { highest_epoch: Some(1), ..Bounds::default() };
    (program("p", "true", "0.5"), bounds)
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_an_impossible_version_when_its_replacement_is_pushed() {
    let app = Setup::default().start().await;
    let (update, bounds) = forged(&app).await;
    assert_eq!(store_unmarked(&app.redis, &update, &bounds).await, 1);
    until("the true one is served", async || app.name_of("p").await == "true").await;
    store(&app.redis, &program("p", "later", "0.6")).await;
    until("updates go on", async || app.name_of("p").await == "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_an_impossible_version_after_missing_its_replacement() {
    let app = Setup::default().start().await;
    let (update, bounds) = forged(&app).await;
    // Published on another channel, as if this tracker were not subscribed; another update follows.
    for (update, bounds) in [(update, bounds), (program("p", "later", "0.6"), Bounds::default())] {
        let call = adtrack_proto::store_script::Call::new(&update, "elsewhere").within(&bounds);
        let mut connection = app.redis.connection().await.unwrap();
        let script = redis::Script::new(adtrack_proto::store_script::SOURCE);
        let stored: i64 =
            script.key(call.key).arg(call.arguments).invoke_async(&mut connection).await.unwrap();
        assert_eq!(stored, 1);
    }
    assert_eq!(app.name_of("p").await, "forged");
    let _: u64 = app.redis.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.unwrap();
    until("verification finds it", async || app.name_of("p").await == "later").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_with_the_node_that_responds() {
    // One port that refuses, and one that accepts and never responds.
    let closed = ports::free("nobody", Port::Any).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
    let silent = TcpProxy::start(redis.address()).await.unwrap();
    silent.set(Passing::Nothing);
    store(&redis, &program("p", "here", "0.1")).await;
    let url = format!("--redis-url=redis://{closed},{},{}", silent.address, redis.address());
    let app = Setup::flags(&[&url]).start_on(redis, folder).await;
    until("it is healthy", async || app.get_json("/health/check").await.0 == 200).await;
    app.until_ready().await;
    assert_eq!(app.name_of("p").await, "here");
    store(&app.redis, &program("p", "pushed", "0.2")).await;
    until("updates are pushed", async || app.name_of("p").await == "pushed").await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert!(app.problems().await.is_empty(), "the dead nodes are no replacement");
}

#[tokio::test(flavor = "multi_thread")]
async fn prefers_the_primary_among_several_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let primary = RedisServer::start(Port::Any, &folder.path().join("primary")).await.unwrap();
    let port = primary.address().port().to_string();
    let arguments = ["--replicaof", "127.0.0.1", &port];
    let replica = RedisServer::start_with(Port::Any, &folder.path().join("replica"), &arguments)
        .await
        .unwrap();
    store(&primary, &program("p", "first", "0.1")).await;
    until("the replica has it", async || {
        let marked: redis::RedisResult<bool> = replica.command(&["EXISTS", "adtrack:loaded"]).await;
        marked.unwrap_or(false)
    })
    .await;
    let url = format!("--redis-url=redis://{},{}", replica.address(), primary.address());
    let app = Setup::flags(&[&url]).start_on(primary, folder).await;
    app.until_ready().await;
    let clients: String = app.redis.command(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap();
    assert!(clients.contains("sub=1"), "{clients}");
    // The replica takes over; the old primary is gone.
    let _: () = replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let mut app = app;
    app.redis.kill().await;
    store(&replica, &program("p", "on the new", "0.2")).await;
    until("the tracker follows", async || app.name_of("p").await == "on the new").await;
    app.until_ready().await;
}
