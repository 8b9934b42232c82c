//! The tracking request, and what makes it valid.

mod batch_body;
mod batch_item;
mod identity;
pub(crate) mod json;
mod message_id;
mod misspelt;
mod names;
mod pairs;
mod parameters;
mod references;
mod repairs;
mod rules;
mod validation;

pub use batch_body::read_items;
pub use batch_item::{BatchItem, ReadItem};
pub use identity::identity;
pub use message_id::MessageId;
pub(in crate::domain) use message_id::message_id;
pub use misspelt::MISSPELT_URL;
pub use names::meant;
pub use pairs::{JsonType, Pair, form_text, pairs};
pub use parameters::Parameters;
pub use references::{event_reference, optional_reference};
pub use repairs::Repairs;
pub use rules::{CLICK_ID, IMPRESSION_ID, Rules};
pub use validation::check_program_match;

use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use jiff::Timestamp;

use crate::domain::Client;

/// A tracking request, before it is known whether its program exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackingRequest<'a> {
    /// The program that the request names.
    pub program_id: ProgramId,
    /// Which endpoint, or which `eventType` of a batch item.
    pub event_type: EventType,
    /// The parameters, from the query or the body.
    pub parameters: Parameters,
    /// The client that sent it, or that a batch item describes.
    pub client: Client<'a>,
    /// The message id of the impression that led to it; empty if not given.
    pub impression_id: String,
    /// The message id of the click that led to it; empty if not given.
    pub click_id: String,
    /// The fields of a conversion; none for other events.
    pub conversion: Option<Box<Conversion>>,
    /// When it happened: the same as `received_at` unless a batch item says otherwise.
    pub occurred_at: Timestamp,
    /// When the tracker received it.
    pub received_at: Timestamp,
}

/// The fields that only a conversion has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conversion {
    /// The advertiser's own id of the transaction; empty if not given.
    pub transaction_id: String,
    /// The kind of conversion: `sale`, `signup`, …; empty if not given.
    pub event_name: String,
    /// `pending`, `approved`, `rejected` or `refunded`.
    pub status: String,
    /// Millionths of the currency's unit; negative for a refund.
    pub amount_micros: i64,
    /// ISO 4217; empty if not given.
    pub currency: String,
}
