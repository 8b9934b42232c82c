//! Reads the configuration, opens the archive once and runs the Lambda loop.

use std::process::ExitCode;

use adtrack_runtime::lambda::{FailureStore, outside_lambda, serve};
use adtrack_runtime::{cli, telemetry};
use kinesis_consumer::archive::config::Config;
use kinesis_consumer::archive::handler::{FUNCTION, Handler};
use kinesis_consumer::archive::store::Archive;

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = match cli::parse() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let archive = match Archive::open(&config.archive_url) {
        Ok(archive) => archive,
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
    let handler = Handler::new(archive, failures, config.metrics_namespace);
    serve(|event, deadline| handler.handle(event, deadline)).await
}
