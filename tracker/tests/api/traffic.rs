//! Suspicious traffic is flagged and recorded.

use reqwest::header::USER_AGENT;

use crate::helpers::Setup;

const BROWSER: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like \
    Gecko) Chrome/141.0.0.0 Safari/537.36";

#[tokio::test(flavor = "multi_thread")]
async fn flags_traffic_by_user_agent_and_purpose() {
    let app = Setup::default().start().await;
    let bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)";
    for (count, (user_agent, header, flags)) in [
        (BROWSER, ("x", "y"), &[][..]),
        (BROWSER, ("sec-purpose", "prefetch"), &["prefetch"]),
        (BROWSER, ("sec-purpose", "prefetch;prerender"), &["prerender"]),
        (BROWSER, ("purpose", "prefetch"), &["prefetch"]),
        (BROWSER, ("x-purpose", "preview"), &["prefetch"]),
        (BROWSER, ("x-moz", "prefetch"), &["prefetch"]),
        (bot, ("x", "y"), &["bot"]),
        (bot, ("x-moz", "prefetch"), &["bot", "prefetch"]),
        ("curl/8.14.1", ("x", "y"), &["bot"]),
        ("", ("x", "y"), &["no_user_agent"]),
        (" ", ("x", "y"), &["no_user_agent"]),
    ]
    .into_iter()
    .enumerate()
    {
        let path = if count % 2 == 0 { "event" } else { "impression" };
        let request = app.client.get(format!("{}/{path}/212313", app.url));
        let request = request.header(USER_AGENT, user_agent).header(header.0, header.1);
        assert_eq!(request.send().await.unwrap().status(), 200);
        let events = app.wait_for_events(count + 1).await;
        assert_eq!(events[count].traffic_flags, flags, "{user_agent} {header:?}");
    }
}
