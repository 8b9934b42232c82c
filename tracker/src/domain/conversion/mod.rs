//! Conversions: what their senders claim, amounts, signatures.

mod amount;
mod claim;
mod signature;

pub use claim::{ConversionClaim, event_reference};
