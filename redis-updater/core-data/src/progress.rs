//! Shows progress on standard error: a bar on a terminal, otherwise a line every few seconds.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use adtrack_runtime::errln;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// The time between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Prefix, bar, records done and total, rate, time left.
const TEMPLATE: &str = "{prefix} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}";

/// The progress of one piece of work.
pub struct Progress {
    bar: ProgressBar,
    /// When the last line was printed; none if there is a bar.
    lines: Option<Mutex<Instant>>,
    what: &'static str,
}

impl Progress {
    /// Starts to show the progress of `what` over `total` records.
    pub fn start(what: &'static str, total: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            let lines = Some(Mutex::new(Instant::now()));
            return Self { bar: ProgressBar::hidden(), lines, what }.with_total(total);
        }
        let bar = ProgressBar::new(total).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        Self { bar, lines: None, what }
    }

    fn with_total(self, total: u64) -> Self {
        self.bar.set_length(total);
        self
    }

    /// Counts `count` more records as done.
    pub fn add(&self, count: usize) {
        self.bar.inc(count as u64);
        let Some(last) = &self.lines else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            errln!("{}: {} of {}", self.what, HumanCount(done), HumanCount(total));
        }
    }

    /// Prints `line` on standard error, above the bar.
    pub fn print(&self, line: &str) {
        self.bar.suspend(|| errln!("{line}"));
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
