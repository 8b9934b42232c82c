//! HTTP: the public listener for ad clients, the management listener for operators.

mod client;
mod documents;
mod health;
mod management;
mod problem;
mod tracking;

pub use management::{Management, configure as configure_management};
pub use problem::Problem;
pub use tracking::{Public, configure as configure_public, tracking_request};
