//! The tracker: responds to ad clients at once, and delivers their events to Kinesis.

use std::process::ExitCode;
use std::time::Duration;

use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::{cli, telemetry};
use aws_config::BehaviorVersion;
use tracker::app::App;
use tracker::config::{Command, Config};
use tracker::shutdown::Shutdown;
use tracker::{healthcheck, programs};

/// How long the threads of the runtime have to end. One that is blocked must not keep the process.
const RUNTIME_SHUTDOWN: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return cli::failure(format!("no threads can be started: {error}")),
    };
    let status = runtime.block_on(run());
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN);
    status
}

async fn run() -> ExitCode {
    let config: Config = match cli::parse() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Some(Command::Healthcheck) = config.command {
        return healthcheck::run(config.listen_addr);
    }
    if let Err(problem) = config.rate_limits.check(&config.visitors) {
        return cli::usage_error(problem);
    }
    let redis = match RedisAccess::new(&config.redis, programs::TIMEOUTS) {
        Ok(redis) => redis,
        Err(error) => return cli::usage_error(error),
    };
    let _log = telemetry::init(&config.logs);
    // Before the journal is opened, which takes time.
    let shutdown = Shutdown::on_signals();
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let app = match App::build(&config, redis, &aws) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "the tracker cannot start");
            return ExitCode::FAILURE;
        }
    };
    app.run(shutdown).await
}
