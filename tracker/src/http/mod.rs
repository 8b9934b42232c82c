//! HTTP: the [`public`] listener for ad clients, the [`management`] listener for operators. They share
//! problem details, health checks and static documents, and nothing else: the public one knows
//! [`crate::track`] and nothing behind it, the other one looks at adapters.

mod documents;
mod health;
pub mod management;
mod problem;
pub mod public;

pub use problem::Problem;
