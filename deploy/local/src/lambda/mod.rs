//! A stand-in for AWS Lambda: sandboxes that run the real bootstrap binary with the runtime API, and
//! event-source mappings that feed it from a Kinesis stream.
//!
//! ```text
//! stream → mapping (one poller per shard) → function → sandbox ⇄ runtime API ⇄ bootstrap
//!              └ batches given up on → on-failure folder
//! ```

mod batch;
mod function;
mod mapping;
mod runtime_api;

pub use batch::{Record, payload};
pub use function::{Function, FunctionSettings, Invoke, InvokeError};
pub use mapping::{EventSourceMapping, MappingSettings};
