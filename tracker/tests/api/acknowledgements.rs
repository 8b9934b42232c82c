//! What counts as delivered, and what other readers of the stream get.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use adtrack_proto::aggregate;
use adtrack_proto::event::TrackingEvent;
use adtrack_proto::journal::JournalNotice;
use adtrack_proto::journal::journal_notice::Kind;
use adtrack_proto::receipt::Receipt;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{Record, Shard, ShardIteratorType};
use local_stack::aws::{self, EmbeddedServer};
use local_stack::faults::{Fault, FaultProxy, Lie};
use local_stack::ports::Port;
use md5::{Digest, Md5};
use prost::Message;

use crate::helpers::{STREAM, Setup, TestApp, until};

async fn with_proxy(shards: i32) -> (TestApp, FaultProxy) {
    let kinesis = aws::kinesis(Port::Any).await.unwrap();
    let proxy = FaultProxy::start(&kinesis.url).await.unwrap();
    let setup = Setup {
        stream_shards: shards,
        kinesis: Some(kinesis),
        kinesis_endpoint: Some(proxy.url.clone()),
        ..Setup::flags(&["--linger-ms=20"])
    };
    (setup.start().await, proxy)
}

async fn send(app: &TestApp, count: usize) -> HashSet<String> {
    let responses = futures::future::join_all((0..count).map(|_| app.get_json("/event/212313")));
    let id = |body: &serde_json::Value| body["messageId"].as_str().unwrap().to_owned();
    responses.await.iter().map(|(_, body)| id(body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_sequence_number_acknowledges_a_record() {
    let (app, proxy) = with_proxy(2).await;
    let shard = r#"{"ShardId":"shardId-000000000000"}"#;
    let lies = [
        Lie::Body(""),
        Lie::Body("{}"),
        Lie::Body("<html>It works!</html>"),
        Lie::Body(r#"{"FailedRecordCount":0,"Records":[]}"#),
        Lie::Entry("{}"),
        Lie::Entry(shard),
        Lie::Entry(r#"{"SequenceNumber":"","ShardId":"shardId-000000000000"}"#),
        Lie::Entry(r#"{"SequenceNumber":null,"ShardId":"shardId-000000000000"}"#),
        Lie::Entry(r#"{"SequenceNumber":"49","ShardId":"s","ErrorCode":"InternalFailure"}"#),
        Lie::OneEntryTooFew,
    ];
    let mut sent = HashSet::new();
    for lie in lies {
        proxy.set(&[(Fault::Lie(lie), 1.0)]);
        let calls = app.metric("adtrack_put_records_calls_total").await;
        sent.extend(send(&app, 40).await);
        until("the stream lied about them", async || {
            app.metric("adtrack_put_records_calls_total").await > calls
        })
        .await;
        assert_eq!(app.metric("adtrack_events_delivered_total").await, 0.0, "{lie:?}");
    }
    assert_eq!(app.stream_events().await.len(), 0, "the proxy executed nothing");

    proxy.set(&[]);

    let events = app.wait_for_events(sent.len()).await;
    assert_eq!(events.into_iter().map(|event| event.message_id).collect::<HashSet<_>>(), sent);
    app.until_metric("adtrack_journal_bytes", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_check_hash_keys_get_every_event() {
    let (app, proxy) = with_proxy(4).await;
    proxy.set(&[(Fault::Partial(0.6), 0.6), (Fault::ServerError, 0.1), (Fault::Reset, 0.1)]);
    let client = Client::new(&aws::sdk_config(&app.kinesis.url).await);
    let mut sent = HashSet::new();
    for round in 0..12 {
        sent.extend(send(&app, 150).await);
        match round {
            3 => split(&client, "shardId-000000000001").await,
            7 => merge(&client, "shardId-000000000002", "shardId-000000000003").await,
            _ => {}
        }
    }
    proxy.set(&[]);
    app.until_metric("adtrack_journal_outstanding_events", 0.0).await;
    assert!(app.metric("adtrack_records_retried_total").await > 0.0);

    let read = read_as_kcl_does(&app.kinesis).await;

    assert_eq!(read.dropped, 0, "aggregates with a key of another shard inside");
    assert!(read.aggregates > 5, "{} aggregates", read.aggregates);
    assert!(read.ids == sent, "{} of {} events", read.ids.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_cover_the_journal_from_opened_to_closed() {
    let (app, proxy) = with_proxy(2).await;
    proxy.set(&[(Fault::Partial(0.5), 0.5), (Fault::SilentSuccess, 0.05), (Fault::Reset, 0.1)]);
    let mut sent = HashSet::new();
    for _ in 0..6 {
        sent.extend(send(&app, 150).await);
    }
    proxy.set(&[]);
    app.until_metric("adtrack_journal_outstanding_events", 0.0).await;
    let (_, kinesis) = app.stop().await;

    let (mut covered, mut notices, mut events) = (HashMap::new(), Vec::new(), HashSet::new());
    let client = Client::new(&aws::sdk_config(&kinesis.url).await);
    for shard in shards(&client).await {
        for record in records_of(&client, &shard.shard_id).await {
            let key = record.partition_key().unwrap().to_owned();
            let contents = aggregate::contents(&record.data.into_inner().into()).unwrap();
            if let Some(notice) = contents.notice {
                assert!(contents.user_records.is_empty());
                notices.push(JournalNotice::decode(notice).unwrap());
                continue;
            }
            for range in key.parse::<Receipt>().unwrap().ranges {
                covered.entry(range.ring).or_insert_with(Vec::new).push((range.from, range.to));
            }
            let decode = |data| TrackingEvent::decode(data).unwrap().message_id;
            events.extend(contents.user_records.into_iter().map(decode));
        }
    }

    assert!(events == sent);
    assert!(notices.iter().any(|notice| notice.kind() == Kind::Opened));
    let closed = notices.iter().find(|notice| notice.kind() == Kind::Closed).unwrap();
    assert_eq!(closed.rings.len(), 2);
    for ring in &closed.rings {
        let mut ranges = covered.remove(&ring.ring).unwrap_or_default();
        ranges.sort_unstable();
        let end = ranges.iter().fold(0, |end, (from, to)| {
            assert!(*from <= end, "a gap before {from}");
            end.max(*to)
        });
        assert_eq!(end, ring.to_position);
    }
    assert!(covered.is_empty(), "rings that the journal does not know");
}

async fn split(client: &Client, shard_id: &str) {
    let range =
        hash_keys(&shards(client).await.into_iter().find(|one| one.shard_id == shard_id).unwrap());
    let middle = range.start() + (range.end() - range.start()) / 2;
    let split = client.split_shard().stream_name(STREAM).shard_to_split(shard_id);
    split.new_starting_hash_key(middle.to_string()).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn merge(client: &Client, one: &str, other: &str) {
    let merge = client.merge_shards().stream_name(STREAM).shard_to_merge(one);
    merge.adjacent_shard_to_merge(other).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
}

async fn shards(client: &Client) -> Vec<Shard> {
    client.list_shards().stream_name(STREAM).send().await.unwrap().shards.unwrap()
}

fn hash_keys(shard: &Shard) -> RangeInclusive<u128> {
    let range = shard.hash_key_range.as_ref().unwrap();
    range.starting_hash_key.parse().unwrap()..=range.ending_hash_key.parse().unwrap()
}

/// What a reader of all shards, open and closed, hands on.
#[derive(Default)]
struct ReadEvents {
    ids: HashSet<String>,
    aggregates: usize,
    dropped: usize,
}

/// The Kinesis Client Library takes records apart as it reads a shard, and knows the shard's hash keys: when the
/// key of one user record hashes outside them, it drops all user records of that Kinesis record. An explicit
/// hash key would count instead of the key; adtrack sets none.
async fn read_as_kcl_does(kinesis: &EmbeddedServer) -> ReadEvents {
    let client = Client::new(&aws::sdk_config(&kinesis.url).await);
    let mut read = ReadEvents::default();
    for shard in shards(&client).await {
        for record in records_of(&client, &shard.shard_id).await {
            let user_records = match aggregated(record.data.as_ref()) {
                Some(aggregate) => {
                    read.aggregates += 1;
                    if !aggregate.belongs_to(&hash_keys(&shard)) {
                        read.dropped += 1;
                        continue;
                    }
                    assert_eq!(aggregate.partition_key_table, [record.partition_key().unwrap()]);
                    aggregate.records.into_iter().map(|record| record.data).collect()
                }
                None => vec![record.data.into_inner()],
            };
            let decode = |data: &Vec<u8>| TrackingEvent::decode(data.as_slice()).unwrap();
            read.ids.extend(user_records.iter().map(|data| decode(data).message_id));
        }
    }
    read
}

async fn records_of(client: &Client, shard_id: &str) -> Vec<Record> {
    let first = client.get_shard_iterator().stream_name(STREAM).shard_id(shard_id);
    let first = first.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await.unwrap();
    let (mut iterator, mut records) = (first.shard_iterator, Vec::new());
    while let Some(current) = iterator {
        let output = client.get_records().shard_iterator(current).send().await.unwrap();
        let is_last = output.records.is_empty();
        records.extend(output.records);
        iterator = output.next_shard_iterator.filter(|_| !is_last);
    }
    records
}

/// The published format, written down a second time.
#[derive(Clone, PartialEq, Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct UserRecord {
    #[prost(uint64, required, tag = "1")]
    partition_key_index: u64,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "vec", required, tag = "3")]
    data: Vec<u8>,
}

fn aggregated(data: &[u8]) -> Option<AggregatedRecord> {
    let body = data.strip_prefix(b"\xf3\x89\x9a\xc2")?;
    let (message, digest) = body.split_at_checked(body.len().checked_sub(16)?)?;
    (Md5::digest(message)[..] == *digest).then(|| AggregatedRecord::decode(message).unwrap())
}

impl AggregatedRecord {
    fn belongs_to(&self, hash_keys: &RangeInclusive<u128>) -> bool {
        assert_eq!(self.explicit_hash_key_table, Vec::<String>::new());
        self.records.iter().all(|record| {
            assert_eq!(record.explicit_hash_key_index, None);
            let key =
                &self.partition_key_table[usize::try_from(record.partition_key_index).unwrap()];
            hash_keys.contains(&u128::from_be_bytes(Md5::digest(key).into()))
        })
    }
}
