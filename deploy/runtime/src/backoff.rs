//! How long to wait before the next try.

use std::time::Duration;

/// Exponential backoff with full jitter: a wait drawn evenly from zero to a bound that doubles with
/// each try up to a ceiling, so that clients that failed together do not come back together
/// (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The bound of the first wait.
    pub base: Duration,
    /// The highest bound.
    pub ceiling: Duration,
}

impl Backoff {
    /// The bound of the wait after `failures` failed tries in a row (from 1).
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.ceiling)
    }

    /// A wait after `failures` failed tries in a row (from 1).
    pub fn delay(&self, failures: u32) -> Duration {
        self.bound(failures).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { base: Duration::from_millis(50), ceiling: Duration::from_secs(2) };

    #[test]
    fn the_bound_doubles_up_to_the_ceiling() {
        let bounds = [1, 2, 3, 6, 7, 1_000].map(|failures| BACKOFF.bound(failures).as_millis());
        assert_eq!(bounds, [50, 100, 200, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn a_delay_is_anywhere_below_the_bound() {
        let delays: Vec<_> = (0..1_000).map(|_| BACKOFF.delay(3)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(200)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(50)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(150)));
    }
}
