//! The public listener, for ad clients.
//!
//! ```text
//! connection → server → routes ─┬→ event, impression, click, conversion, batch → response
//!  deadlines    limits   └→ health checks, documents
//! ```
//!
//! - `routes` is the table of paths; read it first.
//! - Each endpoint is a file. It turns an HTTP request into a [`TrackingRequest`], has
//!   [`crate::track`] validate and record it, and builds the response.
//! - Endpoints share `state` (the listener's state), [`tracking_request`] and `client` (who asks
//!   what), `body`, `pixel`, `visitors` (the cookie), `signatures` (of conversions) and
//!   `rate_limits`.
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
mod impression;
mod open_connections;
mod pixel;
mod rate_limits;
mod routes;
mod server;
mod signatures;
mod state;
mod tracking_request;
mod visitors;

pub use click_settings::{ClickSettings, signing_keys, web_url};
pub use rate_limits::{RateLimitSettings, RateLimits};
pub use server::{ConnectionSettings, listen};
pub use signatures::{ConversionGuard, ConversionSettings};
pub use state::Public;
pub use tracking_request::tracking_request;
pub use visitors::VisitorSettings;
