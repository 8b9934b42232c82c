//! What visitors do after an accepted request: the next steps of their journeys, and repeats.

use super::Worker;
use crate::engine::agenda::Later;
use crate::engine::connection::Planned;

/// The longest delay, as a multiple of the average.
const LONGEST_DELAY: f64 = 5.0;

impl Worker {
    /// Plans what the visitor does after the accepted request, whose event has this id.
    pub(super) fn plan_follow_ups(&mut self, planned: Planned, id: u128, now: u64) {
        let (repeat, delay) = self.job.traffic.kinds[planned.kind].repeat;
        if repeat == 0.0 && self.job.traffic.followers(planned.kind).is_empty() {
            return;
        }
        let mut visitor = planned.visitor;
        let step = self.job.traffic.step(planned.kind);
        if let Some(slot) = visitor.ids.get_mut(step) {
            *slot = id;
        }
        if repeat > 0.0 && self.random.f64() < repeat {
            let again = Planned { visitor, is_follow_up: true, is_repeat: true, ..planned };
            self.plan(now, delay, again);
        }
        for index in 0..self.job.traffic.followers(planned.kind).len() {
            let follower = self.job.traffic.followers(planned.kind)[index];
            if self.random.f64() < follower.probability {
                let seed = self.random.u64(..);
                let kind = follower.kind;
                let next = Planned { kind, visitor, seed, is_follow_up: true, is_repeat: false };
                self.plan(now, follower.delay, next);
            }
        }
    }

    fn plan(&mut self, now: u64, delay: f64, planned: Planned) {
        // 1 - f64() is in (0, 1], so its logarithm is finite.
        let factor = (-(1.0 - self.random.f64()).ln()).min(LONGEST_DELAY);
        self.agenda.add(Later { due: now + (delay * factor) as u64, planned });
    }

    /// Counts the response to a request that was sent before: its event has to be the same.
    pub(super) fn check_repeat(&mut self, planned: &Planned, id: Option<u128>) {
        self.totals.repeats += 1;
        let step = self.job.traffic.step(planned.kind);
        let first = planned.visitor.ids.get(step).copied();
        self.totals.differing_repeats += u64::from(id.is_some() && id != first);
    }
}
