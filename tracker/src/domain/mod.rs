//! The heart: what a tracking request is, what makes it right, and what becomes of it. Pure: no
//! I/O, no clock, no runtime.

mod answer;
mod client;
mod message_id;
mod parameters;
mod prepared_program;
mod refusal;
mod request;
mod validation;

pub use answer::Answer;
pub use client::{Client, cut, host_name, without_query};
pub use parameters::{Parameters, Rules};
pub use prepared_program::PreparedProgram;
pub use refusal::Refusal;
pub use request::{Conversion, TrackingRequest};
pub use validation::check_combination;
