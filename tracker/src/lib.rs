//! The tracker.
//!
//! ```text
//! ad client ─HTTP→ http → track: validate → look up → enrich → accept ─respond→ ad client
//!                                   │ domain   │ programs          │ delivery
//!                                              ├ L1 (moka)         └→ buffer → PutRecords → Kinesis
//!                                              ├ L2 (Redis)
//!                                              └ updates (Redis pub/sub)
//! ```
//!
//! - [`http`]: routes, extraction, answers; knows [`track`] and nothing behind it
//! - [`track`]: the use case, and the ports that it needs
//! - [`domain`]: what a request is, and what becomes of it; pure
//! - [`programs`]: core data in two tiers, kept fresh by pub/sub
//! - [`delivery`]: accepted events to the stream
//! - [`app`]: the one place that wires them; [`config`], [`health`], [`metrics`],
//!   [`shutdown`], [`task_protection`]

pub mod app;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod flag;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod programs;
pub mod shutdown;
pub mod task_protection;
pub mod track;
