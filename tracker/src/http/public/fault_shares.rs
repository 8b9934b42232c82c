//! Watches which share of each program's requests is repaired or refused. A metric with a label per program would
//! have as many series as there are programs; instead, the greatest share and the number of programs whose share has
//! jumped are metrics, and the log names the programs.
//!
//! Requests count repairs and refusals, which are seldom, in a map, exactly. They count themselves in their program
//! ([`crate::domain::program::RequestCount`]). Once per minute, a task brings both together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::domain::Refusal;
use crate::domain::shares::{MinuteCounts, ProgramShares, Share};
use crate::metrics::Metrics;
use crate::track::RequestCounts;

const INTERVAL: Duration = Duration::from_secs(60);
/// How long after the start a share is taken for usual when it is measured for the first time: nobody knows what it
/// was before.
const LEARNING_TIME: Duration = Duration::from_secs(3600);
/// Programs that are watched at a time: those of which anything was repaired or refused lately.
const MAX_WATCHED: usize = 4_096;

/// Conversions are watched apart from other events: a hundred broken ones would be lost among a million
/// impressions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TrafficKind {
    /// Events, impressions and clicks.
    Events,
    /// Conversions.
    Conversions,
}

impl TrafficKind {
    /// The kind of an event.
    pub(super) fn of(event_type: EventType) -> Self {
        match event_type {
            EventType::Conversion => Self::Conversions,
            EventType::Unspecified
            | EventType::Event
            | EventType::Impression
            | EventType::Click => Self::Events,
        }
    }
}

/// The shares of all programs. Requests and the task share it.
#[derive(Debug, Default)]
pub struct FaultShares {
    watched: Mutex<HashMap<(ProgramId, TrafficKind), Watched>>,
}

#[derive(Debug, Default)]
struct Watched {
    repaired: u64,
    refused: u64,
    /// Of its program when it was looked at; none before the first look. Counts from before that are dropped,
    /// because nobody knows how many requests belong to them.
    accepted: Option<u64>,
    shares: ProgramShares,
}

/// What a look at all programs found.
#[derive(Debug, Default, PartialEq)]
struct Findings {
    repaired_max: f64,
    refused_max: f64,
    /// Shares that have jumped.
    jumps: i64,
}

impl FaultShares {
    /// Counts a recorded event that was repaired.
    #[cold]
    pub(super) fn count_repaired(&self, program_id: &ProgramId, kind: TrafficKind) {
        self.count(program_id, kind, |watched| watched.repaired += 1);
    }

    /// Counts a request that was refused for what it says.
    #[cold]
    pub(super) fn count_refused(
        &self,
        program_id: &ProgramId,
        kind: TrafficKind,
        refusal: &Refusal,
    ) {
        if is_fault_of_sender(refusal) {
            self.count(program_id, kind, |watched| watched.refused += 1);
        }
    }

    fn count(&self, program_id: &ProgramId, kind: TrafficKind, add: impl FnOnce(&mut Watched)) {
        let mut watched = self.watched();
        let is_full = watched.len() >= MAX_WATCHED;
        let key = (program_id.clone(), kind);
        if is_full && !watched.contains_key(&key) {
            return;
        }
        add(watched.entry(key).or_insert_with(|| Watched {
            shares: ProgramShares::of_clean_program(),
            ..Watched::default()
        }));
    }

    /// Looks at all programs once per minute, until `stop`.
    pub async fn run(
        self: Arc<Self>,
        programs: impl RequestCounts,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) {
        let started_at = Instant::now();
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let findings = self.look(&programs, started_at.elapsed() < LEARNING_TIME);
            metrics.http.repaired_share_max.set(findings.repaired_max);
            metrics.http.refused_share_max.set(findings.refused_max);
            metrics.http.share_jumps.set(findings.jumps);
        }
    }

    fn look(&self, programs: &impl RequestCounts, is_learning: bool) -> Findings {
        let mut findings = Findings::default();
        self.watched().retain(|(program_id, kind), watched| {
            // A program that is not in memory has no requests, or does not exist.
            let Some(count) = programs.request_count(program_id) else { return false };
            let accepted = match kind {
                TrafficKind::Events => count.events,
                TrafficKind::Conversions => count.conversions,
            };
            let minute = MinuteCounts {
                repaired: std::mem::take(&mut watched.repaired),
                refused: std::mem::take(&mut watched.refused),
                // The count starts from scratch if the program was loaded again.
                accepted: match watched.accepted.replace(accepted) {
                    Some(before) => accepted.checked_sub(before).unwrap_or(accepted),
                    None => {
                        if is_learning {
                            watched.shares = ProgramShares::default();
                        }
                        return true;
                    }
                },
            };
            let before = (watched.shares.repaired, watched.shares.refused);
            watched.shares.add(minute);
            let shares = &watched.shares;
            for (what, before, share, max) in [
                ("repaired", before.0, shares.repaired, &mut findings.repaired_max),
                ("refused", before.1, shares.refused, &mut findings.refused_max),
            ] {
                *max = max.max(share.value);
                findings.jumps += i64::from(share.has_jumped);
                if share.has_jumped && !before.has_jumped {
                    log_jump(program_id, *kind, what, share);
                }
            }
            !shares.is_clean()
        });
        findings
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<(ProgramId, TrafficKind), Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log_jump(program_id: &ProgramId, kind: TrafficKind, what: &str, share: Share) {
    let traffic = match kind {
        TrafficKind::Events => "events, impressions and clicks",
        TrafficKind::Conversions => "conversions",
    };
    let percent = (share.value * 100.0).round();
    tracing::warn!(
        program = program_id.as_str(),
        traffic,
        percent,
        "the share of this program's requests that are {what} has jumped; a link, a postback or the program's \
         core data was probably changed (docs/RUNBOOK.md, \"Program share\")"
    );
}

/// Whether the request itself is at fault: not the state of the tracker, nor a program that does not exist.
fn is_fault_of_sender(refusal: &Refusal) -> bool {
    match refusal {
        Refusal::InvalidParameters(_)
        | Refusal::ParameterMismatch(_)
        | Refusal::InvalidSignature
        | Refusal::InvalidBody(_)
        | Refusal::PayloadTooLarge(_)
        | Refusal::UnsupportedMediaType(_)
        | Refusal::UrlNotAllowed(_) => true,
        Refusal::InvalidProgramId(_)
        | Refusal::HeadersTooLarge
        | Refusal::ConversionKeyUnavailable
        | Refusal::ProgramNotFound
        | Refusal::CoreDataUnavailable
        | Refusal::Overloaded
        | Refusal::RateLimited
        | Refusal::Draining => false,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::domain::program::RequestCount;

    /// Every program but `absent` has had so many requests.
    #[derive(Default)]
    struct Requests(Cell<u64>);

    impl RequestCounts for Requests {
        fn request_count(&self, id: &ProgramId) -> Option<RequestCount> {
            let count = RequestCount { events: self.0.get(), conversions: self.0.get() };
            (id.as_str() != "absent").then_some(count)
        }
    }

    fn id(text: &str) -> ProgramId {
        ProgramId::parse(text).unwrap()
    }

    fn minute(
        shares: &FaultShares,
        requests: &Requests,
        refused: usize,
        is_learning: bool,
    ) -> Findings {
        let refusal = Refusal::InvalidSignature;
        for _ in 0..refused {
            shares.count_refused(&id("p"), TrafficKind::Conversions, &refusal);
        }
        shares.count_repaired(&id("p"), TrafficKind::Events);
        requests.0.set(requests.0.get() + 100);
        shares.look(requests, is_learning)
    }

    #[test]
    fn finds_the_program_whose_share_has_jumped() {
        let (shares, requests) = (FaultShares::default(), Requests::default());
        // Counts from before the first look are dropped.
        assert_eq!(minute(&shares, &requests, 1_000, false), Findings::default());
        for _ in 0..30 {
            let found = minute(&shares, &requests, 5, false);
            assert!(
                found.jumps == 0 && found.refused_max < 0.06 && found.repaired_max < 0.02,
                "{found:?}"
            );
        }
        let found = minute(&shares, &requests, 900, false);
        assert!(found.jumps == 1 && found.refused_max > 0.2, "{found:?}");
    }

    #[test]
    fn learns_what_is_usual_after_the_start() {
        let (shares, requests) = (FaultShares::default(), Requests::default());
        for _ in 0..60 {
            assert_eq!(minute(&shares, &requests, 100, true).jumps, 0);
        }
        assert!(minute(&shares, &requests, 100, false).refused_max > 0.4);
    }

    #[test]
    fn follows_a_program_that_is_loaded_again() {
        let (shares, requests) = (FaultShares::default(), Requests::default());
        for number in 0..30 {
            requests.0.set(number % 2 * 7);
            let found = minute(&shares, &requests, 3, false);
            assert_eq!(found.jumps, 0, "{found:?}");
        }
    }

    #[test]
    fn is_bounded_and_drops_programs_that_are_not_in_memory() {
        let shares = FaultShares::default();
        for number in 0..2 * MAX_WATCHED {
            shares.count_repaired(&id(&number.to_string()), TrafficKind::Events);
        }
        assert_eq!(shares.watched().len(), MAX_WATCHED);
        let shares = FaultShares::default();
        shares.count_repaired(&id("absent"), TrafficKind::Events);
        shares.count_refused(&id("p"), TrafficKind::Events, &Refusal::Overloaded);
        shares.look(&Requests::default(), false);
        assert!(shares.watched().is_empty());
    }
}
