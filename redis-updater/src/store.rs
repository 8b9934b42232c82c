//! Stores programs in Redis and publishes updates.

use std::time::Duration;

use adtrack_proto::program::Update;
use adtrack_runtime::redis_access::{
    BoundedUpdate, RedisAccess, RedisConnection, RedisTimeouts, is_full,
};
use redis::RedisResult;
use tokio::sync::Mutex;

/// Updates per round trip. At about 1 KB each, half a megabyte.
const UPDATES_PER_PIPELINE: usize = 500;
/// Timeouts of calls. `response` is for a whole pipeline.
pub const TIMEOUTS: RedisTimeouts =
    RedisTimeouts { connect: Duration::from_secs(2), response: Duration::from_secs(5) };
/// How long a replica may take to confirm a write.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(1);

/// Redis, through one connection that is kept as long as the function's sandbox lives.
pub struct ProgramStore {
    access: RedisAccess,
    connection: Mutex<Option<RedisConnection>>,
}

/// The outcome of storing an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Redis and, if there is one, a replica have it, and it is published.
    Stored,
    /// Redis holds a newer version, so there is nothing to do.
    Superseded,
    /// Redis did not take it; a retry may succeed.
    Failed(String),
}

impl ProgramStore {
    /// Connects by `access` on first use.
    pub fn new(access: RedisAccess) -> Self {
        Self { access, connection: Mutex::new(None) }
    }

    /// Stores and publishes `updates` as [`Self::store_bounded`] does, without bounds.
    pub async fn store(&self, updates: &[Update]) -> Vec<StoreOutcome> {
        let updates: Vec<_> = updates.iter().cloned().map(BoundedUpdate::from).collect();
        self.store_bounded(&updates).await
    }

    /// Stores and publishes `updates`. Returns an outcome for each, in their order.
    ///
    /// If the connection of the last invocation fails, connects again and sends all updates once more;
    /// their versions make that harmless. Stops after a pipeline of which Redis stored nothing.
    pub async fn store_bounded(&self, updates: &[BoundedUpdate]) -> Vec<StoreOutcome> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.take() {
            let attempt = self.store_through(&connection, updates).await;
            if attempt.is_connection_good() {
                *held = Some(connection);
                return attempt.outcomes;
            }
            // Its server may be gone, or may be a primary that became a replica.
            tracing::debug!("Redis failed on an earlier invocation's connection; connecting again");
        }
        let connection = match self.access.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                let problem = format!("Redis cannot be reached: {error}");
                return vec![StoreOutcome::Failed(problem); updates.len()];
            }
        };
        let attempt = self.store_through(&connection, updates).await;
        if attempt.is_connection_good() {
            *held = Some(connection);
        }
        attempt.outcomes
    }

    async fn store_through(
        &self,
        connection: &RedisConnection,
        updates: &[BoundedUpdate],
    ) -> Attempt {
        let mut attempt = Attempt { outcomes: Vec::with_capacity(updates.len()), is_full: false };
        let mut chunks = updates.chunks(UPDATES_PER_PIPELINE);
        for chunk in chunks.by_ref() {
            let responses = connection.store(chunk, self.access.channel()).await;
            if let Some(problem) = attempt.add(responses, chunk.len()) {
                // Redis would not store the rest either.
                attempt.outcomes.resize(updates.len(), StoreOutcome::Failed(problem));
                break;
            }
        }
        if attempt.outcomes.iter().all(|outcome| matches!(outcome, StoreOutcome::Failed(_))) {
            return attempt;
        }
        // A failover to a replica that lacks the updates would lose what was reported as stored.
        if let Err(error) = connection.wait_for_replicas(REPLICA_TIMEOUT).await {
            let problem = format!("the batch is not safe in Redis: {error}");
            attempt.outcomes.fill(StoreOutcome::Failed(problem));
            attempt.is_full = false;
        }
        attempt
    }
}

/// The outcomes of one attempt to store updates through one connection.
struct Attempt {
    outcomes: Vec<StoreOutcome>,
    /// Redis refused some because it is full.
    is_full: bool,
}

impl Attempt {
    /// Whether to keep the connection: nothing failed, or only because Redis is full.
    fn is_connection_good(&self) -> bool {
        self.is_full
            || !self.outcomes.iter().any(|outcome| matches!(outcome, StoreOutcome::Failed(_)))
    }

    /// Adds the outcomes of `count` updates, from the responses to their pipeline. Returns the problem if
    /// Redis stored none of them.
    fn add(
        &mut self,
        responses: RedisResult<Vec<RedisResult<bool>>>,
        count: usize,
    ) -> Option<String> {
        let problem = match responses {
            Ok(responses) if responses.len() == count => {
                let added = self.outcomes.len();
                for response in responses {
                    self.is_full |= response.as_ref().is_err_and(is_full);
                    self.outcomes.push(match response {
                        Ok(true) => StoreOutcome::Stored,
                        Ok(false) => StoreOutcome::Superseded,
                        Err(error) if is_full(&error) => StoreOutcome::Failed(format!(
                            "Redis is full, raise its memory: {error}"
                        )),
                        Err(error) => StoreOutcome::Failed(error.to_string()),
                    });
                }
                let mut problems = self.outcomes[added..].iter().map(|outcome| match outcome {
                    StoreOutcome::Failed(problem) => Some(problem.clone()),
                    StoreOutcome::Stored | StoreOutcome::Superseded => None,
                });
                let first = problems.next().flatten();
                return first.filter(|_| problems.all(|problem| problem.is_some()));
            }
            Ok(responses) => {
                format!("Redis gave {} responses to {count} commands", responses.len())
            }
            Err(error) => format!("a pipeline failed: {error}"),
        };
        let outcomes = self.outcomes.len() + count;
        self.outcomes.resize(outcomes, StoreOutcome::Failed(problem.clone()));
        Some(problem)
    }
}

#[cfg(test)]
mod tests {
    use redis::{ErrorKind, RedisError};

    use super::*;

    fn empty() -> Attempt {
        Attempt { outcomes: Vec::new(), is_full: false }
    }

    fn broken() -> RedisError {
        RedisError::from((ErrorKind::Io, "broken"))
    }

    fn full() -> RedisError {
        let message = "OOM command not allowed when used memory > 'maxmemory'.".to_owned();
        RedisError::from((ErrorKind::Extension, "OOM", message))
    }

    fn problem(outcome: &StoreOutcome) -> &str {
        match outcome {
            StoreOutcome::Failed(problem) => problem,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn each_update_has_the_outcome_of_its_response() {
        let mut attempt = empty();
        assert_eq!(attempt.add(Ok(vec![Ok(true), Ok(false)]), 2), None);
        assert!(attempt.is_connection_good());
        assert_eq!(attempt.add(Ok(vec![Ok(true), Err(broken())]), 2), None, "one is stored");
        assert_eq!(
            attempt.outcomes[..3],
            [StoreOutcome::Stored, StoreOutcome::Superseded, StoreOutcome::Stored]
        );
        let problem = problem(&attempt.outcomes[3]);
        assert!(problem.contains("broken") && !problem.contains("full"), "{problem}");
        assert!(!attempt.is_connection_good(), "another connection may do better");
    }

    #[test]
    fn full_redis_keeps_its_connection() {
        let mut attempt = empty();
        assert_eq!(attempt.add(Ok(vec![Ok(true), Err(full())]), 2), None);
        assert!(problem(&attempt.outcomes[1]).starts_with("Redis is full, raise its memory"));
        assert_eq!(attempt.add(Ok(vec![Ok(true)]), 1), None);
        assert!(attempt.is_full && attempt.is_connection_good());
    }

    #[test]
    fn reports_the_first_problem_if_nothing_is_stored() {
        let mut attempt = empty();
        assert_eq!(attempt.add(Ok(vec![Ok(true)]), 1), None);
        let found = attempt.add(Ok(vec![Err(full()), Err(broken())]), 2).unwrap();
        assert_eq!(found, problem(&attempt.outcomes[1]));
    }

    #[test]
    fn all_updates_of_a_failed_pipeline_fail() {
        for (responses, expected) in [
            (Ok(vec![Ok(true)]), "Redis gave 1 responses to 2 commands"),
            (Err(broken()), "a pipeline failed: broken"),
        ] {
            let mut attempt = empty();
            assert_eq!(attempt.add(Ok(vec![Ok(true)]), 1), None);
            let found = attempt.add(responses, 2).unwrap();
            assert!(found.starts_with(expected), "{found}");
            assert_eq!(attempt.outcomes.len(), 3);
            assert!(attempt.outcomes[1..].iter().all(|outcome| problem(outcome) == found));
            assert!(!attempt.is_connection_good());
        }
    }
}
