//! Sends requests at their intended times, however slow the responses are.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::stack::RunningStack;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that was sent, and its outcome.
#[derive(Debug, Clone)]
pub(crate) struct SentRequest {
    /// The path that was requested.
    pub(crate) path: String,
    /// The response's status; none if there is no response.
    pub(crate) status: Option<u16>,
    /// The event's id, if it was accepted.
    pub(crate) message_id: Option<String>,
    /// The response's body.
    pub(crate) body: String,
    /// From the intended time of sending to the end of the response.
    pub(crate) latency: Duration,
    /// When the response was complete.
    pub(crate) at: Instant,
}

/// Sends `paths` at `rate` per second and waits for all responses. The id of each accepted event goes
/// to `accepted` at once, with the time of its response.
pub(crate) async fn send(
    stack: &RunningStack,
    paths: impl IntoIterator<Item = String>,
    rate: u32,
    accepted: mpsc::UnboundedSender<(String, Instant)>,
) -> Vec<SentRequest> {
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
            let sent = get(&client, &url, path, intended).await;
            if let Some(id) = &sent.message_id {
                // Fails if the receiver has given up.
                let _ = accepted.send((id.clone(), sent.at));
            }
            sent
        });
    }
    requests.join_all().await
}

/// A client for the stack. It ignores proxies that the environment names, and does not follow the
/// redirect of a click.
pub(crate) fn client() -> reqwest::Client {
    let user_agent = concat!("adtrack-loadtest/", env!("CARGO_PKG_VERSION"));
    let client = reqwest::Client::builder().no_proxy().redirect(Policy::none());
    client.user_agent(user_agent).build().unwrap_or_default()
}

async fn get(client: &reqwest::Client, url: &str, path: String, intended: Instant) -> SentRequest {
    let outcome = async {
        let response = client.get(url).timeout(REQUEST_TIMEOUT).send().await?;
        let status = response.status().as_u16();
        // A picture or a redirect has its id in a header.
        let id = response.headers().get("adtrack-event-id");
        let id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok::<_, reqwest::Error>((
            status,
            id,
            String::from_utf8_lossy(&response.bytes().await?).into_owned(),
        ))
    };
    let outcome = outcome.await;
    let at = Instant::now();
    let (status, id, body) = match outcome {
        Ok((status, id, body)) => (Some(status), id, body),
        Err(_) => (None, None, String::new()),
    };
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
    let message_id = id.or_else(|| json["messageId"].as_str().map(str::to_owned));
    SentRequest { path, status, message_id, body, latency: at - intended, at }
}

/// Counts requests by the status of their response.
pub(crate) fn count_by_status(requests: &[SentRequest]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let status = match request.status {
            Some(status) => status.to_string(),
            None => "no response".to_owned(),
        };
        *counts.entry(status).or_default() += 1;
    }
    counts
}

/// Formats the percentiles of durations as `p50 … p99 … max …`. The p-th percentile is the smallest
/// duration that p % of all do not exceed.
pub(crate) fn format_percentiles(mut durations: Vec<Duration>) -> String {
    durations.sort_unstable();
    let Some(max) = durations.last() else { return "none".to_owned() };
    let at = |percent: usize| durations[(durations.len() * percent).div_ceil(100).max(1) - 1];
    format!("p50 {:>8.2?}   p99 {:>8.2?}   max {:>8.2?}", at(50), at(99), max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_smallest_that_so_many_do_not_exceed() {
        let durations = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(format_percentiles(durations), "p50 100.00ms   p99 198.00ms   max 200.00ms");
        assert_eq!(
            format_percentiles(vec![Duration::from_millis(7)]),
            "p50   7.00ms   p99   7.00ms   max   7.00ms"
        );
        assert_eq!(format_percentiles(Vec::new()), "none");
    }
}
