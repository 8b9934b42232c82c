//! The intended time of every request. Pure: a schedule has no clock, and slow responses do not delay
//! it.
//!
//! A schedule is a rate over time, made of segments over which the rate changes linearly. Its integral
//! is the expected number of requests. With uniform arrivals, a request is due when that number reaches
//! 0, 1, 2, …; with Poisson arrivals, when it reaches the next point of a Poisson process of rate 1.
//! (Any Poisson process has rate 1 if time is measured by its expected number.)

use std::time::Duration;

/// A part of a schedule over which the rate changes linearly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Requests per second at the start.
    pub from: f64,
    /// Requests per second at the end.
    pub to: f64,
    /// Length of the segment.
    pub duration: Duration,
}

impl Segment {
    /// A segment with the same rate throughout.
    pub fn constant(rate: f64, duration: Duration) -> Self {
        Self { from: rate, to: rate, duration }
    }

    /// Requests per second per second.
    fn slope(&self) -> f64 {
        let seconds = self.duration.as_secs_f64();
        if seconds > 0.0 { (self.to - self.from) / seconds } else { 0.0 }
    }

    /// Requests expected in the first `seconds`.
    fn expected_within(&self, seconds: f64) -> f64 {
        let seconds = seconds.clamp(0.0, self.duration.as_secs_f64());
        self.from * seconds + self.slope() * seconds * seconds / 2.0
    }

    fn expected(&self) -> f64 {
        self.expected_within(self.duration.as_secs_f64())
    }

    /// Seconds until the expected number reaches `count`; the inverse of `expected_within`. This form of
    /// the quadratic formula has no cancellation, and a slope of 0 is not a special case.
    fn seconds_until(&self, count: f64) -> f64 {
        if count <= 0.0 {
            return 0.0;
        }
        let root = (self.from * self.from + 2.0 * self.slope() * count).max(0.0).sqrt();
        (2.0 * count / (self.from + root)).min(self.duration.as_secs_f64())
    }
}

/// A named shape of the rate over time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Shape {
    /// The same rate throughout.
    Constant {
        /// Requests per second.
        rate: f64,
        /// Length of the shape.
        duration: Duration,
    },
    /// Linearly from one rate to another.
    Ramp {
        /// Requests per second at the start.
        from: f64,
        /// Requests per second at the end.
        to: f64,
        /// Length of the shape.
        duration: Duration,
    },
    /// From one rate to another in equal steps of equal length, both rates included.
    Step {
        /// Requests per second of the first step.
        from: f64,
        /// Requests per second of the last step.
        to: f64,
        /// Number of steps, at least 2.
        steps: u32,
        /// Length of all steps together.
        duration: Duration,
    },
    /// A base rate, a steep rise to a peak, the peak, an equally steep fall, and the base again.
    Spike {
        /// Requests per second before the rise and after the fall.
        base: f64,
        /// Requests per second of the peak.
        peak: f64,
        /// Length of the base before the rise.
        before: Duration,
        /// Length of the rise, and of the fall.
        rise: Duration,
        /// Length of the peak.
        hold: Duration,
        /// Length of the base after the fall.
        after: Duration,
    },
}

impl Shape {
    /// The linear segments of the shape.
    pub fn segments(self) -> Vec<Segment> {
        match self {
            Self::Constant { rate, duration } => vec![Segment::constant(rate, duration)],
            Self::Ramp { from, to, duration } => vec![Segment { from, to, duration }],
            Self::Step { from, to, steps, duration } => {
                let steps = steps.max(2);
                let height = (to - from) / f64::from(steps - 1);
                (0..steps)
                    .map(|step| {
                        Segment::constant(from + height * f64::from(step), duration / steps)
                    })
                    .collect()
            }
            Self::Spike { base, peak, before, rise, hold, after } => vec![
                Segment::constant(base, before),
                Segment { from: base, to: peak, duration: rise },
                Segment::constant(peak, hold),
                Segment { from: peak, to: base, duration: rise },
                Segment::constant(base, after),
            ],
        }
    }
}

/// How requests spread around the rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrivals {
    /// At equal distances.
    Uniform,
    /// At random and independently of each other, like the requests of many visitors.
    Poisson,
}

/// The intended time of every request.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    segments: Vec<Segment>,
    arrivals: Arrivals,
    seed: u64,
}

/// The largest error of an expected number by rounding.
const ROUNDING: f64 = 1e-6;

impl Schedule {
    /// A schedule of these segments, one after the other. The same seed gives the same Poisson arrivals.
    pub fn new(segments: Vec<Segment>, arrivals: Arrivals, seed: u64) -> Self {
        Self { segments, arrivals, seed }
    }

    /// Length of all segments together.
    pub fn duration(&self) -> Duration {
        self.segments.iter().map(|segment| segment.duration).sum()
    }

    /// Number of requests expected within the first `elapsed`.
    pub fn expected_within(&self, elapsed: Duration) -> f64 {
        let mut left = elapsed.as_secs_f64();
        let mut sum = 0.0;
        for segment in &self.segments {
            sum += segment.expected_within(left);
            left -= segment.duration.as_secs_f64();
            if left <= 0.0 {
                break;
            }
        }
        sum
    }

    /// Number of requests expected in all.
    pub fn expected(&self) -> f64 {
        self.segments.iter().map(Segment::expected).sum()
    }

    /// The highest rate, requests per second.
    pub fn peak(&self) -> f64 {
        self.segments.iter().flat_map(|segment| [segment.from, segment.to]).fold(0.0, f64::max)
    }

    /// The intended times since the start, in order.
    pub fn times(&self) -> Times {
        let mut times = Times {
            segments: self.segments.clone(),
            arrivals: self.arrivals,
            random: fastrand::Rng::with_seed(self.seed),
            current: 0,
            expected_before: 0.0,
            seconds_before: 0.0,
            next: 0.0,
        };
        if self.arrivals == Arrivals::Poisson {
            times.next = times.gap();
        }
        times
    }
}

/// The intended times of a schedule.
#[derive(Debug, Clone)]
pub struct Times {
    segments: Vec<Segment>,
    arrivals: Arrivals,
    random: fastrand::Rng,
    current: usize,
    expected_before: f64,
    seconds_before: f64,
    /// The expected number of requests at which the next one is due.
    next: f64,
}

impl Times {
    fn gap(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Uniform => 1.0,
            // 1 - f64() is in (0, 1], so its logarithm is finite.
            Arrivals::Poisson => -(1.0 - self.random.f64()).ln(),
        }
    }
}

impl Iterator for Times {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        loop {
            let segment = self.segments.get(self.current)?;
            let within = self.next - self.expected_before;
            if within < segment.expected() - ROUNDING {
                let seconds = self.seconds_before + segment.seconds_until(within);
                self.next += self.gap();
                return Some(Duration::from_secs_f64(seconds));
            }
            self.expected_before += segment.expected();
            self.seconds_before += segment.duration.as_secs_f64();
            self.current += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn uniform(shape: Shape) -> Schedule {
        Schedule::new(shape.segments(), Arrivals::Uniform, 0)
    }

    /// Number of requests due in `from..to` seconds.
    fn count(schedule: &Schedule, from: f64, to: f64) -> usize {
        schedule.times().filter(|time| (seconds(from)..seconds(to)).contains(time)).count()
    }

    #[test]
    fn constant_rate_has_equal_gaps() {
        let schedule = uniform(Shape::Constant { rate: 100.0, duration: seconds(2.0) });
        let times: Vec<_> = schedule.times().collect();
        assert_eq!(times.len(), 200);
        for (number, time) in (0_u32..).zip(&times) {
            assert_eq!(time.as_micros(), u128::from(number) * 10_000);
        }
    }

    #[test]
    fn ramp_sends_the_area_below_it() {
        let schedule = uniform(Shape::Ramp { from: 0.0, to: 100.0, duration: seconds(10.0) });
        assert_eq!(schedule.times().count(), 500);
        assert_eq!(count(&schedule, 0.0, 5.0), 125);
        let down = uniform(Shape::Ramp { from: 100.0, to: 0.0, duration: seconds(10.0) });
        assert_eq!(count(&down, 0.0, 5.0), 375);
    }

    #[test]
    fn steps_have_equal_length_and_height() {
        let schedule =
            uniform(Shape::Step { from: 10.0, to: 30.0, steps: 3, duration: seconds(30.0) });
        for (step, expected) in [(0.0, 100), (10.0, 200), (20.0, 300)] {
            assert_eq!(count(&schedule, step, step + 10.0), expected);
        }
        assert_eq!(schedule.peak(), 30.0);
    }

    #[test]
    fn spike_rises_holds_and_falls() {
        let shape = Shape::Spike {
            base: 50.0,
            peak: 1_000.0,
            before: seconds(2.0),
            rise: seconds(1.0),
            hold: seconds(3.0),
            after: seconds(2.0),
        };
        let schedule = uniform(shape);
        assert_eq!(schedule.duration(), seconds(9.0));
        assert_eq!(count(&schedule, 0.0, 2.0), 100);
        assert_eq!(count(&schedule, 2.0, 3.0), 525);
        assert_eq!(count(&schedule, 3.0, 6.0), 3_000);
        assert_eq!(count(&schedule, 7.0, 9.0), 100);
    }

    #[test]
    fn poisson_arrivals_have_the_right_number_and_variance() {
        let segments = vec![Segment::constant(1_000.0, seconds(100.0))];
        let schedule = Schedule::new(segments, Arrivals::Poisson, 7);
        let times: Vec<_> = schedule.times().collect();
        // 100,000 expected, standard deviation 316.
        assert!((98_700..101_300).contains(&times.len()), "{}", times.len());
        let gaps: Vec<f64> =
            times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential gaps: the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "{}", variance.sqrt() / mean);
        assert_eq!(times, schedule.times().collect::<Vec<_>>(), "the seed decides");
    }

    proptest! {
        #[test]
        fn times_are_sorted_within_the_run_and_as_many_as_expected(
            parts in proptest::collection::vec((0.0..500.0, 0.0..500.0, 1_u64..3_000), 1..6),
            poisson in any::<bool>(),
            seed in any::<u64>(),
        ) {
            let segments: Vec<_> = parts
                .into_iter()
                .map(|(from, to, ms)| Segment { from, to, duration: Duration::from_millis(ms) })
                .collect();
            let arrivals = if poisson { Arrivals::Poisson } else { Arrivals::Uniform };
            let schedule = Schedule::new(segments, arrivals, seed);
            let times: Vec<_> = schedule.times().collect();
            prop_assert!(times.is_sorted());
            let end = schedule.duration() + Duration::from_nanos(10);
            prop_assert!(times.last().is_none_or(|last| *last <= end));
            if !poisson {
                prop_assert!((times.len() as f64 - schedule.expected()).abs() <= 1.0);
                // At the n-th intended time, the expected number is n.
                for (number, time) in times.iter().enumerate().step_by(17) {
                    let expected = schedule.expected_within(*time);
                    prop_assert!((expected - number as f64).abs() < 1e-2, "{number}: {expected}");
                }
            }
        }
    }
}
