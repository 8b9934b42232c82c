//! The main loop of a Lambda function.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::SystemTime;

use lambda_runtime::{LambdaEvent, service_fn};

use super::{BatchResponse, KinesisEvent};

/// Passes every invocation and its deadline to `handle`, until Lambda ends the sandbox.
pub async fn serve<F>(handle: impl Fn(KinesisEvent, SystemTime) -> F) -> ExitCode
where
    F: Future<Output = BatchResponse>,
{
    let respond = |invocation: LambdaEvent<KinesisEvent>| {
        let response = handle(invocation.payload, invocation.context.deadline());
        async { Ok::<_, Infallible>(response.await) }
    };
    match lambda_runtime::run(service_fn(respond)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime API failed");
            ExitCode::FAILURE
        }
    }
}
