//! The view of a run in progress, on standard output.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::Duration;

use adtrack_runtime::{outln, output};

use crate::recorder::{Failure, Slice, percentile};
use crate::report::time;

/// Slices between two lines if standard output is not a terminal.
const PLAIN_EVERY: u64 = 5;
const BAR: usize = 30;

/// The view of a run: a block that is redrawn in a terminal, or a line every five slices elsewhere.
#[derive(Debug)]
pub struct View {
    /// Columns of the terminal; `None` if standard output is not one.
    columns: Option<usize>,
    length: Duration,
    slice: Duration,
    drawn: usize,
    sent: u64,
    failures: [u64; Failure::ALL.len()],
}

impl View {
    /// A view of a run that takes `length`, in slices of length `slice`.
    pub fn new(length: Duration, slice: Duration) -> Self {
        Self {
            columns: columns(),
            length,
            slice,
            drawn: 0,
            sent: 0,
            failures: [0; Failure::ALL.len()],
        }
    }

    /// Shows what happened in a slice.
    pub fn show(&mut self, slice: &Slice) {
        self.sent += slice.sent;
        for (sum, one) in self.failures.iter_mut().zip(slice.failures) {
            *sum += one;
        }
        self.columns = columns();
        let elapsed = self.slice.mul_f64((slice.index + 1) as f64).min(self.length);
        if let Some(columns) = self.columns {
            let lines = self.block(slice, elapsed);
            self.redraw(&lines, columns);
        } else if slice.index % PLAIN_EVERY == PLAIN_EVERY - 1 || elapsed == self.length {
            outln!("{}", self.line(slice, elapsed));
        }
    }

    fn rate(&self, slice: &Slice) -> f64 {
        slice.sent as f64 / self.slice.as_secs_f64()
    }

    fn errors(&self) -> u64 {
        self.failures.iter().sum()
    }

    fn line(&self, slice: &Slice, elapsed: Duration) -> String {
        format!(
            "{:>4} s of {} s  {:>6.0}/s  p50 {:>8}  p99 {:>8}  max {:>8}  lag p99 {:>8}  in flight {:>5}  errors {}",
            elapsed.as_secs(),
            self.length.as_secs(),
            self.rate(slice),
            at(slice, 50.0),
            at(slice, 99.0),
            at(slice, 100.0),
            time(percentile(&slice.lag, 99.0) as f64 / 1e3),
            slice.in_flight,
            self.errors()
        )
    }

    fn block(&self, slice: &Slice, elapsed: Duration) -> Vec<String> {
        let share = elapsed.as_secs_f64() / self.length.as_secs_f64().max(f64::MIN_POSITIVE);
        let full = ((share * BAR as f64) as usize).min(BAR);
        let left = (self.length - elapsed).as_secs();
        let mut errors = String::new();
        for (failure, count) in Failure::ALL.into_iter().zip(self.failures) {
            if count > 0 {
                // Writing into a String cannot fail.
                let _ = write!(errors, "  {} {count}", failure.name());
            }
        }
        if errors.is_empty() {
            errors.push_str("  none");
        }
        vec![
            format!(
                "  {}{} {:>3.0} %   {} s left   ctrl-C: report now",
                "█".repeat(full),
                "░".repeat(BAR - full),
                share * 100.0,
                left
            ),
            format!("  rate       {:>9.0}/s   {} sent", self.rate(slice), self.sent),
            format!(
                "  latency    p50 {:>8}   p99 {:>8}   max {:>8}",
                at(slice, 50.0),
                at(slice, 99.0),
                at(slice, 100.0)
            ),
            format!(
                "  lag        p99 {:>8}   in flight {}",
                time(percentile(&slice.lag, 99.0) as f64 / 1e3),
                slice.in_flight
            ),
            format!("  errors   {errors}"),
        ]
    }

    /// Draws over the lines of before. A line that the terminal would wrap is cut: it would take two rows.
    fn redraw(&mut self, lines: &[String], columns: usize) {
        let mut text = String::new();
        if self.drawn > 0 {
            let _ = write!(text, "\x1b[{}A", self.drawn);
        }
        for line in lines {
            let _ = writeln!(text, "\x1b[2K{}", cut(line, columns));
        }
        self.drawn = lines.len();
        output::text(text);
    }
}

/// The width of the terminal, which may change during a run; 80 columns if it is not known.
fn columns() -> Option<usize> {
    let stdout = std::io::stdout();
    stdout.is_terminal().then(|| {
        let size = rustix::termios::tcgetwinsize(&stdout);
        size.ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(80)
    })
}

/// The start of a line that fits into `columns`. Its characters take one column each.
fn cut(line: &str, columns: usize) -> &str {
    let end = line.char_indices().nth(columns).map_or(line.len(), |(at, _)| at);
    &line[..end]
}

/// A percentile of the slice's latencies; a dash if there are none.
fn at(slice: &Slice, percent: f64) -> String {
    if slice.latency.is_empty() {
        return "–".to_owned();
    }
    time(percentile(&slice.latency, percent) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_figures_of_a_slice() {
        let mut view = View::new(Duration::from_secs(10), Duration::from_secs(1));
        let mut slice = Slice { sent: 500, in_flight: 3, ..Slice::new(4) };
        slice.latency.saturating_record(2_000_000);
        slice.failures[Failure::Timeout.index()] = 2;
        view.show(&slice);
        let line = view.line(&slice, Duration::from_secs(5));
        assert!(line.contains("5 s of 10 s") && line.contains("500/s"), "{line}");
        assert!(line.contains("in flight     3  errors 2"), "{line}");
        let lines = view.block(&slice, Duration::from_secs(5));
        assert!(lines.iter().all(|line| line.chars().count() <= 79), "{lines:?}");
        assert_eq!(cut("█░µ x", 3), "█░µ");
        assert!(view.block(&Slice::new(5), Duration::from_secs(6))[2].contains("p50        –"));
        let block = view.block(&slice, Duration::from_secs(5)).join("\n");
        assert!(block.contains(" 50 %   5 s left") && block.contains("timeout 2"), "{block}");
    }
}
