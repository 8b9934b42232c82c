//! What the Lambda functions share: the incoming batch, the failure store, metrics.

mod batch;
mod emf;
mod failure_store;
mod poison;
mod serve;

pub use batch::{
    BatchItemFailure, BatchResponse, KinesisEvent, PoisonRecord, StreamRecord, records_of, report,
};
pub use emf::BatchMetrics;
pub use failure_store::{FailureStore, FailureStoreError};
pub use poison::{Contents, InvalidAggregate, Poison, UserRecord};
pub use serve::serve;

/// Returns a one-line error if the function's binary was not started by Lambda, in which case the runtime
/// library would panic.
pub fn outside_lambda() -> Option<&'static str> {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_none().then_some(
        "AWS_LAMBDA_RUNTIME_API is not set: this program is started by AWS Lambda; \
         `make run` runs it on the local stack",
    )
}
