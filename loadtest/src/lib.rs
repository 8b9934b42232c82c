//! The load-test harness: sends requests on a schedule that slow responses do not delay, follows
//! every accepted event to its row, and writes a report.
//!
//! ```text
//! scenario (TOML, flags) → schedule ─┐
//!                          request ──┴→ engine: workers → recorder ─┬→ live view
//!                                          │ ids                    └→ report (JSON, HTML)
//!                                          └→ verify: log ⋈ table ────────┘
//! ```
#![deny(clippy::print_stdout, clippy::print_stderr, reason = "they panic if nobody reads them")]

pub mod attributes;
pub mod aws_call;
pub mod capacity;
pub mod cli;
pub mod compare;
pub mod connection_check;
pub mod core_data;
pub mod engine;
mod interrupts;
pub mod limits;
pub mod live;
pub mod local;
pub mod popularity;
pub mod process;
pub mod recorder;
pub mod report;
pub mod request;
pub mod run;
pub mod sample;
pub mod scenario;
pub mod schedule;
pub mod stack_folder;
pub mod surroundings;
pub mod target;
pub mod threshold;
pub mod verdict;
pub mod verify;
