//! The Lambda function that writes events to the archive.

pub mod batch;
mod columns;
pub mod config;
pub mod handler;
mod hour;
mod notice;
mod parquet_settings;
mod raw;
mod receipts;
pub mod store;
