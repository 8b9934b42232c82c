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
    let access = match RedisAccess::new(&config.redis, TIMEOUTS) {
        Ok(access) => access,
        Err(error) => return cli::usage_error(error),
    };
    let failures = match FailureStore::open(FUNCTION, &config.failed_records_url) {
        Ok(failures) => failures,
        Err(error) => return cli::usage_error(error),
    };
    if let Some(problem) = outside_lambda() {
        return cli::usage_error(problem);
    }
    let _log = telemetry::init(&config.logs);
    let store = ProgramStore::new(access);
    let handler = Handler::new(store, failures, config.core_data_epoch, config.metrics_namespace);
    serve(|event, deadline| handler.handle(event, deadline)).await
}
