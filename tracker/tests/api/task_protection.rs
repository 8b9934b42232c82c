//! The ECS task is protected while events wait in the journal, by the agent's endpoint.

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

/// An agent as ECS' is, and what it was asked.
#[derive(Clone, Default)]
struct Agent {
    calls: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<(StatusCode, Value)>>>,
}

impl Agent {
    /// Serves it; its URI.
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

    fn fail(&self, answer: Option<(StatusCode, Value)>) {
        *self.answer.lock().unwrap() = answer;
    }
}

async fn set(State(agent): State<Agent>, Json(state): Json<Value>) -> (StatusCode, Json<Value>) {
    agent.calls.lock().unwrap().push(state.to_string());
    let failure = agent.answer.lock().unwrap().clone();
    let (status, answer) = failure.unwrap_or_else(|| {
        let on = &state["ProtectionEnabled"];
        (StatusCode::OK, json!({"protection": {"ProtectionEnabled": on, "TaskArn": "task-1"}}))
    });
    (status, Json(answer))
}

/// A tracker in a task of `agent`, without a stream.
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
async fn the_task_is_protected_until_what_waits_is_delivered() {
    let agent = Agent::default();
    let app = tracker(&agent, 20).await;
    until("what a process before may have set is taken back", async || agent.calls() == [OFF])
        .await;
    assert_eq!(app.ask("/event/212313").await.0, 200);
    until("it is protected", async || agent.calls() == [OFF, ON]).await;
    app.until_metric("adtrack_task_protected", 1.0).await;
    assert!(app.metric("adtrack_journal_oldest_seconds").await >= 1.0);

    make_stream(&app).await;
    app.until_metric("adtrack_events_delivered_total", 1.0).await;
    until("it is taken back", async || agent.calls() == [OFF, ON, OFF]).await;
    app.until_metric("adtrack_task_protected", 0.0).await;
    assert_eq!(app.metric("adtrack_task_protection_failed_total").await, 0.0);
    let (status, _kinesis) = app.stop().await;
    assert_eq!((status, agent.calls().len()), (ExitCode::SUCCESS, 3), "there was nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_counted_and_tried_again() {
    let agent = Agent::default();
    // A failure of ECS comes with 200, one of the agent with another status.
    agent.fail(Some((StatusCode::OK, json!({"failure": {"Reason": "TASK_NOT_VALID"}}))));
    let app = tracker(&agent, 20).await;
    app.until_metric("adtrack_task_protection_failed_total", 1.0).await;
    agent.fail(Some((StatusCode::BAD_REQUEST, json!({"error": {"Code": "AccessDenied"}}))));
    app.until_metric("adtrack_task_protection_failed_total", 2.0).await;
    assert_eq!(app.ask("/event/212313").await.0, 200, "requests do not wait for it");
    agent.fail(None);
    app.until_metric("adtrack_task_protected", 1.0).await;
    assert_eq!(agent.calls().last().unwrap(), ON);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_end_takes_it_back_and_one_that_leaves_events_does_not() {
    for (deliver, grace_seconds, last) in [(true, 20, OFF), (false, 2, ON)] {
        let agent = Agent::default();
        let app = tracker(&agent, grace_seconds).await;
        assert_eq!(app.ask("/event/212313").await.0, 200);
        app.until_metric("adtrack_task_protected", 1.0).await;
        if deliver {
            app.ask_to_stop();
            make_stream(&app).await;
        }
        let (status, _kinesis) = app.stop().await;
        assert_eq!(status, ExitCode::SUCCESS);
        assert_eq!(agent.calls().last().unwrap(), last);
    }
}
