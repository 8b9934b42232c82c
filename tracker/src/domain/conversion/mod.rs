//! Conversions: what their senders claim, amounts, signatures.

mod amount;
mod claim;
mod signature;

pub use claim::{ClaimNames, ConversionClaim, ValidClaim};
