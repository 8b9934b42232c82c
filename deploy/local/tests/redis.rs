//! Redis in the setups that users run: TLS with a user, failover, cluster. Tracker, redis-updater and
//! Redis are the real binaries; `REDIS_SERVER` names another server, such as valkey-server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::path::Path;
use std::time::Duration;

use adtrack_proto::program::Update;
use aws_sdk_kinesis::primitives::Blob;
use helpers::{Traffic, client, connection, get_event, run_alone, start_stack, store, until};
use local_stack::ports::{self, Port};
use local_stack::process::Signal;
use local_stack::stack::CORE_DATA_STREAM;
use local_stack::tcp_proxy::{Passing, TcpProxy};
use local_stack::{RedisServer, Stack};
use serde_json::json;
use tempfile::TempDir;

/// Puts a program on the core-data stream.
async fn feed(stack: &Stack, number: u64, name: &str) {
    let data = json!({"programId": format!("p{number}"), "programName": name, "checksum": "1",
        "customerId": 1, "customerName": "c", "valid": true});
    let kinesis = stack.kinesis().await;
    let put = kinesis.put_record().stream_name(CORE_DATA_STREAM).partition_key(number.to_string());
    put.data(Blob::new(data.to_string())).send().await.unwrap();
}

async fn until_named(stack: &Stack, number: u64, name: &str) {
    let client = client();
    let expected = (200, name.to_owned());
    until(&format!("p{number} is {name}"), async || {
        get_event(&client, stack.tracker_url(), number).await == expected
    })
    .await;
}

/// Checks that new programs arrive from the stream, and that their changes arrive by push.
async fn check_updates(stack: &Stack, numbers: std::ops::Range<u64>) {
    for name in ["first", "second"] {
        for number in numbers.clone() {
            feed(stack, number, name).await;
        }
        for number in numbers.clone() {
            until_named(stack, number, name).await;
        }
    }
}

/// Writes the certificate of an authority, and the certificate and key of a server, to `folder`.
fn write_certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    std::fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_user_and_password() {
    let _alone = run_alone().await;
    let own = tempfile::tempdir().unwrap();
    write_certificates(own.path());
    let file = |name: &str| own.path().join(name).display().to_string();
    let tls = ports::free("Redis with TLS", Port::Any).await.unwrap();
    let redis = RedisServer::start_with(
        Port::Any,
        &own.path().join("redis"),
        &[
            "--tls-port",
            &tls.port().to_string(),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            "no",
        ],
    )
    .await
    .unwrap();
    // Only the rights that the tracker and redis-updater need.
    let rights = "+hmget +hget +exists +get +dbsize +info +role +wait +set +hset +hkeys +hdel +del \
                  +expire +persist +type +publish +subscribe +ping +script|load +evalsha +client \
                  ~program:* ~adtrack:loaded &program-updates";
    let user: Vec<_> = ["ACL", "SETUSER", "adtrack", "on", ">pass/word"]
        .into_iter()
        .chain(rights.split(' '))
        .collect();
    let _: () = redis
        .command(&user.iter().filter(|word| !word.is_empty()).copied().collect::<Vec<_>>())
        .await
        .unwrap();
    let _: () = redis.command(&["ACL", "SETUSER", "default", "off"]).await.unwrap();
    let (stack, _folder) = start_stack(
        &[
            ("REDIS_URL", format!("rediss://adtrack:pass%2Fword@localhost:{}", tls.port())),
            ("SSL_CERT_FILE", file("ca.pem")),
        ],
        &[],
    )
    .await;
    check_updates(&stack, 0..3).await;
    stack.stop().await;
}

/// A primary with a replica, and a proxy that stands for the DNS name of the primary.
async fn primary_and_replica() -> (RedisServer, RedisServer, TcpProxy, TempDir) {
    let own = tempfile::tempdir().unwrap();
    let primary = RedisServer::start(Port::Any, &own.path().join("primary")).await.unwrap();
    let port = primary.address().port().to_string();
    let replica = RedisServer::start_with(
        Port::Any,
        &own.path().join("replica"),
        &["--replicaof", "127.0.0.1", &port],
    )
    .await
    .unwrap();
    until("the replica follows", async || {
        let info: redis::InfoDict = replica.command(&["INFO", "replication"]).await.unwrap();
        info.get::<String>("master_link_status").as_deref() == Some("up")
    })
    .await;
    let name = TcpProxy::start(primary.address()).await.unwrap();
    (primary, replica, name, own)
}

async fn failover(old_is_gone: bool) {
    let (mut primary, replica, name, _own) = primary_and_replica().await;
    let (stack, _folder) =
        start_stack(&[("REDIS_URL", format!("redis://{}", name.address))], &[]).await;
    check_updates(&stack, 0..20).await;
    let traffic = Traffic::start(stack.tracker_url(), 300, 20, |_, _| false);

    name.set_upstream(replica.address());
    let _: () = replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    if old_is_gone {
        primary.kill().await;
    } else {
        // As a failover leaves it: read-only, following the new primary.
        let port = replica.address().port().to_string();
        let _: () = primary.command(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    }
    for number in 0..20 {
        feed(&stack, number, "after").await;
    }
    for number in 0..20 {
        until_named(&stack, number, "after").await;
    }
    let name: String = replica.command(&["HGET", "program:{p7}", "programName"]).await.unwrap();
    assert_eq!(name, "after", "on the new primary");
    let responses = traffic.end().await;
    assert_eq!(responses.statuses.keys().collect::<Vec<_>>(), [&200], "throughout");
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_with_the_old_primary_gone() {
    let _alone = run_alone().await;
    failover(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_with_the_old_primary_read_only() {
    let _alone = run_alone().await;
    failover(false).await;
}

/// The old primary is cut off from the replica but not from the tracker, so it still acts as a primary.
#[tokio::test(flavor = "multi_thread")]
async fn leaves_an_old_primary_that_missed_the_failover() {
    let _alone = run_alone().await;
    let (primary, replica, name, _own) = primary_and_replica().await;
    let (stack, _folder) =
        start_stack(&[("REDIS_URL", format!("redis://{}", name.address))], &[]).await;
    check_updates(&stack, 0..3).await;
    let _: () = replica.command(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    name.set_upstream(replica.address());
    let json = json!({"programId": "p1", "programName": "on the new", "checksum": "1",
        "customerId": 1, "customerName": "c", "valid": true, "version": "1.0"});
    let update = Update::from_json(json.to_string().as_bytes()).unwrap();
    store(&mut connection(&replica).await, &[update]).await;
    until_named(&stack, 1, "on the new").await;
    drop(primary);
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_a_batch_until_a_replica_has_it() {
    let _alone = run_alone().await;
    let (_primary, replica, name, _own) = primary_and_replica().await;
    let (stack, _folder) =
        start_stack(&[("REDIS_URL", format!("redis://{}", name.address))], &[]).await;
    replica.process().unwrap().signal(Signal::STOP);
    feed(&stack, 1, "unconfirmed").await;
    until_named(&stack, 1, "unconfirmed").await;
    // redis-updater retries the batch, and publishes it each time, until the replica has it.
    let log = stack.failed_records.parent().unwrap().join("logs");
    let unsafe_batches = || {
        let logs = std::fs::read_dir(&log).unwrap().map(|file| file.unwrap().path());
        let updater = logs.filter(|path| path.display().to_string().contains("redis-updater"));
        let texts = updater.map(|path| std::fs::read_to_string(path).unwrap());
        texts.map(|text| text.matches("not safe in Redis").count()).sum::<usize>()
    };
    until("redis-updater logs it twice", async || unsafe_batches() >= 2).await;
    replica.process().unwrap().signal(Signal::CONT);
    until("the replica confirms it", async || {
        let before = unsafe_batches();
        tokio::time::sleep(Duration::from_secs(2)).await;
        unsafe_batches() == before
    })
    .await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn works_with_a_cluster_of_three() {
    let _alone = run_alone().await;
    let own = tempfile::tempdir().unwrap();
    let mut nodes = Vec::new();
    for number in 0..3 {
        let bus = ports::free("a cluster's bus", Port::Any).await.unwrap().port().to_string();
        let arguments = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let folder = own.path().join(number.to_string());
        let node = RedisServer::start_with(Port::Any, &folder, &arguments).await.unwrap();
        nodes.push((node, bus));
    }
    for (number, (node, _)) in nodes.iter().enumerate() {
        let (first, last) = (number * 16_384 / 3, (number + 1) * 16_384 / 3 - 1);
        let slots = [first.to_string(), last.to_string()];
        let _: () =
            node.command(&["CLUSTER", "ADDSLOTSRANGE", &slots[0], &slots[1]]).await.unwrap();
        let (other, bus) = &nodes[(number + 1) % 3];
        let port = other.address().port().to_string();
        let _: () = node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await.unwrap();
    }
    until("the cluster is complete", async || {
        let mut is_healthy = true;
        for (node, _) in &nodes {
            let info: String = node.command(&["CLUSTER", "INFO"]).await.unwrap();
            is_healthy &=
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3");
        }
        is_healthy
    })
    .await;
    // The first two nodes are dead: one refuses connections, one accepts them and never responds.
    let closed = ports::free("nobody", Port::Any).await.unwrap();
    let silent = TcpProxy::start(nodes[0].0.address()).await.unwrap();
    silent.set(Passing::Nothing);
    let url = format!("redis://{closed},{},{}", silent.address, nodes[0].0.address());
    let (stack, _folder) = start_stack(
        &[("REDIS_URL", url), ("REDIS_CLUSTER", "true".to_owned())],
        &[("WARM_UP_SECONDS", "5")],
    )
    .await;
    check_updates(&stack, 0..30).await;
    for (node, _) in &nodes {
        let keys: u64 = node.command(&["DBSIZE"]).await.unwrap();
        assert!(keys > 0, "every node has some programs");
    }
    // The mark is on one of the nodes, and is found through any. It is set while two of 32 programs are
    // still to come, which are not counted again; the 33rd is.
    let client = client();
    assert_eq!(get_event(&client, stack.tracker_url(), 1_000).await.0, 503);
    let set = async |value: &str| -> bool {
        let mut is_set = false;
        for (node, _) in &nodes {
            // The others say where it is.
            is_set |= node.command::<()>(&["SET", "adtrack:loaded", value]).await.is_ok();
        }
        is_set
    };
    let mark = async || {
        let mut mark = None;
        for (node, _) in &nodes {
            mark = mark
                .or(node.command::<Option<u64>>(&["GET", "adtrack:loaded"]).await.unwrap_or(None));
        }
        mark
    };
    assert!(set("32").await);
    check_updates(&stack, 30..33).await;
    until("the 33rd is counted", async || mark().await == Some(33)).await;
    assert_eq!(get_event(&client, stack.tracker_url(), 1_000).await.0, 404);
    let tombstone = json!({"programId": "p32", "deleted": true}).to_string();
    let put = stack.kinesis().await.put_record().stream_name(CORE_DATA_STREAM).partition_key("32");
    put.data(Blob::new(tombstone)).send().await.unwrap();
    until("the deletion is counted", async || mark().await == Some(32)).await;
    // Far fewer than there should be.
    assert!(set("500").await);
    until("unknown is unavailable", async || {
        get_event(&client, stack.tracker_url(), 1_001).await.0 == 503
    })
    .await;
    // After a restart, the tracker's warm-up loads all programs, so that no request has to.
    let mut stack = stack;
    stack.kill_tracker().await;
    stack.start_tracker_again().await.unwrap();
    assert_eq!(helpers::metric(&stack, "adtrack_l1_entries").await, 33.0);
    until_named(&stack, 7, "second").await;
    assert_eq!(helpers::metric(&stack, r#"adtrack_l2_loads_total{result="found"}"#).await, 0.0);
    stack.stop().await;
}
