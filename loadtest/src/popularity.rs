//! Draws the program of a request: a few programs get most requests, most programs hardly any.

/// A Zipf distribution: item k (from 0) is drawn with a probability proportional to
/// 1 / (k + 1)^exponent. With exponent 0, all items are equally likely.
#[derive(Debug, Clone)]
pub struct Zipf {
    /// Probability of each item or one before it.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// A distribution over `items` items, at least 1.
    pub fn new(items: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut cumulative: Vec<f64> = (1..=items.max(1))
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        for probability in &mut cumulative {
            *probability /= sum;
        }
        Self { cumulative }
    }

    /// Draws an item; the first is 0.
    pub fn draw(&self, random: &mut fastrand::Rng) -> usize {
        let dice = random.f64();
        // Rounding may leave the last probability below 1.
        self.cumulative.partition_point(|&up_to| up_to <= dice).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    fn draws(items: usize, exponent: f64) -> Vec<u32> {
        let zipf = Zipf::new(items, exponent);
        let mut random = fastrand::Rng::with_seed(1);
        let mut counts = vec![0; items];
        for _ in 0..DRAWS {
            counts[zipf.draw(&mut random)] += 1;
        }
        counts
    }

    #[test]
    fn follows_zipfs_law() {
        for exponent in [0.0, 0.8, 1.0, 1.5] {
            let counts = draws(50, exponent);
            let sum: f64 = (1..=50).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for (rank, count) in (1..=50).zip(counts) {
                let expected = f64::from(DRAWS) * f64::from(rank).powf(-exponent) / sum;
                // Five standard deviations.
                let tolerance = 5.0 * expected.sqrt();
                assert!(
                    (f64::from(count) - expected).abs() < tolerance,
                    "exponent {exponent}, rank {rank}: {count}, expected {expected:.0}"
                );
            }
        }
    }

    #[test]
    fn always_draws_the_only_item() {
        assert_eq!(draws(1, 1.0), [DRAWS]);
    }
}
