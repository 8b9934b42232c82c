//! The tracker: responds to ad clients at once, and delivers their events to Kinesis.
//!
//! ```text
//! ad client ─HTTP→ http → track: look up → validate → accept ─respond→ ad client
//!                                │ programs │ domain            │ delivery
//!                                ├ L1 (moka)                    └→ journal → PutRecords → Kinesis
//!                                ├ L2 (Redis)
//!                                └ updates (Redis pub/sub)
//! ```
//!
//! - [`http`]: routes, requests, responses. [`http::public`] uses [`track`] for events, and besides it only
//!   [`health`] and [`metrics`]; [`http::management`], for operators, inspects adapters directly
//! - [`track`]: the use case, and the ports that it needs
//! - [`domain`]: what a valid request is, and which event it becomes; no I/O
//! - [`programs`]: core data in two tiers, L1 kept fresh by pub/sub
//! - [`delivery`]: brings accepted events to the stream
//! - [`app`]: wires them all, with [`config`], [`health`], [`metrics`], [`shutdown`], [`background`],
//!   [`watchdog`], [`file_handles`] and [`task_protection`]

pub mod app;
pub mod background;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod file_handles;
pub mod flag;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod metrics;
pub mod programs;
pub mod shutdown;
pub mod task_protection;
pub mod track;
pub mod watchdog;
