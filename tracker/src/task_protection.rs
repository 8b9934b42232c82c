//! Keeps ECS from stopping this task (scale-in, deployment) while events wait in its journal, whose disk
//! goes with the task. Uses the endpoint of the task's own agent:
//! <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html>.

use std::sync::Arc;
use std::time::Duration;

use adtrack_runtime::backoff::Backoff;
use adtrack_runtime::log_sampling::LogSampling;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::delivery::Journal;
use crate::metrics::Metrics;

/// How long one call protects the task. AWS allows 48 hours, but if a tracker dies, nobody removes its
/// protection and deployments wait until it expires.
const PROTECTED: Duration = Duration::from_secs(MINUTES * 60);
const MINUTES: u64 = 10;
/// Protection is renewed after this time. The rest is time for calls that fail.
const RENEWAL: Duration = Duration::from_secs(4 * 60);
/// Time between two checks of the journal's age.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a call. The agent asks ECS before it responds.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between failed calls: at most one call per minute in a long outage.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), ceiling: Duration::from_secs(60) };
/// Logs the first of consecutive failures, then every 20th.
const FAILURES_LOG: LogSampling = LogSampling { first: 1, every: 20 };
/// The most characters of a response that a log line shows.
const MAX_LOGGED_CHARS: usize = 300;

/// The task that protects the ECS task.
#[derive(Debug)]
pub struct TaskProtection {
    agent: reqwest::Client,
    url: String,
    after: Duration,
    journal: Journal,
    metrics: Arc<Metrics>,
    wanted: bool,
    protection: Protection,
    failures: u32,
    retry_at: Option<Instant>,
}

/// What is known about the protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    Off,
    On {
        since: Instant,
    },
    /// A call whose outcome is unknown, or an earlier process, may have set it.
    Unclear {
        since: Instant,
    },
}

#[derive(Debug, thiserror::Error)]
enum AgentError {
    #[error("{0}")]
    Call(#[from] reqwest::Error),
    #[error("status {0}: {1}")]
    Refused(StatusCode, String),
}

impl TaskProtection {
    /// Protects this task through the agent at `agent` (`ECS_AGENT_URI`) while the oldest event of `journal`
    /// is `after` old or older. Fails if no HTTP client can be made.
    pub fn new(
        agent: &Url,
        after: Duration,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            // The agent is on a link-local address, which no proxy reaches.
            agent: reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?,
            url: format!("{}/task-protection/v1/state", agent.as_str().trim_end_matches('/')),
            after,
            journal,
            metrics,
            wanted: false,
            // So the first thing is to remove a protection that may not be set. That costs one call, and
            // shows at the start, not in an outage, whether the role allows it.
            protection: Protection::Unclear { since: Instant::now() },
            failures: 0,
            retry_at: None,
        })
    }

    /// Watches the journal until `stop`, then removes the protection if the journal is empty. If it is not,
    /// a container that restarts in this task may still deliver its events.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
        if self.journal.used_bytes() == 0 && self.protection.calls_for(false, Instant::now()) {
            self.set(false).await;
        }
    }

    async fn watch(&mut self) {
        let mut tick = tokio::time::interval(CHECK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.check_journal().await;
        }
    }

    async fn check_journal(&mut self) {
        let age = self.journal.oldest_age();
        let wanted = wants_protection(self.wanted, age, self.after);
        if wanted != self.wanted {
            self.wanted = wanted;
            self.failures = 0;
            self.retry_at = None;
        }
        let now = Instant::now();
        let waits = self.retry_at.is_some_and(|at| now < at);
        if !waits && self.protection.calls_for(wanted, now) {
            self.set(wanted).await;
        }
    }

    async fn set(&mut self, protect: bool) {
        if protect {
            // The call may take effect even if its response never arrives.
            self.protection = Protection::Unclear { since: Instant::now() };
        }
        match self.call(protect).await {
            Ok(()) => {
                self.failures = 0;
                self.retry_at = None;
                let since = Instant::now();
                self.protection = if protect { Protection::On { since } } else { Protection::Off };
                let was = self.metrics.task.protected.get() == 1;
                self.metrics.task.protected.set(i64::from(protect));
                if was != protect {
                    tracing::info!(protect, "the ECS task's protection from scale-in was set");
                }
            }
            Err(error) => self.on_failure(protect, &error),
        }
    }

    fn on_failure(&mut self, protect: bool, error: &AgentError) {
        self.metrics.task.protection_failed.inc();
        self.failures += 1;
        self.retry_at = Some(Instant::now() + BACKOFF.bound(self.failures));
        if FAILURES_LOG.includes(self.failures) {
            tracing::error!(
                %error,
                protect,
                failures = self.failures,
                "the ECS task's protection from scale-in cannot be set; trying again. The task's role \
                 needs ecs:UpdateTaskProtection on the cluster's tasks"
            );
        }
    }

    async fn call(&self, protect: bool) -> Result<(), AgentError> {
        let state = if protect {
            json!({"ProtectionEnabled": true, "ExpiresInMinutes": MINUTES})
        } else {
            json!({"ProtectionEnabled": false})
        };
        let response = self.agent.put(&self.url).json(&state).send().await?;
        let status = response.status();
        let body = response.text().await?;
        // The body reports a failure of ECS; the status does not always.
        let is_set = serde_json::from_str::<Value>(&body)
            .is_ok_and(|body| body["protection"]["ProtectionEnabled"] == protect);
        if status.is_success() && is_set {
            Ok(())
        } else {
            Err(AgentError::Refused(status, body.chars().take(MAX_LOGGED_CHARS).collect()))
        }
    }
}

/// Whether to protect the task, given the journal's `age`, and the age `after` which it is. Protection ends
/// well below the limit, so that an age near the limit does not toggle it.
fn wants_protection(wanted: bool, age: Duration, after: Duration) -> bool {
    age >= if wanted { after / 2 } else { after }
}

impl Protection {
    /// Whether a call is due at `now` for the protection to be as `wanted`. Protection expires on its own, so
    /// nothing need be removed after that.
    fn calls_for(self, wanted: bool, now: Instant) -> bool {
        match self {
            Self::Off => wanted,
            Self::On { since } if wanted => now >= since + RENEWAL,
            Self::Unclear { .. } if wanted => true,
            Self::On { since } | Self::Unclear { since } => now < since + PROTECTED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renews_protection_before_it_expires_and_removes_it_until_then() {
        let since = Instant::now();
        let minutes = |minutes: u64| since + Duration::from_secs(minutes * 60);
        let on = Protection::On { since };
        let due = [0, 3, 4, 9].map(|after| on.calls_for(true, minutes(after)));
        assert_eq!(due, [false, false, true, true]);
        for protection in [on, Protection::Unclear { since }] {
            let due = [0, 9, 10, 60].map(|after| protection.calls_for(false, minutes(after)));
            assert_eq!(due, [true, true, false, false]);
        }
        assert!(Protection::Unclear { since }.calls_for(true, since));
        assert!(Protection::Off.calls_for(true, since) && !Protection::Off.calls_for(false, since));
    }

    #[test]
    fn does_not_toggle_near_the_limit() {
        let mut wanted = false;
        let states = [0.0, 29.9, 30.0, 29.0, 16.0, 31.0, 14.0, 29.0].map(|age| {
            wanted =
                wants_protection(wanted, Duration::from_secs_f64(age), Duration::from_secs(30));
            wanted
        });
        assert_eq!(states, [false, false, true, true, true, true, false, false]);
    }
}
