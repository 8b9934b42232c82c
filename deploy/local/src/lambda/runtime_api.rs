//! The Lambda runtime API of one sandbox:
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::StackError;
use crate::ports::{self, Port};

/// AWS's limit for the response to a synchronous invocation.
const MAX_RESPONSE_BYTES: usize = 6 * 1024 * 1024;

/// An invocation for the bootstrap.
#[derive(Debug)]
pub struct Invocation {
    pub request_id: String,
    pub payload: Bytes,
    pub deadline: SystemTime,
    /// Takes the function's response, or the error that it reported.
    pub responder: oneshot::Sender<Result<Bytes, Bytes>>,
}

/// The runtime API of one sandbox, stopped on drop.
#[derive(Debug)]
pub struct RuntimeApi {
    /// Host and port, the value of `AWS_LAMBDA_RUNTIME_API`.
    pub address: String,
    invocations: mpsc::Sender<Invocation>,
    has_polled: watch::Receiver<bool>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct ApiState {
    function: Arc<str>,
    invocations: Arc<tokio::sync::Mutex<mpsc::Receiver<Invocation>>>,
    running: Arc<Mutex<Option<Running>>>,
    has_polled: Arc<watch::Sender<bool>>,
}

/// The invocation that the bootstrap is working on.
struct Running {
    request_id: String,
    responder: oneshot::Sender<Result<Bytes, Bytes>>,
}

impl RuntimeApi {
    /// Serves a sandbox of `function` on a free port.
    pub async fn start(function: &str) -> Result<Self, StackError> {
        let listener = ports::listen("Lambda runtime API", Port::Any).await?;
        let address = listener
            .local_addr()
            .map_err(|error| StackError::Provisioning(format!("Lambda runtime API: {error}")))?;
        let (sender, receiver) = mpsc::channel(1);
        let (poll_sender, has_polled) = watch::channel(false);
        let state = ApiState {
            function: function.into(),
            invocations: Arc::new(tokio::sync::Mutex::new(receiver)),
            running: Arc::default(),
            has_polled: Arc::new(poll_sender),
        };
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_RESPONSE_BYTES))
            .with_state(state);
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the Lambda runtime API failed");
            }
        });
        Ok(Self { address: address.to_string(), invocations: sender, has_polled, server })
    }

    /// Waits until the bootstrap has polled for its first invocation.
    pub async fn wait_for_poll(&mut self) {
        // The sender lives as long as the server.
        let _ = self.has_polled.wait_for(|has_polled| *has_polled).await;
    }

    /// Queues `invocation` for the bootstrap's next poll.
    pub async fn send(&self, invocation: Invocation) {
        // The receiver lives as long as the server.
        let _ = self.invocations.send(invocation).await;
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(state): State<ApiState>) -> Response {
    state.has_polled.send_replace(true);
    let Some(invocation) = state.invocations.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline_ms = invocation
        .deadline
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since_epoch| since_epoch.as_millis());
    let function = &state.function;
    let headers = [
        ("lambda-runtime-aws-request-id", invocation.request_id.clone()),
        ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
        (
            "lambda-runtime-invoked-function-arn",
            format!("arn:aws:lambda:us-east-1:000000000000:function:{function}"),
        ),
        ("lambda-runtime-trace-id", String::new()),
        ("content-type", "application/json".to_owned()),
    ];
    *state.running.lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Running { request_id: invocation.request_id, responder: invocation.responder });
    (headers, invocation.payload).into_response()
}

async fn response(
    State(state): State<ApiState>,
    Path(id): Path<String>,
    body: Bytes,
) -> StatusCode {
    finish(&state, &id, Ok(body))
}

async fn error(State(state): State<ApiState>, Path(id): Path<String>, body: Bytes) -> StatusCode {
    finish(&state, &id, Err(body))
}

fn finish(state: &ApiState, id: &str, result: Result<Bytes, Bytes>) -> StatusCode {
    let mut running = state.running.lock().unwrap_or_else(PoisonError::into_inner);
    match running.take_if(|running| running.request_id == id) {
        Some(running) => {
            // Fails if the invocation timed out.
            let _ = running.responder.send(result);
            StatusCode::ACCEPTED
        }
        None => StatusCode::BAD_REQUEST,
    }
}

async fn init_error(State(state): State<ApiState>, body: Bytes) -> StatusCode {
    let error = String::from_utf8_lossy(&body);
    tracing::error!(function = &*state.function, %error, "a function failed to start");
    StatusCode::ACCEPTED
}
