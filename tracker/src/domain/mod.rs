//! The heart: what a tracking request is, what makes it right, and what becomes of it. Pure: no
//! I/O, no clock, no runtime.

mod answer;
mod batch_item;
mod client;
mod conversion;
pub(crate) mod json;
mod message_id;
mod parameters;
mod prepared_program;
mod refusal;
mod request;
mod validation;

pub use answer::Answer;
pub use batch_item::{BatchItem, ReadItem};
pub use client::{Client, cut, cut_text, host_name, referrer_without_query, without_query};
pub use conversion::{Claim, event_reference};
pub use parameters::{Parameters, Rules, pairs};
pub use prepared_program::PreparedProgram;
pub use refusal::Refusal;
pub use request::{Conversion, TrackingRequest};
pub use validation::check_combination;
