//! The archiver: a Lambda function that writes every event of the stream as Parquet, with receipts that say which
//! events of which journal arrived.
//!
//! ```text
//! Kinesis batch → decode ─┬→ raw rows by hour ─────→ raw/dt=…/hour=…/NAME.parquet
//!                         ├→ receipt rows by hour ─→ receipts/dt=…/hour=…/NAME.parquet, after all of raw
//!                         └→ records that can never succeed → failure store
//!             records of what could not be put → batchItemFailures
//! ```
//!
//! # Invariants
//!
//! - **The same batch makes the same files.** The files hold what the batch holds, in its order, and nothing of the
//!   moment of writing. A batch that is delivered again replaces its own files with the same bytes. (Another version
//!   of the program may compress to other bytes, with the same rows.)
//! - **Batches that differ have different names.** `NAME` is `{shard}-{first}-{last}-{hash}`: the first and the last
//!   sequence number, and a hash of all of them. Batches overlap after a bisection, a partial failure or a moved
//!   checkpoint; then the same events are in several files. A row's place in the stream (`shard`, `sequence_number`,
//!   `sub_sequence_number`) tells which rows are the same.
//! - **All copies of an event are in one hour**, that of its `received_at`. An event without one, as the AWS reference
//!   writes it, is in the hour in which Kinesis received its record, which is part of the record. A batch that spans
//!   hours makes a file for each.
//! - **A receipt comes after the rows.** No receipts file of a batch is put before all of its raw files are. A record
//!   with events of two hours has its receipt in both. If the first hour's receipts were put before the second hour's
//!   raw file, and the function died in between, the second hour would look complete without its rows: the receipt
//!   closes the journal's gap, and nothing in the second hour says that rows are missing.
//! - **Every Kinesis record has a receipt row**, also one without a valid event: `events` and `poison` count what it
//!   had. If none of its events can be read, its receipt is in the hour of its arrival.
//!
//! # What a crash leaves
//!
//! Raw files without receipts: their events are archived and not yet receipted. Files are put whole or not at all.
//! Lambda delivers the batch again, whole or in parts, and the rest follows.
//!
//! # What is reported
//!
//! If a raw file cannot be put, all records of the batch, as none of them has a receipt. If a receipts file cannot be
//! put, the records that have rows in it. A record that can never succeed is reported only if the failure store cannot
//! be reached. Its receipt, which counts it, may be there before it is kept.

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
