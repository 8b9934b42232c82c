//! Keeps ECS from ending this task, by a scale-in or a deployment, while events wait in its journal:
//! the disk goes with the task. By the endpoint of the task's own agent:
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

/// For how long one call protects. Short, for AWS takes up to 48 hours: of a tracker that dies nobody
/// takes the protection back, and deployments wait for its end.
const PROTECTED: Duration = Duration::from_secs(MINUTES * 60);
const MINUTES: u64 = 10;
/// After so long it is set anew; what is left is time for calls that fail.
const RENEWAL: Duration = Duration::from_secs(4 * 60);
/// Between two looks at the journal's age.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Of a call. The agent asks ECS before it answers.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Between calls that fail: no more than one a minute, once an outage lasts.
const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), ceiling: Duration::from_secs(60) };
/// Of failures in a row, the first is logged and then one of so many.
const FAILURES_LOG: LogSampling = LogSampling { first: 1, every: 20 };
/// What a log line shows of an answer, in characters.
const MAX_SHOWN: usize = 300;

/// The task that protects the ECS task.
#[derive(Debug)]
pub struct TaskProtection {
    agent: reqwest::Client,
    url: String,
    after: Duration,
    journal: Journal,
    metrics: Arc<Metrics>,
    wanted: bool,
    known: Known,
    failures: u32,
    retry_at: Option<Instant>,
}

/// What is known of the protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Off,
    On {
        since: Instant,
    },
    /// A call whose end is not known, or a process before this one, may have set it.
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
    /// Protects this task while the oldest event of `journal` is `after` old or older, by the agent at
    /// `agent` (`ECS_AGENT_URI`). Fails where no HTTP client can be made.
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
            // Taking back what perhaps is not set costs one call, and shows at the start, not in an
            // outage, whether the role allows it.
            known: Known::Unclear { since: Instant::now() },
            failures: 0,
            retry_at: None,
        })
    }

    /// Watches the journal until `stop`; then takes the protection back, where the journal is empty. Where
    /// it is not, a container that starts again in this task may still deliver it.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.watch()).await;
        if self.journal.used_bytes() == 0 && self.known.calls_for(false, Instant::now()) {
            self.set(false).await;
        }
    }

    async fn watch(&mut self) {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        let age = self.metrics.delivery.journal_oldest_seconds.get();
        let wanted = wants(self.wanted, age, self.after.as_secs_f64());
        if wanted != self.wanted {
            self.wanted = wanted;
            self.failures = 0;
            self.retry_at = None;
        }
        let now = Instant::now();
        let waits = self.retry_at.is_some_and(|at| now < at);
        if !waits && self.known.calls_for(wanted, now) {
            self.set(wanted).await;
        }
    }

    async fn set(&mut self, protect: bool) {
        if protect {
            // It may take effect even if its answer is never seen.
            self.known = Known::Unclear { since: Instant::now() };
        }
        match self.call(protect).await {
            Ok(()) => {
                self.failures = 0;
                self.retry_at = None;
                let since = Instant::now();
                self.known = if protect { Known::On { since } } else { Known::Off };
                let was = self.metrics.task.protected.get() == 1;
                self.metrics.task.protected.set(i64::from(protect));
                if was != protect {
                    tracing::info!(protect, "the ECS task's protection from scale-in was set");
                }
            }
            Err(error) => self.failed(protect, &error),
        }
    }

    fn failed(&mut self, protect: bool, error: &AgentError) {
        self.metrics.task.protection_failed.inc();
        self.failures += 1;
        self.retry_at = Some(Instant::now() + BACKOFF.bound(self.failures));
        if FAILURES_LOG.includes(self.failures) {
            tracing::error!(
                %error,
                protect,
                failures = self.failures,
                "the ECS task's protection from scale-in cannot be set, and is tried again: its role \
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
        let answer = response.text().await?;
        // A failure of ECS is told by the body, not always by the status.
        let set = serde_json::from_str::<Value>(&answer)
            .is_ok_and(|answer| answer["protection"]["ProtectionEnabled"] == protect);
        if status.is_success() && set {
            Ok(())
        } else {
            Err(AgentError::Refused(status, answer.chars().take(MAX_SHOWN).collect()))
        }
    }
}

/// Whether the task is to be protected, while `age` seconds are the journal's and `after` the limit.
/// Taken back well below the limit, so that an age about it does not switch to and fro.
fn wants(wanted: bool, age: f64, after: f64) -> bool {
    age >= if wanted { after / 2.0 } else { after }
}

impl Known {
    /// Whether a call is due, for the protection to be as `wanted` at `now`. What is not taken back ends
    /// by itself, so that calls which do so end, too.
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
    fn it_is_renewed_before_it_ends_and_taken_back_until_it_has() {
        let since = Instant::now();
        let minutes = |minutes: u64| since + Duration::from_secs(minutes * 60);
        let on = Known::On { since };
        let due = [0, 3, 4, 9].map(|after| on.calls_for(true, minutes(after)));
        assert_eq!(due, [false, false, true, true]);
        for known in [on, Known::Unclear { since }] {
            let due = [0, 9, 10, 60].map(|after| known.calls_for(false, minutes(after)));
            assert_eq!(due, [true, true, false, false]);
        }
        assert!(Known::Unclear { since }.calls_for(true, since));
        assert!(Known::Off.calls_for(true, since) && !Known::Off.calls_for(false, since));
    }

    #[test]
    fn an_age_about_the_limit_does_not_switch_to_and_fro() {
        let mut wanted = false;
        let states = [0.0, 29.9, 30.0, 29.0, 16.0, 31.0, 14.0, 29.0].map(|age| {
            wanted = wants(wanted, age, 30.0);
            wanted
        });
        assert_eq!(states, [false, false, true, true, true, true, false, false]);
    }
}
