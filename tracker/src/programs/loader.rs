//! Reads programs from Redis on a miss: once per program however many requests wait for it, many programs
//! in a round trip, with a bound on round trips. A task of its own, so that a request whose client
//! disconnects does not cancel a read that others wait for.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use adtrack_proto::ProgramId;
use adtrack_runtime::log_sampling::LogSampling;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::local::{Contradiction, LoadOutcome, LocalPrograms, ProgramState, Stage};
use super::redis::{ReadError, RedisPrograms};
use crate::metrics::Metrics;

/// Maximum number of round trips to Redis in flight.
const MAX_LOADS: usize = 32;
/// Maximum number of programs in a round trip.
const MAX_IDS: usize = 64;
/// Maximum number of requests in the loader's queue. Further loads fail at once.
const MAX_WAITING: usize = 16_384;

/// Logs a program that is requested all the time, and that Redis does not hold as it should, only now and then.
const PROBLEM_LOG: LogSampling = LogSampling { first: 5, every: 1_000 };

/// The outcome of a load.
pub type LoadResult = Result<ProgramState, LoadFailure>;

/// Why a program is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadFailure {
    /// Redis cannot be read, or does not hold the core data that it should.
    Unavailable,
    /// What Redis holds for it is not a valid program.
    Invalid,
}

/// A handle to the loader.
#[derive(Debug, Clone)]
pub struct LoaderHandle {
    requests: mpsc::Sender<LoadRequest>,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct LoadRequest {
    id: ProgramId,
    /// Whether a fresh entry of L1 will do.
    or_cached: bool,
    reply: oneshot::Sender<LoadResult>,
}

/// The task that reads Redis.
#[derive(Debug)]
pub struct Loader {
    requests: mpsc::Receiver<LoadRequest>,
    local: LocalPrograms,
    redis: RedisPrograms,
    metrics: Arc<Metrics>,
}

impl LoaderHandle {
    /// Loads `id` into L1 after a miss, and returns what is known of it.
    pub async fn load(&self, id: &ProgramId) -> LoadResult {
        self.request(id, true).await
    }

    /// Loads `id` from Redis, whatever L1 holds, and returns what is known of it.
    pub async fn reload(&self, id: &ProgramId) -> LoadResult {
        self.request(id, false).await
    }

    async fn request(&self, id: &ProgramId, or_cached: bool) -> LoadResult {
        let (reply, response) = oneshot::channel();
        let request = LoadRequest { id: id.clone(), or_cached, reply };
        if self.requests.try_send(request).is_err() {
            self.metrics.programs.loads_rejected.inc();
            return Err(LoadFailure::Unavailable);
        }
        // The loader replies to every request, unless it has ended.
        response.await.unwrap_or(Err(LoadFailure::Unavailable))
    }
}

impl Loader {
    /// A loader that reads `redis` into `local`, and its handle.
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
        let mut waiting: HashMap<ProgramId, Vec<oneshot::Sender<LoadResult>>> = HashMap::new();
        let mut loads = FuturesUnordered::new();
        let source = Source { local: &self.local, redis: &self.redis, metrics: &self.metrics };
        loop {
            tokio::select! {
                Some(loaded) = loads.next() => {
                    for (id, result) in loaded {
                        for waiter in waiting.remove(&id).unwrap_or_default() {
                            // Nobody receives it if the client has disconnected.
                            let _ = waiter.send(LoadResult::clone(&result));
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

/// Adds `requests` to those that wait. Returns the ids that nobody was waiting for.
fn admit(
    requests: &mut Vec<LoadRequest>,
    waiting: &mut HashMap<ProgramId, Vec<oneshot::Sender<LoadResult>>>,
    local: &LocalPrograms,
) -> Vec<ProgramId> {
    let mut ids = Vec::with_capacity(requests.len());
    for LoadRequest { id, or_cached, reply } in requests.drain(..) {
        // An earlier load of the program may have completed while this request was queued.
        if or_cached && let Some(cached) = local.get_fresh(&id) {
            let _ = reply.send(Ok(cached.state));
            continue;
        }
        let waiters = waiting.entry(id.clone()).or_default();
        if waiters.is_empty() {
            ids.push(id);
        }
        waiters.push(reply);
    }
    ids
}

fn is_logged(count: u64) -> bool {
    PROBLEM_LOG.includes(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What a load needs: where programs are read from, and what they are stored in.
#[derive(Clone, Copy)]
struct Source<'a> {
    local: &'a LocalPrograms,
    redis: &'a RedisPrograms,
    metrics: &'a Metrics,
}

impl Source<'_> {
    /// Reads `ids` in one round trip. Repeats loads that a new subscription made outdated.
    async fn load(self, mut ids: Vec<ProgramId>) -> Vec<(ProgramId, LoadResult)> {
        let started_at = Instant::now();
        let mut results = Vec::with_capacity(ids.len());
        while !ids.is_empty() {
            let loads: Vec<_> = ids.iter().map(|id| self.local.begin_load(id.clone())).collect();
            match self.redis.read(&ids).await {
                Ok(read) => {
                    let mut outdated = Vec::new();
                    for ((id, load), read) in ids.into_iter().zip(loads).zip(read) {
                        match read.map(|state| load.finish(state)) {
                            Ok(LoadOutcome::Current(state)) => results.push((id, Ok(state))),
                            Ok(LoadOutcome::Contradicted(state, contradiction)) => {
                                self.report_contradiction(&id, &contradiction);
                                results.push((id, Ok(state)));
                            }
                            Ok(LoadOutcome::Outdated) => outdated.push(id),
                            Err(error) => results.push((id, self.report_failure(&error))),
                        }
                    }
                    ids = outdated;
                }
                Err(error) => {
                    let result = self.report_failure(&error);
                    results.extend(ids.drain(..).map(|id| (id, result.clone())));
                }
            }
        }
        let seconds = started_at.elapsed().as_secs_f64();
        for (_, result) in &results {
            self.count(result, seconds);
        }
        results
    }

    fn report_failure(&self, error: &ReadError) -> LoadResult {
        match error {
            ReadError::Unavailable | ReadError::NotLoaded => {
                tracing::debug!(%error, "programs cannot be read");
            }
            ReadError::Redis(_) => {
                if is_logged(self.metrics.programs.loads_failed.get() + 1) {
                    tracing::warn!(%error, "programs cannot be read");
                }
            }
            ReadError::Malformed(..) | ReadError::NotAHash(_) | ReadError::OfAnother(..) => {
                let invalid = &self.metrics.programs.loads_invalid;
                invalid.inc();
                if is_logged(invalid.get()) {
                    tracing::error!(%error, "Redis holds an invalid program, which gets 503; publish it again");
                }
                return Err(LoadFailure::Invalid);
            }
        }
        Err(LoadFailure::Unavailable)
    }

    fn report_contradiction(&self, program: &ProgramId, contradiction: &Contradiction) {
        let Contradiction { held, stored, stage } = contradiction;
        let metrics = &self.metrics.programs;
        match stage {
            Stage::New => {
                metrics.contradictions_found.inc();
                if is_logged(metrics.contradictions_found.get()) {
                    tracing::error!(
                        %program, %held, %stored,
                        "Redis holds an older version of a program than this tracker: one of them is forged, or \
                         Redis has lost updates. If Redis still holds it in a minute, the tracker will take it"
                    );
                }
            }
            Stage::Known => {}
            Stage::Resolved => {
                metrics.contradictions_resolved.inc();
                if is_logged(metrics.contradictions_resolved.get()) {
                    tracing::warn!(%program, %held, %stored, "took the older version, which Redis still holds");
                }
            }
        }
    }

    fn count(&self, result: &LoadResult, seconds: f64) {
        self.metrics.programs.load_seconds.observe(seconds);
        let counter = match result {
            Ok(ProgramState::Absent) => &self.metrics.programs.loads_absent,
            Ok(ProgramState::Program(_) | ProgramState::Deleted(_)) => {
                &self.metrics.programs.loads_found
            }
            Err(_) => &self.metrics.programs.loads_failed,
        };
        counter.inc();
    }
}
