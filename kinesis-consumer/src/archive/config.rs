//! The archiver's settings, from the environment.

use adtrack_runtime::cli::non_empty;
use adtrack_runtime::storage::storage_url;
use adtrack_runtime::telemetry::LogSettings;
use clap::Parser;

/// Lambda function that writes adtrack's events to the archive, as Parquet.
///
/// Started by AWS Lambda with a Kinesis event-source mapping (ReportBatchItemFailures). AWS region,
/// endpoints and credentials come from the AWS SDK's own chain.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Config {
    /// Where to write the archive: s3://BUCKET/PREFIX or file:///FOLDER.
    #[arg(long, env, value_parser = storage_url)]
    pub archive_url: String,
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
        assert_eq!(settings_table::check::<Config>("archiver"), Ok(()));
    }
}
