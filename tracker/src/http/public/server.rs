//! The public listener's server: what connections may cost.

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
use super::routes::configure;
use super::state::Public;
use crate::domain::bots;
use crate::track::{EventSink, Programs};

/// Longer than a load balancer keeps idle connections (an AWS ALB: 60 s), so that it is the one
/// that closes them and never sends a request into a closing one.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// For the first byte on a connection to arrive; 408 then. As long as between two requests: browsers and
/// clients with a pool open connections ahead, and would find the 408 in place of the answer to a
/// request that they send at that moment. From that byte on, `REQUEST_TIMEOUT_SECONDS` counts.
const FIRST_REQUEST_TIMEOUT: Duration = KEEP_ALIVE;
/// For a client to take notice of the end of its connection.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// What connections of the public listener may cost.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Connections")]
pub struct ConnectionSettings {
    /// Connections of the public listener that are open at a time, over all workers; more wait to be
    /// accepted. Each takes about 20 KB, and up to 128 KiB while a head arrives.
    #[arg(long, env, default_value = "20000", value_parser = integer(1_usize, 1_000_000))]
    pub max_connections: usize,
    /// Seconds that a request has at least, head and body, from its first byte to its answer, and at
    /// most twice as many; 408 then, and the connection ends.
    #[arg(long, env, default_value = "20", value_parser = seconds(1, 3_600))]
    pub request_timeout_seconds: Duration,
}

/// Serves `public` on `listener` with so many `workers`, until its handle stops it or the end of
/// running requests, `shutdown_timeout` at most, has been waited for.
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
    let builder = Server::build()
        .workers(workers)
        .max_concurrent_connections(settings.max_connections.div_ceil(workers))
        .shutdown_timeout(shutdown_timeout.as_secs())
        .disable_signals();
    let shutdown = builder.graceful_shutdown_signal();
    // What actix_web::HttpServer does, but for the connection: it has no place for one of ours.
    let server = builder.listen("public", listener, move || {
        let (public, shutdown) = (public.clone(), shutdown.clone());
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
            .h1(map_config(app, move |()| AppConfig::default()));
        fn_service(move |stream: TcpStream| async move {
            let peer = stream.peer_addr().ok();
            Ok((Connection::new(stream, timeout), peer))
        })
        .and_then(service)
    })?;
    Ok(server.run())
}
