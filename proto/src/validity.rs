//! When a program runs, and why an event on it is not valid.

use jiff::Timestamp;

/// When a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// False if the program is disabled.
    pub valid: bool,
    /// When it starts to run (inclusive); `None` if it always has.
    pub from: Option<Timestamp>,
    /// When it stops running (exclusive); `None` if it never does.
    pub until: Option<Timestamp>,
}

/// Why an event is not valid: `invalid_reason` on the wire and in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidReason {
    /// The program's `valid` flag is false.
    ProgramDisabled,
    /// The event is before the program's `validFrom`.
    ProgramNotStarted,
    /// The event is at or after the program's `validUntil`.
    ProgramEnded,
}

impl Validity {
    /// Checks that an event at `now` is valid: the flag is set and `validFrom <= now < validUntil`.
    pub fn at(&self, now: Timestamp) -> Result<(), InvalidReason> {
        if !self.valid {
            Err(InvalidReason::ProgramDisabled)
        } else if self.from.is_some_and(|from| now < from) {
            Err(InvalidReason::ProgramNotStarted)
        } else if self.until.is_some_and(|until| now >= until) {
            Err(InvalidReason::ProgramEnded)
        } else {
            Ok(())
        }
    }
}

impl InvalidReason {
    /// The value of `invalid_reason` on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ProgramDisabled => "program_disabled",
            Self::ProgramNotStarted => "program_not_started",
            Self::ProgramEnded => "program_ended",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn includes_the_first_moment_and_excludes_the_last() {
        let window = Validity { valid: true, from: Some(second(10)), until: Some(second(20)) };
        let at = |moment| window.at(second(moment));
        assert_eq!(at(9), Err(InvalidReason::ProgramNotStarted));
        assert_eq!(at(10), Ok(()));
        assert_eq!(at(19), Ok(()));
        assert_eq!(at(20), Err(InvalidReason::ProgramEnded));
    }

    #[test]
    fn has_no_bound_without_a_window() {
        let always = Validity { valid: true, from: None, until: None };
        assert_eq!(always.at(Timestamp::MIN), Ok(()));
        assert_eq!(always.at(Timestamp::MAX), Ok(()));
    }

    #[test]
    fn reports_a_disabled_program_before_its_window() {
        let disabled = Validity { valid: false, from: Some(second(10)), until: Some(second(20)) };
        for moment in [9, 15, 20] {
            assert_eq!(disabled.at(second(moment)), Err(InvalidReason::ProgramDisabled));
        }
    }
}
