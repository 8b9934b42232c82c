//! The two cache tiers, with a real Redis whose responses a proxy can hold back, so that the order of
//! events does not depend on luck.

use std::sync::Arc;
use std::time::Duration;

use adtrack_proto::ProgramId;
use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::redis_settings::RedisSettings;
use clap::Parser;
use local_stack::RedisServer;
use local_stack::ports::Port;
use local_stack::tcp_proxy::{Passing, TcpProxy};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tracker::metrics::Metrics;
use tracker::programs::{
    CacheLimits, Loader, LocalPrograms, ProgramState, PushOutcome, RedisLink, RedisPrograms,
    TIMEOUTS, TwoTierPrograms,
};
use tracker::track::Programs;

use crate::helpers::{program, store, until};

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    redis: RedisSettings,
}

struct Tiers {
    local: LocalPrograms,
    tiers: TwoTierPrograms,
    metrics: Arc<Metrics>,
    proxy: TcpProxy,
    redis: RedisServer,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Tiers {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = RedisServer::start(Port::Any, &folder.path().join("redis")).await.unwrap();
        let proxy = TcpProxy::start(redis.address()).await.unwrap();
        let url = format!("--redis-url=redis://{}", proxy.address);
        let settings = Settings::try_parse_from(["test", &url]).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let access = RedisAccess::new(&settings.redis, TIMEOUTS).unwrap();
        let (link, keeper) = RedisLink::new(access, Arc::clone(&metrics));
        let local = LocalPrograms::new(CacheLimits {
            capacity: 100,
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(30),
            stale: Duration::from_secs(60),
        });
        let programs = RedisPrograms::new(link.clone());
        let (handle, loader) = Loader::new(local.clone(), programs, Arc::clone(&metrics));
        let tiers = TwoTierPrograms::new(local.clone(), handle, Arc::clone(&metrics));
        let stop = CancellationToken::new();
        tokio::spawn(keeper.run(stop.clone()));
        tokio::spawn(loader.run(stop.clone()));
        local.on_subscribed();
        local.on_verified();
        until("it is connected", async || link.is_connected()).await;
        Self { local, tiers, metrics, proxy, redis, stop, _folder: folder }
    }

    async fn name_of(&self, id: &ProgramId) -> String {
        let found = self.tiers.find(id).await.unwrap();
        found.map_or("unknown".to_owned(), |found| found.event_fields.to_event().program_name)
    }
}

impl Drop for Tiers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn id() -> ProgramId {
    ProgramId::parse("p").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn read_in_progress_does_not_undo_an_update() {
    let tiers = Tiers::start().await;
    for (stored, updated) in [(1, 2), (3, 4)] {
        let version = |version| format!("0.{version}");
        store(&tiers.redis, &program("p", "old", &version(stored))).await;
        tiers.local.purge();
        tiers.proxy.set(Passing::Requests);
        let (id, update) = (id(), program("p", "new", &version(updated)));
        let find = tiers.name_of(&id);
        let race = async {
            // Redis responds with the old program; the proxy holds the response back.
            until("the read is in progress", async || {
                tiers.metrics.programs.loads_in_flight.get() == 1
            })
            .await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(
                tiers.local.push(id.clone(), ProgramState::of(update)),
                PushOutcome::Applied
            );
            tiers.proxy.set(Passing::All);
        };
        let (found, ()) = tokio::join!(find, race);
        assert_eq!(found, "new");
        assert_eq!(tiers.name_of(&id).await, "new");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_a_cold_program_once_for_ten_thousand_requests() {
    let tiers = Tiers::start().await;
    store(&tiers.redis, &program("p", "cold", "0.1")).await;
    tiers.proxy.set(Passing::Requests);
    let requests: Vec<_> = (0..10_000)
        .map(|_| {
            let tiers = tiers.tiers.clone();
            tokio::spawn(async move { tiers.find(&id()).await.unwrap().is_some() })
        })
        .collect();
    until("all wait", async || tiers.metrics.programs.local_misses.get() == 10_000).await;
    tiers.proxy.set(Passing::All);
    for request in requests {
        assert!(request.await.unwrap());
    }
    assert_eq!(tiers.metrics.programs.loads_found.get(), 1);
}
