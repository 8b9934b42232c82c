//! The bootstrap: configuration, clients made once, the runtime loop.

use std::process::ExitCode;

use adtrack_runtime::lambda::{FailureStore, outside_lambda};
use adtrack_runtime::{cli, telemetry};
use lambda_runtime::{LambdaEvent, service_fn};
use redis_updater::config::Config;
use redis_updater::handler::{FUNCTION, Handler};
use redis_updater::store::ProgramStore;

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
    telemetry::init(&config.logs);
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

fn handler(config: &Config) -> Result<Handler, String> {
    let url = config.redis.url().map_err(|error| error.to_string())?;
    let store = ProgramStore::new(url.as_str(), config.redis.redis_channel.clone())
        .map_err(|error| format!("REDIS_URL: {error}"))?;
    let failures = FailureStore::open(FUNCTION, &config.failed_records_url)
        .map_err(|error| error.to_string())?;
    match outside_lambda() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(Handler::new(store, failures, config.core_data_epoch)),
    }
}
