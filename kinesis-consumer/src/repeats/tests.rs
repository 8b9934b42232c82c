use adtrack_proto::event::{EventType, TrackingEvent};
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message;

use super::*;
use crate::item::RowSettings;

const ID: &str = "6b0c9a2e-1111-8222-9333-444455556666";

fn row(event: TrackingEvent) -> Row {
    let bytes = event.encode_to_vec();
    let at = Timestamp::from_millisecond(1).unwrap();
    Row::new(event, &bytes, at, at, RowSettings::default())
}

/// A copy received at `received_at_ms` with the click id `click_id`, known by its user agent.
fn copy(name: &str, received_at_ms: i64, click_id: &str) -> TrackingEvent {
    TrackingEvent {
        message_id: ID.into(),
        event_type: EventType::Conversion.into(),
        transaction_id: "t-1".into(),
        user_agent: name.into(),
        received_at_ms,
        click_id: click_id.into(),
        ..TrackingEvent::default()
    }
}

/// A row as it was written before ranks.
fn row_without_rank(event: TrackingEvent) -> Item {
    let mut item = row(event).item();
    item.remove(RANK);
    item
}

fn combined(stored: &Item, event: TrackingEvent) -> Item {
    row(event).combine_with(stored).unwrap_or_else(|| stored.clone())
}

fn attributes(item: &Item) -> [Option<&str>; 3] {
    ["user_agent", CLICK_ID, CLICK_RANK].map(|name| text(item, name))
}

#[test]
fn keeps_the_first_copy_and_the_earliest_click() {
    let click_rank = |event: &TrackingEvent| Some(row(event.clone()).rank);
    let (a, b, c) = (copy("a", 10, ""), copy("b", 20, "click-b"), copy("c", 30, "click-c"));

    let only_a = row(a.clone()).item();
    let a_and_c = combined(&only_a, c.clone());
    let all = combined(&a_and_c, b.clone());

    assert_eq!(attributes(&only_a), [Some("a"), None, None]);
    let rank_of_c = click_rank(&c);
    assert_eq!(attributes(&a_and_c), [Some("a"), Some("click-c"), rank_of_c.as_deref()]);
    let rank_of_b = click_rank(&b);
    assert_eq!(attributes(&all), [Some("a"), Some("click-b"), rank_of_b.as_deref()]);
    for event in [a, b, c] {
        assert_eq!(row(event).combine_with(&all), None, "a repeat changes nothing");
    }
}

#[test]
fn an_earlier_copy_replaces_the_row_and_its_click() {
    let stored = combined(&row(copy("b", 20, "")).item(), copy("c", 30, "click-c"));
    let replaced = combined(&stored, copy("a", 10, "click-a"));
    assert_eq!(replaced, row(copy("a", 10, "click-a")).item());
}

#[test]
fn a_row_without_a_rank_compares_its_time_of_receipt() {
    let stored = row_without_rank(copy("stored", 20, ""));
    for later in [copy("same millisecond", 20, ""), copy("later", 21, "")] {
        assert_eq!(row(later).combine_with(&stored), None);
    }
    assert_eq!(combined(&stored, copy("earlier", 19, "")), row(copy("earlier", 19, "")).item());

    let taken_over = combined(&stored, copy("later", 21, "click"));
    assert_eq!(attributes(&taken_over)[..2], [Some("stored"), Some("click")]);
    assert!(!taken_over.contains_key(RANK), "the row stays one without a rank");

    let with_click = row_without_rank(copy("stored", 20, "click"));
    let earlier = combined(&with_click, copy("earlier", 19, ""));
    assert_eq!(attributes(&earlier), [Some("earlier"), Some("click"), Some("0000000000020-")]);
}

#[test]
fn a_row_under_another_id_keeps_its_key() {
    let mut stored = row(copy("stored", 20, "")).item();
    let other = AttributeValue::S("another id".into());
    stored.insert("id".into(), other.clone());
    stored.insert("message_id".into(), other.clone());

    let replaced = combined(&stored, copy("earlier", 10, ""));

    assert_eq!((&replaced["id"], &replaced["message_id"]), (&other, &other));
    assert_eq!(text(&replaced, "user_agent"), Some("earlier"));
}

#[test]
fn attributes_that_are_not_ours_survive_a_click_that_is_taken_over() {
    let mut stored = row(copy("stored", 20, "")).item();
    stored.insert("note".into(), AttributeValue::S("kept".into()));
    assert_eq!(text(&combined(&stored, copy("later", 30, "click")), "note"), Some("kept"));
}

#[test]
fn compares_a_repetition_in_its_invariant_attributes() {
    let sale = TrackingEvent {
        amount_micros: 5,
        currency: "EUR".into(),
        event_name: "sale".into(),
        ..copy("sale", 10, "click")
    };
    let stored = row(sale.clone()).item();
    for same in [
        sale.clone(),
        TrackingEvent { received_at_ms: 7, occurred_at_ms: 7, ..sale.clone() },
        TrackingEvent { user_agent: "retry".into(), is_valid: true, ..sale.clone() },
        TrackingEvent { parameters: [("nonce".into(), "2".into())].into(), ..sale.clone() },
        TrackingEvent { click_id: String::new(), ..sale.clone() },
        TrackingEvent { event_name: "Sale".into(), ..sale.clone() },
    ] {
        assert!(!row(same.clone()).differs_from(&stored), "{same:?}");
    }
    for other in [
        TrackingEvent { amount_micros: 6, ..sale.clone() },
        TrackingEvent { amount_micros: 0, ..sale.clone() },
        TrackingEvent { currency: "USD".into(), ..sale.clone() },
        TrackingEvent { event_name: "signup".into(), ..sale.clone() },
        TrackingEvent { click_id: "another".into(), ..sale.clone() },
    ] {
        assert!(row(other.clone()).differs_from(&stored), "{other:?}");
    }
    let without_click = row(TrackingEvent { click_id: String::new(), ..sale.clone() }).item();
    assert!(!row(sale).differs_from(&without_click));
}

/// Copies that collide in time, content and click ids.
fn any_copy() -> impl Strategy<Value = TrackingEvent> {
    ("[ab]", 10_i64..13, prop_oneof![Just(""), Just("click-1"), Just("click-2")])
        .prop_map(|(name, received_at_ms, click_id)| copy(&name, received_at_ms, click_id))
}

/// The row of `copies` by the two rules of the module, with no regard to how rows are combined.
fn expected(copies: &[TrackingEvent]) -> Item {
    let mut rows: Vec<Row> = copies.iter().cloned().map(row).collect();
    rows.sort_by(|a, b| a.rank.cmp(&b.rank));
    let first = &rows[0];
    let mut item = first.item();
    if first.event.click_id.is_empty()
        && let Some(source) = rows.iter().find(|row| !row.event.click_id.is_empty())
    {
        item.insert(CLICK_ID.into(), AttributeValue::S(source.event.click_id.clone()));
        item.insert(CLICK_RANK.into(), AttributeValue::S(source.rank.clone()));
    }
    item
}

/// Writers of one row each, which run at the same time. A step of one is a call to the table: to create the
/// row, or to replace what it found if that is still there.
fn run_writers(table: &mut Option<Item>, rows: &[Row], schedule: &[Index]) {
    let mut found: Vec<Option<Item>> = vec![None; rows.len()];
    let mut busy: Vec<usize> = (0..rows.len()).collect();
    let mut step = |busy: &mut Vec<usize>, position: usize| {
        let writer = busy[position];
        match (&*table, &found[writer]) {
            (None, _) => *table = Some(rows[writer].item()),
            (Some(stored), None) => {
                found[writer] = Some(stored.clone());
                return;
            }
            (Some(stored), Some(seen)) => {
                let replacement = rows[writer].combine_with(seen);
                if let Some(replacement) = replacement {
                    if stored != seen {
                        found[writer] = Some(stored.clone());
                        return;
                    }
                    *table = Some(replacement);
                }
            }
        }
        busy.remove(position);
    };
    for index in schedule {
        if busy.is_empty() {
            return;
        }
        let position = index.index(busy.len());
        step(&mut busy, position);
    }
    while !busy.is_empty() {
        step(&mut busy, 0);
    }
}

proptest! {
    /// Batches in any order, each folded first, with copies repeated in others, and written at the same time.
    #[test]
    fn every_order_makes_the_same_row(
        copies in proptest::collection::vec(any_copy(), 1..6),
        repeats in proptest::collection::vec(any::<Index>(), 0..6),
        keys in proptest::collection::vec(any::<u32>(), 11),
        cuts in proptest::collection::vec(any::<bool>(), 11),
        schedule in proptest::collection::vec(any::<Index>(), 0..40),
        rank_is_missing in any::<bool>(),
    ) {
        let mut deliveries = copies.clone();
        deliveries.extend(repeats.iter().map(|index| index.get(&copies).clone()));
        let mut order: Vec<usize> = (0..deliveries.len()).collect();
        order.sort_by_key(|position| keys[*position]);

        let mut batches: Vec<Row> = Vec::new();
        for (position, delivery) in order.into_iter().enumerate() {
            let delivered = row(deliveries[delivery].clone());
            match batches.last_mut() {
                Some(batch) if !cuts[position] => batch.add_copy(delivered),
                _ => batches.push(delivered),
            }
        }

        let mut table = None;
        if rank_is_missing {
            // Received before all others.
            let before = copy("before", 9, "");
            table = Some(row_without_rank(before.clone()));
            run_writers(&mut table, &batches, &schedule);
            let mut all = copies;
            all.push(before);
            let mut expected = expected(&all);
            expected.remove(RANK);
            prop_assert_eq!(table, Some(expected));
        } else {
            run_writers(&mut table, &batches, &schedule);
            prop_assert_eq!(table, Some(expected(&copies)));
        }
    }
}
