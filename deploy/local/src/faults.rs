//! An HTTP proxy in front of a stand-in for AWS that injects the faults which the stand-in never has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::StackError;
use crate::damage::RowDamage;
use crate::index_partitions::{IndexPartitions, PartitionWrites};
use crate::ports::{self, Port};

/// Longer than any client waits for a response.
const FOREVER: Duration = Duration::from_secs(120);

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// The call takes this much longer.
    Latency(Duration),
    /// The response is 500, and the call is not executed.
    ServerError,
    /// The whole call is throttled.
    Throttled,
    /// About this share of the records of a `PutRecords` call fails.
    Partial(f64),
    /// Each partition of the table's index takes this many rows per second. The other rows of a
    /// `BatchWriteItem` call are left unprocessed.
    HotIndex(f64),
    /// The call is executed, but gets no response: a retry executes it twice.
    SilentSuccess,
    /// The call is executed, and the connection breaks in the middle of the response.
    Reset,
    /// The call gets no response and is not executed.
    BlackHole,
    /// The response is 200, but does not say that anything was done; the call is not executed.
    Lie(Lie),
}

/// A response of 200 that acknowledges nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    /// This body.
    Body(&'static str),
    /// To `PutRecords`: this entry for each record.
    Entry(&'static str),
    /// To `PutRecords`: entries that are valid, but one too few.
    OneEntryTooFew,
}

/// The proxy, stopped on drop.
#[derive(Debug)]
pub struct FaultProxy {
    /// URL for clients.
    pub url: String,
    faults: Arc<Mutex<Vec<(Fault, f64)>>>,
    index: Arc<Mutex<IndexPartitions>>,
    damage: Arc<Mutex<Option<RowDamage>>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Proxy {
    upstream: String,
    client: reqwest::Client,
    faults: Arc<Mutex<Vec<(Fault, f64)>>>,
    index: Arc<Mutex<IndexPartitions>>,
    damage: Arc<Mutex<Option<RowDamage>>>,
}

impl FaultProxy {
    /// Starts a proxy to `upstream` without faults.
    pub async fn start(upstream: &str) -> Result<Self, StackError> {
        let listener = ports::listen("a fault proxy", Port::Any).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StackError::Provisioning(format!("a fault proxy: {error}")))?;
        let faults = Arc::<Mutex<_>>::default();
        let index = Arc::<Mutex<_>>::default();
        let damage = Arc::<Mutex<_>>::default();
        let proxy = Proxy {
            upstream: upstream.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            faults: Arc::clone(&faults),
            index: Arc::clone(&index),
            damage: Arc::clone(&damage),
        };
        let router = Router::new()
            .route("/", post(call))
            .layer(DefaultBodyLimit::disable())
            .with_state(proxy);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "a fault proxy failed");
            }
        });
        Ok(Self { url: format!("http://{address}"), faults, index, damage, server })
    }

    /// Sets the faults of later calls, each with its probability. Without faults, all calls succeed.
    pub fn set(&self, faults: &[(Fault, f64)]) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.to_vec();
    }

    /// Damages the rows of later calls, until it is replaced by another or none. Returns the one of before, which knows
    /// what it did.
    pub fn set_damage(&self, damage: Option<RowDamage>) -> Option<RowDamage> {
        let mut current = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, damage)
    }

    /// What became of the writes to each partition of the index while [`Fault::HotIndex`] was set.
    pub fn index_writes(&self) -> BTreeMap<String, PartitionWrites> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner).writes()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Proxy {
    fn draw(&self) -> Option<Fault> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut draw = fastrand::f64();
        let drawn = faults.iter().find(|(_, probability)| {
            draw -= probability;
            draw < 0.0
        });
        drawn.map(|(fault, _)| *fault)
    }

    async fn forward(&self, headers: &HeaderMap, body: Bytes) -> Response {
        let damaged = {
            let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            damage.as_mut().and_then(|damage| damage.apply(&body))
        };
        let Some(damaged) = damaged else { return self.send(headers, body).await };
        let response = self.send(headers, damaged.request.to_string().into()).await;
        for (operation, body) in damaged.follow_ups {
            let mut headers = headers.clone();
            headers.insert("x-amz-target", HeaderValue::from_static(operation));
            self.send(&headers, body.to_string().into()).await;
        }
        response
    }

    async fn send(&self, headers: &HeaderMap, body: Bytes) -> Response {
        let mut request = self.client.post(&self.upstream).body(body);
        for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value.as_bytes());
            }
        }
        let outcome = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            let content_type = response.headers().get("content-type").cloned();
            Ok::<_, reqwest::Error>((status, content_type, response.bytes().await?))
        };
        match outcome.await {
            Ok((status, content_type, body)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let mut response = (status, body).into_response();
                if let Some(content_type) = content_type {
                    response.headers_mut().insert("content-type", content_type);
                }
                response
            }
            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
        }
    }
}

async fn call(State(proxy): State<Proxy>, headers: HeaderMap, body: Bytes) -> Response {
    match proxy.draw() {
        None => proxy.forward(&headers, body).await,
        Some(Fault::Latency(latency)) => {
            tokio::time::sleep(latency).await;
            proxy.forward(&headers, body).await
        }
        Some(Fault::ServerError) => error(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure"),
        Some(Fault::Throttled) => {
            error(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException")
        }
        Some(Fault::Partial(share)) => partial(&proxy, &headers, body, share).await,
        Some(Fault::HotIndex(writes)) => hot_index(&proxy, &headers, body, writes).await,
        Some(Fault::SilentSuccess) => {
            proxy.forward(&headers, body).await;
            tokio::time::sleep(FOREVER).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Fault::Reset) => {
            proxy.forward(&headers, body).await;
            let cut =
                futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            Body::from_stream(cut).into_response()
        }
        Some(Fault::BlackHole) => {
            tokio::time::sleep(FOREVER).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Some(Fault::Lie(lie)) => {
            let content_type = [("content-type", "application/x-amz-json-1.1")];
            (content_type, lie.body(&body)).into_response()
        }
    }
}

impl Lie {
    fn body(self, request: &[u8]) -> String {
        let request: Value = serde_json::from_slice(request).unwrap_or_default();
        let records = request["Records"].as_array().map_or(0, Vec::len);
        let valid = r#"{"SequenceNumber":"49","ShardId":"shardId-000000000000"}"#;
        let entries = match self {
            Self::Body(body) => return body.to_owned(),
            Self::Entry(entry) => vec![entry; records],
            Self::OneEntryTooFew => vec![valid; records.saturating_sub(1)],
        };
        format!(r#"{{"FailedRecordCount":0,"Records":[{}]}}"#, entries.join(","))
    }
}

/// Forwards a `PutRecords` call without some of its records, and reports these as failed, as AWS would.
/// Forwards any other call unchanged.
async fn partial(proxy: &Proxy, headers: &HeaderMap, body: Bytes, share: f64) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(records) = request["Records"].as_array_mut() else {
        return proxy.forward(headers, body).await;
    };
    let left_out: Vec<bool> = records.iter().map(|_| fastrand::f64() < share).collect();
    let mut is_left_out = left_out.iter();
    records.retain(|_| is_left_out.next() == Some(&false));
    let mut results = Vec::new();
    if !records.is_empty() {
        let response = proxy.forward(headers, request.to_string().into()).await;
        if response.status() != StatusCode::OK {
            return response;
        }
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        let mut response: Value = serde_json::from_slice(&body).unwrap_or_default();
        results = response["Records"].as_array_mut().map(std::mem::take).unwrap_or_default();
    }
    let mut results = results.into_iter();
    let failed = json!({
        "ErrorCode": "ProvisionedThroughputExceededException",
        "ErrorMessage": "injected",
    });
    let merged: Vec<Value> = left_out
        .iter()
        .map(|out| if *out { None } else { results.next() }.unwrap_or_else(|| failed.clone()))
        .collect();
    let count = left_out.iter().filter(|out| **out).count();
    let body = json!({"FailedRecordCount": count, "Records": merged});
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// Forwards a `BatchWriteItem` call without the rows for which the index has no capacity, and reports
/// these as unprocessed, as DynamoDB does. If that is all rows, the call fails. Forwards any other call
/// unchanged.
async fn hot_index(proxy: &Proxy, headers: &HeaderMap, body: Bytes, writes: f64) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(tables) = request["RequestItems"].as_object_mut() else {
        return proxy.forward(headers, body).await;
    };
    let mut left_out = serde_json::Map::new();
    let mut admitted = 0;
    {
        let mut index = proxy.index.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        for (table, requests) in tables {
            let Some(requests) = requests.as_array_mut() else { continue };
            let (rest, throttled): (Vec<_>, Vec<_>) =
                requests.drain(..).partition(|request| index.admits(request, writes, now));
            admitted += rest.len();
            *requests = rest;
            if !throttled.is_empty() {
                left_out.insert(table.clone(), throttled.into());
            }
        }
    }
    if left_out.is_empty() {
        return proxy.forward(headers, body).await;
    }
    if admitted == 0 {
        return error(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException");
    }
    let response = proxy.forward(headers, request.to_string().into()).await;
    if response.status() != StatusCode::OK {
        return response;
    }
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
    let mut response: Value = serde_json::from_slice(&body).unwrap_or_default();
    response["UnprocessedItems"] = left_out.into();
    ([("content-type", "application/x-amz-json-1.0")], response.to_string()).into_response()
}

fn error(status: StatusCode, name: &str) -> Response {
    let body = json!({"__type": name, "message": "injected"});
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}
