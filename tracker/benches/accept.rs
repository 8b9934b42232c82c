//! Measures what accepting an event costs, with the journal and with a bounded queue in memory.
//!
//! `accept journal|queue COUNT` accepts so many events of 220 bytes. `deploy/checks/bench` measures
//! instructions and system calls for two counts and takes the difference.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tracker::delivery::{Journal, SyncMode};
use tracker::track::{AcceptedEvent, EventSink, NotAccepted};

const EVENT: [u8; 220] = [7; 220];
const BOUND: u64 = 64 << 20;

struct Queue {
    /// Static bytes, because the cost of making an event's bytes is part of neither.
    events: mpsc::Sender<(u64, &'static [u8])>,
    bytes: AtomicU64,
}

impl EventSink for Queue {
    fn earliest_ms(&self, _: u64) -> u64 {
        0
    }

    fn accept(&self, event: &AcceptedEvent) -> Result<(), NotAccepted> {
        let size = event.bytes.len() as u64;
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > BOUND {
            self.bytes.fetch_sub(size, Ordering::Relaxed);
            return Err(NotAccepted::Full);
        }
        self.events.send((event.accepted_at, &EVENT)).map_err(|_| NotAccepted::Closed)
    }
}

fn accept(sink: &impl EventSink, count: u64) -> ExitCode {
    let mut event = AcceptedEvent { accepted_at: 0, bytes: EVENT.to_vec() };
    for accepted_at in 0..count {
        event.accepted_at = accepted_at;
        if std::hint::black_box(sink.accept(&event)).is_err() {
            eprintln!("full after {accepted_at} events");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let count = arguments.get(1).and_then(|text| text.parse().ok()).unwrap_or(1_000);
    match arguments.first().map(String::as_str) {
        Some("queue") => {
            let (events, _receiver) = mpsc::channel();
            accept(&Queue { events, bytes: AtomicU64::new(0) }, count)
        }
        // `cargo test` runs this without arguments, so it must work.
        _ => {
            let folder = std::env::temp_dir().join(format!("adtrack-bench-{}", std::process::id()));
            let status = match Journal::open(Path::new(&folder), BOUND, 1, SyncMode::Never) {
                Ok(journal) => accept(&journal, count),
                Err(error) => {
                    eprintln!("{error}");
                    ExitCode::FAILURE
                }
            };
            // If this fails, the files are left in the folder for temporary files.
            let _ = std::fs::remove_dir_all(&folder);
            status
        }
    }
}
