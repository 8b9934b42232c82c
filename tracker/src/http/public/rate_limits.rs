//! The rate limit: its settings, and to which requests it applies.

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

/// How many requests a client address may make.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Rate limit")]
pub struct RateLimitSettings {
    /// Requests per second that a client address may make, from 1 to 10000, and after a slash how many
    /// at once, from 1 to 100000 (`50/200`; without it, as many as per second); more get 429. IPv6
    /// addresses count by /64. Each task counts for itself: a fleet admits up to its number of tasks
    /// times as many. Unset: no limit.
    #[arg(long, env)]
    pub rate_limit: Option<RateLimit>,
    /// Clients without a limit, such as partners' servers: addresses and CIDRs, with commas between.
    #[arg(long, env, default_value = "", value_parser = networks, hide_default_value = true)]
    pub rate_limit_exempt: Networks,
    /// Paths that have the limit, with commas between. A batch is one request.
    #[arg(long, env, value_delimiter = ',', default_value = "/event,/impression,/click")]
    pub rate_limit_paths: Vec<Endpoint>,
    /// Whether RATE_LIMIT works without TRUSTED_PROXIES: true if clients connect to the tracker
    /// themselves. Behind a load balancer all clients would share one limit.
    #[arg(long, env, default_value = "false", value_parser = boolean, action = clap::ArgAction::Set)]
    pub rate_limit_direct_clients: bool,
}

impl RateLimitSettings {
    /// Refuses a limit that would be one for all clients together.
    pub fn check(&self, visitors: &VisitorSettings) -> Result<(), String> {
        let knows_clients =
            self.rate_limit_direct_clients || !visitors.trusted_proxies.0.is_empty();
        match self.rate_limit {
            Some(limit) if !knows_clients => Err(format!(
                "RATE_LIMIT=\"{limit}\": all clients behind a load balancer would share one limit; \
                 set TRUSTED_PROXIES to the load balancer's networks, or \
                 RATE_LIMIT_DIRECT_CLIENTS=true if clients connect to the tracker themselves"
            )),
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
    /// The limit that the settings ask for; none if they do not.
    pub fn new(settings: &RateLimitSettings) -> Option<Self> {
        Some(Self {
            limiter: RateLimiter::new(settings.rate_limit?),
            started_at: Instant::now(),
            paths: settings.rate_limit_paths.clone(),
            exempt: settings.rate_limit_exempt.clone(),
        })
    }

    /// Refuses a request to `endpoint` beyond the limit. An address among the trusted proxies stands for
    /// clients that are not known, and has no limit.
    pub(super) fn check(
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
        // The lists are long, and read only for those who would be refused.
        let is_admitted = self.limiter.admits(address, self.started_at.elapsed())
            || is_in(address, &self.exempt.0)
            || is_in(address, trusted);
        if is_admitted { Ok(()) } else { Err(Refusal::RateLimited) }
    }
}
