//! HTTP: the public listener for ad clients, the management listener for operators.

mod body;
mod client;
mod conversion;
mod documents;
mod events;
mod health;
mod management;
mod pixel;
mod problem;
mod tracking;

pub use conversion::{ConversionGuard, ConversionSettings};
pub use management::{Management, configure as configure_management};
pub use problem::Problem;
pub use tracking::{Public, configure as configure_public, tracking_request};
