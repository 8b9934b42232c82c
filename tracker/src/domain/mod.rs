//! The heart: what a tracking request is, what makes it right, and what becomes of it. Pure: no
//! I/O, no clock, no runtime.

mod answer;
mod parameters;
mod prepared_program;
mod refusal;
mod request;
mod validation;

pub use answer::Answer;
pub use parameters::Parameters;
pub use prepared_program::PreparedProgram;
pub use refusal::Refusal;
pub use request::{TrackingRequest, cut, host_name};
pub use validation::check_combination;
