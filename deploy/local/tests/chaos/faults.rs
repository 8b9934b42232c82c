//! Makes the faults of a plan happen, and lifts them.

use std::sync::Arc;
use std::time::Duration;

use adtrack_proto::aggregate::Aggregate;
use adtrack_proto::keys::DEFAULT_CHANNEL;
use aws_sdk_kinesis::types::{HashKeyRange, Shard};
use local_stack::process::Signal;
use local_stack::stack::{CORE_DATA_STREAM, EVENT_STREAM};
use local_stack::tcp_proxy::Passing;
use prost::bytes::Bytes;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::feed::Feed;
use crate::plan::{Fault, PlannedFault};
use crate::processes::{kill, remove_journal, shorten_ring, stop, terminate};
use crate::rig::{JOURNALS, MAX_CONNECTIONS, Rig};

/// Connections of [`Fault::ConnectionsIdle`]: all that a tracker serves, and those that it keeps for health checks.
const IDLE_CONNECTIONS: usize = MAX_CONNECTIONS + 100;
/// How long Redis may take to execute a command.
const REDIS_TIMEOUT: Duration = Duration::from_secs(20);
/// The event stream has at most this many open shards.
const MAX_SHARDS: usize = 4;
const REDIS_START_ATTEMPTS: usize = 10;

/// Carries out `plan`. Returns when every fault is lifted and every process runs again.
pub async fn carry_out(rig: &Rig, feed: &Feed, plan: &[PlannedFault]) {
    let start = Instant::now();
    let faults = plan.iter().enumerate().map(async |(number, planned)| {
        sleep_until(start + planned.from).await;
        inject(rig, feed, number as u64, planned, start + planned.to).await;
    });
    futures::future::join_all(faults).await;
}

async fn inject(rig: &Rig, feed: &Feed, number: u64, planned: &PlannedFault, until: Instant) {
    match planned.fault {
        Fault::Calls(service, fault, share) => {
            rig.add_call_fault(number, service, fault, share).await;
            sleep_until(until).await;
            rig.remove_call_fault(number).await;
        }
        Fault::RedisCut => rig.stack.lock().await.faults.as_ref().unwrap().redis.cut(),
        Fault::RedisSilent => {
            rig.stack.lock().await.faults.as_ref().unwrap().redis.set(Passing::Nothing);
            sleep_until(until).await;
            rig.stack.lock().await.faults.as_ref().unwrap().redis.set(Passing::All);
        }
        Fault::RedisClientsKilled => {
            for kind in ["normal", "pubsub"] {
                // Fails if another fault has killed Redis.
                let kill = ["CLIENT", "KILL", "TYPE", kind];
                let _ = rig.stack.lock().await.redis.command::<u32>(&kill).await;
            }
        }
        Fault::RedisKilled => {
            rig.stack.lock().await.redis.kill().await;
            sleep_until(until).await;
            start_redis(rig).await;
            feed.request_reload();
        }
        Fault::RedisEmptied => {
            command_redis(rig, &["FLUSHALL"]).await;
            sleep_until(until).await;
            feed.request_reload();
        }
        Fault::RedisFull => {
            // 0: any number of bytes. Redis' default is not to evict keys.
            command_redis(rig, &["CONFIG", "SET", "maxmemory", "1"]).await;
            sleep_until(until).await;
            command_redis(rig, &["CONFIG", "SET", "maxmemory", "0"]).await;
        }
        Fault::TrackerKilled(tracker) => kill(rig, tracker, until).await,
        Fault::TrackerTerminated(tracker) => terminate(rig, tracker, Signal::TERM, until).await,
        Fault::TrackerHungUp(tracker) => terminate(rig, tracker, Signal::HUP, until).await,
        Fault::TrackerStopped(tracker) => stop(rig, tracker, until).await,
        Fault::LogUnread(tracker) => {
            rig.logs[tracker].read(false);
            sleep_until(until).await;
            rig.logs[tracker].read(true);
        }
        Fault::JournalUnlocked(tracker) => {
            // Fails if another fault has removed it.
            let _ = std::fs::remove_file(rig.folder.join(JOURNALS[tracker]).join("lock"));
        }
        Fault::JournalRemoved(tracker) => remove_journal(rig, tracker, until).await,
        Fault::FunctionKilled(name) => {
            let function = Arc::clone(rig.stack.lock().await.function(name).unwrap());
            function.kill().await;
        }
        Fault::ClientsCut(tracker) => rig.clients[tracker].cut(),
        Fault::ClientsSilent(tracker) => {
            rig.clients[tracker].set(Passing::Requests);
            sleep_until(until).await;
            rig.clients[tracker].set(Passing::All);
        }
        Fault::ConnectionsIdle(tracker) => {
            let url = rig.stack.lock().await.trackers()[tracker].public_url().to_owned();
            let address = url.strip_prefix("http://").unwrap();
            // Fails while the tracker does not run.
            let connect = (0..IDLE_CONNECTIONS).map(|_| TcpStream::connect(address));
            // No connection is accepted while the tracker is stopped.
            let _connections = timeout_at(until, futures::future::join_all(connect)).await;
            sleep_until(until).await;
        }
        Fault::Resharded => reshard(rig).await,
        Fault::HashForged(program, version) => {
            // In one step: if there is no such hash, this would make one. Fails while Redis does not run.
            let script = "if redis.call('EXISTS', KEYS[1]) == 1 then
                redis.call('HSET', KEYS[1], 'version', ARGV[1]) end";
            let key = format!("program:{{p{program}}}");
            let forge = ["EVAL", script, "1", &key, &version.in_hash()];
            let _ = rig.stack.lock().await.redis.command::<()>(&forge).await;
        }
        Fault::MessageForged(program, version) => {
            let (id, version) = (format!("p{program}"), version.in_message());
            let forged = json!({"programId": id, "programName": "forged", "checksum": "c",
                "customerId": 1, "customerName": "c", "valid": true, "version": version});
            let deleted = json!({"programId": id, "deleted": true, "version": version});
            for message in [forged, deleted] {
                let publish = ["PUBLISH", DEFAULT_CHANNEL, &message.to_string()];
                let _ = rig.stack.lock().await.redis.command::<u32>(&publish).await;
            }
        }
        Fault::RingShortened(tracker) => shorten_ring(rig, tracker, until).await,
        Fault::Poisoned => {
            for stream in [EVENT_STREAM, CORE_DATA_STREAM] {
                let data = format!("poison {}", uuid::Uuid::now_v7());
                rig.put_poison(stream, &data, data.clone().into_bytes()).await;
            }
        }
        Fault::PoisonedInBulk(count) => {
            for stream in [EVENT_STREAM, CORE_DATA_STREAM] {
                let mut aggregate = Aggregate::default();
                (0..count).for_each(|_| aggregate.push(Bytes::new()));
                let key = uuid::Uuid::now_v7().to_string();
                rig.put_poison(stream, &key, aggregate.encode(&key)).await;
            }
        }
    }
}

/// Starts Redis again. A connection that another process opened meanwhile may have its port for a while.
async fn start_redis(rig: &Rig) {
    for _ in 1..REDIS_START_ATTEMPTS {
        if rig.stack.lock().await.redis.start_again().await.is_ok() {
            return;
        }
    }
    rig.stack.lock().await.redis.start_again().await.unwrap();
}

/// Sends a command to a Redis that runs. On a busy machine its response may take longer than the client waits.
async fn command_redis(rig: &Rig, command: &[&str]) {
    let deadline = Instant::now() + REDIS_TIMEOUT;
    while let Err(error) = rig.stack.lock().await.redis.command::<()>(command).await {
        assert!(error.is_timeout() && Instant::now() < deadline, "{command:?}: {error}");
    }
}

/// Splits the widest open shard, or merges two adjacent ones if there are many.
async fn reshard(rig: &Rig) {
    let _alone = rig.resharding.lock().await;
    let output = rig.kinesis.list_shards().stream_name(EVENT_STREAM).send().await.unwrap();
    let is_open = |shard: &Shard| {
        let range = shard.sequence_number_range.as_ref().unwrap();
        range.ending_sequence_number.is_none()
    };
    let mut open: Vec<_> = output.shards.unwrap_or_default().into_iter().filter(is_open).collect();
    open.sort_by_key(|shard| hash_keys(shard).0);
    if open.len() < MAX_SHARDS {
        let width = |shard: &&Shard| hash_keys(shard).1 - hash_keys(shard).0;
        let widest = open.iter().max_by_key(width).unwrap();
        let (first, last) = hash_keys(widest);
        let split = rig.kinesis.split_shard().stream_name(EVENT_STREAM);
        let middle = first + (last - first) / 2 + 1;
        let split =
            split.shard_to_split(&widest.shard_id).new_starting_hash_key(middle.to_string());
        split.send().await.unwrap();
    } else {
        let merge = rig.kinesis.merge_shards().stream_name(EVENT_STREAM);
        let is_adjacent = |pair: &&[Shard]| hash_keys(&pair[0]).1 + 1 == hash_keys(&pair[1]).0;
        let pair = open.windows(2).find(is_adjacent).unwrap();
        let merge = merge.shard_to_merge(&pair[0].shard_id);
        merge.adjacent_shard_to_merge(&pair[1].shard_id).send().await.unwrap();
    }
}

/// The first and the last hash key of a shard.
fn hash_keys(shard: &Shard) -> (u128, u128) {
    let HashKeyRange { starting_hash_key, ending_hash_key, .. } =
        shard.hash_key_range.as_ref().unwrap();
    (starting_hash_key.parse().unwrap(), ending_hash_key.parse().unwrap())
}
