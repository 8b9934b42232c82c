//! The tracker protects its ECS task, through the agent's endpoint, while events wait in the journal.

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Json, State};
use axum::http::StatusCode;
use axum::routing::put;
use local_stack::aws;
use serde_json::{Value, json};

use crate::helpers::{Setup, TestApp, until};

const OFF: &str = r#"{"ProtectionEnabled":false}"#;
const ON: &str = r#"{"ExpiresInMinutes":10,"ProtectionEnabled":true}"#;

/// A stand-in for the ECS agent that records its calls.
#[derive(Clone, Default)]
struct Agent {
    calls: Arc<Mutex<Vec<String>>>,
    failure: Arc<Mutex<Option<(StatusCode, Value)>>>,
}

impl Agent {
    /// Starts to serve; returns the agent's URI.
    async fn start(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/api/task-1", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/api/task-1/task-protection/v1/state", put(set))
            .with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        uri
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    /// Sets the response to further calls, or makes them succeed again.
    fn set_failure(&self, failure: Option<(StatusCode, Value)>) {
        *self.failure.lock().unwrap() = failure;
    }
}

async fn set(State(agent): State<Agent>, Json(state): Json<Value>) -> (StatusCode, Json<Value>) {
    agent.calls.lock().unwrap().push(state.to_string());
    let failure = agent.failure.lock().unwrap().clone();
    let (status, body) = failure.unwrap_or_else(|| {
        let on = &state["ProtectionEnabled"];
        (StatusCode::OK, json!({"protection": {"ProtectionEnabled": on, "TaskArn": "task-1"}}))
    });
    (status, Json(body))
}

/// Starts a tracker in a task of `agent`; its stream does not exist yet.
async fn tracker(agent: &Agent, grace_seconds: u8) -> TestApp {
    Setup::flags(&[
        "--event-stream=later",
        "--protect-after-seconds=1",
        &format!("--shutdown-grace-seconds={grace_seconds}"),
        &format!("--ecs-agent-uri={}", agent.start().await),
    ])
    .start()
    .await
}

async fn make_stream(app: &TestApp) {
    let client = aws_sdk_kinesis::Client::new(&aws::sdk_config(&app.kinesis.url).await);
    aws::create_stream(&client, "later", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn protects_the_task_until_waiting_events_are_delivered() {
    let agent = Agent::default();
    let app = tracker(&agent, 20).await;
    until("protection left by an earlier process is removed", async || agent.calls() == [OFF])
        .await;
    assert_eq!(app.get_json("/event/212313").await.0, 200);
    until("the task is protected", async || agent.calls() == [OFF, ON]).await;
    app.until_metric("adtrack_task_protected", 1.0).await;
    assert!(app.metric("adtrack_journal_oldest_seconds").await >= 1.0);

    make_stream(&app).await;
    app.until_metric("adtrack_events_delivered_total", 1.0).await;
    until("the protection is removed", async || agent.calls() == [OFF, ON, OFF]).await;
    app.until_metric("adtrack_task_protected", 0.0).await;
    assert_eq!(app.metric("adtrack_task_protection_failed_total").await, 0.0);
    let (status, _kinesis) = app.stop().await;
    assert_eq!(
        (status, agent.calls().len()),
        (ExitCode::SUCCESS, 3),
        "shutdown has nothing to remove"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_and_retries_failures() {
    let agent = Agent::default();
    // ECS reports a failure with 200, the agent with another status.
    agent.set_failure(Some((StatusCode::OK, json!({"failure": {"Reason": "TASK_NOT_VALID"}}))));
    let app = tracker(&agent, 20).await;
    let failures = async || app.metric("adtrack_task_protection_failed_total").await;
    until("ECS's failure is counted", async || failures().await >= 1.0).await;
    agent.set_failure(Some((StatusCode::BAD_REQUEST, json!({"error": {"Code": "AccessDenied"}}))));
    let before = failures().await;
    until("the agent's failure is counted", async || failures().await > before).await;
    assert_eq!(app.get_json("/event/212313").await.0, 200, "requests do not wait for protection");
    agent.set_failure(None);
    app.until_metric("adtrack_task_protected", 1.0).await;
    assert_eq!(agent.calls().last().unwrap(), ON);
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_removes_protection_only_if_no_events_are_left() {
    for (deliver, grace_seconds, last) in [(true, 20, OFF), (false, 2, ON)] {
        let agent = Agent::default();
        let app = tracker(&agent, grace_seconds).await;
        assert_eq!(app.get_json("/event/212313").await.0, 200);
        app.until_metric("adtrack_task_protected", 1.0).await;
        if deliver {
            app.request_stop();
            make_stream(&app).await;
        }
        let (status, _kinesis) = app.stop().await;
        assert_eq!(status, ExitCode::SUCCESS);
        assert_eq!(agent.calls().last().unwrap(), last);
    }
}
