//! HTTP: the public listener for ad clients, the management listener for operators.

mod body;
mod click;
mod click_settings;
mod client;
mod connection;
mod conversion;
mod cors;
mod documents;
mod events;
mod health;
mod impression;
mod management;
mod pixel;
mod problem;
mod rate_limits;
mod server;
mod tracking;
mod visitors;

pub use click_settings::{ClickSettings, signing_keys, web_url};
pub use conversion::{ConversionGuard, ConversionSettings};
pub use management::{Management, configure as configure_management};
pub use problem::Problem;
pub use rate_limits::{LimitedPath, RateLimitSettings, RateLimits};
pub use server::{ConnectionSettings, listen as listen_public};
pub use tracking::{Public, tracking_request};
pub use visitors::VisitorSettings;
