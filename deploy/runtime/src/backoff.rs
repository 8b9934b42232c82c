//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with full jitter. The delay is random, uniformly between zero and a bound that
/// doubles with each failure up to a ceiling, so that clients that failed together do not retry together
/// (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The bound of the first delay.
    pub base: Duration,
    /// The highest bound.
    pub ceiling: Duration,
}

impl Backoff {
    /// The bound of the delay after `failures` failures in a row (from 1).
    pub fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.ceiling)
    }

    /// A random delay after `failures` failures in a row (from 1).
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
    fn bound_doubles_up_to_the_ceiling() {
        let bounds = [1, 2, 3, 6, 7, 1_000].map(|failures| BACKOFF.bound(failures).as_millis());
        assert_eq!(bounds, [50, 100, 200, 1_600, 2_000, 2_000]);
    }

    #[test]
    fn delays_spread_from_zero_to_the_bound() {
        let delays: Vec<_> = (0..1_000).map(|_| BACKOFF.delay(3)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_millis(200)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_millis(50)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_millis(150)));
    }
}
