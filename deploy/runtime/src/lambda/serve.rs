//! The loop of a function: invocations in, answers out.

use std::convert::Infallible;
use std::process::ExitCode;
use std::time::SystemTime;

use lambda_runtime::{LambdaEvent, service_fn};

use super::{BatchResponse, KinesisEvent};

/// Has `handle` answer every invocation before its deadline, until Lambda ends the sandbox.
pub async fn serve<F>(handle: impl Fn(KinesisEvent, SystemTime) -> F) -> ExitCode
where
    F: Future<Output = BatchResponse>,
{
    let answer = |invocation: LambdaEvent<KinesisEvent>| {
        let answer = handle(invocation.payload, invocation.context.deadline());
        async { Ok::<_, Infallible>(answer.await) }
    };
    match lambda_runtime::run(service_fn(answer)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error, "the Lambda runtime API ended");
            ExitCode::FAILURE
        }
    }
}
