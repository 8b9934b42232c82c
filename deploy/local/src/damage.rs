//! Damages rows on their way to DynamoDB, so that tests can show that what checks the rows notices it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

/// The attributes that may be altered: what an event's request decides.
const ATTRIBUTES: [&str; 6] =
    ["program_id", "event_type", "user_agent", "transaction_id", "amount_micros", "currency"];

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is deleted as soon as it is written, so that the call's response is DynamoDB's own.
    Dropped,
    /// It is written, and once more under another id.
    Doubled,
    /// One of its attributes is changed.
    Altered,
}

/// Damages a share of all rows. What becomes of a row depends on its id and the seed only, so that a retried write
/// has the same fate.
#[derive(Debug)]
pub struct RowDamage {
    seed: u64,
    /// A row in so many is damaged.
    one_in: u64,
    fates: BTreeMap<String, Fate>,
}

/// A call with damaged rows.
#[derive(Debug)]
pub(crate) struct Damaged {
    /// The call's body.
    pub(crate) request: Value,
    /// The calls that have to follow it: operation and body.
    pub(crate) follow_ups: FollowUps,
}

type FollowUps = Vec<(&'static str, Value)>;

impl RowDamage {
    /// Damages one row in `one_in`.
    pub fn new(seed: u64, one_in: u64) -> Self {
        Self { seed, one_in, fates: BTreeMap::new() }
    }

    /// How many rows had this fate.
    pub fn count(&self, fate: Fate) -> usize {
        self.fates.values().filter(|other| **other == fate).count()
    }

    /// Damages the rows of a call; none if it writes no row.
    pub(crate) fn apply(&mut self, body: &[u8]) -> Option<Damaged> {
        let mut request: Value = serde_json::from_slice(body).ok()?;
        let mut follow_ups = Vec::new();
        if let Some(tables) = request.get_mut("RequestItems").and_then(Value::as_object_mut) {
            for (table, writes) in tables {
                for write in writes.as_array_mut()? {
                    if let Some(item) = write.pointer_mut("/PutRequest/Item") {
                        self.damage(table, item, &mut follow_ups);
                    }
                }
            }
        } else {
            // A single row, or one in a transaction that checks its other ids.
            let put = if request.get("TransactItems").is_some() {
                request.pointer_mut("/TransactItems/0/Put")?
            } else {
                &mut request
            };
            let table = put.get("TableName")?.as_str()?.to_owned();
            self.damage(&table, put.get_mut("Item")?, &mut follow_ups);
        }
        Some(Damaged { request, follow_ups })
    }

    fn damage(&mut self, table: &str, item: &mut Value, follow_ups: &mut FollowUps) {
        let Some(id) = item["id"]["S"].as_str().map(str::to_owned) else { return };
        let draw = self.draw(&id);
        if !draw.is_multiple_of(self.one_in) {
            return;
        }
        let draw = draw / self.one_in;
        let fate = [Fate::Dropped, Fate::Doubled, Fate::Altered][(draw % 3) as usize];
        match fate {
            Fate::Dropped => {
                let delete = json!({"TableName": table, "Key": {"id": item["id"]}});
                follow_ups.push(("DynamoDB_20120810.DeleteItem", delete));
            }
            Fate::Doubled => {
                let mut copy = item.clone();
                // Of the same form as an id, and the same if the write is retried.
                let other: String = id.chars().rev().filter(|c| *c != '-').collect();
                copy["id"]["S"] = other.into();
                let put = json!({"TableName": table, "Item": copy});
                follow_ups.push(("DynamoDB_20120810.PutItem", put));
            }
            Fate::Altered => alter(item, draw / 3),
        }
        self.fates.insert(id, fate);
    }

    fn draw(&self, id: &str) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, id).hash(&mut hasher);
        hasher.finish()
    }
}

/// Changes one of the row's attributes.
fn alter(item: &mut Value, draw: u64) {
    let Some(item) = item.as_object_mut() else { return };
    let present = |name: &&str| item.contains_key(*name);
    let names: Vec<&str> = ATTRIBUTES.into_iter().filter(present).collect();
    let Some(name) = names.get((draw % names.len().max(1) as u64) as usize) else { return };
    let mut value = Map::new();
    match item[*name].get("N") {
        Some(number) => {
            value.insert("N".to_owned(), format!("{}1", number.as_str().unwrap_or("")).into())
        }
        // In front: the run's mark is at the end of the user agent.
        None => value
            .insert("S".to_owned(), format!("x{}", item[*name]["S"].as_str().unwrap_or("")).into()),
    };
    item.insert((*name).to_owned(), value.into());
}
