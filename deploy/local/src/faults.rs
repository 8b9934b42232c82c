//! A proxy in front of a stand-in that makes the faults which the stand-in never shows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::StackError;
use crate::index_partitions::{IndexPartitions, PartitionWrites};
use crate::ports::{self, Port};

/// Longer than any client waits.
const FOREVER: Duration = Duration::from_secs(120);

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// It takes so much longer.
    Latency(Duration),
    /// 500, and nothing is done.
    ServerError,
    /// It is throttled as a whole.
    Throttled,
    /// About this share of a `PutRecords`' records fails.
    Partial(f64),
    /// Of a `BatchWriteItem`, each partition of the table's index takes so many rows a second; what is
    /// more is left unprocessed.
    HotIndex(f64),
    /// It is done, and no answer comes: a client that tries again doubles it.
    SilentSuccess,
    /// The connection breaks in the middle of the answer; it is done.
    Reset,
    /// No answer comes, and nothing is done.
    BlackHole,
}

/// The proxy. Ends when it is dropped.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where clients connect.
    pub url: String,
    faults: Arc<Mutex<Vec<(Fault, f64)>>>,
    index: Arc<Mutex<IndexPartitions>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Proxy {
    upstream: String,
    client: reqwest::Client,
    faults: Arc<Mutex<Vec<(Fault, f64)>>>,
    index: Arc<Mutex<IndexPartitions>>,
}

impl FaultProxy {
    /// A proxy to `upstream` without faults.
    pub async fn start(upstream: &str) -> Result<Self, StackError> {
        let listener = ports::listen("a fault proxy", Port::Any).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StackError::Provisioning(format!("a fault proxy: {error}")))?;
        let faults = Arc::<Mutex<_>>::default();
        let index = Arc::<Mutex<_>>::default();
        let proxy = Proxy {
            upstream: upstream.to_owned(),
            client: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            faults: Arc::clone(&faults),
            index: Arc::clone(&index),
        };
        let router = Router::new()
            .route("/", post(call))
            .layer(DefaultBodyLimit::disable())
            .with_state(proxy);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "a fault proxy ended");
            }
        });
        Ok(Self { url: format!("http://{address}"), faults, index, server })
    }

    /// From now on calls meet these faults, each with its probability; none: all is well.
    pub fn set(&self, faults: &[(Fault, f64)]) {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults.to_vec();
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
        let mut dice = fastrand::f64();
        let drawn = faults.iter().find(|(_, probability)| {
            dice -= probability;
            dice < 0.0
        });
        drawn.map(|(fault, _)| *fault)
    }

    async fn forward(&self, headers: &HeaderMap, body: Bytes) -> Response {
        let mut request = self.client.post(&self.upstream).body(body);
        for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value.as_bytes());
            }
        }
        let answer = async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            let content_type = answer.headers().get("content-type").cloned();
            Ok::<_, reqwest::Error>((status, content_type, answer.bytes().await?))
        };
        match answer.await {
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
    }
}

/// Leaves some records of a `PutRecords` out and answers for them as AWS would. Another call goes
/// through.
async fn partial(proxy: &Proxy, headers: &HeaderMap, body: Bytes, share: f64) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let Some(records) = request["Records"].as_array_mut() else {
        return proxy.forward(headers, body).await;
    };
    let left_out: Vec<bool> = records.iter().map(|_| fastrand::f64() < share).collect();
    let mut verdicts = left_out.iter();
    records.retain(|_| verdicts.next() == Some(&false));
    let mut answers = Vec::new();
    if !records.is_empty() {
        let response = proxy.forward(headers, request.to_string().into()).await;
        if response.status() != StatusCode::OK {
            return response;
        }
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default();
        let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        answers = answer["Records"].as_array_mut().map(std::mem::take).unwrap_or_default();
    }
    let mut answers = answers.into_iter();
    let failed = json!({
        "ErrorCode": "ProvisionedThroughputExceededException",
        "ErrorMessage": "injected",
    });
    let merged: Vec<Value> = left_out
        .iter()
        .map(|out| if *out { None } else { answers.next() }.unwrap_or_else(|| failed.clone()))
        .collect();
    let count = left_out.iter().filter(|out| **out).count();
    let body = json!({"FailedRecordCount": count, "Records": merged});
    ([("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}

/// Leaves the rows of a `BatchWriteItem` unprocessed for which the index has no capacity, as DynamoDB
/// does; where that is all of them, the call fails. Another call goes through.
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
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    answer["UnprocessedItems"] = left_out.into();
    ([("content-type", "application/x-amz-json-1.0")], answer.to_string()).into_response()
}

fn error(status: StatusCode, name: &str) -> Response {
    let body = json!({"__type": name, "message": "injected"});
    (status, [("content-type", "application/x-amz-json-1.1")], body.to_string()).into_response()
}
