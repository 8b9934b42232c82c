//! Reads of Redis on a miss: one for each program however many requests wait for it, and a bound
//! on how many there are. A task of its own, so that a request that goes away takes no load along.

use std::collections::HashMap;
use std::sync::Arc;

use adtrack_proto::ProgramId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::local::{Known, Loaded, LocalPrograms};
use super::redis::{ReadError, RedisPrograms};
use crate::metrics::Metrics;
use crate::track::CoreDataUnavailable;

/// Reads of Redis under way at a time.
const MAX_LOADS: usize = 256;
/// Requests that wait for the loader's attention at a time; beyond it they get 503 at once.
const MAX_WAITING: usize = 16_384;

type Answer = Result<Known, CoreDataUnavailable>;

/// A handle on the loader.
#[derive(Debug, Clone)]
pub struct LoaderHandle {
    requests: mpsc::Sender<LoadRequest>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct LoadRequest {
    id: ProgramId,
    /// Whether what L1 holds by now is an answer.
    or_cached: bool,
    answer: oneshot::Sender<Answer>,
}

/// The task that reads.
#[derive(Debug)]
pub struct Loader {
    requests: mpsc::Receiver<LoadRequest>,
    local: LocalPrograms,
    redis: RedisPrograms,
    metrics: Arc<Metrics>,
}

impl LoaderHandle {
    /// What is known of `id` after a miss; L1 has it then.
    pub async fn load(&self, id: &ProgramId) -> Answer {
        self.request(id, true).await
    }

    /// What is known of `id` after a read of Redis, whatever L1 holds.
    pub async fn reload(&self, id: &ProgramId) -> Answer {
        self.request(id, false).await
    }

    async fn request(&self, id: &ProgramId, or_cached: bool) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = LoadRequest { id: id.clone(), or_cached, answer };
        if self.requests.try_send(request).is_err() {
            self.metrics.loads_rejected.inc();
            return Err(CoreDataUnavailable);
        }
        // The loader answers every request, unless it has ended.
        answered.await.unwrap_or(Err(CoreDataUnavailable))
    }
}

impl Loader {
    /// A loader from `redis` into `local`.
    pub fn new(
        local: LocalPrograms,
        redis: RedisPrograms,
        metrics: Arc<Metrics>,
    ) -> (LoaderHandle, Self) {
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let handle = LoaderHandle { requests: sender, metrics: Arc::clone(&metrics) };
        (handle, Self { requests, local, redis, metrics })
    }

    /// Serves requests until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut waiting: HashMap<ProgramId, Vec<oneshot::Sender<Answer>>> = HashMap::new();
        let mut loads = FuturesUnordered::new();
        let (local, redis, metrics) = (&self.local, &self.redis, &self.metrics);
        loop {
            tokio::select! {
                Some((id, answer)) = loads.next() => {
                    for waiter in waiting.remove(&id).unwrap_or_default() {
                        // Its request may have gone away.
                        let _ = waiter.send(Answer::clone(&answer));
                    }
                }
                request = self.requests.recv(), if loads.len() < MAX_LOADS => {
                    let Some(LoadRequest { id, or_cached, answer }) = request else { break };
                    // The load that this request missed may have ended while it waited.
                    if or_cached && let Some(cached) = local.get_fresh(&id) {
                        let _ = answer.send(Ok(cached.known));
                        continue;
                    }
                    let waiters = waiting.entry(id.clone()).or_default();
                    if waiters.is_empty() {
                        loads.push(load(id, local, redis, metrics));
                    }
                    waiters.push(answer);
                }
                () = stop.cancelled() => break,
            }
            metrics.loads_in_flight.set(i64::try_from(loads.len()).unwrap_or(i64::MAX));
        }
    }
}

async fn load(
    id: ProgramId,
    local: &LocalPrograms,
    redis: &RedisPrograms,
    metrics: &Metrics,
) -> (ProgramId, Answer) {
    let timer = metrics.load_seconds.start_timer();
    let answer = loop {
        let load = local.begin_load(id.clone());
        match redis.read(&id).await.map(|read| load.finish(read)) {
            Ok(Loaded::Known(known)) => break Ok(known),
            Ok(Loaded::Outdated) => {}
            Err(error) => break Err(error),
        }
    };
    timer.observe_duration();
    let counter = match &answer {
        Ok(Known::Absent) => &metrics.loads_absent,
        Ok(Known::Program(_) | Known::Deleted(_)) => &metrics.loads_found,
        Err(_) => &metrics.loads_failed,
    };
    counter.inc();
    let answer = answer.map_err(|error| {
        match error {
            ReadError::Away | ReadError::NotLoaded => {
                tracing::debug!(%error, program_id = %id, "a program cannot be read");
            }
            ReadError::Redis(_) | ReadError::Malformed(..) => {
                tracing::warn!(%error, program_id = %id, "a program cannot be read");
            }
        }
        CoreDataUnavailable
    });
    (id, answer)
}
