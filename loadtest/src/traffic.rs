//! Requests at their intended times, whatever the answers take.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::stack::RunningStack;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What one request brought.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    /// The path asked.
    pub(crate) path: String,
    /// The status, or why there is none.
    pub(crate) status: Result<u16, String>,
    /// The event's id, where it was accepted.
    pub(crate) message_id: Option<String>,
    /// The answer's body.
    pub(crate) body: String,
    /// From the intended time of sending to the whole answer.
    pub(crate) latency: Duration,
    /// When the answer was there.
    pub(crate) at: Instant,
}

/// Sends `paths` at `rate` per second and waits for all answers. The ids of accepted events go to
/// `accepted` at once.
pub(crate) async fn send(
    stack: &RunningStack,
    paths: impl IntoIterator<Item = String>,
    rate: u32,
    accepted: mpsc::UnboundedSender<(String, Instant)>,
) -> Vec<Answered> {
    let client = client();
    let start = Instant::now();
    let mut requests = JoinSet::new();
    for (number, path) in (0_u32..).zip(paths) {
        let intended = start + Duration::from_secs(1) * number / rate;
        tokio::time::sleep_until(intended.into()).await;
        let client = client.clone();
        let url = format!("{}{path}", stack.tracker_url);
        let accepted = accepted.clone();
        requests.spawn(async move {
            let answered = get(&client, &url, path, intended).await;
            if let Some(id) = &answered.message_id {
                // Whoever follows may have given up.
                let _ = accepted.send((id.clone(), answered.at));
            }
            answered
        });
    }
    requests.join_all().await
}

/// A client for the stack: a proxy that the environment names is none of ours, and a landing page is
/// not asked for.
pub(crate) fn client() -> reqwest::Client {
    let user_agent = concat!("adtrack-loadtest/", env!("CARGO_PKG_VERSION"));
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none());
    client.user_agent(user_agent).build().unwrap_or_default()
}

/// One request.
async fn get(client: &reqwest::Client, url: &str, path: String, intended: Instant) -> Answered {
    let answer = async {
        let response = client.get(url).timeout(REQUEST_TIMEOUT).send().await?;
        let status = response.status().as_u16();
        // Of an answer that is a picture or a redirect.
        let id = response.headers().get("adtrack-event-id");
        let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok::<_, reqwest::Error>((
            status,
            id,
            String::from_utf8_lossy(&response.bytes().await?).into_owned(),
        ))
    };
    let answer = answer.await;
    let at = Instant::now();
    let (status, id, body) = match answer {
        Ok((status, id, body)) => (Ok(status), id, body),
        Err(error) => (Err(error.to_string()), None, String::new()),
    };
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let message_id = id.or_else(|| json["messageId"].as_str().map(str::to_owned));
    Answered { path, status, message_id, body, latency: at - intended, at }
}

/// How many answers of each status.
pub(crate) fn by_status(answers: &[Answered]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        let status = match &answer.status {
            Ok(status) => status.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// `p50 … p99 … max …` of durations; the p-th percentile is the smallest that p % do not exceed.
pub(crate) fn percentiles(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let Some(max) = durations.last() else { return "none".to_owned() };
    let at = |percent: usize| durations[(durations.len() * percent).div_ceil(100).max(1) - 1];
    format!("p50 {:>8.2?}   p99 {:>8.2?}   max {:>8.2?}", at(50), at(99), max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_smallest_that_so_many_do_not_exceed() {
        let durations = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentiles(durations), "p50 100.00ms   p99 198.00ms   max 200.00ms");
        assert_eq!(
            percentiles(vec![Duration::from_millis(7)]),
            "p50   7.00ms   p99   7.00ms   max   7.00ms"
        );
        assert_eq!(percentiles(Vec::new()), "none");
    }
}
