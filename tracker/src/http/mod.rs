//! HTTP: the public listener for ad clients, the management listener for operators.

mod click;
mod click_settings;
mod client;
mod health;
mod management;
mod problem;
mod tracking;

pub use click_settings::{ClickSettings, signing_keys, web_url};
pub use management::{Management, configure as configure_management};
pub use problem::Problem;
pub use tracking::{Public, configure as configure_public, tracking_request};
