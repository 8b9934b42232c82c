//! The rules: what a tracking request is, what makes it valid, and which event it becomes. No I/O and no
//! clock.
//!
//! | question | module |
//! |---|---|
//! | Which client sent it? | [`client`]: address, privacy signals, bots and other traffic flags |
//! | How often may it send one? | [`rate_limit`] |
//! | What does it say? | [`request`]: parameters and their `limits`, batch items, the message id |
//! | About which program? | [`program`] |
//! | What does a click lead to? | [`click`]: landing page, signed links |
//! | What does a conversion claim? | [`conversion`]: amount, status, signature |
//! | Who may sign links and conversions? | [`signing_keys`] |
//! | What is recorded, what is the response? | [`event`] |
//! | Why is a request refused? | [`refusal`] |
//! | Is more refused or repaired than usual? | [`shares`] |

pub mod click;
pub mod client;
pub mod conversion;
pub mod event;
mod limits;
pub mod program;
pub mod rate_limit;
pub mod refusal;
pub mod request;
pub mod shares;
pub mod signing_keys;

pub use click::{CLICK_RULES, Destination, signed_link};
pub use client::{
    Client, TrafficFlags, address, bots, host_name, privacy, referrer, referrer_text,
    truncate_header, truncate_header_text,
};
pub use conversion::{ClaimNames, ConversionClaim, ValidClaim};
pub use event::TrackedEvent;
pub use limits::{MAX_ALL_HEADERS_BYTES, MAX_QUERY_BYTES};
pub use program::PreparedProgram;
pub use refusal::Refusal;
pub(crate) use request::json;
pub use request::{
    BatchItem, CLICK_ID, Conversion, IMPRESSION_ID, JsonType, MISSPELT_URL, MessageId, Pair,
    Parameters, Repairs, Rules, TrackingRequest, check_program_match, event_reference, form_text,
    identity, meant, optional_reference, pairs, read_items,
};
pub use signing_keys::SigningKeys;
