//! How far it is: a bar on a terminal, else a line every few seconds. On standard error.

use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Between two lines.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Behind the prefix: the bar, how many of how many, how fast, how much longer.
const TEMPLATE: &str = "{prefix} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}";

/// The progress of one piece of work.
pub struct Progress {
    bar: ProgressBar,
    /// When the last line was printed; none where there is a bar.
    lines: Option<Mutex<Instant>>,
    what: &'static str,
}

impl Progress {
    /// `what` is done with `total` records.
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

    /// `count` more are done.
    pub fn add(&self, count: usize) {
        self.bar.inc(count as u64);
        let Some(last) = &self.lines else { return };
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            let (done, total) = (self.bar.position(), self.bar.length().unwrap_or_default());
            eprintln!("{}: {} of {}", self.what, HumanCount(done), HumanCount(total));
        }
    }

    /// Prints `line` on standard error, above the bar.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// It is over: the bar goes away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
