//! Kinesis and DynamoDB, embedded: each an HTTP server on loopback that the AWS SDKs talk to.

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, CreateGlobalSecondaryIndexAction, GlobalSecondaryIndexUpdate,
    KeySchemaElement, KeyType, Projection, ProjectionType, ScalarAttributeType,
    TimeToLiveSpecification,
};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use ferrokinesis::store::StoreOptions;
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::StackError;
use crate::ports::{self, Port};

/// The region that the stand-ins pretend to be in.
pub const REGION: &str = "us-east-1";
/// The value of access key and secret key; the stand-ins do not check credentials.
pub const DUMMY_CREDENTIAL: &str = "local";
/// The index of the table of events.
pub const INDEX: &str = "by-program";

/// A server in this process, stopped on drop.
#[derive(Debug)]
pub struct EmbeddedServer {
    /// URL of the server.
    pub url: String,
    task: JoinHandle<()>,
}

impl Drop for EmbeddedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts ferrokinesis without write limits.
pub async fn kinesis(port: Port) -> Result<EmbeddedServer, StackError> {
    serve_kinesis(port, false).await
}

/// Starts ferrokinesis with AWS's write limits (1,000 records/s and 1 MiB/s per shard). Beyond them,
/// single records of a `PutRecords` call fail.
pub async fn throttled_kinesis(port: Port) -> Result<EmbeddedServer, StackError> {
    serve_kinesis(port, true).await
}

async fn serve_kinesis(port: Port, enforce_limits: bool) -> Result<EmbeddedServer, StackError> {
    let (router, _store) = ferrokinesis::create_app(StoreOptions {
        enforce_limits,
        create_stream_ms: 0,
        delete_stream_ms: 0,
        update_stream_ms: 0,
        shard_limit: 1_000,
        aws_region: REGION.to_owned(),
        ..StoreOptions::default()
    });
    let router = router.layer(middleware::from_fn_with_state(Arc::default(), one_write_at_a_time));
    serve(port, "Kinesis", router).await
}

/// Lets a write exclude reads and other writes.
///
/// ferrokinesis assigns a write's sequence numbers and stores its records in two steps. If two writes
/// overlap, a reader may move past a record that is stored after one with a higher number, and never see
/// it. A Kinesis shard on AWS does not have this race.
async fn one_write_at_a_time(
    State(lock): State<Arc<RwLock<()>>>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
    let action = target.and_then(|target| target.rsplit('.').next()).unwrap_or_default();
    let writes = action.starts_with("PutRecord") || ["SplitShard", "MergeShards"].contains(&action);
    let reads = action == "GetRecords";
    // Read the whole body before taking the lock, so that a slow client does not block others.
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let request = Request::from_parts(parts, Body::from(body));
    let _writing = if writes { Some(lock.write().await) } else { None };
    let _reading = if reads { Some(lock.read().await) } else { None };
    next.run(request).await
}

/// Starts dynoxide, a DynamoDB in memory.
pub async fn dynamodb(port: Port) -> Result<EmbeddedServer, StackError> {
    let database = dynoxide::Database::memory()
        .map_err(|error| StackError::Provisioning(format!("DynamoDB: {error}")))?;
    let listener = ports::listen("DynamoDB", port).await?;
    let url = url_of(&listener, "DynamoDB")?;
    let task = tokio::spawn(dynoxide::server::serve_on(listener, database));
    Ok(EmbeddedServer { url, task })
}

async fn serve(
    port: Port,
    part: &'static str,
    router: axum::Router,
) -> Result<EmbeddedServer, StackError> {
    let listener = ports::listen(part, port).await?;
    let url = url_of(&listener, part)?;
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, part, "an embedded server failed");
        }
    });
    Ok(EmbeddedServer { url, task })
}

fn url_of(listener: &tokio::net::TcpListener, part: &str) -> Result<String, StackError> {
    let address = listener
        .local_addr()
        .map_err(|error| StackError::Provisioning(format!("{part}: {error}")))?;
    Ok(format!("http://{address}"))
}

/// SDK configuration for the stand-in at `url`.
pub async fn sdk_config(url: &str) -> SdkConfig {
    let credentials =
        aws_sdk_kinesis::config::Credentials::new("local", "local", None, None, "local-stack");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new(REGION))
        .credentials_provider(credentials)
        .endpoint_url(url)
        .load()
        .await
}

/// Creates a stream and waits until it is active, for up to 5 s.
pub async fn create_stream(
    client: &aws_sdk_kinesis::Client,
    name: &str,
    shards: i32,
) -> Result<(), StackError> {
    let problem = |error: String| StackError::Provisioning(format!("stream {name}: {error}"));
    client
        .create_stream()
        .stream_name(name)
        .shard_count(shards)
        .send()
        .await
        .map_err(|error| problem(format!("{error:?}")))?;
    for _ in 0..500 {
        let summary = client
            .describe_stream_summary()
            .stream_name(name)
            .send()
            .await
            .map_err(|error| problem(format!("{error:?}")))?;
        let status = summary.stream_description_summary.map(|summary| summary.stream_status);
        if status == Some(aws_sdk_kinesis::types::StreamStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Err(problem("did not become active within 5 s".to_owned()))
}

/// Creates the table of events as the CloudFormation template does, without its index.
pub async fn create_table(client: &aws_sdk_dynamodb::Client, name: &str) -> Result<(), StackError> {
    let create = client
        .create_table()
        .table_name(name)
        .attribute_definitions(attribute("id", ScalarAttributeType::S)?)
        .key_schema(key("id", KeyType::Hash)?)
        .billing_mode(BillingMode::PayPerRequest);
    create.send().await.map_err(table_problem)?;
    let ttl = TimeToLiveSpecification::builder()
        .attribute_name("expires_at")
        .enabled(true)
        .build()
        .map_err(table_problem)?;
    let update = client.update_time_to_live().table_name(name).time_to_live_specification(ttl);
    update.send().await.map_err(table_problem)?;
    Ok(())
}

/// Creates the table's index `by-program`.
pub async fn create_index(
    client: &aws_sdk_dynamodb::Client,
    table: &str,
) -> Result<(), StackError> {
    let keys_only = Projection::builder().projection_type(ProjectionType::KeysOnly).build();
    let index = CreateGlobalSecondaryIndexAction::builder()
        .index_name(INDEX)
        .key_schema(key("program_bucket", KeyType::Hash)?)
        .key_schema(key("occurred_at", KeyType::Range)?)
        .projection(keys_only)
        .build()
        .map_err(table_problem)?;
    let update = client
        .update_table()
        .table_name(table)
        .attribute_definitions(attribute("program_bucket", ScalarAttributeType::S)?)
        .attribute_definitions(attribute("occurred_at", ScalarAttributeType::N)?)
        .global_secondary_index_updates(
            GlobalSecondaryIndexUpdate::builder().create(index).build(),
        );
    update.send().await.map_err(table_problem)?;
    Ok(())
}

fn attribute(name: &str, kind: ScalarAttributeType) -> Result<AttributeDefinition, StackError> {
    let attribute = AttributeDefinition::builder().attribute_name(name).attribute_type(kind);
    attribute.build().map_err(table_problem)
}

fn key(name: &str, kind: KeyType) -> Result<KeySchemaElement, StackError> {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().map_err(table_problem)
}

fn table_problem(error: impl std::error::Error) -> StackError {
    StackError::Provisioning(format!("the table: {error:?}"))
}
