//! Reads the configuration, creates the clients once and runs the Lambda loop.

use std::process::ExitCode;

use adtrack_runtime::lambda::{FailureStore, outside_lambda, serve};
use adtrack_runtime::redis_access::RedisAccess;
use adtrack_runtime::{cli, telemetry};
use redis_updater::config::Config;
use redis_updater::handler::{FUNCTION, Handler};
use redis_updater::store::{ProgramStore, TIMEOUTS};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = match cli::parse() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let handler = match handler(&config) {
        Ok(handler) => handler,
        Err(problem) => return cli::usage_error(&problem),
    };
    let _log = telemetry::init(&config.logs);
    serve(|event, deadline| handler.handle(event, deadline)).await
}

fn handler(config: &Config) -> Result<Handler, String> {
    let access = RedisAccess::new(&config.redis, TIMEOUTS).map_err(|error| error.to_string())?;
    let store = ProgramStore::new(access);
    let failures = FailureStore::open(FUNCTION, &config.failed_records_url)
        .map_err(|error| error.to_string())?;
    match outside_lambda() {
        Some(problem) => Err(problem.to_owned()),
        None => {
            let namespace = config.metrics_namespace.clone();
            Ok(Handler::new(store, failures, config.core_data_epoch, namespace))
        }
    }
}
