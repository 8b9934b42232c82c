//! Updates into L1 by Redis pub/sub. A subscription loses what is published while it is broken, so
//! L1 is verified whenever it is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use adtrack_proto::program::Update;
use adtrack_proto::{ProgramId, Version};
use futures::StreamExt;
use jiff::Timestamp;
use redis::aio::{PubSub, PubSubSink};
use redis::{Client, ErrorKind, RedisError, RedisResult};
use tokio_util::sync::CancellationToken;

use super::link::{PING_INTERVAL, RECONNECT, RedisLink, TIMEOUT};
use super::loader::LoaderHandle;
use super::local::{Known, LocalPrograms};
use super::redis::RedisPrograms;
use crate::metrics::Metrics;

/// Version checks per round trip.
const VERSIONS_PER_PIPELINE: usize = 500;
/// Between two tries of a verification that Redis broke off.
const VERIFY_PAUSE: Duration = Duration::from_millis(500);

/// The subscription.
#[derive(Debug)]
pub struct Updates {
    /// Redis, by a connection of its own.
    pub client: Client,
    /// The channel.
    pub channel: String,
    /// What the updates go into.
    pub local: LocalPrograms,
    /// For the version checks.
    pub redis: RedisPrograms,
    /// Whether Redis can be read.
    pub link: RedisLink,
    /// For what the version checks find outdated.
    pub loader: LoaderHandle,
    /// Whether L1 is known to be up to date: subscribed, and verified since.
    pub verified: Arc<AtomicBool>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Updates {
    /// Subscribes, verifies, applies, and subscribes anew, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                result = self.subscribe() => result,
                () = stop.cancelled() => return,
            };
            match result {
                Ok(subscription) => {
                    failures = 0;
                    tokio::select! {
                        error = self.serve(subscription) => {
                            tracing::warn!(%error, "the subscription is lost; core-data updates are missed until it is back");
                        }
                        () = stop.cancelled() => return,
                    }
                    self.verified.store(false, Ordering::Relaxed);
                    self.metrics.subscribed.set(0);
                }
                Err(error) => {
                    failures += 1;
                    // A long outage is not a log line a second.
                    if failures == 1 || failures % 60 == 0 {
                        tracing::warn!(%error, failures, "cannot subscribe to core-data updates");
                    }
                }
            }
            tokio::time::sleep(RECONNECT.delay(failures.max(1))).await;
        }
    }

    async fn subscribe(&self) -> RedisResult<PubSub> {
        let subscribe = async {
            let mut subscription = self.client.get_async_pubsub().await?;
            subscription.subscribe(&self.channel).await?;
            Ok(subscription)
        };
        within(TIMEOUT, subscribe).await
    }

    /// Applies updates until the subscription is dead; returns why.
    async fn serve(&self, subscription: PubSub) -> RedisError {
        self.metrics.subscribed.set(1);
        self.metrics.subscriptions.inc();
        tracing::info!(channel = self.channel, "subscribed to core-data updates");
        let (sink, mut messages) = subscription.split();
        let apply = async {
            while let Some(message) = messages.next().await {
                self.apply(message.get_payload_bytes());
            }
            RedisError::from((ErrorKind::Io, "the connection was closed"))
        };
        // What was published before now is missed: L1 is verified, beside the updates.
        let verify = async {
            self.verify().await;
            std::future::pending().await
        };
        tokio::select! {
            error = apply => error,
            error = watch(sink) => error,
            error = verify => error,
        }
    }

    fn apply(&self, message: &[u8]) {
        match Update::from_json(message) {
            Ok(update) => {
                let id = update.core_data.program_id().clone();
                let (_, changed) = self.local.offer(id, Known::of(update));
                let counter = if changed {
                    &self.metrics.updates_applied
                } else {
                    &self.metrics.updates_ignored
                };
                counter.inc();
            }
            Err(error) => {
                self.metrics.updates_malformed.inc();
                tracing::warn!(%error, channel = self.channel, "a message is no core-data update");
            }
        }
    }

    /// Compares the version of every entry of L1 with Redis, and reads what Redis has newer.
    async fn verify(&self) {
        let mut link = self.link.clone();
        self.local.forget_absent();
        let mut left = self.local.versions();
        while !left.is_empty() {
            link.connected().await;
            let chunk = left.split_off(left.len().saturating_sub(VERSIONS_PER_PIPELINE));
            let ids: Vec<_> = chunk.iter().map(|(id, _)| id.clone()).collect();
            match self.redis.versions(&ids).await {
                Ok(versions) => {
                    let before = left.len();
                    for ((id, held), stored) in chunk.into_iter().zip(versions) {
                        if !self.is_current(&id, &held, stored).await {
                            left.push((id, held));
                        }
                    }
                    if left.len() > before {
                        tokio::time::sleep(VERIFY_PAUSE).await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the verification of L1 is interrupted");
                    left.extend(chunk);
                    tokio::time::sleep(VERIFY_PAUSE).await;
                }
            }
        }
        self.verified.store(true, Ordering::Relaxed);
        self.metrics.verifications.inc();
        self.metrics.verified_at.set(Timestamp::now().as_second());
        tracing::info!("L1 is verified against Redis");
    }
}

impl Updates {
    /// Whether L1 holds what Redis has `stored` or newer, after a read of it where it did not.
    async fn is_current(&self, id: &ProgramId, held: &Version, stored: Option<Version>) -> bool {
        let Some(stored) = stored.filter(|stored| stored > held) else { return true };
        let read = self.loader.reload(id).await;
        read.is_ok_and(|known| known.version().is_some_and(|version| *version >= stored))
    }
}

/// Pings until no answer comes; returns why.
async fn watch(mut sink: PubSubSink) -> RedisError {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if let Err(error) = within(TIMEOUT, sink.ping::<redis::Value>()).await {
            return error;
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "no answer in time"))))
}
