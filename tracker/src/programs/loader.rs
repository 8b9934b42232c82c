//! Reads of Redis on a miss: one for each program however many requests wait for it, one round trip
//! for all that wait for the loader, and a bound on how many there are. A task of its own, so that a
//! request that goes away takes no load along.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use adtrack_proto::ProgramId;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::local::{Known, Loaded, LocalPrograms};
use super::redis::{ReadError, RedisPrograms};
use crate::metrics::Metrics;
use crate::track::CoreDataUnavailable;

/// Round trips to Redis under way at a time.
const MAX_LOADS: usize = 32;
/// Programs in one of them, at most.
const MAX_IDS: usize = 64;
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
            self.metrics.programs.loads_rejected.inc();
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
        let mut requests = Vec::with_capacity(MAX_IDS);
        let mut waiting: HashMap<ProgramId, Vec<oneshot::Sender<Answer>>> = HashMap::new();
        let mut loads = FuturesUnordered::new();
        let source = Source { local: &self.local, redis: &self.redis, metrics: &self.metrics };
        loop {
            tokio::select! {
                Some(loaded) = loads.next() => {
                    for (id, answer) in loaded {
                        for waiter in waiting.remove(&id).unwrap_or_default() {
                            // Its request may have gone away.
                            let _ = waiter.send(Answer::clone(&answer));
                        }
                    }
                }
                received = self.requests.recv_many(&mut requests, MAX_IDS), if loads.len() < MAX_LOADS => {
                    if received == 0 {
                        break;
                    }
                    let ids = admit(&mut requests, &mut waiting, &self.local);
                    if !ids.is_empty() {
                        loads.push(source.load(ids));
                    }
                }
                () = stop.cancelled() => break,
            }
            self.metrics
                .programs
                .loads_in_flight
                .set(i64::try_from(loads.len()).unwrap_or(i64::MAX));
        }
    }
}

/// Has `requests` wait; returns the ids that nobody waits for yet.
fn admit(
    requests: &mut Vec<LoadRequest>,
    waiting: &mut HashMap<ProgramId, Vec<oneshot::Sender<Answer>>>,
    local: &LocalPrograms,
) -> Vec<ProgramId> {
    let mut ids = Vec::with_capacity(requests.len());
    for LoadRequest { id, or_cached, answer } in requests.drain(..) {
        // The load that this request missed may have ended while it waited.
        if or_cached && let Some(cached) = local.get_fresh(&id) {
            let _ = answer.send(Ok(cached.known));
            continue;
        }
        let waiters = waiting.entry(id.clone()).or_default();
        if waiters.is_empty() {
            ids.push(id);
        }
        waiters.push(answer);
    }
    ids
}

/// Where programs are read from, and where to.
#[derive(Clone, Copy)]
struct Source<'a> {
    local: &'a LocalPrograms,
    redis: &'a RedisPrograms,
    metrics: &'a Metrics,
}

impl Source<'_> {
    /// Reads `ids` in one round trip, and again those that a new subscription made doubtful.
    async fn load(self, mut ids: Vec<ProgramId>) -> Vec<(ProgramId, Answer)> {
        let begun = Instant::now();
        let mut answers = Vec::with_capacity(ids.len());
        while !ids.is_empty() {
            let loads: Vec<_> = ids.iter().map(|id| self.local.begin_load(id.clone())).collect();
            match self.redis.read(&ids).await {
                Ok(read) => {
                    let mut outdated = Vec::new();
                    for ((id, load), read) in ids.into_iter().zip(loads).zip(read) {
                        match read.map(|known| load.finish(known)) {
                            Ok(Loaded::Known(known)) => answers.push((id, Ok(known))),
                            Ok(Loaded::Outdated) => outdated.push(id),
                            Err(error) => answers.push((id, self.failed(&error))),
                        }
                    }
                    ids = outdated;
                }
                Err(error) => {
                    let answer = self.failed(&error);
                    answers.extend(ids.drain(..).map(|id| (id, answer.clone())));
                }
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        for (_, answer) in &answers {
            self.count(answer, seconds);
        }
        answers
    }

    fn failed(&self, error: &ReadError) -> Answer {
        match error {
            ReadError::Away | ReadError::NotLoaded => {
                tracing::debug!(%error, "programs cannot be read");
            }
            ReadError::Redis(_) | ReadError::Malformed(..) => {
                tracing::warn!(%error, "programs cannot be read");
            }
        }
        Err(CoreDataUnavailable)
    }

    fn count(&self, answer: &Answer, seconds: f64) {
        self.metrics.programs.load_seconds.observe(seconds);
        let counter = match answer {
            Ok(Known::Absent) => &self.metrics.programs.loads_absent,
            Ok(Known::Program(_) | Known::Deleted(_)) => &self.metrics.programs.loads_found,
            Err(_) => &self.metrics.programs.loads_failed,
        };
        counter.inc();
    }
}
