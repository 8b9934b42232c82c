//! The load-test harness: sends requests on a schedule that no answer slows, follows what was
//! accepted to its row, and reports.
//!
//! ```text
//! scenario (TOML, flags) → schedule ─┐
//!                          request ──┴→ engine: workers → recorder ─┬→ live view
//!                                          │ ids                    └→ report (JSON, HTML)
//!                                          └→ verify: log ⋈ table ────────┘
//! ```

pub mod engine;
pub mod popularity;
pub mod recorder;
pub mod request;
pub mod scenario;
pub mod schedule;
