//! Fills L1 before the first request, so that a new tracker of a busy fleet does not start with a miss for
//! every program.

use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use tokio_util::sync::CancellationToken;

use super::link::RedisLink;
use super::local::{LoadOutcome, LocalPrograms};
use super::redis::{ReadError, RedisPrograms};
use crate::flag::Flag;

/// Scans Redis and fills L1.
#[derive(Debug)]
pub struct WarmUp {
    /// L1, to fill.
    pub local: LocalPrograms,
    /// Redis, to read from.
    pub redis: RedisPrograms,
    /// To wait until Redis can be read.
    pub link: RedisLink,
    /// The longest that it may take.
    pub limit: Duration,
    /// Programs per second, at most: the trackers that serve need Redis, too.
    pub rate: u32,
    /// Set when it ends, successful or not.
    pub warm: Flag,
}

impl WarmUp {
    /// Loads programs until L1 is full, Redis has no more, time is up, or `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let started_at = Instant::now();
        let limit = self.limit;
        let result = tokio::select! {
            result = tokio::time::timeout(limit, self.fill()) => result,
            () = stop.cancelled() => return,
        };
        let (programs, seconds) = (self.local.len(), started_at.elapsed().as_secs_f64());
        match result {
            Ok(Ok(())) => tracing::info!(programs, seconds, "L1 is warm"),
            Ok(Err(error)) => {
                tracing::warn!(%error, programs, seconds, "the warm-up failed; serving with what is loaded");
            }
            Err(_) => tracing::warn!(
                programs,
                seconds,
                "the warm-up timed out; serving with what is loaded"
            ),
        }
        self.warm.set(true);
        // A background task must not end before it is asked to stop.
        stop.cancelled().await;
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.link.wait_until_connected().await;
        let mut scan = self.redis.scan().await?;
        while let Some(ids) = self.redis.next_ids(&mut scan).await? {
            if !self.local.has_room() {
                break;
            }
            let page = Instant::now();
            let at_least = Duration::from_secs(ids.len() as u64) / self.rate;
            self.load(ids).await?;
            tokio::time::sleep(at_least.saturating_sub(page.elapsed())).await;
        }
        Ok(())
    }

    async fn load(&self, mut ids: Vec<ProgramId>) -> Result<(), ReadError> {
        // Reads again what a new subscription made outdated.
        while !ids.is_empty() {
            let loads: Vec<_> = ids.iter().map(|id| self.local.begin_load(id.clone())).collect();
            let read = self.redis.read(&ids).await?;
            let loaded = ids.into_iter().zip(loads).zip(read);
            // A program that cannot be read is reported when a request asks for it.
            ids = loaded
                .filter_map(|((id, load), state)| {
                    matches!(load.finish(state.ok()?), LoadOutcome::Outdated).then_some(id)
                })
                .collect();
        }
        Ok(())
    }
}
