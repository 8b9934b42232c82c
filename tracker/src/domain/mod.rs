//! The heart: what a tracking request is, what makes it right, and what becomes of it. Pure: no
//! I/O, no clock, no runtime.

pub mod address;
mod answer;
pub mod bots;
mod click;
mod client;
mod landing_page;
pub mod link;
mod message_id;
mod parameters;
mod prepared_program;
pub mod privacy;
mod refusal;
mod request;
mod signing_keys;
mod tcf;
mod traffic;
mod validation;

pub use answer::Answer;
pub use click::{CLICK_RULES, Destination, IMPRESSION_ID};
pub use client::{Client, MAX_HEADERS_BYTES, cut, host_name, without_query};
pub use parameters::{Parameters, Rules};
pub use prepared_program::PreparedProgram;
pub use refusal::Refusal;
pub use request::{Conversion, TrackingRequest};
pub use signing_keys::SigningKeys;
pub use traffic::TrafficFlags;
pub use validation::check_combination;
