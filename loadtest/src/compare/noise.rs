//! The noise of a run, from its slices. Pure.
//!
//! A block bootstrap separates a difference from noise: it resamples the slices of both runs many times, in runs of
//! neighbours because neighbours resemble each other, and computes the figure of each resample. For a percentile, the
//! histograms of the drawn slices are added up, so that it is a percentile of requests and not one of slices: a stall
//! that fills one slice in ten shows in a p99 however calm the other nine are.

use std::collections::BTreeSet;

use crate::recorder::Times;

/// Resamples of each run.
const RESAMPLES: usize = 1_000;
/// With fewer blocks than this, the noise is unknown.
pub(super) const MIN_BLOCKS: usize = 5;
/// With fewer blocks than this, resampling underestimates the noise of blocks that resemble their neighbours: runs
/// differ only if no block of one is within the range of the other.
const MANY_BLOCKS: usize = 20;
/// Most blocks; longer runs are grouped.
const MAX_BLOCKS: usize = 60;
/// Requests above a percentile that it needs at least.
const MIN_ABOVE: f64 = 10.0;
/// Differences of this share are below the resolution of the slices' histograms.
const RESOLUTION: f64 = 0.01;

/// What is known about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The interval of the resampled differences is on one side of zero.
    Differs,
    /// They do not, but the second run's figure is outside everything that the first run's slices show, or the other
    /// way round: it rests on a few slices, such as one stall.
    Unclear,
    /// The noise explains the difference.
    WithinNoise,
    /// A run is too short.
    TooShort,
    /// Too few requests are above the percentile.
    TooFew,
    /// A run has one value.
    Unknown,
}

impl Judgement {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Differs => "differs",
            Self::Unclear => "unclear",
            Self::WithinNoise => "within noise",
            Self::TooShort => "too short",
            Self::TooFew => "too few",
            Self::Unknown => "",
        }
    }
}

/// The latencies of a run, in blocks of time.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    blocks: Vec<Vec<(u64, u64)>>,
}

impl Blocks {
    /// Blocks of these slices' latencies.
    pub(super) fn new(slices: &[Times]) -> Self {
        let size = slices.len().div_ceil(MAX_BLOCKS).max(1);
        let blocks = slices.chunks(size).map(|slices| {
            let Some((first, rest)) = slices.split_first() else { return Vec::new() };
            let mut sum = first.clone();
            for slice in rest {
                // Cannot fail: the bounds are the same.
                let _ = sum.add(slice);
            }
            sum.iter_recorded()
                .map(|step| (step.value_iterated_to(), step.count_at_value()))
                .collect()
        });
        Self { blocks: blocks.filter(|block: &Vec<_>| !block.is_empty()).collect() }
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        self.blocks.iter().flatten().map(|(value, _)| *value)
    }

    fn count(&self) -> u64 {
        self.blocks.iter().flatten().map(|(_, count)| count).sum()
    }

    /// The lowest and the highest percentile of a block, in nanoseconds.
    fn range(&self, percent: f64) -> (f64, f64) {
        let values = self.blocks.iter().map(|block| {
            let counts: Vec<u64> = block.iter().map(|(_, count)| *count).collect();
            percentile(&counts, percent).map_or(0.0, |index| block[index].0 as f64)
        });
        values.fold((f64::INFINITY, 0.0), |(low, high), value| (low.min(value), high.max(value)))
    }

    /// Counts by block and value, of these values.
    fn table(&self, values: &[u64]) -> Vec<Vec<u64>> {
        let row = |block: &Vec<(u64, u64)>| {
            let mut row = vec![0; values.len()];
            for (value, count) in block {
                if let Ok(index) = values.binary_search(value) {
                    row[index] = *count;
                }
            }
            row
        };
        self.blocks.iter().map(row).collect()
    }
}

/// Index of the value that `percent` of all do not exceed.
fn percentile(counts: &[u64], percent: f64) -> Option<usize> {
    let sum: u64 = counts.iter().sum();
    let rank = ((percent / 100.0 * sum as f64).ceil() as u64).max(1);
    let mut seen = 0;
    counts.iter().position(|count| {
        seen += count;
        seen >= rank
    })
}

/// How many neighbouring blocks are drawn together.
fn run_length(count: usize) -> usize {
    (1.5 * (count as f64).sqrt()).ceil() as usize
}

/// By how much an interval of resamples is too narrow: a run has few independent parts, so that Student's distribution
/// applies, and not the normal one. (An expansion of its 97.5th percentile in the degrees of freedom, over 1.96.)
fn widening(fewest_blocks: usize) -> f64 {
    let freedom = (fewest_blocks as f64 / run_length(fewest_blocks) as f64 - 1.0).max(2.0);
    1.0 + 1.21 / freedom + 1.44 / (freedom * freedom)
}

/// Draws blocks with replacement, in runs of neighbours, and calls `take` with the index of each.
fn draw(count: usize, random: &mut fastrand::Rng, mut take: impl FnMut(usize)) {
    let length = run_length(count);
    let mut drawn = 0;
    while drawn < count {
        let start = random.usize(..count);
        for step in 0..length.min(count - drawn) {
            // A circle, so that the ends are drawn as often as the middle.
            take((start + step) % count);
        }
        drawn += length;
    }
}

/// Percentiles, one for each of `percents`, of each resample.
fn resample(
    table: &[Vec<u64>],
    values: &[u64],
    percents: &[f64],
    random: &mut fastrand::Rng,
) -> Vec<Vec<f64>> {
    let mut sum = vec![0_u64; values.len()];
    let one = |_| {
        sum.fill(0);
        draw(table.len(), random, |index| {
            for (total, count) in sum.iter_mut().zip(&table[index]) {
                *total += count;
            }
        });
        let at =
            |percent: &f64| percentile(&sum, *percent).map_or(0.0, |index| values[index] as f64);
        percents.iter().map(at).collect()
    };
    (0..RESAMPLES).map(one).collect()
}

/// Judges the differences of several percentiles, in percent, at once.
pub(super) fn judge_percentiles(a: &Blocks, b: &Blocks, percents: &[f64]) -> Vec<Judgement> {
    if a.blocks.len().min(b.blocks.len()) < MIN_BLOCKS {
        return vec![Judgement::TooShort; percents.len()];
    }
    let values: Vec<u64> =
        a.values().chain(b.values()).collect::<BTreeSet<_>>().into_iter().collect();
    // A fixed seed: the same reports give the same result.
    let mut random = fastrand::Rng::with_seed(1);
    let first = resample(&a.table(&values), &values, percents, &mut random);
    let second = resample(&b.table(&values), &values, percents, &mut random);
    let whole = |blocks: &Blocks, percent: f64| {
        let mut sum = vec![0; values.len()];
        for row in blocks.table(&values) {
            for (total, count) in sum.iter_mut().zip(row) {
                *total += count;
            }
        }
        percentile(&sum, percent).map_or(0.0, |index| values[index] as f64)
    };
    let judge = |(index, percent): (usize, &f64)| {
        let fewest = a.count().min(b.count()) as f64;
        if fewest * (1.0 - percent / 100.0) < MIN_ABOVE {
            return Judgement::TooFew;
        }
        let (of_a, of_b) = (whole(a, *percent), whole(b, *percent));
        if (of_a - of_b).abs() <= RESOLUTION * of_a.max(of_b) {
            return Judgement::WithinNoise;
        }
        let differences = first.iter().zip(&second).map(|(a, b)| b[index] - a[index]);
        let fewest_blocks = a.blocks.len().min(b.blocks.len());
        let (range_of_a, range_of_b) = (a.range(*percent), b.range(*percent));
        let overlap = range_of_a.0 <= range_of_b.1 && range_of_b.0 <= range_of_a.1;
        let is_outside = |value: f64, (low, high): (f64, f64)| value < low || value > high;
        match excludes_zero(differences.collect(), widening(fewest_blocks)) {
            true if fewest_blocks >= MANY_BLOCKS || !overlap => Judgement::Differs,
            false if !is_outside(of_b, range_of_a) && !is_outside(of_a, range_of_b) => {
                Judgement::WithinNoise
            }
            _ => Judgement::Unclear,
        }
    };
    percents.iter().enumerate().map(judge).collect()
}

/// Whether the middle 95 % of the differences, widened by this factor, lie on one side of zero.
fn excludes_zero(mut differences: Vec<f64>, widening: f64) -> bool {
    differences.sort_unstable_by(f64::total_cmp);
    let (low, high) = (differences.len() / 40, differences.len() - 1 - differences.len() / 40);
    let middle = median(&mut differences);
    let widened = |end: usize| middle + (differences[end] - middle) * widening;
    widened(low) > 0.0 || widened(high) < 0.0
}

/// Judges the difference of a figure of which each slice has one value. `statistic` is the run's figure.
pub(super) fn judge_values(a: &[f64], b: &[f64], statistic: fn(&mut [f64]) -> f64) -> Judgement {
    if a.len().min(b.len()) < MIN_BLOCKS {
        return Judgement::TooShort;
    }
    let mut random = fastrand::Rng::with_seed(1);
    let mut resample = |values: &[f64]| {
        let mut drawn = Vec::with_capacity(values.len());
        draw(values.len(), &mut random, |index| drawn.push(values[index]));
        statistic(&mut drawn)
    };
    let differences = (0..RESAMPLES).map(|_| resample(b) - resample(a)).collect();
    if excludes_zero(differences, widening(a.len().min(b.len()))) {
        Judgement::Differs
    } else {
        Judgement::WithinNoise
    }
}

pub(super) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

pub(super) fn mean(values: &mut [f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::slice_histogram;

    /// Slices of `requests` latencies around `ms`, which drift from slice to slice as those of real servers do.
    fn slices(seed: u64, count: usize, requests: usize, ms: f64) -> Vec<Times> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut drift = 0.0;
        (0..count)
            .map(|_| {
                drift = 0.7 * drift + 0.05 * (random.f64() - 0.5);
                let mut times = slice_histogram();
                for _ in 0..requests {
                    let tail = -(1.0 - random.f64()).ln();
                    times.saturating_record(((ms + tail) * (1.0 + drift) * 1e6) as u64);
                }
                times
            })
            .collect()
    }

    const PERCENTS: [f64; 4] = [50.0, 90.0, 99.0, 99.9];

    fn judge(a: &[Times], b: &[Times]) -> Vec<Judgement> {
        judge_percentiles(&Blocks::new(a), &Blocks::new(b), &PERCENTS)
    }

    #[test]
    fn runs_of_the_same_server_rarely_differ() {
        let pairs = 40;
        let mut differing = 0;
        for pair in 0..pairs {
            let judged =
                judge(&slices(2 * pair, 30, 300, 5.0), &slices(2 * pair + 1, 30, 300, 5.0));
            assert_eq!(judged[3], Judgement::TooFew, "9 requests are above");
            differing += judged[..3].iter().filter(|j| **j != Judgement::WithinNoise).count();
        }
        // 5 to 7 % are expected to differ by chance: 6 to 8. The percentiles of a pair go together, so that the
        // standard deviation is about 4.
        assert!(differing <= 16, "{differing} of {}", 3 * pairs);
    }

    #[test]
    fn short_runs_of_the_same_server_rarely_differ() {
        for count in [MIN_BLOCKS, 10, MANY_BLOCKS - 1] {
            let differing = (0_u64..50)
                .map(|pair| {
                    let slices = |seed| slices(1_000 + seed, count, 300, 5.0);
                    let judged = judge(&slices(2 * pair), &slices(2 * pair + 1));
                    judged[..2].iter().filter(|j| **j == Judgement::Differs).count()
                })
                .sum::<usize>();
            // 5 % of 100.
            assert!(differing <= 5, "{count} slices: {differing} of 100");
        }
    }

    #[test]
    fn finds_a_slower_server() {
        for seed in 0..10 {
            let judged = judge(&slices(seed, 30, 400, 5.0), &slices(seed + 100, 30, 400, 6.0));
            // Only 12 requests are above the p99.9, and the tail is the same: 12 against 13 ms.
            assert_eq!(judged[..3], [Judgement::Differs; 3], "{seed}");
        }
    }

    /// The medians of the slices do not see this: 8 of 10 slices are alike.
    #[test]
    fn a_stall_is_never_noise() {
        for stalled in 1..=3 {
            let calm = slices(1, 10, 1_000, 5.0);
            let mut stall = slices(2, 10, 1_000, 5.0);
            for (number, slice) in stall.iter_mut().take(stalled).enumerate() {
                *slice = slices(3 + number as u64, 1, 1_000, 1_000.0).remove(0);
            }
            let judged = judge(&calm, &stall);
            assert!(matches!(judged[2], Judgement::Differs | Judgement::Unclear), "{judged:?}");
            assert!(matches!(judge(&stall, &calm)[2], Judgement::Differs | Judgement::Unclear));
        }
    }

    #[test]
    fn knows_when_a_run_is_too_short() {
        assert_eq!(
            judge(&slices(1, 4, 1_000, 5.0), &slices(2, 30, 1_000, 5.0)),
            [Judgement::TooShort; 4]
        );
        assert_eq!(judge_values(&[1.0; 4], &[2.0; 9], median), Judgement::TooShort);
    }

    #[test]
    fn judges_values_of_slices() {
        let values = |middle: f64, seed| -> Vec<f64> {
            let mut random = fastrand::Rng::with_seed(seed);
            (0..60).map(|_| middle + random.f64() * 10.0).collect()
        };
        assert_eq!(judge_values(&values(100.0, 1), &values(110.0, 2), median), Judgement::Differs);
        assert_eq!(judge_values(&values(100.0, 1), &values(90.0, 2), mean), Judgement::Differs);
        assert_eq!(
            judge_values(&values(100.0, 1), &values(100.1, 2), median),
            Judgement::WithinNoise
        );
    }

    #[test]
    fn a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() {
        assert_eq!(percentile(&[1, 0, 1], 50.0), Some(0));
        assert_eq!(percentile(&[1, 0, 1], 51.0), Some(2));
        assert_eq!(percentile(&[1, 0, 1], 100.0), Some(2));
        assert_eq!(percentile(&[0, 0], 50.0), None);
    }
}
