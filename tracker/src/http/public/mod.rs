//! The public listener, for ad clients.
//!
//! ```text
//! server (accepts, wraps in connection) → routes ─┬→ event, impression, click, conversion, batch → response
//!  limits          deadlines                      └→ health checks, documents
//! ```
//!
//! - `routes` is the table of paths; read it first. `endpoint` lists those that record events, with their
//!   methods.
//! - Each endpoint is a file. It turns an HTTP request into a [`TrackingRequest`], has
//!   [`crate::track`] validate and record it, and builds the response.
//! - Endpoints share `state` (the listener's state), [`tracking_request`] and `client` (the client of a
//!   request), `body`, `pixel`, `visitors` (the cookie), `signatures` (of conversions), `click_settings`,
//!   `rate_limits` and `cors`. `repair_log` and `fault_shares` report programs whose requests are not clean.
//!
//! [`TrackingRequest`]: crate::domain::TrackingRequest

mod batch;
mod body;
mod click;
mod click_settings;
mod client;
mod connection;
mod conversion;
mod cors;
mod endpoint;
mod event;
mod fault_shares;
mod impression;
mod open_connections;
mod pixel;
mod rate_limits;
mod repair_log;
mod request_line;
mod routes;
mod server;
mod signatures;
mod state;
mod tracking_request;
mod validation;
mod value_parsers;
mod visitors;

pub use click_settings::ClickSettings;
pub use fault_shares::FaultShares;
pub use rate_limits::{RateLimitSettings, RateLimits};
pub use repair_log::RepairLog;
pub use server::{ConnectionSettings, listen};
pub use signatures::{ConversionGuard, ConversionSettings};
pub use state::Public;
pub use tracking_request::tracking_request;
pub use value_parsers::{signing_keys, web_url};
pub use visitors::VisitorSettings;
