//! Writes log lines on a thread of its own, so that nothing waits for their reader.
//!
//! ```text
//! threads that log ──push──▶ pending lines ──swap──▶ writer thread ──write──▶ standard output
//!                            at most 1 MiB,
//!                            then dropped and counted
//! ```
//!
//! A pipe that nobody reads is full after 64 KiB, and a `write` to it blocks until somebody does. With one
//! thread that may block, the others only ever wait for the lock around the pending lines, which is held to
//! copy a line. Once the writer gets through again, it logs how many lines are missing.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of lines that wait to be written: a few thousand lines.
const MAX_PENDING_BYTES: usize = 1 << 20;
/// How long to wait before writing again to an output that is full and does not block.
const FULL_OUTPUT_PAUSE: Duration = Duration::from_millis(10);

/// A queue of lines, and the thread that writes them.
#[derive(Debug, Clone, Default)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There are lines to write.
    filled: Condvar,
    /// Everything is written.
    drained: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    pending: Vec<u8>,
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread, which writes to `output` until the process ends. If no thread can be started, lines
    /// are dropped once the queue is full.
    pub fn start(output: impl Write + Send + 'static) -> Self {
        let writer = Self::default();
        let shared = Arc::clone(&writer.shared);
        let thread = std::thread::Builder::new().name("log-writer".to_owned());
        // Nothing can be logged about this failure.
        let _ = thread.spawn(move || shared.write_to(output));
        writer
    }

    /// Queues `line`, which ends with a line feed. Drops it if the queue is full.
    pub fn push(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.pending.len() + line.len() > MAX_PENDING_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.pending.extend_from_slice(line);
        self.shared.filled.notify_one();
    }

    /// Waits until everything that was pushed is written, at most `timeout`. Returns whether it is.
    pub fn flush(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.lock();
        while state.is_writing || !state.pending.is_empty() {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return false;
            }
            let waited = self.shared.drained.wait_timeout(state, rest);
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// Lines dropped so far, because the queue was full or the output failed.
    pub fn dropped_lines(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }
}

/// One call per line: tracing-subscriber formats an event before it writes it.
impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    /// A thread that panics while it holds the lock leaves whole lines behind.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut output: impl Write) {
        let mut lines = Vec::new();
        let mut reported = 0;
        loop {
            self.take_lines(&mut lines);
            if write_all(&mut output, &lines).is_err() {
                let count = lines.iter().filter(|byte| **byte == b'\n').count();
                self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            } else {
                self.report_dropped(&mut reported);
            }
            let mut state = self.lock();
            state.is_writing = false;
            if state.pending.is_empty() {
                self.drained.notify_all();
            }
        }
    }

    /// Waits for lines and moves them to `lines`, so that they are written without the lock.
    fn take_lines(&self, lines: &mut Vec<u8>) {
        lines.clear();
        let mut state = self.lock();
        while state.pending.is_empty() {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut state.pending, lines);
        state.is_writing = true;
    }

    fn report_dropped(&self, reported: &mut u64) {
        let dropped = self.dropped.load(Ordering::Relaxed);
        if dropped > *reported {
            let lines = dropped - *reported;
            *reported = dropped;
            tracing::warn!(lines, "log lines were dropped: nobody read standard output in time");
        }
    }
}

/// Like `Write::write_all`, also for an output that is full and does not block.
fn write_all(output: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match output.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(FULL_OUTPUT_PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, PipeReader, PipeWriter};

    use super::*;

    /// Enough for whatever the machine is doing.
    const PATIENCE: Duration = Duration::from_secs(30);

    fn pipe() -> (PipeReader, PipeWriter) {
        std::io::pipe().unwrap()
    }

    /// Pushes numbered lines until some are dropped. Returns how many were pushed.
    fn fill(writer: &LogWriter) -> u64 {
        (0..)
            .find(|number| {
                writer.push(format!("line {number} {}\n", "x".repeat(200)).as_bytes());
                writer.dropped_lines() > 0
            })
            .unwrap()
            + 1
    }

    #[test]
    fn writes_lines_in_order() {
        let (reader, output) = pipe();
        let writer = LogWriter::start(output);
        (0..100).for_each(|number| writer.push(format!("{number}\n").as_bytes()));
        assert!(LogWriter::flush(&writer, PATIENCE));
        let lines: Vec<_> =
            BufReader::new(reader).lines().take(100).map(|line| line.unwrap()).collect();
        assert_eq!(lines, (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    }

    #[test]
    fn drops_and_counts_lines_while_nobody_reads() {
        let (reader, output) = pipe();
        let writer = LogWriter::start(output);
        let pushed = fill(&writer);
        assert!(!LogWriter::flush(&writer, Duration::from_millis(20)), "nobody reads");

        let dropped = writer.dropped_lines();
        let kept = usize::try_from(pushed - dropped).unwrap();
        let lines = BufReader::new(reader).lines().take(kept).map(|line| line.unwrap());
        for (number, line) in lines.enumerate() {
            assert!(line.starts_with(&format!("line {number} ")), "{line}");
        }
        assert!(LogWriter::flush(&writer, PATIENCE), "somebody read");
    }

    #[test]
    fn goes_on_after_its_reader_is_gone() {
        let (reader, output) = pipe();
        drop(reader);
        let writer = LogWriter::start(output);
        for lines in 1..=3 {
            writer.push(b"nobody will read this\n");
            assert!(LogWriter::flush(&writer, PATIENCE));
            assert_eq!(writer.dropped_lines(), lines);
        }
    }
}
