//! Mixed requests at a steady rate, and the truth about each: what was sent, and what the tracker promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use serde_json::Value;

use crate::feed::{Feed, PROGRAMS, name_in, version};
use crate::plan::TRACKERS;
use crate::requests::{Event, Outcome, Request};

const REQUESTS_PER_SECOND: u32 = 100;
const TIMEOUT: Duration = Duration::from_secs(5);
/// A client that gives up does so within this time.
const IMPATIENCE_MS: u64 = 20;
/// The numbers of an epoch's requests.
pub const NUMBERS_PER_EPOCH: u64 = 1_000_000;

/// Everything that was sent, by number.
#[derive(Default)]
pub struct Truth {
    pub events: Mutex<BTreeMap<u64, Event>>,
    /// Number of responses by status; 0: no response.
    pub statuses: Mutex<BTreeMap<u16, u64>>,
    pub problems: Mutex<Vec<String>>,
}

pub struct Load {
    client: Client,
    urls: Vec<String>,
    pub truth: Arc<Truth>,
    feed: Arc<Feed>,
}

impl Load {
    pub fn new(urls: Vec<String>, truth: Arc<Truth>, feed: Arc<Feed>) -> Arc<Self> {
        let client = Client::builder().no_proxy().redirect(Policy::none()).build().unwrap();
        Arc::new(Self { client, urls, truth, feed })
    }

    /// Sends until `stop`, and waits for the responses. Numbers the requests from `number` on, and returns the
    /// next free number.
    pub async fn run(
        self: Arc<Self>,
        mut number: u64,
        mut rng: fastrand::Rng,
        stop: Arc<AtomicBool>,
    ) -> u64 {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / REQUESTS_PER_SECOND);
        let mut repeatable = Vec::new();
        let mut requests = tokio::task::JoinSet::new();
        while !stop.load(Ordering::Relaxed) {
            tick.tick().await;
            let request = Request::draw(&mut rng, &mut number, &mut repeatable);
            let tracker = rng.usize(0..TRACKERS);
            let is_impatient = rng.u8(0..30) == 0;
            let timeout = match is_impatient {
                true => Duration::from_millis(rng.u64(0..IMPATIENCE_MS)),
                false => TIMEOUT,
            };
            let load = Arc::clone(&self);
            requests.spawn(async move { load.send(request, tracker, timeout).await });
            while requests.try_join_next().is_some() {}
        }
        requests.join_all().await;
        number
    }

    /// Requests an event of `program` and returns the status and the program's name; 0: no response.
    pub async fn get(&self, number: u64, program: u64, tracker: usize) -> (u16, Option<String>) {
        let status = self.send(Request::event(number, program), tracker, TIMEOUT).await;
        match &self.truth.events.lock().unwrap()[&number].outcome {
            Outcome::Accepted { program_name, .. } => (status, program_name.clone()),
            Outcome::Refused | Outcome::Unknown => (status, None),
        }
    }

    async fn send(&self, request: Request, tracker: usize, timeout: Duration) -> u16 {
        for (number, event) in request.events() {
            self.truth.events.lock().unwrap().insert(number, event);
        }
        let sent = request.builder(&self.client, &self.urls[tracker]).timeout(timeout).send().await;
        let status = sent.as_ref().map_or(0, |response| response.status().as_u16());
        *self.truth.statuses.lock().unwrap().entry(status).or_default() += 1;
        let Ok(response) = sent else { return status };
        if let Some(problem) = self.unexpected(&request, status) {
            self.problem(format!("{status} for {request:?} from tracker {tracker}: {problem}"));
        }
        if let Request::Batch(events) = &request {
            self.settle_batch(events, response).await;
        } else {
            self.settle(&request, response).await;
        }
        status
    }

    async fn settle(&self, request: &Request, response: Response) {
        let is_success = response.status().as_u16() < 400;
        let header = response.headers().get("adtrack-event-id");
        let mut id = header.and_then(|id| id.to_str().ok()).map(ToOwned::to_owned);
        let body: Value = response.json().await.unwrap_or_default();
        id = id.or_else(|| body["messageId"].as_str().map(ToOwned::to_owned));
        for (number, event) in request.events() {
            if !is_success || !request.is_recorded() {
                self.set(number, Outcome::Refused);
                continue;
            }
            let program_name = name_in(&body);
            if let Some(name) = &program_name
                && version(&self.feed, event.program, name).is_none()
            {
                self.problem(format!("{request:?}: a program that was never fed: {name}"));
            }
            self.set(number, Outcome::Accepted { id: id.clone(), program_name });
        }
    }

    async fn settle_batch(&self, events: &[(u64, Event)], response: Response) {
        let status = response.status().as_u16();
        let body: Option<Value> = response.json().await.ok();
        for (index, (number, event)) in events.iter().enumerate() {
            let outcome = match (&body, status) {
                (_, 400..) => Outcome::Refused,
                (None, 200) => Outcome::Accepted { id: None, program_name: None },
                (None, _) => Outcome::Unknown,
                (Some(body), _) => match body["results"][index]["messageId"].as_str() {
                    Some(id) => Outcome::Accepted { id: Some(id.to_owned()), program_name: None },
                    None => {
                        let problem = &body["results"][index]["problem"]["status"];
                        let status = problem.as_u64().unwrap_or_default() as u16;
                        let item = Request::Single(*number, event.clone());
                        if let Some(problem) = self.unexpected(&item, status) {
                            self.problem(format!("{status} for {item:?} of a batch: {problem}"));
                        }
                        Outcome::Refused
                    }
                },
            };
            self.set(*number, outcome);
        }
    }

    /// Why `request` must not get `status`.
    fn unexpected(&self, request: &Request, status: u16) -> Option<&'static str> {
        let may_be_unknown =
            request.program() >= PROGRAMS || self.feed.latest(request.program()).was_deleted;
        match (request, status) {
            (_, 503) => None,
            (_, 404) if may_be_unknown => None,
            (_, 404) => Some("the program exists"),
            (Request::Invalid(..), 400) => None,
            (Request::Invalid(..), _) => Some("the request is invalid"),
            (_, 200 | 207 | 302) if request.program() < PROGRAMS => None,
            (_, 200 | 207 | 302) => Some("there is no such program"),
            _ => Some("no such status is documented for it"),
        }
    }

    fn set(&self, number: u64, outcome: Outcome) {
        self.truth.events.lock().unwrap().get_mut(&number).unwrap().outcome = outcome;
    }

    fn problem(&self, problem: String) {
        self.truth.problems.lock().unwrap().push(problem);
    }
}
