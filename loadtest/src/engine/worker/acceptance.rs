//! The events that a response accepts.

use super::Worker;
use crate::attributes;
use crate::engine::connection::Planned;
use crate::engine::job::Accepted;
use crate::engine::response::{self, Response};

impl Worker {
    /// Counts the events that a response, which is in `input`, accepts, and passes them on to be followed. Returns the
    /// id of the first.
    pub(super) fn accept(
        &mut self,
        planned: &Planned,
        response: &Response,
        input: &[u8],
        now: u64,
    ) -> Option<u128> {
        let events = self.job.traffic.kinds[planned.kind].events;
        // A click on a program that has ended may be recorded although its status is 410.
        let is_accepted = (200..400).contains(&response.status) || response.event_id.is_some();
        if events == 0 || !is_accepted || response.is_unrecorded {
            return None;
        }
        let body = response.body.bytes(input);
        let refused = if events > 1 { response::refused(body).min(events) } else { 0 };
        let ids: Vec<u128> = match response.event_id.filter(|_| events == 1) {
            Some(id) => vec![id],
            None => response::message_ids(body).collect(),
        };
        // The event of a repeat was accepted before.
        if !planned.is_repeat {
            let accepted = events - refused;
            self.totals.accepted_events += accepted;
            self.totals.unidentified_events += accepted.saturating_sub(ids.len() as u64);
            if self.job.follow {
                self.follow(planned, &ids, now);
            }
        }
        ids.first().copied()
    }

    fn follow(&mut self, planned: &Planned, ids: &[u128], now: u64) {
        let at_ms = self.start.unix_ms + now / 1_000_000;
        let link = self.job.traffic.link(planned.kind, &planned.visitor);
        // The same seed makes the same request again.
        let mut request = Vec::new();
        let mut random = fastrand::Rng::with_seed(planned.seed);
        self.job.traffic.write(planned.kind, &planned.visitor, &mut random, &mut request);
        let mut digests = attributes::expected(&request);
        if digests.len() != ids.len() {
            // Some items were refused: it is not known which ids are whose.
            digests = vec![0; ids.len()];
        }
        let events = ids.iter().zip(digests);
        self.accepted.extend(events.map(|(&id, digest)| Accepted { id, at_ms, link, digest }));
    }
}
