//! `loadtest capacity`: the highest rate that a target sustains within thresholds.
//!
//! The rate doubles until it breaks a threshold, and is then bisected. At each rate, runs are repeated until two agree,
//! because a single run near the limit is a matter of luck.

use std::path::PathBuf;

use adtrack_runtime::outln;

use crate::cli::CapacityArguments;
use crate::report::{Report, file};
use crate::run::{self, RunError};
use crate::scenario::value::{HIGHEST_RATE, Rate};

/// Runs that have to agree on a rate.
const AGREEING: u32 = 2;

/// Rates between which the capacity is.
#[derive(Debug, Clone, PartialEq)]
struct Bracket {
    from: f64,
    /// How far apart the ends may be in the end, as a share.
    tolerance: f64,
    /// The highest rate that held.
    low: Option<f64>,
    /// The lowest rate that broke.
    high: Option<f64>,
}

impl Bracket {
    fn new(from: f64, tolerance: f64) -> Self {
        Self { from, tolerance, low: None, high: None }
    }

    /// The next rate to try; `None` if the capacity is known well enough.
    fn next_rate(&self) -> Option<f64> {
        match (self.low, self.high) {
            (None, None) => Some(self.from),
            (Some(low), None) => (low < HIGHEST_RATE).then(|| (low * 2.0).min(HIGHEST_RATE)),
            (None, Some(high)) => (high > 2.0).then_some(high / 2.0),
            (Some(low), Some(high)) => {
                (high > low * (1.0 + self.tolerance)).then(|| (low * high).sqrt())
            }
        }
    }

    fn record(&mut self, rate: f64, held: bool) {
        *(if held { &mut self.low } else { &mut self.high }) = Some(rate);
    }
}

/// How the runs at a rate ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Votes {
    /// Requests per second.
    pub rate: f64,
    /// Runs that kept all thresholds.
    pub held: u32,
    /// Runs that crossed one.
    pub broke: u32,
    /// What the last of these crossed.
    pub crossed: Vec<String>,
}

impl Votes {
    fn decision(&self) -> Option<bool> {
        match (self.held >= AGREEING, self.broke >= AGREEING) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => None,
        }
    }
}

/// How a run ended.
#[derive(Debug)]
enum Trial {
    Held,
    Broke(Vec<String>),
    /// The run says nothing about the target.
    Unfaithful(Vec<String>),
    Interrupted,
}

/// The capacity of a target.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Capacity {
    /// The highest rate that held.
    pub held: Option<Votes>,
    /// The lowest rate that broke.
    pub broke: Option<Votes>,
    /// Why the search ended before its end: the harness' limit, or an interrupt.
    pub ended_early: Option<String>,
}

/// Searches the highest rate that keeps the thresholds.
///
/// # Errors
///
/// If a run fails.
pub async fn search(arguments: CapacityArguments) -> Result<Capacity, RunError> {
    let mut bracket = Bracket::new(arguments.from.0, arguments.tolerance.0);
    let mut capacity = Capacity::default();
    let mut number = 0;
    while let Some(rate) = bracket.next_rate() {
        let mut votes = Votes { rate, ..Votes::default() };
        let held = loop {
            if let Some(held) = votes.decision() {
                break held;
            }
            number += 1;
            match try_rate(&arguments, rate, number).await? {
                Trial::Held => votes.held += 1,
                Trial::Broke(crossed) => {
                    votes.broke += 1;
                    votes.crossed = crossed;
                }
                Trial::Unfaithful(reasons) => {
                    capacity.ended_early = Some(format!(
                        "at {rate:.0}/s, the harness is the limit: {}",
                        reasons.join("; ")
                    ));
                    return Ok(capacity);
                }
                Trial::Interrupted => {
                    capacity.ended_early = Some("interrupted".to_owned());
                    return Ok(capacity);
                }
            }
        };
        bracket.record(rate, held);
        *(if held { &mut capacity.held } else { &mut capacity.broke }) = Some(votes);
    }
    Ok(capacity)
}

async fn try_rate(
    arguments: &CapacityArguments,
    rate: f64,
    number: u32,
) -> Result<Trial, RunError> {
    let mut run = arguments.run.clone();
    run.overrides.rate = Some(Rate(rate));
    run.fail_if.extend(arguments.until.iter().cloned());
    run.report = Some(report_base(arguments.run.report.as_ref(), number, rate));
    outln!("\n{rate:.0}/s, run {number}");
    let outcome = run::run(run).await?;
    let trial = judge(&outcome.report);
    let word = match &trial {
        Trial::Held => "held".to_owned(),
        Trial::Broke(crossed) => format!("broke: {}", crossed.join(", ")),
        Trial::Unfaithful(_) => "not valid".to_owned(),
        Trial::Interrupted => "interrupted".to_owned(),
    };
    outln!("{rate:.0}/s {word} ({})", file(&outcome.base, "html").display());
    Ok(trial)
}

fn report_base(given: Option<&PathBuf>, number: u32, rate: f64) -> PathBuf {
    let base = given.cloned().unwrap_or_else(|| PathBuf::from("target/loadtest/capacity"));
    let mut path = base.into_os_string();
    path.push(format!("-{number:02}-{rate:.0}"));
    PathBuf::from(path)
}

fn judge(report: &Report) -> Trial {
    let verdict = &report.verdict;
    if report.run.interrupted {
        return Trial::Interrupted;
    }
    if !verdict.valid {
        return Trial::Unfaithful(verdict.reasons.clone());
    }
    let crossed = report.thresholds.iter().filter(|row| row.failed);
    let mut crossed: Vec<String> = crossed.map(|row| row.threshold.clone()).collect();
    if !verdict.has_good_response {
        crossed.push("no good response".to_owned());
    }
    if crossed.is_empty() { Trial::Held } else { Trial::Broke(crossed) }
}

/// Describes the capacity in one or two lines.
pub fn describe(capacity: &Capacity) -> String {
    let runs = |votes: &Votes| format!("{} of {} runs", votes.held, votes.held + votes.broke);
    let mut text = match &capacity.held {
        Some(votes) => format!("highest rate that holds: {:.0}/s (in {})", votes.rate, runs(votes)),
        None => "no rate held".to_owned(),
    };
    if let Some(votes) = &capacity.broke {
        let crossed = votes.crossed.join(", ");
        text.push_str(&format!(
            "; {:.0}/s breaks {crossed} (holds in {})",
            votes.rate,
            runs(votes)
        ));
    }
    if let Some(reason) = &capacity.ended_early {
        text.push_str(&format!("\n{reason}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a target that holds a rate with a probability that falls from 1 to 0 around its capacity.
    fn search_simulated(capacity: f64, from: f64, seed: u64) -> (f64, u32) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bracket = Bracket::new(from, 0.05);
        let mut runs = 0;
        while let Some(rate) = bracket.next_rate() {
            let mut votes = Votes::default();
            while votes.decision().is_none() {
                runs += 1;
                let distance = (capacity - rate) / (0.02 * capacity);
                let holds = random.f64() < 1.0 / (1.0 + (-distance).exp());
                *(if holds { &mut votes.held } else { &mut votes.broke }) += 1;
            }
            bracket.record(rate, votes.held >= AGREEING);
        }
        (bracket.low.unwrap(), runs)
    }

    #[test]
    fn finds_the_capacity_within_a_tenth() {
        for seed in 0..200 {
            let capacity = 50.0 + (seed * seed) as f64;
            let (found, runs) = search_simulated(capacity, 100.0, seed);
            assert!((0.9..1.1).contains(&(found / capacity)), "{seed}: {found} of {capacity}");
            assert!(runs < 60, "{runs}");
        }
    }

    #[test]
    fn ends_at_the_highest_and_at_the_lowest_rate() {
        let mut unlimited = Bracket::new(1_000.0, 0.05);
        while let Some(rate) = unlimited.next_rate() {
            unlimited.record(rate, true);
        }
        assert_eq!((unlimited.low, unlimited.high), (Some(HIGHEST_RATE), None));
        let mut dead = Bracket::new(1_000.0, 0.05);
        while let Some(rate) = dead.next_rate() {
            dead.record(rate, false);
        }
        assert!(dead.low.is_none() && dead.high < Some(3.0));
    }

    #[test]
    fn describes_what_it_found() {
        let votes = |rate, held, broke, crossed: &[&str]| Votes {
            rate,
            held,
            broke,
            crossed: crossed.iter().map(|text| (*text).to_owned()).collect(),
        };
        let capacity = Capacity {
            held: Some(votes(900.0, 2, 1, &[])),
            broke: Some(votes(945.0, 0, 2, &["p99>5ms"])),
            ended_early: None,
        };
        assert_eq!(
            describe(&capacity),
            "highest rate that holds: 900/s (in 2 of 3 runs); 945/s breaks p99>5ms (holds in 0 of 2 runs)"
        );
        let none = Capacity { ended_early: Some("interrupted".to_owned()), ..Capacity::default() };
        assert_eq!(describe(&none), "no rate held\ninterrupted");
    }
}
