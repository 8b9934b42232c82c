//! Servers that `make bench` compares with the tracker: the same HTTP server with less behind it, and one
//! that delivers each event before it responds, as is often done.
//!
//! `peers MODE ADDRESS`, where MODE is
//! - `hello`: actix-web's hello world, with as many bytes as the tracker's response;
//! - `null`: the tracker's handler and cache, its events dropped;
//! - `journal`: the same, its events in a journal that nobody reads, with room for many thousands;
//! - `awaited`: the tracker's handler, and one `PutRecord` per event that the response waits for.
//!
//! `peers requests ADDRESS COUNT NAME` sends the named request of `deploy/checks/peers/requests.http` COUNT times,
//! one after the other, on one connection; `peers batches ADDRESS COUNT` sends batches of 500 events.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use adtrack_proto::ProgramId;
use adtrack_proto::event::EventType;
use adtrack_proto::program::Update;
use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::redis_settings::RedisSettings;
use aws_config::BehaviorVersion;
use aws_sdk_kinesis::primitives::Blob;
use clap::Parser;
use tracker::delivery::{Journal, SyncMode};
use tracker::domain::Rules;
use tracker::health::{Conditions, Health};
use tracker::http::public::{
    self, ClickSettings, ConnectionSettings, Public, RateLimitSettings, RateLimits,
    VisitorSettings, tracking_request,
};
use tracker::metrics::Metrics;
use tracker::programs::{
    CacheLimits, Loader, LocalPrograms, ProgramState, RedisLink, RedisPrograms, TIMEOUTS,
    TwoTierPrograms,
};
use tracker::track::{AcceptedEvent, EventSink, NotAccepted, Tracker};
use tracker::watchdog::Progress;

type Error = Box<dyn std::error::Error>;

const PROGRAM: &str = r#"{"programId":"212313","programName":"program2","checksum":"124",
    "customerId":9124,"customerName":"Customer2","valid":true,"version":"0.1"}"#;
const HELLO: &str = r#"{"userAgent":"","programId":"212313","programName":"program2","checksum":"124","customerId":9124,"customerName":"Customer2","messageId":"019b7ca9-8f2e-7707-8707-070707070707","valid":true,"customerIdText":"9124"}"#;

struct Null;

impl EventSink for Null {
    fn earliest_ms(&self, _: u64) -> u64 {
        0
    }

    fn accept(&self, event: &AcceptedEvent) -> Result<(), NotAccepted> {
        std::hint::black_box(event);
        Ok(())
    }
}

#[derive(Parser)]
struct Settings {
    #[command(flatten)]
    redis: RedisSettings,
    #[command(flatten)]
    connections: ConnectionSettings,
    #[command(flatten)]
    visitors: VisitorSettings,
    #[command(flatten)]
    rate_limits: RateLimitSettings,
}

impl Settings {
    fn defaults() -> Result<Self, clap::Error> {
        Self::try_parse_from(["peers"])
    }
}

#[actix_web::main]
async fn main() -> Result<ExitCode, Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["requests", address, count, name] => {
            send(address, &named_request(name)?, count.parse()?)?;
        }
        ["batches", address, count] => send(address, &batch_request(), count.parse()?)?,
        ["hello", address] => hello(address).await?,
        ["null", address] => serve(address, Null).await?,
        ["journal", address] => serve(address, journal("peers-journal")?).await?,
        ["awaited", address] => awaited(address).await?,
        _ => {
            eprintln!(
                "usage: peers hello|null|journal|awaited ADDRESS, requests ADDRESS COUNT NAME, or \
                 batches ADDRESS COUNT"
            );
            return Ok(ExitCode::from(64));
        }
    }
    Ok(ExitCode::SUCCESS)
}

const REQUESTS: &str = include_str!("../../deploy/checks/peers/requests.http");

/// The request of this name, as it goes over the wire.
fn named_request(name: &str) -> Result<String, Error> {
    let named = REQUESTS.split("### ").filter_map(|request| request.split_once('\n'));
    let request = named.into_iter().find(|(title, _)| *title == name);
    let (_, text) = request.ok_or_else(|| format!("no request is named {name:?}"))?;
    Ok(text.replace('\n', "\r\n"))
}

/// A batch as a partner's server sends it.
fn batch_request() -> String {
    const ITEM: &str = r#"{"programId":"212313","eventType":"impression","userAgent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","parameters":{"placement":"top"}}"#;
    let body = format!("[{}]", [ITEM; 500].join(","));
    let length = body.len();
    format!(
        "POST /events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
}

fn send(address: &str, request: &str, count: usize) -> Result<(), Error> {
    let mut connection = TcpStream::connect(address)?;
    for _ in 0..count {
        connection.write_all(request.as_bytes())?;
        read_response(&mut connection)?;
    }
    Ok(())
}

fn read_response(connection: &mut TcpStream) -> Result<(), Error> {
    let mut response = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let length = connection.read(&mut buffer)?;
        response.extend_from_slice(&buffer[..length]);
        let text = str::from_utf8(&response)?;
        if length == 0 || !"HTTP/1.1 200".starts_with(text.get(..12).unwrap_or(text)) {
            return Err("the response is not 200".into());
        }
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= announced.ok_or("no content-length")?.parse::<usize>()? {
                return Ok(());
            }
        }
    }
}

async fn hello(address: &str) -> Result<(), Error> {
    let hello = || async { HttpResponse::Ok().content_type("application/json").body(HELLO) };
    let app = move || App::new().route("/{endpoint}/{programId}", web::get().to(hello));
    Ok(HttpServer::new(app).workers(1).bind(address)?.run().await?)
}

fn journal(name: &str) -> Result<Journal, Error> {
    let folder = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
    Ok(Journal::open(&folder, 64 << 20, 1, SyncMode::Never)?)
}

/// The two tiers, with the program in L1, and no Redis.
fn programs(metrics: &Arc<Metrics>) -> Result<(TwoTierPrograms, RedisLink), Error> {
    let settings = Settings::defaults()?;
    let access = RedisAccess::new(&settings.redis, TIMEOUTS)?;
    let (link, _keeper) = RedisLink::new(access, Arc::clone(metrics));
    let local = LocalPrograms::new(CacheLimits {
        capacity: 100_000,
        ttl: Duration::from_secs(86_400),
        negative_ttl: Duration::from_secs(30),
        stale: Duration::ZERO,
    });
    local.on_subscribed();
    local.on_verified();
    let program = ProgramState::of(Update::from_json(PROGRAM.as_bytes())?);
    local.push(ProgramId::parse("212313")?, program);
    let redis = RedisPrograms::new(link.clone());
    let (handle, _loader) = Loader::new(local.clone(), redis, Arc::clone(metrics));
    Ok((TwoTierPrograms::new(local, handle, Arc::clone(metrics)), link))
}

async fn serve<S: EventSink + Send + Sync + 'static>(address: &str, sink: S) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new()?);
    let (programs, link) = programs(&metrics)?;
    let health =
        Health::new(link, journal("peers-health")?, Conditions::default(), Progress::default());
    let Settings { connections, visitors, rate_limits, .. } = Settings::defaults()?;
    let tracker = Tracker::new(programs, sink);
    let public = web::Data::new(Public {
        tracker,
        health,
        metrics,
        visitors,
        clicks: ClickSettings::default(),
        conversions: Arc::default(),
        bodies: Arc::default(),
        rate_limits: RateLimits::new(&rate_limits).map(Arc::new),
        repair_log: Arc::default(),
        fault_shares: Arc::default(),
    });
    let listener = std::net::TcpListener::bind(address)?;
    Ok(public::listen(listener, public, &connections, 1, Duration::from_secs(30))?.await?)
}

/// The state of the awaited handler.
struct Awaited {
    tracker: Tracker<TwoTierPrograms, Null>,
    kinesis: aws_sdk_kinesis::Client,
    stream: String,
    visitors: VisitorSettings,
}

async fn awaited(address: &str) -> Result<(), Error> {
    let metrics = Arc::new(Metrics::new()?);
    let (programs, _link) = programs(&metrics)?;
    let shared = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let data = web::Data::new(Awaited {
        tracker: Tracker::new(programs, Null),
        kinesis: aws_sdk_kinesis::Client::new(&shared),
        stream: std::env::var("EVENT_STREAM")?,
        visitors: Settings::defaults()?.visitors,
    });
    let app = move || {
        App::new()
            .app_data(data.clone())
            .route("/{endpoint}/{programId}", web::get().to(put_and_respond))
    };
    Ok(HttpServer::new(app).workers(1).bind(address)?.run().await?)
}

async fn put_and_respond(request: HttpRequest, awaited: web::Data<Awaited>) -> HttpResponse {
    let json = async {
        let id = request.match_info().get("programId")?;
        let visitors = &awaited.visitors;
        let request =
            tracking_request(&request, id, EventType::Event, Rules::EVENT, visitors).ok()?;
        let event = awaited.tracker.look_up_and_validate(&request).await.ok()?;
        let put = awaited.kinesis.put_record().stream_name(&awaited.stream);
        let put = put.partition_key(event.message_id.to_string());
        put.data(Blob::new(event.to_protobuf(event.received_at_ms()))).send().await.ok()?;
        Some(event.to_json())
    };
    match json.await {
        Some(json) => HttpResponse::Ok().content_type("application/json").body(json),
        None => HttpResponse::ServiceUnavailable().finish(),
    }
}
