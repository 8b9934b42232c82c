//! Conversions and client event ids end to end: repeated requests count once, and no client can
//! overwrite a row.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod helpers;

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};

use adtrack_proto::event::TrackingEvent;
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_kinesis::primitives::Blob;
use futures::future::join_all;
use helpers::until;
use local_stack::Stack;
use local_stack::stack::{EVENT_STREAM, TABLE};
use prost::Message;
use serde_json::{Value, json};

type Row = HashMap<String, AttributeValue>;

struct Table<'a> {
    stack: &'a Stack,
    client: aws_sdk_dynamodb::Client,
    kinesis: aws_sdk_kinesis::Client,
    http: reqwest::Client,
    url: &'a str,
    sentinels: Cell<usize>,
}

impl<'a> Table<'a> {
    async fn of(stack: &'a Stack) -> Self {
        stack.load_samples().await.unwrap();
        Self {
            stack,
            client: stack.dynamodb().await,
            kinesis: stack.kinesis().await,
            // Do not request the landing page of a click.
            http: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            url: stack.tracker_url(),
            sentinels: Cell::new(0),
        }
    }

    /// The rows of `program`, once all events accepted before are stored.
    async fn rows(&self, program: &str) -> Vec<Row> {
        until("the journal is delivered", async || {
            helpers::metric(self.stack, "adtrack_journal_bytes").await == 0.0
        })
        .await;
        // A shard is read in order, one invocation at a time. When the second sentinel is stored, which
        // is in a later invocation than the first, everything before the first is stored too.
        for _ in 0..2 {
            self.put_sentinel_in_each_shard().await;
        }
        self.all().await.into_iter().filter(|row| is_of(row, program)).collect()
    }

    async fn put_sentinel_in_each_shard(&self) {
        for key in 0..16 {
            let expected = self.sentinels.get() + 1;
            self.sentinels.set(expected);
            let event = TrackingEvent {
                program_id: "sentinel".into(),
                message_id: format!("sentinel-{expected}"),
                ..TrackingEvent::default()
            };
            let put = self.kinesis.put_record().stream_name(EVENT_STREAM);
            let put = put.partition_key(key.to_string()).data(Blob::new(event.encode_to_vec()));
            put.send().await.unwrap();
        }
        until("the sentinels are stored", async || {
            let rows = self.all().await;
            rows.iter().filter(|row| is_of(row, "sentinel")).count() == self.sentinels.get()
        })
        .await;
    }

    async fn all(&self) -> Vec<Row> {
        self.client.scan().table_name(TABLE).send().await.unwrap().items.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.json().await.unwrap()
    }

    async fn send_batch(&self, items: Value) -> Value {
        let request = self.http.post(format!("{}/events", self.url)).body(items.to_string());
        request
            .header("content-type", "application/json")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

fn is_of(row: &Row, program: &str) -> bool {
    row["program_id"].as_s().is_ok_and(|id| id == program)
}

#[tokio::test(flavor = "multi_thread")]
async fn stores_a_repeated_postback_once_and_its_refund_separately() {
    let (stack, _folder) = helpers::start_stack(&[], &[]).await;
    let table = Table::of(&stack).await;
    let sale = "transaction_id=order-1&event_name=sale&amount=49.90&currency=EUR";
    let connections = (0..10).map(|_| async {
        // A client, and so a connection, of its own.
        let client = helpers::client();
        let mut ids = BTreeSet::new();
        for _ in 0..10 {
            let url = format!("{}/conversion/212313?{sale}", table.url);
            let response = client.get(url).send().await.unwrap();
            assert_eq!(response.status(), 200);
            let body: Value = response.json().await.unwrap();
            ids.insert(body["messageId"].as_str().unwrap().to_owned());
        }
        ids
    });
    let ids: BTreeSet<_> = join_all(connections).await.into_iter().flatten().collect();
    assert_eq!(ids.len(), 1, "every response has the same id");
    assert_eq!(table.rows("212313").await.len(), 1);

    let refund = sale.replace("49.90", "-49.90") + "&status=refunded";
    for _ in 0..3 {
        table.get(&format!("/conversion/212313?{refund}")).await;
    }
    let rows = table.rows("212313").await;
    let amounts: BTreeSet<_> =
        rows.iter().map(|row| row["amount_micros"].as_n().unwrap().as_str()).collect();
    assert_eq!((rows.len(), amounts), (2, BTreeSet::from(["49900000", "-49900000"])));
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn known_id_does_not_allow_overwriting_a_row() {
    let (stack, _folder) = helpers::start_stack(&[], &[]).await;
    let table = Table::of(&stack).await;
    let victims = json!([
        {"programId": "212313", "eventType": "click"},
        {"programId": "212313", "eventType": "click", "eventId": "click-1", "userAgent": "victim"},
        {"programId": "212313", "eventType": "conversion", "transactionId": "order-1", "amount": "5",
         "currency": "EUR"},
        {"programId": "212313", "eventType": "conversion", "eventId": "sale-1", "amount": "5",
         "currency": "EUR"},
    ]);
    let response = table.send_batch(victims).await;
    let ids: Vec<_> = response["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["messageId"].as_str().unwrap().to_owned())
        .collect();
    let victims_only = |rows: Vec<Row>| {
        let mut victims: Vec<_> = rows
            .into_iter()
            .filter(|row| ids.contains(row["id"].as_s().unwrap()))
            .map(|mut row| (row.remove("id").unwrap().as_s().unwrap().clone(), row))
            .collect();
        victims.sort_by(|(a, _), (b, _)| a.cmp(b));
        victims
    };
    let before = victims_only(table.rows("212313").await);
    assert_eq!(before.len(), 4);

    // Every id in every place where an endpoint takes one, and the clients' own ids with different
    // content.
    let mut sent = 0;
    for id in ids.iter().map(String::as_str).chain(["click-1", "sale-1", "order-1"]) {
        for path in [
            "event/212313?",
            "impression/212313?",
            "click/212313?",
            "conversion/212313?",
            "conversion/212313.gif?",
        ] {
            let mut queries = vec![format!("at_event_id={id}&forged=1")];
            if path.starts_with("click") {
                queries.push(format!("impression_id={id}&forged=1"));
            }
            if path.starts_with("conversion") {
                queries.push(format!("transaction_id={id}&amount=9999&currency=EUR"));
                queries
                    .push(format!("transaction_id={id}&at_event_id={id}&amount=9999&currency=EUR"));
                if id.len() == 36 {
                    queries.push(format!("click_id={id}&amount=9999&currency=EUR"));
                }
            }
            for query in queries {
                let url = format!("{}/{path}{query}", table.url);
                let status = table.http.get(url).send().await.unwrap().status().as_u16();
                let expected = if path.starts_with("click") { 302 } else { 200 };
                assert_eq!(status, expected, "{path}{query}");
                sent += 1;
            }
        }
        let mut items = Vec::new();
        for kind in ["event", "impression", "click", "conversion"] {
            items.push(json!({"programId": "212313", "eventType": kind, "eventId": id,
                "userAgent": "forged"}));
            if id.len() == 36 {
                items.push(json!({"programId": "212313", "eventType": kind, "clickId": id,
                    "impressionId": id, "userAgent": "forged"}));
            }
        }
        items.push(json!({"programId": "212313", "eventType": "conversion", "transactionId": id,
            "amount": "9999", "currency": "EUR"}));
        sent += items.len();
        let response = table.send_batch(json!(items)).await;
        assert_eq!(response["accepted"], items.len(), "{response}");
        // A member that clients must not set.
        let response = table.send_batch(json!([{"programId": "212313", "messageId": id}])).await;
        assert_eq!(response["results"][0]["problem"]["code"], "invalid_parameters");
    }
    assert!(sent > 100);
    assert_eq!(victims_only(table.rows("212313").await), before);
    stack.stop().await;
}
