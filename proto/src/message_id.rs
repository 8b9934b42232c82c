//! The ids of events that are derived from what their senders sent, so that a repeat has the id of the first.
//!
//! They are UUIDs of version 8 (RFC 9562). Nobody can choose one: what is hashed includes the program and what
//! the event is.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::event::{EventType, TrackingEvent};

/// The id of an event to which its sender gave the id `event_id`.
pub fn client_event_id(program_id: &str, event_type: EventType, event_id: &str) -> Uuid {
    hash(&["client event", program_id, event_type.name(), event_id])
}

/// What identifies a conversion whose sender gave it no event id.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "documented in tracking_event.proto")]
pub struct ConversionIdentity<'a> {
    pub program_id: &'a str,
    pub event_name: &'a str,
    pub transaction_id: &'a str,
    pub click_id: &'a str,
    pub status: &'a str,
}

impl<'a> ConversionIdentity<'a> {
    /// The identity of `event`; none if it is not a conversion, or has an event id from its sender.
    fn of(event: &'a TrackingEvent) -> Option<Self> {
        let is_identified_so =
            event.event_type() == EventType::Conversion && event.client_event_id.is_empty();
        is_identified_so.then_some(Self {
            program_id: &event.program_id,
            event_name: &event.event_name,
            transaction_id: &event.transaction_id,
            click_id: &event.click_id,
            status: &event.status,
        })
    }

    /// The conversion's message id; none without a transaction id and a click id. With a transaction id, the
    /// click id is left out: a page's pixel knows it, and the advertiser's server often does not. The case of the
    /// event's name does not matter: they write it differently, too.
    pub fn message_id(&self) -> Option<Uuid> {
        let event_name = self.event_name.to_ascii_lowercase();
        ConversionIdentity { event_name: &event_name, ..*self }.message_id_by_case()
    }

    /// The message id, for the event's name in the case that it has.
    fn message_id_by_case(&self) -> Option<Uuid> {
        let Self { program_id, event_name, transaction_id, click_id, status } = *self;
        match (transaction_id, click_id) {
            ("", "") => None,
            ("", click) => {
                Some(hash(&["conversion by click", program_id, click, event_name, status]))
            }
            (transaction, _) => {
                let kind = "conversion by transaction";
                Some(hash(&[kind, program_id, event_name, transaction, status]))
            }
        }
    }

    /// The ids that the first trackers give to the conversion: one with its click id and, if it has a
    /// transaction id, one without, for the same conversion sent by somebody who does not know the click.
    fn first_message_ids(&self) -> Vec<Uuid> {
        let Self { program_id, event_name, transaction_id, click_id, status } = *self;
        let with =
            |click| hash(&["transaction", program_id, click, event_name, transaction_id, status]);
        match (transaction_id, click_id) {
            ("", "") => Vec::new(),
            (_, "") => vec![with("")],
            ("", click) => vec![with(click)],
            (_, click) => vec![with(click), with("")],
        }
    }
}

/// The other ids that `event`'s conversion has if a tracker with another rule recorded it, too. There were three
/// rules: the first, with the click id; the same without it, where there is a transaction id; and today's, for which
/// the case of the event's name does not matter. None for every other event.
pub fn other_message_ids(event: &TrackingEvent) -> Vec<String> {
    let Some(identity) = ConversionIdentity::of(event) else { return Vec::new() };
    let by_case = identity.message_id_by_case();
    let mut rules = vec![identity.message_id(), by_case];
    // The same, if the name is in lower case.
    rules.dedup();
    let later: Vec<_> = rules.into_iter().flatten().map(|id| id.to_string()).collect();
    let first: Vec<_> = identity.first_message_ids().iter().map(Uuid::to_string).collect();
    let other = |id: &String| *id != event.message_id;
    if later.contains(&event.message_id) {
        later.into_iter().chain(first).filter(other).collect()
    } else if first.contains(&event.message_id) {
        // Two rows of the first rule are two events.
        later
    } else {
        Vec::new()
    }
}

/// A UUID from SHA-256 over the parts. Each follows its length, so that no two lists of parts hash the same
/// text.
fn hash(parts: &[&str]) -> Uuid {
    // Joined first: hashing one text costs less than hashing many.
    let mut text = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        text.extend_from_slice(&(part.len() as u64).to_be_bytes());
        text.extend_from_slice(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&Sha256::digest(&text)[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLICK: &str = "019b7ca9-8f2e-7707-8707-070707070707";
    /// The ids of one sale, by transaction and click, by transaction, and by click: computed once by another
    /// implementation of the hash, because rows in tables have them.
    const EARLIER_WITH_BOTH: &str = "ff094885-615d-83e7-85a9-1bc2781ae44e";
    const EARLIER_WITH_TRANSACTION: &str = "40532859-15ba-8d09-847a-71593aeda39d";
    const EARLIER_WITH_CLICK: &str = "c52ee55f-3169-8456-8291-6317d461a62a";
    const WITH_TRANSACTION: &str = "d05d4245-03c0-8f37-9841-85cbd6b6287d";
    const WITH_CLICK: &str = "76dfad74-ef61-80ab-9e00-2ab05a4d4702";
    /// The ids of the same sale under the name `Sale`, from before case did not matter.
    const UPPER_EARLIER_WITH_BOTH: &str = "1d262ced-24b1-881b-a892-a63bccf0537f";
    const UPPER_EARLIER_WITH_TRANSACTION: &str = "319fe122-2df1-86f4-99ba-77ca976846fb";
    const UPPER_WITH_TRANSACTION: &str = "e6c4389a-81d2-804d-ac1f-1dfdb89cb063";
    const UPPER_WITH_CLICK: &str = "aa0d03b0-3df7-85eb-a9b6-372f372ed2d6";

    fn sale(message_id: &str, transaction_id: &str, click_id: &str) -> TrackingEvent {
        TrackingEvent {
            program_id: "212313".into(),
            message_id: message_id.into(),
            event_type: EventType::Conversion.into(),
            event_name: "sale".into(),
            transaction_id: transaction_id.into(),
            click_id: click_id.into(),
            status: "approved".into(),
            ..TrackingEvent::default()
        }
    }

    fn message_id(event: &TrackingEvent) -> Option<String> {
        ConversionIdentity::of(event)?.message_id().map(|id| id.to_string())
    }

    #[test]
    fn ids_stay_what_rows_in_tables_have() {
        let event_id = client_event_id("212313", EventType::Click, "e-1").to_string();
        assert_eq!(event_id, "81fecca5-c92a-86f7-8e3a-811772d9e4b9");
        for (transaction_id, click_id, id) in [
            ("t-1", CLICK, Some(WITH_TRANSACTION)),
            ("t-1", "", Some(WITH_TRANSACTION)),
            ("", CLICK, Some(WITH_CLICK)),
            ("", "", None),
        ] {
            let event = sale("", transaction_id, click_id);
            assert_eq!(message_id(&event).as_deref(), id, "{transaction_id} {click_id}");
        }
    }

    #[test]
    fn every_part_of_a_conversions_identity_changes_its_id() {
        let sale = sale("", "t-1", "");
        let changed = [
            TrackingEvent { program_id: "212314".into(), ..sale.clone() },
            TrackingEvent { event_name: "signup".into(), ..sale.clone() },
            TrackingEvent { transaction_id: "t-2".into(), ..sale.clone() },
            TrackingEvent { status: "refunded".into(), ..sale.clone() },
            // The same text, cut elsewhere.
            TrackingEvent {
                event_name: "1sale".into(),
                transaction_id: "t-".into(),
                ..sale.clone()
            },
        ];
        for event in changed {
            assert_ne!(message_id(&event), message_id(&sale), "{event:?}");
        }
        let same = TrackingEvent { amount_micros: 5, customer_id: 7, ..sale.clone() };
        assert_eq!(message_id(&same), message_id(&sale));
    }

    #[test]
    fn finds_the_ids_of_the_other_rule() {
        for (id, transaction_id, click_id, others) in [
            (WITH_TRANSACTION, "t-1", CLICK, vec![EARLIER_WITH_BOTH, EARLIER_WITH_TRANSACTION]),
            (WITH_TRANSACTION, "t-1", "", vec![EARLIER_WITH_TRANSACTION]),
            (WITH_CLICK, "", CLICK, vec![EARLIER_WITH_CLICK]),
            (EARLIER_WITH_BOTH, "t-1", CLICK, vec![WITH_TRANSACTION]),
            (EARLIER_WITH_TRANSACTION, "t-1", "", vec![WITH_TRANSACTION]),
            (EARLIER_WITH_CLICK, "", CLICK, vec![WITH_CLICK]),
            ("019b7ca9-8f2e-7707-8707-070707070708", "", "", vec![]),
            ("6b0c9a2e-1111-8222-9333-444455556666", "t-1", CLICK, vec![]),
        ] {
            assert_eq!(other_message_ids(&sale(id, transaction_id, click_id)), others, "{id}");
        }
        for (id, transaction_id, click_id, others) in [
            (
                WITH_TRANSACTION,
                "t-1",
                CLICK,
                vec![
                    UPPER_WITH_TRANSACTION,
                    UPPER_EARLIER_WITH_BOTH,
                    UPPER_EARLIER_WITH_TRANSACTION,
                ],
            ),
            (
                UPPER_WITH_TRANSACTION,
                "t-1",
                "",
                vec![WITH_TRANSACTION, UPPER_EARLIER_WITH_TRANSACTION],
            ),
            (UPPER_EARLIER_WITH_BOTH, "t-1", CLICK, vec![WITH_TRANSACTION, UPPER_WITH_TRANSACTION]),
            (UPPER_WITH_CLICK, "", CLICK, vec![WITH_CLICK, "a2eb4a47-26bb-8b56-afbe-09a3fd14e637"]),
        ] {
            let event =
                TrackingEvent { event_name: "Sale".into(), ..sale(id, transaction_id, click_id) };
            assert_eq!(other_message_ids(&event), others, "{id}");
            assert_eq!(
                message_id(&event),
                message_id(&sale("", transaction_id, click_id)),
                "case does not matter"
            );
        }
        let sale = sale(WITH_TRANSACTION, "t-1", "");
        let click = TrackingEvent { event_type: EventType::Click.into(), ..sale.clone() };
        let identified = TrackingEvent { client_event_id: "e-1".into(), ..sale };
        assert_eq!((other_message_ids(&click), other_message_ids(&identified)), (vec![], vec![]));
    }
}
