//! Follows events to their rows in a table that also has other rows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, reason = "tests")]

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, PutRequest, WriteRequest};
use loadtest::engine::Accepted;
use loadtest::verify::{EventTable, Findings, Follower, Plan};
use local_stack::aws;
use local_stack::ports::Port;
use tokio::sync::{mpsc, watch};

const TABLE: &str = "events";
const MARK: &str = "run/0123abcd";
/// More than a page of a scan reads.
const OTHERS: u128 = 2_500;
const ACCEPTED: u128 = 60;
const STORED: u128 = 50;
/// The click that each row of the run is linked to.
const LINK: u128 = 1 << 70;

/// A row of an event.
#[derive(Clone, Copy)]
struct Row {
    id: u128,
    /// The click that it is linked to.
    link: u128,
}

async fn put(client: &Client, rows: impl Iterator<Item = Row>, user_agent: &str) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let item = |row: Row| {
        let item = HashMap::from([
            ("id".to_owned(), text(&uuid::Uuid::from_u128(row.id).to_string())),
            ("stored_at".to_owned(), AttributeValue::N("1767323045678".to_owned())),
            ("user_agent".to_owned(), text(user_agent)),
            ("click_id".to_owned(), text(&uuid::Uuid::from_u128(row.link).to_string())),
        ]);
        let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let items: Vec<_> = rows.map(item).collect();
    for chunk in items.chunks(25) {
        client.batch_write_item().request_items(TABLE, chunk.to_vec()).send().await.unwrap();
    }
}

async fn count(client: &Client) -> i32 {
    let mut count = 0;
    let mut pages = client.scan().table_name(TABLE).into_paginator().send();
    while let Some(page) = pages.next().await {
        count += page.unwrap().count();
    }
    count
}

const AT_MS: u64 = 1_767_323_045_600;

async fn follow(url: &str, mark: &str, accepted: Vec<Accepted>, drop_counted: bool) -> Findings {
    let table = EventTable::new(&aws::sdk_config(url).await, TABLE.to_owned(), true);
    let plan = Plan {
        table,
        mark: mark.to_owned(),
        settle: Duration::from_secs(1),
        drop_counted,
        start_ms: AT_MS - 600,
        slice: Duration::from_secs(1),
    };
    let folder = tempfile::tempdir().unwrap();
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(accepted).unwrap();
    drop(sender);
    let (_interrupt, interrupted) = watch::channel(false);
    Follower::new(plan, folder.path()).unwrap().follow(receiver, interrupted).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_the_rows_of_the_run_and_keeps_others() {
    for drop_counted in [false, true] {
        let server = aws::dynamodb(Port::Any).await.unwrap();
        let client = Client::new(&aws::sdk_config(&server.url).await);
        aws::create_table(&client, TABLE).await.unwrap();
        // The stand-in scans in the order of ids, so the run's rows come last.
        let row = |id| Row { id, link: LINK };
        put(&client, (0..OTHERS).map(|n| row(n << 64)), "Mozilla/5.0").await;
        put(&client, (OTHERS..OTHERS + STORED).map(|n| row(n << 64)), &format!("a {MARK}")).await;
        let probes = (1..=5).map(|n| row(n + (OTHERS << 65)));
        put(&client, probes, &format!("a {MARK} look")).await;

        let link = |n| if n % 2 == 0 { 0 } else { LINK + n % 3 / 2 };
        let accepted = (0..ACCEPTED)
            .map(|n| Accepted { id: (OTHERS + n) << 64, at_ms: AT_MS, link: link(n), digest: 0 })
            .collect();
        let findings = follow(&server.url, MARK, accepted, drop_counted).await;
        assert_eq!((findings.identified, findings.stored, findings.lost), (60, 50, 10));
        // Of the stored events, 1, 3, 5, … 49 have a link; 5, 11, 17, … 47 have another than the row.
        assert_eq!((findings.unknown, findings.mislinked), (0, 8));
        let left = if drop_counted { OTHERS } else { OTHERS + STORED + 5 };
        assert_eq!(u128::try_from(count(&client).await).unwrap(), left);
    }
}

/// What a faulty pipeline does to the rows of a run, at random, and what the harness has to find.
struct Damage {
    accepted: Vec<Accepted>,
    rows: Vec<Row>,
    lost: u64,
    doubled: u64,
    mislinked: u64,
}

impl Damage {
    fn draw(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut damage =
            Self { accepted: Vec::new(), rows: Vec::new(), lost: 0, doubled: 0, mislinked: 0 };
        for _ in 0..80 {
            let (id, click) = (random.u128(1..), random.u128(1..));
            let is_linked = random.bool();
            let link = if is_linked { click } else { 0 };
            damage.accepted.push(Accepted { id, at_ms: AT_MS, link, digest: 0 });
            match random.u32(..10) {
                0 => damage.lost += 1,
                1 => {
                    damage.doubled += 1;
                    damage.rows.extend([id, random.u128(1..)].map(|id| Row { id, link: click }));
                }
                2 => {
                    damage.mislinked += u64::from(is_linked);
                    damage.rows.push(Row { id, link: random.u128(1..) });
                }
                _ => damage.rows.push(Row { id, link: click }),
            }
        }
        damage
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_what_was_dropped_doubled_or_relinked_at_random() {
    let server = aws::dynamodb(Port::Any).await.unwrap();
    let client = Client::new(&aws::sdk_config(&server.url).await);
    aws::create_table(&client, TABLE).await.unwrap();
    let mut runs = tokio::task::JoinSet::new();
    for seed in 0..50 {
        let (client, url) = (client.clone(), server.url.clone());
        runs.spawn(async move {
            let damage = Damage::draw(seed);
            let mark = format!("run/{seed:08x}");
            put(&client, damage.rows.iter().copied(), &format!("a {mark}")).await;
            let findings = follow(&url, &mark, damage.accepted.clone(), false).await;
            assert_eq!(
                (findings.lost, findings.unknown, findings.mislinked),
                (damage.lost, damage.doubled, damage.mislinked),
                "seed {seed}"
            );
            assert_eq!(findings.stored + findings.lost, 80, "seed {seed}");
        });
    }
    while let Some(run) = runs.join_next().await {
        run.unwrap();
    }
}
