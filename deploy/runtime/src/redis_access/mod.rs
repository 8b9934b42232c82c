//! Access to Redis in each form that operators run it: one server, a primary with replicas behind one
//! name, or a cluster.

mod connection;
mod store;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::aio::PubSub;
use redis::cluster::ClusterClient;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError, RedisResult};
use url::Url;

pub use connection::{Identity, RedisConnection, Scan};
pub use store::{
    BoundedUpdate, CoreDataState, Mark, hash_of, is_full, is_marked_command, is_wrong_type,
    mark_command, mark_of,
};

use crate::redis_settings::{RedisSettings, RedisSettingsError};

/// Timeouts for Redis.
#[derive(Debug, Clone, Copy)]
pub struct RedisTimeouts {
    /// For connecting.
    pub connect: Duration,
    /// For the response to a command or a pipeline.
    pub response: Duration,
}

/// Connects to Redis. TLS trusts the system's certificates, or those in `SSL_CERT_FILE`.
#[derive(Debug, Clone)]
pub struct RedisAccess {
    /// The configured URLs, in the order in which they are tried.
    seeds: Vec<Url>,
    /// In a cluster the nodes that were last seen, so that losing the configured nodes does not mean
    /// losing the cluster. Otherwise the node that was last connected to, if there are several.
    seen: Arc<Mutex<Vec<Url>>>,
    cluster: bool,
    channel: String,
    timeouts: RedisTimeouts,
}

impl RedisAccess {
    /// Checks `settings`; does not connect yet.
    pub fn new(
        settings: &RedisSettings,
        timeouts: RedisTimeouts,
    ) -> Result<Self, RedisSettingsError> {
        let seeds = settings.urls()?;
        for url in &seeds {
            Client::open(url.as_str()).map_err(RedisSettingsError::Url)?;
        }
        Ok(Self {
            seeds,
            seen: Arc::default(),
            cluster: settings.redis_cluster,
            channel: settings.redis_channel.clone(),
            timeouts,
        })
    }

    /// The channel of core-data updates.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Opens a connection for commands.
    pub async fn connect(&self) -> RedisResult<RedisConnection> {
        if self.cluster { self.connect_cluster().await } else { self.connect_server().await }
    }

    /// Connects to the first node that responds and is a primary; to a replica only if there is no primary.
    async fn connect_server(&self) -> RedisResult<RedisConnection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeouts.connect))
            .set_response_timeout(Some(self.timeouts.response));
        let (mut replica, mut last_error) = (None, no_node());
        for url in &self.seeds {
            let client = Client::open(url.as_str())?;
            match client.get_multiplexed_async_connection_with_config(&config).await {
                Ok(connection) => {
                    let connection = RedisConnection::Server(connection);
                    let is_primary = match self.seeds.len() {
                        1 => Ok(true),
                        _ => connection.is_primary().await,
                    };
                    match is_primary {
                        Ok(true) => return Ok(self.connected_to(url, connection)),
                        // A user that only reads may not ask for the role.
                        Err(error) if error.code() == Some("NOPERM") => {
                            return Ok(self.connected_to(url, connection));
                        }
                        Ok(false) => {
                            replica.get_or_insert((url, connection));
                        }
                        Err(error) => last_error = error,
                    }
                }
                Err(error) => last_error = error,
            }
        }
        let (url, connection) = replica.ok_or(last_error)?;
        Ok(self.connected_to(url, connection))
    }

    fn connected_to(&self, url: &Url, connection: RedisConnection) -> RedisConnection {
        *lock(&self.seen) = vec![url.clone()];
        connection
    }

    async fn connect_cluster(&self) -> RedisResult<RedisConnection> {
        let RedisTimeouts { connect, response } = self.timeouts;
        let client = ClusterClient::builder(self.known().iter().map(Url::as_str))
            .connection_timeout(connect)
            .response_timeout(response)
            // Includes all redirections and retries.
            .overall_response_timeout(Some(response))
            .retries(3)
            .min_retry_wait(10)
            .max_retry_wait(100)
            .build()?;
        // The client tries all nodes at once and waits for the slowest of them, for `connect` at most; then
        // it asks one for the slots.
        let connection = within(connect + response, client.get_async_connection()).await?;
        let connection = RedisConnection::Cluster(connection);
        let addresses = connection.nodes().await?;
        if let Some(seed) = self.seeds.first() {
            *lock(&self.seen) =
                addresses.iter().filter_map(|address| url_of(seed, address)).collect();
        }
        Ok(connection)
    }

    /// Subscribes to the channel. In a cluster any node will do, because nodes forward messages; otherwise
    /// it has to be the primary if there is one: a replica that is cut off from it would forward nothing.
    pub async fn subscribe(&self) -> RedisResult<PubSub> {
        if !self.cluster && self.seeds.len() > 1 {
            self.connect_server().await?;
        }
        let mut last = no_node();
        for url in self.known() {
            let client = Client::open(url.as_str())?;
            let subscribe = async {
                let mut subscription = client.get_async_pubsub().await?;
                subscription.subscribe(&self.channel).await?;
                Ok(subscription)
            };
            match within(self.timeouts.connect, subscribe).await {
                Ok(subscription) => return Ok(subscription),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// All known nodes: those that were last seen, then the configured ones.
    fn known(&self) -> Vec<Url> {
        let mut known = lock(&self.seen).clone();
        for seed in &self.seeds {
            if !known.contains(seed) {
                known.push(seed.clone());
            }
        }
        known
    }
}

fn no_node() -> RedisError {
    RedisError::from((ErrorKind::Io, "no node is known"))
}

/// Runs `work`, and fails if it takes longer than `limit`.
pub async fn within<T>(
    limit: Duration,
    work: impl Future<Output = RedisResult<T>>,
) -> RedisResult<T> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(RedisError::from((ErrorKind::Io, "no response in time"))))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The URL of another node of `seed`'s cluster. All nodes have the same user, password and TLS settings.
fn url_of(seed: &Url, (host, port): &(String, u16)) -> Option<Url> {
    let mut url = seed.clone();
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    url.set_host(Some(&bracketed)).ok()?;
    url.set_port(Some(*port)).ok()?;
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_url_has_user_and_scheme_of_the_seed() {
        let seed = Url::parse("rediss://u:p@seed:7000").unwrap();
        let node = |host: &str| url_of(&seed, &(host.to_owned(), 7001)).unwrap().to_string();
        assert_eq!(node("10.0.0.7"), "rediss://u:p@10.0.0.7:7001");
        assert_eq!(node("::1"), "rediss://u:p@[::1]:7001");
    }
}
