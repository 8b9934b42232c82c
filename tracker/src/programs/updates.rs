//! Applies updates from Redis pub/sub to L1. A subscription loses what is published while it is broken, so
//! L1 is verified after each new subscription.

use std::sync::Arc;
use std::time::Duration;

use adtrack_proto::program::{Update, replaced_by};
use adtrack_proto::{ProgramId, Version};
use adtrack_runtime::log_sampling::LogSampling;
use adtrack_runtime::redis_access::{RedisAccess, within};
use futures::StreamExt;
use futures::future::join_all;
use jiff::Timestamp;
use redis::aio::{PubSub, PubSubSink};
use redis::{ErrorKind, RedisError};
use tokio_util::sync::CancellationToken;

use super::link::{PING_INTERVAL, RECONNECT, RECONNECT_LOG, RedisLink, TIMEOUT};
use super::loader::{LoadFailure, LoaderHandle};
use super::local::{LocalPrograms, ProgramState, PushOutcome};
use super::redis::{RedisPrograms, StoredVersion};
use crate::flag::Flag;
use crate::metrics::Metrics;

/// The most version checks per round trip.
const VERSIONS_PER_PIPELINE: usize = 500;
/// Pause before a verification that failed is tried again.
const VERIFY_PAUSE: Duration = Duration::from_millis(500);
/// Logs a verification that fails all the time once a minute.
const VERIFY_LOG: LogSampling = LogSampling { first: 1, every: 120 };
/// Logs messages that are not true updates now and then.
const MESSAGE_LOG: LogSampling = LogSampling { first: 5, every: 1_000 };
/// How often Redis is asked whether a doubtful update is true. The first read may have been under way already.
const CONFIRMATIONS: u32 = 2;

/// The task that subscribes to updates.
#[derive(Debug)]
pub struct Updates {
    /// Redis, for the subscription's own connection.
    pub access: RedisAccess,
    /// L1, which the updates go into.
    pub local: LocalPrograms,
    /// For the version checks.
    pub redis: RedisPrograms,
    /// To notice when Redis is replaced.
    pub link: RedisLink,
    /// To reload what the version checks find outdated.
    pub loader: LoaderHandle,
    /// Set while L1 is up to date: subscribed, and verified since.
    pub verified: Flag,
    /// The tracker's metrics.
    pub metrics: Arc<Metrics>,
}

impl Updates {
    /// Subscribes, verifies L1 and applies updates; subscribes again if the subscription is lost; until
    /// `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let result = tokio::select! {
                result = self.access.subscribe() => result,
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
                    self.verified.set(false);
                    self.local.on_unsubscribed();
                    self.metrics.programs.subscribed.set(0);
                }
                Err(error) => {
                    failures += 1;
                    if RECONNECT_LOG.includes(failures) {
                        tracing::warn!(%error, failures, "cannot subscribe to core-data updates");
                    }
                }
            }
            tokio::time::sleep(RECONNECT.delay(failures.max(1))).await;
        }
    }

    /// Applies updates until the subscription breaks; returns the error.
    async fn serve(&self, subscription: PubSub) -> RedisError {
        self.local.on_subscribed();
        self.metrics.programs.subscribed.set(1);
        self.metrics.programs.subscriptions.inc();
        tracing::info!(channel = self.access.channel(), "subscribed to core-data updates");
        let (sink, mut messages) = subscription.split();
        let apply = async {
            while let Some(message) = messages.next().await {
                self.apply(message.get_payload_bytes()).await;
            }
            RedisError::from((ErrorKind::Io, "the connection was closed"))
        };
        // Earlier updates may have been missed, so L1 is verified while new updates are applied. Never ends, so
        // that only an error of the others ends the `select!` below.
        let verify = async {
            self.verify().await;
            std::future::pending().await
        };
        // What was absent just before a loss was noticed may have been lost already.
        let mut loss = self.link.clone();
        let forget_absent = async {
            loop {
                loss.wait_for_loss().await;
                self.local.forget_absent();
            }
        };
        let mut link = self.link.clone();
        tokio::select! {
            error = apply => error,
            error = forget_absent => error,
            error = watch(sink) => error,
            error = verify => error,
            // It may be another server, whose updates this subscription does not get.
            () = link.wait_for_replacement() => {
                RedisError::from((ErrorKind::Io, "the data connection to Redis was replaced"))
            }
        }
    }

    async fn apply(&self, message: &[u8]) {
        let metrics = &self.metrics.programs;
        match Update::from_json(message) {
            Ok(update) => {
                let id = update.core_data.program_id().clone();
                let replaced = replaced_by(message);
                if replaced.is_some() || self.local.is_doubtful(&update.version) {
                    return self.confirm(&id, &update.version, replaced).await;
                }
                match self.local.push(id, ProgramState::of(update)) {
                    PushOutcome::Applied => metrics.updates_applied.inc(),
                    PushOutcome::Older => metrics.updates_ignored.inc(),
                    PushOutcome::NotHeld => metrics.updates_not_held.inc(),
                }
            }
            Err(error) => {
                metrics.updates_malformed.inc();
                if is_logged(metrics.updates_malformed.get()) {
                    tracing::warn!(%error, channel = self.access.channel(), "a message is not a valid core-data update");
                }
            }
        }
    }

    /// Reads a program from Redis instead of believing a message: a true update was stored before it was published,
    /// with the version that it replaces. Updates wait for it, so that they stay in order.
    async fn confirm(&self, id: &ProgramId, version: &Version, replaced: Option<Version>) {
        let metrics = &self.metrics.programs;
        if let Some(replaced) = &replaced {
            self.local.distrust_loads(id, replaced);
        }
        if !self.local.holds(id) {
            return metrics.updates_not_held.inc();
        }
        if replaced.is_some()
            && let Some(held) = self.local.get(id).and_then(|held| held.state.version().cloned())
        {
            // A failure is noticed below.
            let _ = self.verify_chunk(vec![(id.clone(), held)], 1).await;
        }
        for _ in 0..CONFIRMATIONS {
            let read = self.loader.reload(id).await;
            let current = read.as_ref().ok().and_then(ProgramState::version);
            if current.is_some_and(|current| !self.local.is_newer(version, current)) {
                let is_same = current == Some(version);
                if is_same || !self.local.is_doubtful(version) {
                    let counter =
                        if is_same { &metrics.updates_applied } else { &metrics.updates_ignored };
                    return counter.inc();
                }
            }
        }
        metrics.updates_unconfirmed.inc();
        if is_logged(metrics.updates_unconfirmed.get()) {
            tracing::error!(
                program = %id,
                %version,
                channel = self.access.channel(),
                "a message announces a version that Redis does not hold; it was forged, or Redis cannot be read"
            );
        }
    }

    /// Drops a version that cannot be true.
    fn retract(&self, id: &ProgramId, version: &Version) {
        if self.local.retract(id, version) {
            tracing::warn!(program = %id, %version, "dropped a version that the stream cannot have given");
        }
    }

    /// Compares the version of every entry of L1 with Redis, and reloads those that are newer in Redis.
    /// Requests meanwhile ask Redis anyway, because entries are not fresh until they are verified.
    async fn verify(&self) {
        let mut link = self.link.clone();
        let mut left = self.local.versions();
        let (entries, mut failures) = (left.len(), 0);
        while !left.is_empty() {
            link.wait_until_connected().await;
            let chunk = left.split_off(left.len().saturating_sub(VERSIONS_PER_PIPELINE));
            let unverified = self.verify_chunk(chunk, failures + 1).await;
            if !unverified.is_empty() {
                failures += 1;
                left.extend(unverified);
                tokio::time::sleep(VERIFY_PAUSE).await;
            }
        }
        self.local.on_verified();
        self.verified.set(true);
        self.metrics.programs.verifications.inc();
        self.metrics.programs.verified_at.set(Timestamp::now().as_second());
        tracing::info!(entries, "L1 is verified against Redis");
    }

    /// Returns the entries that could not be verified in this `attempt`.
    async fn verify_chunk(
        &self,
        chunk: Vec<(ProgramId, Version)>,
        attempt: u32,
    ) -> Vec<(ProgramId, Version)> {
        let ids: Vec<_> = chunk.iter().map(|(id, _)| id.clone()).collect();
        let stored = match self.redis.versions(&ids).await {
            Ok(stored) => stored,
            Err(error) => {
                if VERIFY_LOG.includes(attempt) {
                    tracing::warn!(%error, attempt, "the verification of L1 failed; trying again");
                }
                return chunk;
            }
        };
        let checks = chunk.into_iter().zip(stored).map(|((id, held), stored)| async move {
            (!self.is_current(&id, &held, stored).await).then_some((id, held))
        });
        join_all(checks).await.into_iter().flatten().collect()
    }

    /// Reloads the program if Redis has another version, or has replaced the `held` one. Returns whether L1 is up
    /// to date then: as far as it can be, if what Redis holds cannot be used.
    async fn is_current(&self, id: &ProgramId, held: &Version, stored: StoredVersion) -> bool {
        let is_replaced = stored.replaced.as_ref() == Some(held);
        if is_replaced {
            self.retract(id, held);
        }
        let version = stored.version.filter(|version| is_replaced || version != held);
        if version.is_none() && !stored.is_foreign {
            return true;
        }
        match self.loader.reload(id).await {
            // The read may have been under way already, and have found an older version.
            Ok(state) => version.is_none_or(|stored| {
                state.version().is_some_and(|current| !self.local.is_newer(&stored, current))
            }),
            Err(LoadFailure::Invalid) => true,
            Err(LoadFailure::Unavailable) => false,
        }
    }
}

fn is_logged(count: u64) -> bool {
    MESSAGE_LOG.includes(u32::try_from(count).unwrap_or(u32::MAX))
}

/// Pings until a ping fails; returns why.
async fn watch(mut sink: PubSubSink) -> RedisError {
    loop {
        tokio::time::sleep(PING_INTERVAL).await;
        if let Err(error) = within(TIMEOUT, sink.ping::<redis::Value>()).await {
            return error;
        }
    }
}
