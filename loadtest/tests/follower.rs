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

async fn put(client: &Client, ids: impl Iterator<Item = u128>, user_agent: &str) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let row = |id| {
        let row = HashMap::from([
            ("id".to_owned(), text(&uuid::Uuid::from_u128(id).to_string())),
            ("stored_at".to_owned(), AttributeValue::N("1767323045678".to_owned())),
            ("user_agent".to_owned(), text(user_agent)),
        ]);
        let put = PutRequest::builder().set_item(Some(row)).build().unwrap();
        WriteRequest::builder().put_request(put).build()
    };
    let rows: Vec<_> = ids.map(row).collect();
    for chunk in rows.chunks(25) {
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

async fn follow(url: &str, drop_counted: bool) -> Findings {
    let table = EventTable::new(&aws::sdk_config(url).await, TABLE.to_owned(), true);
    let plan = Plan {
        table,
        mark: MARK.to_owned(),
        settle: Duration::from_secs(1),
        drop_counted,
        start_ms: 1_767_323_045_000,
        slice: Duration::from_secs(1),
    };
    let folder = tempfile::tempdir().unwrap();
    let (sender, accepted) = mpsc::unbounded_channel();
    let at_ms = 1_767_323_045_600;
    sender
        .send((0..ACCEPTED).map(|n| Accepted { id: (OTHERS + n) << 64, at_ms }).collect())
        .unwrap();
    drop(sender);
    let (_interrupt, interrupted) = watch::channel(false);
    Follower::new(plan, folder.path()).unwrap().follow(accepted, interrupted).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_the_rows_of_the_run_and_keeps_others() {
    for drop_counted in [false, true] {
        let server = aws::dynamodb(Port::Any).await.unwrap();
        let client = Client::new(&aws::sdk_config(&server.url).await);
        aws::create_table(&client, TABLE).await.unwrap();
        // The stand-in scans in the order of ids, so the run's rows come last.
        put(&client, (0..OTHERS).map(|n| n << 64), "Mozilla/5.0").await;
        put(&client, (OTHERS..OTHERS + STORED).map(|n| n << 64), &format!("a {MARK}")).await;
        put(&client, (1..=5).map(|n| n + (OTHERS << 65)), &format!("a {MARK} look")).await;

        let findings = follow(&server.url, drop_counted).await;
        assert_eq!((findings.identified, findings.stored, findings.lost), (60, 50, 10));
        assert_eq!(findings.unknown, 0);
        let left = if drop_counted { OTHERS } else { OTHERS + STORED + 5 };
        assert_eq!(u128::try_from(count(&client).await).unwrap(), left);
    }
}
