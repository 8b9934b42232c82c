//! Wires adapters to ports, and starts and stops the parts. Only this module connects them.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::Server;
use actix_web::{HttpServer, web};
use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::storage::{self, StorageError};
use aws_config::SdkConfig;
use tokio::net::TcpSocket;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::background::Background;
use crate::config::Config;
use crate::delivery::{
    Delivery, EventStream, Journal, JournalError, JournalWatch, Producer, SpillStore, SyncMode,
};
use crate::file_handles;
use crate::flag::Flag;
use crate::health::{Conditions, Health};
use crate::http::management::{self, Management};
use crate::http::public::{
    self, ConnectionSettings, ConversionGuard, FaultShares, Public, RateLimits,
};
use crate::metrics::Metrics;
use crate::programs::{
    Loader, LocalPrograms, RedisLink, RedisPrograms, TwoTierPrograms, Updates, WarmUp,
};
use crate::shutdown::Shutdown;
use crate::task_protection::TaskProtection;
use crate::track::{EventSink, Programs, Tracker};
use crate::watchdog::{self, Progress, WakeUps};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;

/// Connections of the management listener, which must leave file handles for the journal, Redis and Kinesis.
const MANAGEMENT_CONNECTIONS: usize = 64;

/// A tracker whose ports are bound and whose background tasks run, but that does not serve yet.
pub struct App {
    /// The address of the public listener.
    pub public_address: SocketAddr,
    /// The address of the management listener.
    pub management_address: SocketAddr,
    public: Server,
    management: Server,
    background: Background,
    delivery: Delivery,
    progress: Progress,
    journal: Journal,
    spill: Option<SpillStore>,
    health: Health,
    grace: Duration,
    delay: Duration,
}

/// Why the tracker does not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The tracker cannot listen on an address.
    #[error(
        "{variable}={address}: {error}; choose another address or stop the process that uses it"
    )]
    Listen {
        /// The setting.
        variable: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The system's error.
        error: std::io::Error,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The spill store cannot be opened.
    #[error("SPILL_URL={url:?}: {problem}; {}", storage::EXPECTED)]
    Spill {
        /// Its URL.
        url: String,
        /// What is wrong with it.
        problem: StorageError,
    },
    /// The HTTP client for the ECS agent cannot be created.
    #[error("ECS_AGENT_URI={uri}: no HTTP client: {error}")]
    Agent {
        /// Its URI.
        uri: Url,
        /// The client's error.
        error: reqwest::Error,
    },
    /// The process may open too few files.
    #[error(
        "the limit on open files is {limit}; expected at least {}: raise the hard limit (ulimit -Hn)",
        file_handles::LEAST
    )]
    OpenFiles {
        /// How many.
        limit: usize,
    },
    /// Two metrics have the same name.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl App {
    /// Wires everything, listens, and starts the background tasks. Redis and Kinesis need not be
    /// available.
    pub fn build(config: &Config, redis: RedisAccess, aws: &SdkConfig) -> Result<Self, BuildError> {
        let metrics = Arc::new(Metrics::new()?);
        let progress = Progress::default();
        let mut background = Background::new(progress.clone());
        let channel = redis.channel().to_owned();

        let local = LocalPrograms::new(config.cache_limits());
        let (link, link_keeper) = RedisLink::new(redis.clone(), Arc::clone(&metrics));
        let programs = RedisPrograms::new(link.clone());
        let (loads, loader) = Loader::new(local.clone(), programs.clone(), Arc::clone(&metrics));
        let conditions = Conditions {
            cache_warm: Flag::new(config.warm_up_seconds.is_zero()),
            ..Conditions::default()
        };
        let updates = Updates {
            access: redis,
            local: local.clone(),
            redis: programs.clone(),
            link: link.clone(),
            loader: loads.clone(),
            verified: conditions.cache_verified.clone(),
            metrics: Arc::clone(&metrics),
        };

        let journal = Journal::open(
            &config.journal_dir,
            config.journal_max_bytes,
            config.worker_count(),
            config.journal_sync,
        )?;
        metrics.delivery.journal_replayed.inc_by(journal.replayed_events());
        let watch = JournalWatch::new(journal.clone(), Arc::clone(&metrics));
        tracing::info!(
            folder = %config.journal_dir.display(),
            bytes = journal.capacity_bytes(),
            events = journal.replayed_events(),
            "the journal is open; events found in it are delivered first"
        );
        let stream = EventStream::new(aws, config.event_stream.clone());
        let producer = Producer::new(
            journal.clone(),
            stream,
            config.linger_ms,
            Arc::clone(&metrics),
            conditions.stream_refusing.clone(),
            conditions.journal_announced.clone(),
        );

        let spill = match &config.spill_url {
            Some(url) => {
                let open = SpillStore::open(url);
                Some(open.map_err(|problem| BuildError::Spill { url: url.clone(), problem })?)
            }
            None => None,
        };
        let protection = match &config.ecs_agent_uri {
            Some(uri) => {
                let (after, metrics) = (config.protect_after_seconds, Arc::clone(&metrics));
                let protection = TaskProtection::new(uri, after, journal.clone(), metrics);
                Some(protection.map_err(|error| BuildError::Agent { uri: uri.clone(), error })?)
            }
            None => None,
        };
        let warm_up = WarmUp {
            local: local.clone(),
            redis: programs.clone(),
            link: link.clone(),
            limit: config.warm_up_seconds,
            rate: config.warm_up_rate,
            warm: conditions.cache_warm.clone(),
        };
        let health = Health::new(link, journal.clone(), conditions, progress.clone());
        let fault_shares = Arc::new(FaultShares::default());
        let counts = (local.clone(), Arc::clone(&metrics));
        let two_tiers = TwoTierPrograms::new(local.clone(), loads, Arc::clone(&metrics));
        let public = Public {
            tracker: Tracker::new(two_tiers, journal.clone()),
            health: health.clone(),
            metrics: Arc::clone(&metrics),
            conversions: Arc::new(ConversionGuard::new(&config.conversions)),
            visitors: config.visitors.clone(),
            clicks: config.clicks.clone(),
            bodies: Arc::default(),
            rate_limits: RateLimits::new(&config.rate_limits).map(Arc::new),
            repair_log: Arc::default(),
            fault_shares: Arc::clone(&fault_shares),
        };
        let management = Management {
            local,
            redis: programs,
            channel,
            sample_programs: config.sample_programs,
            journal: journal.clone(),
            health: health.clone(),
            progress: progress.clone(),
            metrics,
        };
        let (public, public_address) = listen_public(config, public)?;
        let (management, management_address) = listen_management(config, management)?;

        if let SyncMode::Interval(interval) = config.journal_sync {
            let journal = journal.clone();
            // A sync takes as long as the disk does.
            let sync = |stop| sync_regularly(journal, interval, stop);
            background.spawn("journal-sync", WakeUps::OnDemand, sync);
        }
        background.spawn("journal-files", WakeUps::Regular, |stop| watch.run(stop));
        background.spawn("fault-shares", WakeUps::OnDemand, |stop| {
            fault_shares.run(counts.0, counts.1, stop)
        });
        background.spawn("redis-link", WakeUps::Regular, |stop| link_keeper.run(stop));
        background.spawn("program-loads", WakeUps::OnDemand, |stop| loader.run(stop));
        background.spawn("core-data-updates", WakeUps::Regular, |stop| updates.run(stop));
        if let Some(protection) = protection {
            background.spawn("task-protection", WakeUps::Regular, |stop| protection.run(stop));
        }
        if !config.warm_up_seconds.is_zero() {
            background.spawn("warm-up", WakeUps::OnDemand, |stop| warm_up.run(stop));
        }
        Ok(Self {
            public_address,
            management_address,
            public,
            management,
            background,
            delivery: producer.start(&progress),
            progress,
            journal,
            spill,
            health,
            grace: config.shutdown_grace_seconds,
            delay: config.shutdown_delay_seconds,
        })
    }

    /// Serves until `shutdown` is requested, then drains: it reports unhealthy to the load balancer,
    /// accepts no new connections, finishes running requests and delivers the events that wait. Events
    /// that it cannot deliver in time stay in the journal. Returns a failure if a part ended on its own,
    /// so that the supervisor restarts the process.
    pub async fn run(mut self, shutdown: Shutdown) -> ExitCode {
        tracing::info!(public = %self.public_address, management = %self.management_address, "the tracker serves");
        let watchdog = watchdog::start(self.progress, shutdown.clone(), self.grace);
        if let Err(error) = &watchdog {
            tracing::error!(%error, "no thread for the watchdog: tasks that make no progress are not noticed");
        }
        let public = self.public.handle();
        let management = self.management.handle();
        let mut servers = tokio::spawn(async { tokio::try_join!(self.public, self.management) });
        let was_requested = tokio::select! {
            () = shutdown.wait_for_request() => !shutdown.is_after_failure(),
            () = self.background.wait_for_end() => false,
            () = self.delivery.wait_for_end() => false,
            _ = &mut servers => false,
        };
        if !was_requested {
            tracing::error!("a part of the tracker failed; draining");
            // So that the watchdog sees that this shutdown ends, too.
            shutdown.request_after_failure();
        }

        let deadline = Instant::now() + self.grace;
        self.health.drain();
        tokio::time::sleep(self.delay.min(self.grace / 2)).await;
        // Waits for open connections at most half of the remaining time; the rest is for delivery.
        let rest = deadline.saturating_duration_since(Instant::now());
        if tokio::time::timeout(rest / 2, public.stop(true)).await.is_err() {
            tracing::warn!("closing connections that are still open");
        }
        self.journal.close();
        let spill_reserve = if self.spill.is_some() { self.grace / 4 } else { Duration::ZERO };
        self.delivery.drain(deadline - spill_reserve).await;
        let leftover = spill(self.spill, &self.journal, deadline).await;
        if let Err(error) = self.journal.sync_to_disk() {
            tracing::error!(%error, "the journal cannot be synced to the disk");
        }
        self.background.stop().await;
        management.stop(false).await;
        servers.abort();
        drop(watchdog);
        report(leftover, &self.journal);
        if was_requested { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

fn listen_public<P, S>(
    config: &Config,
    public: Public<P, S>,
) -> Result<(Server, SocketAddr), BuildError>
where
    P: Programs + Send + Sync + 'static,
    S: EventSink + Send + Sync + 'static,
{
    let error =
        |error| BuildError::Listen { variable: "LISTEN_ADDR", address: config.listen_addr, error };
    let (listener, bound) = bind(config.listen_addr).map_err(error)?;
    let data = web::Data::new(public);
    let limit = file_handles::raise_limit();
    if limit < file_handles::LEAST {
        return Err(BuildError::OpenFiles { limit });
    }
    let wanted = config.connections.max_connections;
    let connections = ConnectionSettings {
        max_connections: file_handles::connections_within(wanted, limit),
        ..config.connections.clone()
    };
    let server = public::listen(
        listener,
        data,
        &connections,
        config.worker_count(),
        config.shutdown_grace_seconds,
    );
    Ok((server.map_err(error)?, bound))
}

fn listen_management(
    config: &Config,
    management: Management,
) -> Result<(Server, SocketAddr), BuildError> {
    let error = |error| BuildError::Listen {
        variable: "MANAGEMENT_ADDR",
        address: config.management_addr,
        error,
    };
    let (listener, bound) = bind(config.management_addr).map_err(error)?;
    let data = web::Data::new(management);
    let server = HttpServer::new(move || {
        actix_web::App::new().configure(|service| management::configure(service, data.clone()))
    })
    .workers(1)
    .max_connections(MANAGEMENT_CONNECTIONS)
    .disable_signals()
    .listen(listener)
    .map_err(error)?;
    Ok((server.run(), bound))
}

/// Binds before anything is served, so that an address in use fails the start.
fn bind(address: SocketAddr) -> std::io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?.into_std()?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// What shutdown could not deliver.
#[derive(Debug)]
struct Leftover {
    /// Events that were written to SPILL_URL, if that succeeded.
    spilled: u64,
    /// Why that failed.
    problem: Option<String>,
}

/// Spills what is left, if there is a store.
async fn spill(store: Option<SpillStore>, journal: &Journal, deadline: Instant) -> Leftover {
    let Some(store) = store.filter(|_| journal.used_bytes() > 0) else {
        return Leftover { spilled: 0, problem: None };
    };
    let (spilled, problem) = match tokio::time::timeout_at(deadline, store.spill(journal)).await {
        Ok(Ok(events)) => (events, None),
        Ok(Err(error)) => (0, Some(error.to_string())),
        Err(_) => (0, Some("out of time".to_owned())),
    };
    Leftover { spilled, problem }
}

/// Writes the last log line: how much is left, and where.
fn report(leftover: Leftover, journal: &Journal) {
    let Leftover { spilled, problem } = leftover;
    let (events, bytes) = (journal.count_events(), journal.used_bytes());
    let folder = journal.folder().display();
    match problem {
        Some(problem) => tracing::error!(
            events,
            bytes,
            %folder,
            error = problem,
            "not drained in time, and SPILL_URL failed: these events stay in the journal; others may be at SPILL_URL"
        ),
        None if bytes > 0 => tracing::warn!(
            events,
            bytes,
            %folder,
            "not drained in time: these events stay in the journal, for the next start or `redrive journal`"
        ),
        None if spilled > 0 => tracing::warn!(
            events = spilled,
            "not drained in time: these events are at SPILL_URL; run `redrive`"
        ),
        None => tracing::info!("drained; nothing is left"),
    }
}

/// Syncs the journal to disk every `interval`.
async fn sync_regularly(journal: Journal, interval: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
        let journal = journal.clone();
        match tokio::task::spawn_blocking(move || journal.sync_to_disk()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the journal cannot be synced to the disk"),
            Err(error) => tracing::error!(%error, "the sync of the journal panicked"),
        }
    }
}
