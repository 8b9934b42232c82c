//! Fills L1 before the first request, so that a new tracker of a fleet under load does not begin with
//! a read of Redis for every program.

use std::time::{Duration, Instant};

use adtrack_proto::ProgramId;
use tokio_util::sync::CancellationToken;

use super::link::RedisLink;
use super::local::{Loaded, LocalPrograms};
use super::redis::{ReadError, RedisPrograms};
use crate::flag::Flag;

/// The walk over Redis.
#[derive(Debug)]
pub struct WarmUp {
    /// What it fills.
    pub local: LocalPrograms,
    /// What it reads.
    pub redis: RedisPrograms,
    /// Whether Redis can be read.
    pub link: RedisLink,
    /// When it gives up.
    pub limit: Duration,
    /// Programs a second, at most: the fleet that serves needs Redis too.
    pub rate: u32,
    /// Set when it is over, however it ended.
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
            Ok(Err(error)) => tracing::warn!(%error, programs, seconds, "the warm-up broke off"),
            Err(_) => tracing::warn!(programs, seconds, "the warm-up's time is up"),
        }
        self.warm.set(true);
        // A task that ends is one that failed.
        stop.cancelled().await;
    }

    async fn fill(&mut self) -> Result<(), ReadError> {
        self.link.connected().await;
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
        // Again, where the subscription was made meanwhile.
        while !ids.is_empty() {
            let loads: Vec<_> = ids.iter().map(|id| self.local.begin_load(id.clone())).collect();
            let read = self.redis.read(&ids).await?;
            let loaded = ids.into_iter().zip(loads).zip(read);
            // What cannot be read is told of when somebody asks for it.
            ids = loaded
                .filter_map(|((id, load), known)| {
                    matches!(load.finish(known.ok()?), Loaded::Outdated).then_some(id)
                })
                .collect();
        }
        Ok(())
    }
}
