//! A connection to Redis, and queries about the servers behind it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{Cmd, ErrorKind, FromRedisValue, InfoDict, RedisError, RedisResult, Value};

/// Host and port.
type Address = (String, u16);

/// About how many keys one step of a [`Scan`] looks at.
const SCAN_COUNT: usize = 500;

/// A connection to Redis. Cheap to clone.
#[derive(Clone)]
pub enum RedisConnection {
    /// To one server.
    Server(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl fmt::Debug for RedisConnection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Server(_) => "Server",
            Self::Cluster(_) => "Cluster",
        })
    }
}

/// A server that accepts writes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Primary {
    /// Its address; `None` for the server that is connected.
    address: Option<Address>,
    replicas: usize,
    /// How many hash slots it has.
    slots: u64,
}

/// The keys of one node, and its part of the key space.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeSize {
    pub(super) keys: u64,
    /// Of [`SLOTS`].
    pub(super) slots: u64,
}

/// The hash slots of a cluster. A server on its own has all of them.
pub(super) const SLOTS: u64 = 16_384;

/// The identity of the server that a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A random id that the server chooses when it starts.
    pub run_id: String,
    /// Whether it is a primary. False once it has become a replica.
    pub primary: bool,
}

/// The state of an iteration over all keys.
#[derive(Debug)]
pub struct Scan {
    primaries: Vec<Primary>,
    cursor: u64,
}

impl RedisConnection {
    /// Sends commands, each of which succeeds or fails on its own. Returns the responses in their order,
    /// after one round trip, or in a cluster one per node.
    pub async fn query_each(&self, commands: Vec<Cmd>) -> RedisResult<Vec<RedisResult<Value>>> {
        match self {
            Self::Server(connection) => {
                let mut pipeline = redis::pipe();
                pipeline.ignore_errors();
                for command in commands {
                    pipeline.add_command(command);
                }
                pipeline.query_async(&mut connection.clone()).await
            }
            // A pipeline goes to a single node.
            Self::Cluster(connection) => {
                let responses = commands.into_iter().map(|command| {
                    let mut connection = connection.clone();
                    async move { command.query_async(&mut connection).await }
                });
                Ok(join_all(responses).await)
            }
        }
    }

    /// Loads a script, then sends commands that call it as [`Self::query_each`] does.
    pub(super) async fn query_each_with_script(
        &self,
        script: &str,
        mut commands: Vec<Cmd>,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(script);
        if let Self::Cluster(connection) = self {
            // Goes to all primaries, and must end before the first call.
            load.query_async::<()>(&mut connection.clone()).await?;
            return self.query_each(commands).await;
        }
        // Loaded in the same round trip, which costs 2 KB, so that the server never lacks it.
        commands.insert(0, load);
        let mut responses = self.query_each(commands).await?;
        responses.drain(..responses.len().min(1)).for_each(drop);
        Ok(responses)
    }

    /// Asks which server this is. Returns `None` in a cluster, whose client follows changes on its own.
    pub async fn identity(&self) -> RedisResult<Option<Identity>> {
        let Self::Server(connection) = self else { return Ok(None) };
        let info: InfoDict = redis::cmd("INFO").query_async(&mut connection.clone()).await?;
        let run_id = info.get::<String>("run_id").unwrap_or_default();
        let role = info.get::<String>("role").unwrap_or_default();
        Ok(Some(Identity { run_id, primary: role == "master" }))
    }

    /// Whether the connected server is a primary. True in a cluster, whose client writes to primaries.
    pub(super) async fn is_primary(&self) -> RedisResult<bool> {
        let Self::Server(_) = self else { return Ok(true) };
        let role: Value = self.query(&redis::cmd("ROLE")).await?;
        Ok(is_role_of_primary(&role))
    }

    /// The keys of each primary.
    pub(super) async fn sizes(&self) -> RedisResult<Vec<NodeSize>> {
        if let Self::Server(_) = self {
            let keys = self.query(&redis::cmd("DBSIZE")).await?;
            return Ok(vec![NodeSize { keys, slots: SLOTS }]);
        }
        let sizes = self.primaries().await?.into_iter().map(|primary| async move {
            let keys = self.query_at(&primary.address, redis::cmd("DBSIZE")).await?;
            Ok(NodeSize { keys, slots: primary.slots })
        });
        join_all(sizes).await.into_iter().collect()
    }

    /// Waits until, for every primary with replicas, at least one replica holds what this connection
    /// wrote. Fails if that takes longer than `limit`.
    pub async fn wait_for_replicas(&self, limit: Duration) -> RedisResult<()> {
        for primary in self.primaries().await? {
            if primary.replicas == 0 {
                continue;
            }
            let mut wait = redis::cmd("WAIT");
            wait.arg(1).arg(limit.as_millis().to_string());
            let confirmed: u64 = self.query_at(&primary.address, wait).await?;
            if confirmed == 0 {
                return Err(RedisError::from((
                    ErrorKind::Io,
                    "no replica confirmed the write in time",
                )));
            }
        }
        Ok(())
    }

    /// Starts an iteration over all keys.
    pub async fn scan(&self) -> RedisResult<Scan> {
        Ok(Scan { primaries: self.primaries().await?, cursor: 0 })
    }

    /// Returns the next keys that match `pattern`, possibly no key, or `None` at the end. A key may come
    /// twice.
    pub async fn next_keys(
        &self,
        scan: &mut Scan,
        pattern: &str,
    ) -> RedisResult<Option<Vec<String>>> {
        let Some(primary) = scan.primaries.last() else { return Ok(None) };
        let mut command = redis::cmd("SCAN");
        command.arg(scan.cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(SCAN_COUNT);
        let (cursor, keys): (u64, Vec<String>) = self.query_at(&primary.address, command).await?;
        scan.cursor = cursor;
        if cursor == 0 {
            scan.primaries.pop();
        }
        Ok(Some(keys))
    }

    /// The addresses of a cluster's nodes.
    pub(super) async fn nodes(&self) -> RedisResult<Vec<Address>> {
        let slots: Value = self.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        Ok(ranges_of(&slots).into_iter().flat_map(|range| range.nodes).collect())
    }

    async fn primaries(&self) -> RedisResult<Vec<Primary>> {
        match self {
            Self::Server(_) => {
                let role: Value = self.query(&redis::cmd("ROLE")).await?;
                Ok(vec![Primary { address: None, replicas: replicas_of(&role), slots: SLOTS }])
            }
            Self::Cluster(_) => {
                let slots_reply: Value = self.query(redis::cmd("CLUSTER").arg("SLOTS")).await?;
                let mut by_address = BTreeMap::<Address, Primary>::new();
                for Range { slots, nodes } in ranges_of(&slots_reply) {
                    let Some((address, replicas)) = nodes.split_first() else { continue };
                    let primary = by_address.entry(address.clone()).or_insert_with(|| Primary {
                        address: Some(address.clone()),
                        replicas: replicas.len(),
                        slots: 0,
                    });
                    primary.slots += slots;
                }
                Ok(by_address.into_values().collect())
            }
        }
    }

    async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Server(connection) => command.query_async(&mut connection.clone()).await,
            Self::Cluster(connection) => command.query_async(&mut connection.clone()).await,
        }
    }

    async fn query_at<T: FromRedisValue>(
        &self,
        address: &Option<Address>,
        command: Cmd,
    ) -> RedisResult<T> {
        match (self, address) {
            (Self::Cluster(connection), Some((host, port))) => {
                let node = SingleNodeRoutingInfo::ByAddress { host: host.clone(), port: *port };
                let mut connection = connection.clone();
                let response = connection.route_command(command, RoutingInfo::SingleNode(node));
                Ok(T::from_redis_value(response.await?)?)
            }
            _ => self.query(&command).await,
        }
    }
}

/// Whether a response to `ROLE` is a primary's.
fn is_role_of_primary(role: &Value) -> bool {
    let Value::Array(parts) = role else { return false };
    parts
        .first()
        .is_some_and(|role| String::from_redis_value_ref(role).is_ok_and(|role| role == "master"))
}

/// The number of connected replicas in a primary's response to `ROLE`: role, offset, replicas.
fn replicas_of(role: &Value) -> usize {
    let Value::Array(parts) = role else { return 0 };
    match parts.get(2) {
        Some(Value::Array(replicas)) => replicas.len(),
        _ => 0,
    }
}

/// A range of a cluster's slots.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    /// How many slots it has.
    slots: u64,
    /// The primary, then its replicas.
    nodes: Vec<Address>,
}

/// The ranges in a response to `CLUSTER SLOTS`.
fn ranges_of(reply: &Value) -> Vec<Range> {
    let Value::Array(ranges) = reply else { return Vec::new() };
    let node = |value: &Value| match value {
        Value::Array(parts) => {
            let host = String::from_redis_value_ref(parts.first()?).ok()?;
            let port = u16::from_redis_value_ref(parts.get(1)?).ok()?;
            (!host.is_empty()).then_some((host, port))
        }
        _ => None,
    };
    let range = |value: &Value| {
        let Value::Array(parts) = value else { return None };
        let slot = |at| parts.get(at).and_then(|slot| u64::from_redis_value_ref(slot).ok());
        let slots = (slot(1)? + 1).checked_sub(slot(0)?)?;
        Some(Range { slots, nodes: parts.iter().skip(2).filter_map(node).collect() })
    };
    ranges.iter().filter_map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn counts_the_replicas_of_a_primary() {
        let replica = Value::Array(vec![text("127.0.0.1"), text("7001"), text("14")]);
        let primary = |replicas| Value::Array(vec![text("master"), Value::Int(14), replicas]);
        assert_eq!(replicas_of(&primary(Value::Array(vec![replica]))), 1);
        assert_eq!(replicas_of(&primary(Value::Array(vec![]))), 0);
        assert!(is_role_of_primary(&primary(Value::Array(vec![]))));
        let replica = Value::Array([text("slave"), text("127.0.0.1"), Value::Int(7_000)].into());
        assert_eq!(replicas_of(&replica), 0);
        assert!(!is_role_of_primary(&replica));
    }

    #[test]
    fn lists_the_nodes_of_each_range_primary_first() {
        let node = |port| Value::Array(vec![text("10.0.0.1"), Value::Int(port), text("id")]);
        let unknown = Value::Array(vec![text(""), Value::Int(7_003), text("id")]);
        let range = |nodes: Vec<Value>| {
            Value::Array([vec![Value::Int(0), Value::Int(5_460)], nodes].concat())
        };
        let slots =
            Value::Array(vec![range(vec![node(1), node(2)]), range(vec![node(3), unknown])]);
        let at = |port| ("10.0.0.1".to_owned(), port);
        let expected = |nodes| Range { slots: 5_461, nodes };
        assert_eq!(ranges_of(&slots), [expected(vec![at(1), at(2)]), expected(vec![at(3)])]);
    }
}
