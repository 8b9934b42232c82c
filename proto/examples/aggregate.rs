//! Reads and writes KPL aggregates as hex, so that `deploy/checks/kpl-interop` can compare this
//! implementation with others.
//!
//! `aggregate write` turns lines of text into an aggregate; `aggregate read` turns an aggregate into lines;
//! `aggregate notice` writes what a journal says of itself, which is no event.

use std::io::Read;
use std::process::ExitCode;

use adtrack_proto::aggregate::{Aggregate, encode_notice, user_records};
use adtrack_proto::journal::JournalNotice;

fn main() -> ExitCode {
    let mut input = String::new();
    if std::io::stdin().read_to_string(&mut input).is_err() {
        return ExitCode::FAILURE;
    }
    match std::env::args().nth(1).as_deref() {
        Some("write") => {
            let mut aggregate = Aggregate::default();
            input.lines().for_each(|line| aggregate.push(line.to_owned().into()));
            println!("{}", hex(&aggregate.encode("key")));
            ExitCode::SUCCESS
        }
        Some("notice") => {
            let notice = JournalNotice { journal: input, at_ms: 1, ..JournalNotice::default() };
            println!("{}", hex(&encode_notice("key", &notice)));
            ExitCode::SUCCESS
        }
        Some("read") => {
            let digit = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
            let bytes: Option<Vec<u8>> = input.trim().as_bytes().chunks(2).map(digit).collect();
            let Some(records) = bytes.and_then(|bytes| user_records(&bytes.into())) else {
                eprintln!("not an aggregate in hex");
                return ExitCode::FAILURE;
            };
            records.iter().for_each(|record| println!("{}", String::from_utf8_lossy(record)));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("usage: aggregate write|read|notice");
            ExitCode::from(64)
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
