//! Copies of one event: in any order, by writers at the same time, and across the roll-out of today's ids of
//! conversions.

use aws_sdk_dynamodb::types::AttributeValue;
use futures::future::join_all;

use super::*;

const CLICK: &str = "019b7ca9-8f2e-7707-8707-070707070707";
/// The ids of one sale, as proto's tests have them: today's, and those of an earlier tracker.
const SALE: &str = "d05d4245-03c0-8f37-9841-85cbd6b6287d";
const EARLIER_WITH_CLICK: &str = "ff094885-615d-83e7-85a9-1bc2781ae44e";
const EARLIER_WITHOUT_CLICK: &str = "40532859-15ba-8d09-847a-71593aeda39d";

/// A copy of the sale, received so many milliseconds after the first.
fn sale(message_id: &str, click_id: &str, milliseconds: i64) -> TrackingEvent {
    TrackingEvent {
        program_id: "212313".into(),
        event_type: EventType::Conversion.into(),
        event_name: "sale".into(),
        transaction_id: "t-1".into(),
        click_id: click_id.into(),
        status: "approved".into(),
        amount_micros: 5,
        currency: "EUR".into(),
        received_at_ms: 1_767_323_045_678 + milliseconds,
        user_agent: format!("copy {milliseconds}"),
        ..event(message_id)
    }
}

fn records(copies: &[&TrackingEvent]) -> Vec<Record> {
    (1..).zip(copies).map(|(number, copy)| record(number, copy.encode_to_vec())).collect()
}

/// Every order of `items`.
fn orders<T: Copy>(items: &[T]) -> Vec<Vec<T>> {
    let Some((first, rest)) = items.split_first() else { return vec![vec![]] };
    let mut all = Vec::new();
    for order in orders(rest) {
        for position in 0..=order.len() {
            let mut order = order.clone();
            order.insert(position, *first);
            all.push(order);
        }
    }
    all
}

type Attributes = HashMap<String, AttributeValue>;

impl Function {
    /// The table's only row, without the time at which it was stored.
    async fn only_row(&self) -> Attributes {
        let mut rows = self.table.scan().table_name(TABLE).send().await.unwrap().items.unwrap();
        let ids: Vec<_> = rows.iter().map(|row| text(row, "id").unwrap()).collect();
        assert_eq!(ids.len(), 1, "{ids:?}");
        let mut row = rows.remove(0);
        row.remove("stored_at");
        row
    }

    /// Puts a row as kinesis-consumer wrote it before ranks.
    async fn put_row_without_rank(&self, event: &TrackingEvent) {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let mut item = Row::new(event.clone(), b"", at, at, RowSettings::default()).item();
        item.remove("rank");
        self.table.put_item().table_name(TABLE).set_item(Some(item)).send().await.unwrap();
    }

    async fn empty_table(&self) {
        self.table.delete_table().table_name(TABLE).send().await.unwrap();
        aws::create_table(&self.table, TABLE).await.unwrap();
    }
}

fn text(row: &Attributes, name: &str) -> Option<String> {
    row.get(name).map(|value| value.as_s().unwrap().clone())
}

/// Id, copy and click id of a row.
fn summary(row: &Attributes) -> [Option<String>; 3] {
    ["id", "user_agent", "click_id"].map(|name| text(row, name))
}

fn some(texts: [&str; 3]) -> [Option<String>; 3] {
    texts.map(|text| Some(text.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_by_server_and_by_pixel_is_one_row_in_every_order() {
    let function = Function::start(vec![]).await;
    // The server does not know the click; the page reports it twice.
    let copies = [sale(SALE, "", 0), sale(SALE, CLICK, 1), sale(SALE, CLICK, 90)];
    let mut rows = Vec::new();
    for order in orders(&copies.iter().collect::<Vec<_>>()) {
        // In an invocation each, in one, and in one each at the same time.
        function.empty_table().await;
        for copy in &order {
            assert_eq!(function.invoke(&records(&[copy])).await, Vec::<String>::new());
        }
        rows.push(function.only_row().await);
        function.empty_table().await;
        assert_eq!(function.invoke(&records(&order)).await, Vec::<String>::new());
        rows.push(function.only_row().await);
        function.empty_table().await;
        let batches: Vec<_> = order.iter().map(|copy| records(&[copy])).collect();
        let reported = join_all(batches.iter().map(|batch| function.invoke(batch))).await.concat();
        assert_eq!(reported, Vec::<String>::new());
        rows.push(function.only_row().await);
    }
    assert_eq!(rows.len(), 18);
    assert_eq!(summary(&rows[0]), some([SALE, "copy 0", CLICK]));
    assert!(text(&rows[0], "rank").unwrap().starts_with("1767323045678-"));
    assert!(text(&rows[0], "click_rank").unwrap().starts_with("1767323045679-"));
    assert!(rows.iter().all(|row| *row == rows[0]), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_copy_replaces_a_later_one_and_keeps_its_click() {
    let function = Function::start(vec![]).await;
    for copy in [sale(SALE, CLICK, 50), sale(SALE, "", 20), sale(SALE, "", 30)] {
        function.invoke(&records(&[&copy])).await;
    }
    assert_eq!(summary(&function.only_row().await), some([SALE, "copy 20", CLICK]));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_at_the_same_time_make_one_row() {
    let function = Function::start(vec![]).await;
    // Every third one has a click; those received in the first two milliseconds do not.
    let copy = |number| sale(SALE, if number % 3 == 2 { CLICK } else { "" }, number);
    let copies: Vec<_> = (0..40).map(|number| copy((number * 17) % 40)).collect();
    let batches: Vec<_> = copies.iter().map(|copy| records(&[copy])).collect();
    let reported = join_all(batches.iter().map(|batch| function.invoke(batch))).await.concat();
    assert_eq!(reported, Vec::<String>::new());
    let row = function.only_row().await;
    assert_eq!(summary(&row), some([SALE, "copy 0", CLICK]));
    assert!(text(&row, "click_rank").unwrap().starts_with("1767323045680-"), "{row:?}");
}

/// Today's rows and events beside those of earlier trackers: whichever comes first, the sale is one row.
#[tokio::test(flavor = "multi_thread")]
async fn a_postback_repeated_across_the_roll_out_is_one_row_in_every_order() {
    let function = Function::start(vec![]).await;
    for (click_id, earlier_id) in [(CLICK, EARLIER_WITH_CLICK), ("", EARLIER_WITHOUT_CLICK)] {
        for earlier_is_first in [true, false] {
            let (a, b) = if earlier_is_first { (0, 60_000) } else { (60_000, 0) };
            let of_earlier_tracker = sale(earlier_id, click_id, a);
            let of_today = sale(SALE, click_id, b);
            for order in orders(&[&of_earlier_tracker, &of_today, &of_today, &of_earlier_tracker]) {
                function.empty_table().await;
                for copy in &order {
                    assert_eq!(function.invoke(&records(&[copy])).await, Vec::<String>::new());
                }
                let row = function.only_row().await;
                let kept = [text(&row, "id"), text(&row, "user_agent")];
                let expected = [order[0].message_id.as_str(), "copy 0"];
                assert_eq!(kept, expected.map(|text| Some(text.to_owned())));

                function.empty_table().await;
                assert_eq!(function.invoke(&records(&order)).await, Vec::<String>::new());
                assert_eq!(text(&function.only_row().await, "user_agent").unwrap(), "copy 0");
            }
            // The row is one of before, which has no rank.
            for order in orders(&[&of_earlier_tracker, &of_today]) {
                function.empty_table().await;
                function.put_row_without_rank(&of_earlier_tracker).await;
                for copy in &order {
                    assert_eq!(function.invoke(&records(&[copy])).await, Vec::<String>::new());
                }
                let row = function.only_row().await;
                assert_eq!(
                    [text(&row, "id"), text(&row, "user_agent")],
                    [earlier_id, "copy 0"].map(|text| Some(text.to_owned()))
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_both_trackers_at_the_same_time_make_one_row() {
    let function = Function::start(vec![]).await;
    for _ in 0..30 {
        function.empty_table().await;
        let (of_today, of_earlier_tracker) =
            (sale(SALE, CLICK, 1), sale(EARLIER_WITH_CLICK, CLICK, 0));
        let batches = [records(&[&of_today]), records(&[&of_earlier_tracker])];
        let reported = join_all(batches.iter().map(|batch| function.invoke(batch))).await.concat();
        assert_eq!(reported, Vec::<String>::new());
        assert_eq!(text(&function.only_row().await, "user_agent").unwrap(), "copy 0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_of_before_without_its_click_takes_the_click_over() {
    let function = Function::start(vec![]).await;
    function.put_row_without_rank(&sale(EARLIER_WITHOUT_CLICK, "", 0)).await;
    function.invoke(&records(&[&sale(SALE, CLICK, 5)])).await;
    let row = function.only_row().await;
    assert_eq!(summary(&row), some([EARLIER_WITHOUT_CLICK, "copy 0", CLICK]));
    assert!(!row.contains_key("rank"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_row_of_another_conversion_is_left_alone() {
    let function = Function::start(vec![]).await;
    let refund = TrackingEvent {
        status: "refunded".into(),
        ..sale("0e6ccbd3-9afc-83d0-9d1c-5bd0b7a3b2b1", CLICK, 0)
    };
    let sale = sale(SALE, CLICK, 1);
    function.invoke(&records(&[&refund, &sale])).await;
    assert_eq!(function.row_count().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_a_conversion_that_may_have_another_id() {
    let mut faults = vec![Fault::Throttled, Fault::ServerError, Fault::Reset];
    faults.extend(LIES.map(Fault::Lie));
    let calls = faults.len() + 1;
    let function = Function::start(faults).await;
    assert_eq!(function.invoke(&records(&[&sale(SALE, CLICK, 0)])).await, Vec::<String>::new());
    assert_eq!(summary(&function.only_row().await), some([SALE, "copy 0", CLICK]));
    assert_eq!(function.proxy.calls(), calls);

    let large = TrackingEvent { user_agent: "x".repeat(420_000), ..sale(SALE, CLICK, 0) };
    let function = Function::start(vec![]).await;
    assert_eq!(function.invoke(&records(&[&large])).await, Vec::<String>::new());
    assert_eq!(function.row_count().await, 0);
    assert!(function.failed_records()[0].reason.starts_with("DynamoDB refuses it"));
}
