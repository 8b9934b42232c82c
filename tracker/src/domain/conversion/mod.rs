//! What a conversion claims.

mod amount;
mod claim;
mod signature;

pub use claim::{Claim, event_reference};
