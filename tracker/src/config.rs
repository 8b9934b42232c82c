//! The tracker's settings: flags, or environment variables of the same names.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use adtrack_runtime::cli::{boolean, integer, milliseconds, non_empty, seconds};
use adtrack_runtime::redis_settings::RedisSettings;
use adtrack_runtime::storage::storage_url;
use adtrack_runtime::telemetry::LogSettings;
use clap::{Parser, Subcommand};
use url::Url;

use crate::delivery::SyncMode;
use crate::delivery::journal::MIN_BYTES;
use crate::http::public::{
    ClickSettings, ConnectionSettings, ConversionSettings, RateLimitSettings, VisitorSettings,
};
use crate::programs::CacheLimits;

/// Responds to ad clients and delivers their events to Kinesis.
///
/// AWS region, endpoints and credentials come from the AWS SDK's default chain (AWS_REGION,
/// AWS_ENDPOINT_URL_KINESIS, AWS_ACCESS_KEY_ID, a task's role, …).
#[derive(Debug, Clone, Parser)]
#[command(version, args_override_self = true)]
pub struct Config {
    #[command(subcommand)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub command: Option<Command>,
    /// Address of the public listener, for ad clients and the load balancer.
    #[arg(long, env, default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen_addr: SocketAddr,
    /// Address of the management listener: metrics and cache control. Never public.
    #[arg(long, env, default_value = "127.0.0.1:9090", value_parser = address)]
    pub management_addr: SocketAddr,
    /// Threads that handle requests. [default: number of cores]
    #[arg(long, env, value_parser = integer(1_usize, 1_024))]
    pub workers: Option<usize>,
    /// Seconds that shutdown may take: to finish running requests, then to deliver what waits.
    #[arg(long, env, default_value = "25", value_parser = seconds(0, 3_600))]
    pub shutdown_grace_seconds: Duration,
    /// Seconds of SHUTDOWN_GRACE_SECONDS during which the tracker keeps serving while /health/check reports
    /// that it is draining, so that the load balancer stops sending before the listener closes. At most half
    /// of SHUTDOWN_GRACE_SECONDS is used.
    #[arg(long, env, default_value = "5", value_parser = seconds(0, 3_600))]
    pub shutdown_delay_seconds: Duration,
    /// Whether POST /cache/fill loads the sample programs.
    #[arg(long, env, default_value = "false", value_parser = boolean, action = clap::ArgAction::Set)]
    pub sample_programs: bool,

    /// Name of the Kinesis stream that receives the events.
    #[arg(long, env, default_value = "adtrack-events", value_parser = non_empty("the name of a Kinesis stream"), help_heading = "Delivery")]
    pub event_stream: String,
    /// Milliseconds that an event waits for others, to share a Kinesis record with them.
    #[arg(long, env, default_value = "100", value_parser = milliseconds(1, 60_000), help_heading = "Delivery")]
    pub linger_ms: Duration,
    /// Folder of the journal, in which accepted events wait for Kinesis. One tracker per folder.
    #[arg(long, env, default_value = "./journal", help_heading = "Delivery")]
    pub journal_dir: PathBuf,
    /// When accepted events are synced to disk: `never` (the kernel decides), an interval such as `200ms` or
    /// `1s`, or `always` (before each response). Decides what a crash of the host may lose.
    #[arg(long, env, default_value = "never", value_parser = sync_mode, help_heading = "Delivery")]
    pub journal_sync: SyncMode,
    /// Where shutdown writes events that it could not deliver, for `redrive` to put on the stream:
    /// s3://BUCKET/PREFIX or file:///FOLDER. Unset: they stay in the journal.
    #[arg(long, env, value_parser = storage_url, help_heading = "Delivery")]
    pub spill_url: Option<String>,
    /// Size of the journal in bytes, allocated at the start. When it is full, requests get 503.
    #[arg(long, env, default_value = "1073741824", value_parser = integer(MIN_BYTES, 1 << 50), help_heading = "Delivery")]
    pub journal_max_bytes: u64,
    /// URI of the ECS agent, which ECS sets in its tasks. If it is set, the tracker keeps ECS from stopping
    /// its task (scale-in, deployment) while events wait in the journal.
    #[arg(long, env, value_parser = agent_uri, help_heading = "Delivery")]
    pub ecs_agent_uri: Option<Url>,
    /// Seconds that the journal's oldest event must have waited before the tracker protects its task.
    #[arg(long, env, default_value = "30", value_parser = seconds(1, 3_600), help_heading = "Delivery")]
    pub protect_after_seconds: Duration,

    /// Maximum number of programs in memory. Beyond it, the least recently used is evicted.
    #[arg(long, env, default_value = "100000", value_parser = integer(1_u64, 100_000_000), help_heading = "Cache")]
    pub cache_capacity: u64,
    /// Seconds for which a program in memory is used without asking Redis again.
    #[arg(long, env, default_value = "600", value_parser = seconds(1, 604_800), help_heading = "Cache")]
    pub cache_ttl_seconds: Duration,
    /// Seconds for which the tracker remembers that a program is unknown.
    #[arg(long, env, default_value = "30", value_parser = seconds(1, 86_400), help_heading = "Cache")]
    pub negative_cache_ttl_seconds: Duration,
    /// Seconds beyond CACHE_TTL_SECONDS for which a program is used while Redis is unavailable.
    #[arg(long, env, default_value = "86400", value_parser = seconds(0, 31_536_000), help_heading = "Cache")]
    pub cache_stale_seconds: Duration,

    /// Maximum seconds to load programs from Redis at startup, up to CACHE_CAPACITY, before /health/check
    /// returns 200. 0: no warm-up.
    #[arg(long, env, default_value = "0", value_parser = seconds(0, 3_600), help_heading = "Cache")]
    pub warm_up_seconds: Duration,
    /// Maximum number of programs per second that the warm-up loads.
    #[arg(long, env, default_value = "20000", value_parser = integer(1_u32, 10_000_000), help_heading = "Cache")]
    pub warm_up_rate: u32,

    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub conversions: ConversionSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub connections: ConnectionSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub visitors: VisitorSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub rate_limits: RateLimitSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub clicks: ClickSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub redis: RedisSettings,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub logs: LogSettings,
}

/// A command that runs instead of the tracker.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Checks that a tracker responds at LISTEN_ADDR (`/health/live`). Exit status 0 if so, otherwise 1
    Healthcheck,
}

impl Config {
    /// How much L1 holds, and for how long.
    pub fn cache_limits(&self) -> CacheLimits {
        CacheLimits {
            capacity: self.cache_capacity,
            ttl: self.cache_ttl_seconds,
            negative_ttl: self.negative_cache_ttl_seconds,
            stale: self.cache_stale_seconds,
        }
    }

    /// `workers`, or the number of cores if it is not set.
    pub fn worker_count(&self) -> usize {
        self.workers
            .or_else(|| std::thread::available_parallelism().ok().map(Into::into))
            .unwrap_or(1)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT, such as 0.0.0.0:8080 or [::]:8080".to_owned())
}

fn agent_uri(text: &str) -> Result<Url, String> {
    Url::parse(text)
        .ok()
        .filter(|uri| uri.scheme() == "http" && uri.has_host())
        .ok_or_else(|| "expected an http URL, such as http://169.254.170.2/api/ID".to_owned())
}

fn sync_mode(text: &str) -> Result<SyncMode, String> {
    let milliseconds = || {
        let (number, unit) = match text.strip_suffix("ms") {
            Some(number) => (number, 1),
            None => (text.strip_suffix('s')?, 1_000),
        };
        let milliseconds = number.parse::<u64>().ok()?.checked_mul(unit)?;
        (1..=3_600_000).contains(&milliseconds).then(|| Duration::from_millis(milliseconds))
    };
    match text {
        "never" => Ok(SyncMode::Never),
        "always" => Ok(SyncMode::Always),
        _ => milliseconds()
            .map(SyncMode::Interval)
            .ok_or_else(|| "expected never, always, or an interval from 1ms to 3600s".to_owned()),
    }
}
