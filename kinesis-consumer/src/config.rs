//! The settings, from the environment.

use adtrack_runtime::cli::{integer, non_empty};
use adtrack_runtime::storage::storage_url;
use adtrack_runtime::telemetry::LogSettings;
use clap::Parser;

use crate::row_types::{RowTypes, parse_row_types};

/// Lambda function that stores adtrack's events in DynamoDB.
///
/// Started by AWS Lambda with a Kinesis event-source mapping (ReportBatchItemFailures). AWS region,
/// endpoints and credentials come from the AWS SDK's own chain.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Name of the DynamoDB table.
    #[arg(long, env, value_parser = non_empty("the name of a DynamoDB table"))]
    pub table_name: String,
    /// Days until a row expires, counted from when the tracker received the event. Unset: rows do not
    /// expire.
    #[arg(long, env, value_parser = integer(1_u32, 36_500))]
    pub event_ttl_days: Option<u32>,
    /// Partitions over which the table's index `by-program` spreads an hour of a program: one for
    /// every 150 events per second of the busiest program. Unset: rows are not in the index.
    #[arg(long, env, value_parser = integer(1_u32, 10_000))]
    pub index_buckets: Option<u32>,
    /// Types of events that become rows, separated by commas: event, impression, click, conversion,
    /// unspecified. Events whose ids depend on the client's always become rows. [default: all]
    #[arg(long, env, value_parser = parse_row_types)]
    pub row_types: Option<RowTypes>,
    /// Where to store records that can never succeed: s3://BUCKET/PREFIX or file:///FOLDER.
    #[arg(long, env, value_parser = storage_url)]
    pub failed_records_url: String,
    /// CloudWatch namespace of the function's metrics. Give each deployment its own: deployments that
    /// share one have their metrics added up.
    #[arg(long, env, default_value = "adtrack", value_parser = non_empty("a CloudWatch namespace"))]
    pub metrics_namespace: String,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the text of --help")]
    pub logs: LogSettings,
}

#[cfg(test)]
mod tests {
    use adtrack_runtime::settings_table;

    use super::*;

    #[test]
    fn documentation_lists_every_setting() {
        assert_eq!(settings_table::check::<Config>("kinesis-consumer"), Ok(()));
    }
}
