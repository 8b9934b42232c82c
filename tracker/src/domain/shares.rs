//! How large a share of a program's requests is repaired or refused, and whether that has jumped: then somebody
//! has probably changed a link or a postback for the worse, and money is being lost.
//!
//! Counts of the last hour or so make the share; the share of the last hours is what is usual. Both fade out
//! exponentially, so that a program takes a few numbers however long it is watched.

/// The share of older counts that is left after a minute: counts are half an hour old on average.
const RECENT_KEPT: f64 = 1.0 - 1.0 / 30.0;
/// How fast what is usual follows the share, per minute: in about eight hours.
const USUAL_FOLLOWS: f64 = 1.0 / 500.0;
/// Recent requests below which a share says nothing.
const MIN_REQUESTS: f64 = 100.0;
/// A smaller share is no jump.
const MIN_JUMP: f64 = 0.1;
/// How many times what is usual a jump exceeds.
const JUMP_FACTOR: f64 = 2.0;

/// What was counted of a program's requests within a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Those that were not refused; an estimate.
    pub accepted: u64,
    /// Those that were recorded after a repair.
    pub repaired: u64,
    /// Those that were refused.
    pub refused: u64,
}

/// A share of a program's recent requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Share {
    /// Between 0 and 1.
    pub value: f64,
    /// Whether it is much larger than in the hours before.
    pub has_jumped: bool,
    /// What it was in the hours before. Unknown until it has been measured for the first time.
    usual: Option<f64>,
}

/// The shares of one program.
#[derive(Debug, Clone, Default)]
pub struct ProgramShares {
    accepted: f64,
    repaired_count: f64,
    refused_count: f64,
    /// The share of repaired requests.
    pub repaired: Share,
    /// The share of refused requests.
    pub refused: Share,
}

impl ProgramShares {
    /// A program of which nothing was repaired or refused so far.
    pub fn of_clean_program() -> Self {
        let none = Share { usual: Some(0.0), ..Share::default() };
        Self { repaired: none, refused: none, ..Self::default() }
    }

    /// Adds the counts of a minute, which may have lasted longer.
    pub fn add(&mut self, minute: MinuteCounts) {
        let add = |sum: &mut f64, count: u64| {
            // Counts are far below the 2^53 from which on this rounds.
            *sum = *sum * RECENT_KEPT + count as f64;
        };
        add(&mut self.accepted, minute.accepted);
        add(&mut self.repaired_count, minute.repaired);
        add(&mut self.refused_count, minute.refused);
        // The estimate may be lower than what was counted exactly.
        let all = self.accepted.max(self.repaired_count) + self.refused_count;
        if all < MIN_REQUESTS {
            self.repaired.has_jumped = false;
            self.refused.has_jumped = false;
            (self.repaired.value, self.refused.value) = (0.0, 0.0);
            return;
        }
        self.repaired.update(self.repaired_count / all);
        self.refused.update(self.refused_count / all);
    }

    /// Whether nothing is left to remember.
    pub fn is_clean(&self) -> bool {
        let is_low = |share: &Share| share.usual.is_none_or(|usual| usual < MIN_JUMP / 10.0);
        self.repaired_count + self.refused_count < 0.5
            && is_low(&self.repaired)
            && is_low(&self.refused)
    }
}

impl Share {
    fn update(&mut self, value: f64) {
        let usual = self.usual.unwrap_or(value);
        self.value = value;
        self.has_jumped = value > MIN_JUMP && value > JUMP_FACTOR * usual;
        self.usual = Some(usual + (value - usual) * USUAL_FOLLOWS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(accepted: u64, repaired: u64, refused: u64) -> MinuteCounts {
        MinuteCounts { accepted, repaired, refused }
    }

    fn after(shares: &mut ProgramShares, minutes: usize, counts: MinuteCounts) {
        (0..minutes).for_each(|_| shares.add(counts));
    }

    #[test]
    fn notices_a_jump_within_minutes_and_gets_used_to_it_within_a_day() {
        let refused: fn(&ProgramShares) -> Share = |shares| shares.refused;
        let repaired: fn(&ProgramShares) -> Share = |shares| shares.repaired;
        for (counts, of) in [(minute(0, 0, 10), refused), (minute(10, 10, 0), repaired)] {
            let mut shares = ProgramShares::of_clean_program();
            after(&mut shares, 60, minute(10, 0, 0));
            assert_eq!(of(&shares), Share { usual: Some(0.0), ..Share::default() });
            after(&mut shares, 5, counts);
            assert!(of(&shares).has_jumped && of(&shares).value < 0.2, "{shares:?}");
            after(&mut shares, 60, counts);
            assert!(of(&shares).has_jumped && of(&shares).value > 0.8, "{shares:?}");
            after(&mut shares, 24 * 60, counts);
            assert!(!of(&shares).has_jumped && of(&shares).value > 0.99, "{shares:?}");
            after(&mut shares, 240, minute(10, 0, 0));
            assert!(!of(&shares).has_jumped && of(&shares).value < 0.01, "{shares:?}");
        }
    }

    #[test]
    fn ignores_few_requests_small_shares_and_what_was_always_so() {
        let mut few = ProgramShares::of_clean_program();
        after(&mut few, 600, minute(1, 1, 1));
        assert!(!few.refused.has_jumped && few.refused.value == 0.0, "{few:?}");
        let mut small = ProgramShares::of_clean_program();
        after(&mut small, 600, minute(100, 9, 9));
        assert!(!small.refused.has_jumped && !small.repaired.has_jumped, "{small:?}");
        let mut always = ProgramShares::default();
        after(&mut always, 600, minute(100, 70, 0));
        assert!(!always.repaired.has_jumped && always.repaired.value > 0.69, "{always:?}");
        let mut new = ProgramShares::of_clean_program();
        after(&mut new, 60, minute(100, 70, 0));
        assert!(new.repaired.has_jumped, "{new:?}");
    }

    #[test]
    fn forgets_a_program_that_is_clean_again() {
        let mut shares = ProgramShares::of_clean_program();
        assert!(shares.is_clean());
        after(&mut shares, 10, minute(100, 50, 0));
        assert!(!shares.is_clean());
        after(&mut shares, 3 * 24 * 60, minute(100, 0, 0));
        assert!(shares.is_clean(), "{shares:?}");
        assert!(shares.repaired.value <= 1.0);
    }
}
