//! The bootstrap: configuration, clients made once, the runtime loop.

use std::process::ExitCode;

use adtrack_runtime::lambda::{FailureStore, outside_lambda};
use adtrack_runtime::{cli, telemetry};
use kinesis_consumer::config::Config;
use kinesis_consumer::handler::{FUNCTION, Handler};
use kinesis_consumer::store::EventTable;
use lambda_runtime::{LambdaEvent, service_fn};

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = match cli::parse() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let failures = match FailureStore::open(FUNCTION, &config.failed_records_url) {
        Ok(failures) => failures,
        Err(error) => return cli::usage_error(&error.to_string()),
    };
    if let Some(problem) = outside_lambda() {
        return cli::usage_error(problem);
    }
    telemetry::init(&config.logs);
    let table = EventTable::connect(config.table_name).await;
    let handler = Handler::new(table, failures, config.event_ttl_days);
    let handler = &handler;
    let serve = |invocation: LambdaEvent<_>| async move {
        let deadline = invocation.context.deadline();
        Ok::<_, std::convert::Infallible>(handler.handle(invocation.payload, deadline).await)
    };
    match lambda_runtime::run(service_fn(serve)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime API ended");
            ExitCode::FAILURE
        }
    }
}
