//! What a run uses besides the tracker's public listener: the management listener, the table, the
//! core-data stream.

use std::collections::HashMap;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};

use crate::core_data::CoreDataStream;
use crate::target::{Hosts, Target};
use crate::verify::EventTable;

/// Time limit of one attempt of an AWS call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The parts of a deployment next to the tracker's public listener. Each may be missing.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// URL of the tracker's management listener, which has the metrics.
    pub management_url: Option<String>,
    /// The table in which events are stored.
    pub table: Option<EventTable>,
    /// The stream that changes core data.
    pub core_data: Option<CoreDataStream>,
}

/// How AWS is reached.
struct Aws {
    dynamodb: SdkConfig,
    kinesis: SdkConfig,
    /// Whether DynamoDB is a stand-in on this machine.
    has_stand_in_table: bool,
}

impl Surroundings {
    /// The parts that this process' environment names. Credentials come from the AWS SDK's default
    /// chain.
    pub async fn of_environment() -> Self {
        let shared = defaults().load().await;
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let endpoint = variable("AWS_ENDPOINT_URL_DYNAMODB");
        let aws = Aws {
            dynamodb: shared.clone(),
            kinesis: shared,
            has_stand_in_table: endpoint.is_some_and(|url| is_loopback(&url)),
        };
        Self::new(&aws, variable)
    }

    /// The parts of a local stack with these environment variables. This process' own environment is
    /// ignored.
    pub async fn of_stack(variables: &HashMap<String, String>) -> Self {
        let value = |name: &str| variables.get(name).cloned();
        let text = |name: &str| value(name).unwrap_or_default();
        let shared = |endpoint: &str| {
            let credentials = aws_sdk_kinesis::config::Credentials::new(
                text("AWS_ACCESS_KEY_ID"),
                text("AWS_SECRET_ACCESS_KEY"),
                None,
                None,
                "local-stack",
            );
            defaults()
                .region(Region::new(text("AWS_REGION")))
                .credentials_provider(credentials)
                .endpoint_url(text(endpoint))
                .load()
        };
        let aws = Aws {
            dynamodb: shared("AWS_ENDPOINT_URL_DYNAMODB").await,
            kinesis: shared("AWS_ENDPOINT_URL_KINESIS").await,
            has_stand_in_table: true,
        };
        Self::new(&aws, value)
    }

    fn new(aws: &Aws, variable: impl Fn(&str) -> Option<String>) -> Self {
        let table = |name| EventTable::new(&aws.dynamodb, name, aws.has_stand_in_table);
        Self {
            management_url: variable("MANAGEMENT_URL"),
            table: variable("TABLE_NAME").map(table),
            core_data: variable("CORE_DATA_STREAM")
                .map(|stream| CoreDataStream::new(&aws.kinesis, stream)),
        }
    }
}

fn defaults() -> aws_config::ConfigLoader {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(CALL_TIMEOUT).build();
    aws_config::defaults(BehaviorVersion::latest()).timeout_config(timeouts)
}

fn is_loopback(url: &str) -> bool {
    Target::parse(url.trim_end_matches('/'), Hosts::Own).is_ok_and(|target| target.is_loopback())
}
