//! HTTP: the [`public`] listener for ad clients, the [`management`] listener for operators. They share
//! problem details, health checks and static documents. The public listener depends on [`crate::track`]
//! and nothing behind it; the management listener inspects adapters directly.

mod documents;
mod health;
pub mod management;
mod problem;
pub mod public;

pub use problem::Problem;
