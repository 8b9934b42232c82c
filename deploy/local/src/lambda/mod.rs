//! What AWS Lambda does around a function: sandboxes that run the real bootstrap binary against the
//! runtime API, and event-source mappings that feed it from a Kinesis stream.
//!
//! ```text
//! stream → mapping (a poller a shard) → function → sandbox ⇄ runtime API ⇄ bootstrap
//!              └ what is given up → on-failure folder
//! ```

mod batch;
mod function;
mod mapping;
mod runtime_api;

pub use batch::{Record, payload};
pub use function::{Function, FunctionSettings, Invoke, InvokeError};
pub use mapping::{EventSourceMapping, MappingSettings};
