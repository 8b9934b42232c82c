//! A proxy that injects faults that the embedded DynamoDB never has.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};

/// The fault of one `BatchWriteItem` or `PutItem` call.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// This many of its items stay unprocessed.
    Unprocessed(usize),
    /// The call is throttled.
    Throttled,
    /// DynamoDB refuses the call for good.
    Refused,
    /// The response is a 500.
    ServerError,
    /// The connection breaks in the middle of the response.
    Reset,
    /// No response comes.
    Silence,
    /// The response is a 200 with this body, and the call is not executed.
    Lie(&'static str),
}

pub struct FaultyDynamoDb {
    pub url: String,
    items_per_call: Arc<Mutex<Vec<usize>>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Proxy {
    upstream: String,
    client: reqwest::Client,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    items_per_call: Arc<Mutex<Vec<usize>>>,
}

impl FaultyDynamoDb {
    pub async fn start(upstream: String, faults: Vec<Fault>) -> Self {
        let items_per_call = Arc::<Mutex<Vec<usize>>>::default();
        let proxy = Proxy {
            upstream,
            client: reqwest::Client::new(),
            faults: Arc::new(Mutex::new(faults.into())),
            items_per_call: Arc::clone(&items_per_call),
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/", post(call)).with_state(proxy);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, items_per_call, server }
    }

    pub fn calls(&self) -> usize {
        self.items_per_call().len()
    }

    pub fn items_per_call(&self) -> Vec<usize> {
        self.items_per_call.lock().unwrap().clone()
    }
}

impl Drop for FaultyDynamoDb {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn call(State(proxy): State<Proxy>, headers: HeaderMap, body: Bytes) -> Response {
    let mut request: Value = serde_json::from_slice(&body).unwrap();
    // A `PutItem` has one item, which cannot be left out.
    let mut single = vec![Value::Null];
    let (table, items) = match request["RequestItems"].as_object_mut() {
        Some(tables) => {
            let (table, items) = tables.iter_mut().next().unwrap();
            (table.clone(), items.as_array_mut().unwrap())
        }
        None => (String::new(), &mut single),
    };
    proxy.items_per_call.lock().unwrap().push(items.len());
    let fault = proxy.faults.lock().unwrap().pop_front();
    let mut left_out = Vec::new();
    match fault {
        None => {}
        Some(Fault::Unprocessed(count)) => left_out = items.split_off(items.len() - count),
        Some(Fault::Throttled) => {
            return error(StatusCode::BAD_REQUEST, "ProvisionedThroughputExceededException");
        }
        Some(Fault::Refused) => return error(StatusCode::BAD_REQUEST, "ValidationException"),
        Some(Fault::ServerError) => {
            return error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError");
        }
        Some(Fault::Reset) => {
            let broken =
                futures::stream::once(async { Err::<Bytes, _>(std::io::Error::other("cut")) });
            return axum::body::Body::from_stream(broken).into_response();
        }
        Some(Fault::Silence) => tokio::time::sleep(Duration::from_secs(60)).await,
        Some(Fault::Lie(body)) => {
            return ([("content-type", "application/x-amz-json-1.0")], body).into_response();
        }
    }
    let mut forward = proxy.client.post(&proxy.upstream).body(request.to_string());
    for name in ["x-amz-target", "content-type", "authorization", "x-amz-date"] {
        if let Some(value) = headers.get(name) {
            forward = forward.header(name, value.as_bytes());
        }
    }
    let response = forward.send().await.unwrap();
    let status = response.status().as_u16();
    let mut body: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    if !left_out.is_empty() {
        body["UnprocessedItems"] = json!({ table: left_out });
    }
    let content_type = [("content-type", "application/x-amz-json-1.0")];
    (StatusCode::from_u16(status).unwrap(), content_type, body.to_string()).into_response()
}

fn error(status: StatusCode, name: &str) -> Response {
    let body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{name}"), "message": "injected"});
    let content_type = [("content-type", "application/x-amz-json-1.0")];
    (status, content_type, body.to_string()).into_response()
}
