//! The heart: what a tracking request is, what makes it right, and what becomes of it. Pure: no
//! I/O, no clock, no runtime.

pub mod address;
mod answer;
mod batch_item;
pub mod bots;
mod click;
mod client;
mod conversion;
pub(crate) mod json;
mod landing_page;
pub mod link;
mod message_id;
mod parameters;
mod prepared_program;
pub mod privacy;
pub mod rate_limit;
mod refusal;
mod request;
mod signing_keys;
mod tcf;
mod traffic;
mod validation;

pub use answer::Answer;
pub use batch_item::{BatchItem, ReadItem};
pub use click::{CLICK_RULES, Destination, IMPRESSION_ID};
pub use client::{
    Client, MAX_HEADERS_BYTES, cut, cut_text, host_name, referrer_without_query, without_query,
};
pub use conversion::{Claim, event_reference};
pub use message_id::MessageId;
pub use parameters::{Parameters, Rules, form_pairs, pairs};
pub use prepared_program::PreparedProgram;
pub use refusal::Refusal;
pub use request::{Conversion, TrackingRequest};
pub use signing_keys::SigningKeys;
pub use traffic::TrafficFlags;
pub use validation::check_combination;
