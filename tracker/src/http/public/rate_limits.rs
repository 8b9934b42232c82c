//! The rate limit: its settings, and the requests that it applies to.

use std::time::Instant;

use actix_web::HttpRequest;
use adtrack_runtime::cli::boolean;
use clap::Args;

use super::client::address;
use super::endpoint::Endpoint;
use super::visitors::{Networks, VisitorSettings, networks};
use crate::domain::Refusal;
use crate::domain::address::is_in;
use crate::domain::rate_limit::{RateLimit, RateLimiter};

/// Settings of the rate limit.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rate limit")]
pub struct RateLimitSettings {
    /// Requests per second that a client address may make, from 1 to 10000; optionally, after a slash, how
    /// many at once, from 1 to 100000 (`50/200`; default: as many as per second). Further requests get 429.
    /// An IPv6 client is its /64. Each task counts on its own: a fleet admits up to this limit times its
    /// number of tasks. Unset: no limit.
    #[arg(long, env)]
    pub rate_limit: Option<RateLimit>,
    /// Clients without a limit, such as partners' servers: addresses and CIDRs, separated by commas.
    #[arg(long, env, default_value = "", value_parser = networks, hide_default_value = true)]
    pub rate_limit_exempt: Networks,
    /// Paths that the limit applies to, separated by commas. A batch counts as one request.
    #[arg(long, env, value_delimiter = ',', default_value = "/event,/impression,/click")]
    pub rate_limit_paths: Vec<Endpoint>,
    /// Whether clients connect to the tracker directly, so that RATE_LIMIT works without TRUSTED_PROXIES.
    /// Behind a load balancer all clients would share one limit.
    #[arg(long, env, default_value = "false", value_parser = boolean, action = clap::ArgAction::Set)]
    pub rate_limit_direct_clients: bool,
}

/// The error for settings with which all clients would share one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "RATE_LIMIT=\"{0}\": all clients behind a load balancer would share one limit; set TRUSTED_PROXIES \
     to the load balancer's networks, or RATE_LIMIT_DIRECT_CLIENTS=true if clients connect to the \
     tracker themselves"
)]
pub struct SharedRateLimit(RateLimit);

impl RateLimitSettings {
    /// Refuses settings with which all clients would share one limit.
    pub fn check(&self, visitors: &VisitorSettings) -> Result<(), SharedRateLimit> {
        let knows_clients =
            self.rate_limit_direct_clients || !visitors.trusted_proxies.0.is_empty();
        match self.rate_limit {
            Some(limit) if !knows_clients => Err(SharedRateLimit(limit)),
            _ => Ok(()),
        }
    }
}

/// Limits the requests of each client address.
#[derive(Debug)]
pub struct RateLimits {
    limiter: RateLimiter,
    started_at: Instant,
    paths: Vec<Endpoint>,
    exempt: Networks,
}

impl RateLimits {
    /// `None` if no limit is configured.
    pub fn new(settings: &RateLimitSettings) -> Option<Self> {
        Some(Self {
            limiter: RateLimiter::new(settings.rate_limit?),
            started_at: Instant::now(),
            paths: settings.rate_limit_paths.clone(),
            exempt: settings.rate_limit_exempt.clone(),
        })
    }

    /// Refuses a request to `endpoint` beyond the limit. The address of a trusted proxy has no limit: it
    /// stands for clients whose addresses are unknown.
    pub(super) fn check_rate(
        &self,
        request: &HttpRequest,
        endpoint: Endpoint,
        visitors: &VisitorSettings,
    ) -> Result<(), Refusal> {
        if !self.paths.contains(&endpoint) {
            return Ok(());
        }
        let trusted = &visitors.trusted_proxies.0;
        let Some(address) = address(request, trusted) else { return Ok(()) };
        // The lists may be long, so they are searched only if the limiter refuses.
        let is_admitted = self.limiter.admits(address, self.started_at.elapsed())
            || is_in(address, &self.exempt.0)
            || is_in(address, trusted);
        if is_admitted { Ok(()) } else { Err(Refusal::RateLimited) }
    }
}
