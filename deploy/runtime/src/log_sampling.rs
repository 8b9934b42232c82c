//! Which of many equal failures are logged, so that a long outage is a line now and then.

/// Of failures in a row, the first few and then every nth are logged.
#[derive(Debug, Clone, Copy)]
pub struct LogSampling {
    /// How many are logged from the first on.
    pub first: u32,
    /// Of the others, every so many; at least 1.
    pub every: u32,
}

impl LogSampling {
    /// Whether the log has a line for failure number `failures` (from 1).
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
