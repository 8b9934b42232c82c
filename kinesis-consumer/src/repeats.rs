//! Which of several copies of an event its row keeps, and what the row takes over from the others. Pure.
//!
//! Copies have the same message id, because they have the same id from their sender, or are the same conversion.
//! They may differ in the rest: an advertiser's page and its server report the same sale. Two rules decide:
//!
//! - The row keeps the copy with the smallest [rank](adtrack_proto::rank): the one received first.
//! - If that copy has no click id, the row takes over the click id of the copy with the smallest rank that has
//!   one. It takes over nothing else.
//!
//! Both are minima. So any order, repetition and grouping of the copies makes the same row, if the row remembers
//! the rank of what it has: `rank` for the copy, and `click_rank` for a click id that was taken over. A writer
//! combines its copy with the row that it found, and writes the result if the row is still what it found.
//!
//! A row that was written before ranks has none. Its `received_at` ranks it before every other copy of its
//! millisecond, and it stays without a rank: the bytes of its event are gone.

use std::cmp::min_by;

use adtrack_proto::rank::rank_prefix;
use aws_sdk_dynamodb::types::AttributeValue;

use crate::item::{CLICK_RANK, Item, RANK, Row};

const CLICK_ID: &str = "click_id";

const EVENT_NAME: &str = "event_name";

/// The attributes that must be the same when an event is repeated: billing and attribution depend on
/// them. The click id too, but a copy may lack it, and the event's name, in any case.
const INVARIANT_ATTRIBUTES: [&str; 8] = [
    "program_id",
    "event_type",
    "client_event_id",
    "impression_id",
    "transaction_id",
    "status",
    "amount_micros",
    "currency",
];

/// A click id, and the rank of the copy that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Click {
    rank: String,
    id: String,
}

/// What decides between a row and a copy: two rows of an event with the same standing are the same row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Standing {
    rank: String,
    click: Option<Click>,
}

impl Standing {
    fn of_row(row: &Row) -> Self {
        let rank = row.rank.clone();
        let id = row.event.click_id.clone();
        let click_rank = row.click_rank.clone().unwrap_or_else(|| rank.clone());
        Self { rank, click: (!id.is_empty()).then_some(Click { rank: click_rank, id }) }
    }

    fn of_item(item: &Item) -> Self {
        let rank = text(item, RANK).map_or_else(|| rank_prefix(received_at(item)), str::to_owned);
        let click_rank = text(item, CLICK_RANK).unwrap_or(&rank).to_owned();
        let click = text(item, CLICK_ID).map(|id| Click { rank: click_rank, id: id.to_owned() });
        Self { rank, click }
    }

    fn combine(self, other: Self) -> Self {
        let click = match (self.click, other.click) {
            (Some(own), Some(other)) => Some(min_by(own, other, |a, b| a.rank.cmp(&b.rank))),
            (own, other) => own.or(other),
        };
        Self { rank: self.rank.min(other.rank), click }
    }

    /// The rank of the click id; none if it is the kept copy's own.
    fn click_rank(&self) -> Option<&str> {
        let rank = &self.click.as_ref()?.rank;
        (*rank != self.rank).then_some(rank)
    }
}

impl Row {
    /// Makes it the row of itself and `copy`, which has the same id.
    pub fn add_copy(&mut self, copy: Self) {
        let standing = Standing::of_row(self).combine(Standing::of_row(&copy));
        if copy.rank < self.rank {
            *self = copy;
        }
        self.click_rank = standing.click_rank().map(str::to_owned);
        self.event.click_id = standing.click.map_or_else(String::new, |click| click.id);
    }

    /// The row that `stored`, what the table has of this event, is to be replaced with; none if it is right as it
    /// is. The key stays: `stored` may be under another id of the same conversion.
    pub fn combine_with(&self, stored: &Item) -> Option<Item> {
        let found = Standing::of_item(stored);
        let combined = Standing::of_row(self).combine(found.clone());
        if combined == found {
            return None;
        }
        let mut item = match text(stored, "id") {
            Some(id) if combined.rank != found.rank => self.item_under(id),
            _ => stored.clone(),
        };
        item.remove(CLICK_RANK);
        if let Some(rank) = combined.click_rank() {
            item.insert(CLICK_RANK.into(), AttributeValue::S(rank.to_owned()));
        }
        if let Some(click) = combined.click {
            item.insert(CLICK_ID.into(), AttributeValue::S(click.id));
        }
        Some(item)
    }

    /// Whether it differs from `other`, a copy of the same event, in an attribute that billing or attribution
    /// depends on. Other attributes may differ: the time and origin of the repetition, and its parameters, in
    /// which clients send times and random numbers.
    pub fn differs_from(&self, other: &Item) -> bool {
        let own = self.item();
        let has_other_click = match (own.get(CLICK_ID), other.get(CLICK_ID)) {
            (Some(own), Some(other)) => own != other,
            _ => false,
        };
        let name = |item: &Item| text(item, EVENT_NAME).map(str::to_ascii_lowercase);
        has_other_click
            || name(&own) != name(other)
            || INVARIANT_ATTRIBUTES.iter().any(|name| own.get(*name) != other.get(*name))
    }
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

fn received_at(item: &Item) -> i64 {
    let number = item.get("received_at").and_then(|value| value.as_n().ok());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
