//! The tracker: responds to ad clients at once, and delivers their events to Kinesis.

use std::process::ExitCode;

use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::{cli, telemetry};
use aws_config::BehaviorVersion;
use tracker::app::App;
use tracker::config::{Command, Config};
use tracker::shutdown::Shutdown;
use tracker::{healthcheck, programs};

#[tokio::main]
async fn main() -> ExitCode {
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
    telemetry::init(&config.logs);
    let aws = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let app = match App::build(&config, redis, &aws) {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "the tracker cannot start");
            return ExitCode::FAILURE;
        }
    };
    app.run(Shutdown::on_signals()).await
}
