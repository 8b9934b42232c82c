//! The settings of Redis, which the tracker, redis-updater and core-data share.

use std::path::{Path, PathBuf};

use adtrack_proto::keys;
use clap::Args;
use url::Url;

use crate::cli::{boolean, non_empty};

/// The address of Redis, and the channel of updates.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Redis")]
pub struct RedisSettings {
    /// URL of Redis: redis:// or rediss:// (TLS), with user and password if it needs them. Several nodes
    /// are separated by commas, as further URLs or as further HOST:PORT of the same URL; if one of them
    /// does not respond, the next is tried. [default: redis://127.0.0.1:6379]
    #[arg(long, env, hide_env_values = true, value_parser = redis_urls)]
    pub redis_url: Option<RedisUrls>,
    /// Host of Redis, instead of REDIS_URL.
    #[arg(long, env, value_parser = non_empty("a host name or address"), conflicts_with = "redis_url")]
    pub redis_host: Option<String>,
    /// Port of Redis, with REDIS_HOST.
    #[arg(long, env, default_value_t = 6379)]
    pub redis_port: u16,
    /// File with the password of Redis; trailing newlines are ignored. Takes precedence over a password in
    /// the URL.
    #[arg(long, env)]
    pub redis_password_file: Option<PathBuf>,
    /// Whether Redis is a cluster. If so, the URL names one or more of its nodes.
    #[arg(long, env, default_value = "false", value_parser = boolean, action = clap::ArgAction::Set)]
    pub redis_cluster: bool,
    /// Pub/sub channel of core-data updates.
    #[arg(long, env, default_value = keys::DEFAULT_CHANNEL, value_parser = non_empty("a channel name"))]
    pub redis_channel: String,
}

/// The URLs of one or more nodes, in the order in which they are tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisUrls(Vec<Url>);

/// An invalid setting of Redis. The message is one line that names the setting.
#[derive(Debug, thiserror::Error)]
pub enum RedisSettingsError {
    /// Not a host name or address.
    #[error("REDIS_HOST={0:?}: expected a host name or address")]
    Host(String),
    /// A URL that the Redis client does not accept.
    #[error("REDIS_URL: {0}")]
    Url(redis::RedisError),
    /// The password file cannot be read.
    #[error("REDIS_PASSWORD_FILE={0:?}: {1}; expected a readable file with the password")]
    PasswordFile(PathBuf, std::io::Error),
}

impl RedisSettings {
    /// The URLs to connect to, with the password; at least one.
    pub fn urls(&self) -> Result<Vec<Url>, RedisSettingsError> {
        let mut urls = match (&self.redis_url, &self.redis_host) {
            (Some(RedisUrls(urls)), _) => urls.clone(),
            (None, host) => {
                let host = host.as_deref().unwrap_or("127.0.0.1");
                let bracketed =
                    if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
                let url = redis_url(&format!("redis://{bracketed}:{}", self.redis_port));
                vec![url.map_err(|_| RedisSettingsError::Host(host.to_owned()))?]
            }
        };
        if let Some(path) = &self.redis_password_file {
            let password = read_password(path)
                .map_err(|error| RedisSettingsError::PasswordFile(path.clone(), error))?;
            for url in &mut urls {
                // Fails only for a URL without a host, which `redis_url` rejects.
                let _ = url.set_password(Some(&password));
            }
        }
        Ok(urls)
    }
}

fn read_password(path: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned())
}

fn redis_url(text: &str) -> Result<Url, String> {
    let expected = || {
        "expected redis://HOST:PORT/DATABASE or rediss://USER:PASSWORD@HOST:PORT/DATABASE, with a \
         number or nothing as DATABASE; several are separated by commas"
            .to_owned()
    };
    let url = Url::parse(text).map_err(|_| expected())?;
    let database = url.path().trim_matches('/');
    let usable = matches!(url.scheme(), "redis" | "rediss")
        && url.host_str().is_some_and(|host| !host.is_empty())
        && (database.is_empty() || database.parse::<u16>().is_ok());
    if usable { Ok(url) } else { Err(expected()) }
}

/// Reads URLs that are separated by commas, and URLs with several hosts. Commas in a user's name or password
/// separate nothing.
fn redis_urls(text: &str) -> Result<RedisUrls, String> {
    let mut urls = Vec::new();
    let mut rest = text;
    while !rest.is_empty() || urls.is_empty() {
        let next = [",redis://", ",rediss://"].iter().filter_map(|scheme| rest.find(scheme)).min();
        let (one, behind) = next.map_or((rest, ""), |at| (&rest[..at], &rest[at + 1..]));
        rest = behind;
        let hosts_at = one.rfind('@').map(|at| at + 1).or_else(|| Some(one.find("://")? + 3));
        let (before, hosts) = one.split_at(hosts_at.unwrap_or_default());
        let (hosts, path) = hosts.split_at(hosts.find('/').unwrap_or(hosts.len()));
        for host in hosts.split(',') {
            urls.push(redis_url(&format!("{before}{host}{path}"))?);
        }
    }
    Ok(RedisUrls(urls))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        redis: RedisSettings,
    }

    fn url(arguments: &[&str]) -> String {
        let all = ["command"].iter().chain(arguments);
        let urls = Command::try_parse_from(all).unwrap().redis.urls().unwrap();
        urls.iter().map(Url::to_string).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn builds_the_url_from_url_or_host_and_port() {
        assert_eq!(url(&[]), "redis://127.0.0.1:6379");
        assert_eq!(url(&["--redis-url", "rediss://u:p@h:1"]), "rediss://u:p@h:1");
        assert_eq!(url(&["--redis-host", "h", "--redis-port", "7"]), "redis://h:7");
        assert_eq!(url(&["--redis-host", "::1"]), "redis://[::1]:6379");
    }

    #[test]
    fn reads_several_nodes() {
        for (text, expected) in [
            ("redis://a:1,redis://b:2", "redis://a:1 redis://b:2"),
            ("rediss://u:p@a:1,b:2,c/3", "rediss://u:p@a:1/3 rediss://u:p@b:2/3 rediss://u:p@c/3"),
            ("redis://u:p,w@a:1,b:2", "redis://u:p,w@a:1 redis://u:p,w@b:2"),
            ("redis://a:1,b:2,rediss://c:3", "redis://a:1 redis://b:2 rediss://c:3"),
            ("redis://[::1]:1,[::2]:2", "redis://[::1]:1 redis://[::2]:2"),
        ] {
            assert_eq!(url(&["--redis-url", text]), expected, "{text}");
        }
    }

    #[test]
    fn password_file_takes_precedence_over_the_url() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "p@ss/word\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(
            url(&["--redis-url", "redis://u:old@h:1", "--redis-password-file", path]),
            "redis://u:p%40ss%2Fword@h:1"
        );
    }

    #[test]
    fn rejects_invalid_redis_urls() {
        for text in [
            "redis://h:1/notadb",
            "",
            ",",
            "h:6379",
            "http://h",
            "redis://",
            "redis:h",
            "redis://h:1,",
            "redis://h:1,,i:2",
            "redis://h:1,http://i:2",
        ] {
            assert!(redis_urls(text).is_err(), "{text:?}");
        }
    }
}
