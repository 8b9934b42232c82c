//! Reads the configuration, creates the clients once and runs the Lambda loop.

use std::process::ExitCode;

use adtrack_runtime::lambda::{FailureStore, outside_lambda, serve};
use adtrack_runtime::{cli, telemetry};
use kinesis_consumer::config::Config;
use kinesis_consumer::handler::{FUNCTION, Handler};
use kinesis_consumer::item::{EARLIER_IDS_UNTIL, RowSettings};
use kinesis_consumer::row_types::RowTypes;
use kinesis_consumer::store::EventTable;

#[tokio::main]
async fn main() -> ExitCode {
    let config: Config = match cli::parse() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let failures = match FailureStore::open(FUNCTION, &config.failed_records_url) {
        Ok(failures) => failures,
        Err(error) => return cli::usage_error(error),
    };
    if let Some(problem) = outside_lambda() {
        return cli::usage_error(problem);
    }
    let _log = telemetry::init(&config.logs);
    let table = EventTable::connect(config.table_name).await;
    let handler = Handler::new(
        table,
        failures,
        RowSettings {
            ttl_days: config.event_ttl_days,
            index_buckets: config.index_buckets,
            earlier_ids_until: Some(EARLIER_IDS_UNTIL),
        },
        config.row_types.unwrap_or_else(RowTypes::all),
        config.metrics_namespace,
    );
    serve(|event, deadline| handler.handle(event, deadline)).await
}
