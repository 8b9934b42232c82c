//! The main loop of a Lambda function.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::SystemTime;

use lambda_runtime::{LambdaEvent, service_fn};

use super::{BatchResponse, KinesisEvent};
use crate::telemetry;

/// Passes every invocation and its deadline to `handle`, until Lambda ends the sandbox. Writes the log before
/// each response, after which Lambda freezes the process.
pub async fn serve<F>(handle: impl Fn(KinesisEvent, SystemTime) -> F) -> ExitCode
where
    F: Future<Output = BatchResponse>,
{
    let respond = |invocation: LambdaEvent<KinesisEvent>| {
        let response = handle(invocation.payload, invocation.context.deadline());
        async {
            let response = response.await;
            telemetry::flush();
            Ok::<_, Infallible>(response)
        }
    };
    match lambda_runtime::run(service_fn(respond)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime API failed");
            ExitCode::FAILURE
        }
    }
}
