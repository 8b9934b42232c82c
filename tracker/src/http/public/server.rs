//! The public listener's server, and the limits on its connections.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use actix_http::HttpService;
use actix_service::{IntoServiceFactory, ServiceFactoryExt, map_config};
use actix_web::dev::{AppConfig, Server, fn_service};
use actix_web::rt::net::TcpStream;
use actix_web::{App, Error, web};
use adtrack_runtime::cli::{integer, seconds};
use clap::Args;

use super::connection::Connection;
use super::open_connections::OpenConnections;
use super::routes::configure;
use super::state::Public;
use crate::domain::bots;
use crate::track::{EventSink, Programs};

/// Longer than a load balancer keeps idle connections (an AWS ALB: 60 s), so that it is the one
/// that closes them and never sends a request into a closing one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a new connection may wait for its first byte before it gets 408. As long as between two
/// requests: browsers and clients with a pool open connections in advance, and could mistake the 408 for
/// the response to a request that they send at that moment. From the first byte on,
/// `REQUEST_TIMEOUT_SECONDS` counts.
const FIRST_REQUEST_TIMEOUT: Duration = KEEP_ALIVE;
/// How long a client has to close its side of a connection that the server closes.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits on the connections of the public listener.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionSettings {
    /// Connections that the public listener holds open at a time, over all workers. Further ones get 503, but
    /// for health checks. Capped if the limit on open files allows fewer. Each takes about 20 KB, and up to
    /// 128 KiB while headers arrive.
    #[arg(long, env, default_value = "20000", value_parser = integer(1_usize, 1_000_000))]
    pub max_connections: usize,
    /// Seconds that a request may take, from its first byte (headers and body included) until its response
    /// starts. A slower one gets 408, after twice this time at the latest, and its connection is closed.
    #[arg(long, env, default_value = "20", value_parser = seconds(1, 3_600))]
    pub request_timeout_seconds: Duration,
}

/// Serves `public` on `listener` with `workers` threads, until its handle stops it. A graceful stop waits
/// for running requests, at most `shutdown_timeout`.
pub fn listen<P, S>(
    listener: TcpListener,
    public: web::Data<Public<P, S>>,
    settings: &ConnectionSettings,
    workers: usize,
    shutdown_timeout: Duration,
) -> io::Result<Server>
where
    P: Programs + Send + Sync + 'static,
    S: EventSink + Send + Sync + 'static,
{
    bots::prepare();
    let address = listener.local_addr()?;
    let timeout = settings.request_timeout_seconds;
    let connections = OpenConnections::new(settings.max_connections);
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(connections.limit_with_reserve().div_ceil(workers))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    // The same as actix_web::HttpServer, which does not accept a custom connection type.
    let server = builder.listen("public", listener, move || {
        let (public, shutdown) = (public.clone(), shutdown.clone());
        let connections = connections.clone();
        let app = App::new().configure(|service| configure(service, public));
        let app = app.into_factory().map_err(|error: Error| error.error_response());
        let service = HttpService::build()
            .graceful_shutdown_signal(move || {
                let shutdown = shutdown.clone();
                async move { shutdown.notified().await }
            })
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(FIRST_REQUEST_TIMEOUT)
            .client_disconnect_timeout(DISCONNECT_TIMEOUT)
            .local_addr(address)
            .on_connect_ext(|connection: &Connection, data| {
                data.insert(connection.unread_body());
            })
            .h1(map_config(app, move |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| {
            let slot = connections.take_slot();
            async move {
                let peer = stream.peer_addr().ok();
                Ok((Connection::new(stream, slot, timeout), peer))
            }
        })
        .and_then(service)
    })?;
    Ok(server.run())
}
