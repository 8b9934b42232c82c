//! The rules: what a tracking request is, what makes it valid, and which event it becomes. Pure: no I/O,
//! no clock, no runtime.
//!
//! | question | module |
//! |---|---|
//! | Which client asks? | [`client`]: address, privacy signals, bots and other traffic flags |
//! | How often may it ask? | [`rate_limit`] |
//! | What does it ask for? | [`request`]: parameters, batch items, the valid combinations, the message id |
//! | About which program? | [`program`] |
//! | What does a click lead to? | [`click`]: landing page, signed links |
//! | What does a conversion claim? | [`conversion`]: amount, status, signature |
//! | What is recorded, what is the response? | [`event`] |
//! | Why is a request refused? | [`refusal`], `limits` |

pub mod click;
pub mod client;
pub mod conversion;
pub mod event;
mod limits;
pub mod program;
pub mod rate_limit;
pub mod refusal;
pub mod request;
pub mod signing_keys;

pub use click::{CLICK_RULES, Destination, IMPRESSION_ID, link};
pub use client::{
    Client, TrafficFlags, address, bots, cut, cut_text, host_name, privacy, referrer_without_query,
    without_query,
};
pub use conversion::{Claim, event_reference};
pub use event::TrackedEvent;
pub use limits::MAX_HEADERS_BYTES;
pub use program::PreparedProgram;
pub use refusal::Refusal;
pub(crate) use request::json;
pub use request::{
    BatchItem, Conversion, MessageId, Parameters, ReadItem, Rules, TrackingRequest,
    check_combination, form_pairs, pairs,
};
pub use signing_keys::SigningKeys;
