//! HTTP: the [`public`] listener for ad clients, the [`management`] listener for operators. They share
//! problem details, health checks and static documents. The public listener uses [`crate::track`] for events,
//! and besides it only [`crate::health`] and [`crate::metrics`]; the management listener inspects adapters
//! directly.

mod documents;
mod health;
pub mod management;
mod problem;
pub mod public;

pub use problem::Problem;
