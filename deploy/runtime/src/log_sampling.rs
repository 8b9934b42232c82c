//! Decides which of many similar failures are logged, so that a long outage does not fill the log.

/// Logs the first few of consecutive failures, and then every nth.
#[derive(Debug, Clone, Copy)]
pub struct LogSampling {
    /// The number of failures that are all logged.
    pub first: u32,
    /// After those, a failure is logged if its number is a multiple of this; at least 1.
    pub every: u32,
}

impl LogSampling {
    /// Whether to log failure number `failures` (from 1).
    pub fn includes(self, failures: u32) -> bool {
        failures <= self.first || failures.is_multiple_of(self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_the_first_few_and_then_every_nth() {
        let sampling = LogSampling { first: 2, every: 5 };
        let logged: Vec<u32> = (1..=16).filter(|failures| sampling.includes(*failures)).collect();
        assert_eq!(logged, [1, 2, 5, 10, 15]);
    }
}
