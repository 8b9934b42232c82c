//! How long to wait before the next attempt.

use std::time::{Duration, SystemTime};

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

/// The pauses between the attempts of one call, until a deadline.
#[derive(Debug)]
pub struct Pauses {
    backoff: Backoff,
    failures: u32,
    deadline: SystemTime,
}

impl Pauses {
    /// Pauses that follow `backoff`, and end before `deadline`.
    pub fn new(backoff: Backoff, deadline: SystemTime) -> Self {
        Self { backoff, failures: 0, deadline }
    }

    /// How many pauses there were: one per failure.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Waits before the next attempt. Returns false, at once, if there is no time left for it.
    pub async fn wait(&mut self) -> bool {
        let Some(delay) = self.next(SystemTime::now()) else { return false };
        tokio::time::sleep(delay).await;
        true
    }

    /// How long to wait from `now`; none if that would reach the deadline.
    fn next(&mut self, now: SystemTime) -> Option<Duration> {
        self.failures += 1;
        let delay = self.backoff.delay(self.failures);
        (now + delay < self.deadline).then_some(delay)
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

    #[test]
    fn pauses_grow_with_each_failure() {
        let now = SystemTime::UNIX_EPOCH;
        let deadline = now + Duration::from_secs(60);
        let mut sixth = Vec::new();
        for _ in 0..100 {
            let mut pauses = Pauses::new(BACKOFF, deadline);
            for failures in 1..=5 {
                assert!(pauses.next(now).unwrap() <= BACKOFF.bound(failures));
                assert_eq!(pauses.failures(), failures);
            }
            sixth.push(pauses.next(now).unwrap());
        }
        assert!(sixth.iter().any(|delay| *delay > BACKOFF.bound(5)));
    }

    #[test]
    fn pauses_end_before_the_deadline() {
        let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let mut pauses = Pauses::new(BACKOFF, deadline);
        assert!(pauses.next(deadline - BACKOFF.ceiling).is_some());
        assert_eq!(pauses.next(deadline), None);
        assert_eq!(pauses.next(deadline + Duration::from_secs(1)), None);
    }
}
