//! Sends published open-redirect payloads wherever a click accepts text, and checks that none leads away
//! from its program's hosts. Sends raw bytes, because an HTTP client would normalise them, and resolves
//! redirects as a browser does.

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;

use crate::clicks::program_with;
use crate::helpers::{Setup, TestApp, store};

/// The host that the lists assume to be allowed.
const ALLOWED: &str = "www.whitelisteddomain.tld";
const LANDING: &str = "shop.example";
const DEFAULT_FALLBACK: &str = "default.example";

fn payloads() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/open-redirect");
    let lists = ["Open-Redirect-payloads.txt", "open_redirect_wordlist.txt", "openredirects.txt"];
    let payloads: Vec<_> = lists
        .iter()
        .flat_map(|list| {
            let bytes = std::fs::read(folder.join(list)).unwrap();
            let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            lines.map(<[u8]>::to_vec).collect::<Vec<_>>()
        })
        .collect();
    assert!(payloads.len() > 300, "{} payloads", payloads.len());
    payloads
}

fn encoded(payload: &[u8]) -> Vec<u8> {
    percent_encode(payload, NON_ALPHANUMERIC).to_string().into_bytes()
}

/// Requests `target`; returns the status and, if it redirects, the URL that a browser would go to.
async fn follow(app: &TestApp, target: &[u8]) -> (u16, Option<Url>) {
    let address = app.url.strip_prefix("http://").unwrap();
    let mut connection = TcpStream::connect(address).await.unwrap();
    let request = [
        b"GET ",
        target,
        b" HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\
          Connection: close\r\n\r\n",
    ];
    connection.write_all(&request.concat()).await.unwrap();
    let mut response = Vec::new();
    connection.read_to_end(&mut response).await.unwrap();
    let response = String::from_utf8(response).expect("the response is ASCII");
    let (head, _) = response.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let locations: Vec<_> = lines
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| ["location", "refresh"].contains(&&*name.to_ascii_lowercase()))
        .collect();
    assert!(locations.len() <= 1, "{head}");
    let requested = Url::parse(&format!("{}/click/p", app.url)).unwrap();
    (status, locations.first().map(|(_, location)| requested.join(location).unwrap()))
}

async fn app_with_program(flags: &[&str]) -> TestApp {
    let app = Setup::flags(flags).start().await;
    let program = json!({
        "landingUrl": format!("https://{LANDING}/{{x}}/a/{{impression_id}}{{x}}?q={{x}}&{{x}}#{{x}}"),
        "allowedHosts": [ALLOWED],
    });
    store(&app.redis, &program_with("p", &program)).await;
    app
}

#[tokio::test(flavor = "multi_thread")]
async fn url_parameter_never_leads_away_from_the_allowed_hosts() {
    let app = app_with_program(&[]).await;
    let (mut refused, mut followed) = (0, 0);
    for payload in payloads() {
        let shown = String::from_utf8_lossy(&payload);
        let twice = encoded(&encoded(&payload));
        for value in [payload.clone(), encoded(&payload), twice] {
            for prefix in
                [&b"/click/p?url="[..], b"/click/p?sig=x&at_key=k&at_expires=9999999999&url="]
            {
                match follow(&app, &[prefix, &value].concat()).await {
                    (400, None) => refused += 1,
                    (302, Some(page)) => {
                        followed += 1;
                        assert_eq!(page.host_str(), Some(ALLOWED), "{shown} led to {page}");
                        assert!(matches!(page.scheme(), "http" | "https"));
                    }
                    other => panic!("{shown}: {other:?}"),
                }
            }
        }
    }
    assert!(refused > 1_800 && followed > 0, "{refused} refused, {followed} followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_part_of_a_click_chooses_the_host() {
    let app = app_with_program(&["--default-fallback-url=https://default.example/"]).await;
    let mut followed = [0; 2];
    for payload in payloads() {
        let shown = String::from_utf8_lossy(&payload);
        for value in [payload.clone(), encoded(&payload)] {
            // As a parameter's value and name; as the program id; after it; as the path.
            let targets = [
                [b"/click/p?x=", &value[..]].concat(),
                [b"/click/p?impression_id=", &value[..]].concat(),
                [b"/click/p?at_event_id=1&", &value[..], b"=1"].concat(),
                [b"/click/", &value[..]].concat(),
                [b"/click/p", &value[..]].concat(),
                [b"/click/p/", &value[..]].concat(),
                [b"/", &value[..]].concat(),
                value.clone(),
            ];
            for target in targets {
                if let (status, Some(page)) = follow(&app, &target).await {
                    assert_eq!(status, 302, "{shown}");
                    let hosts = [LANDING, DEFAULT_FALLBACK];
                    let host = hosts.iter().position(|host| page.host_str() == Some(host));
                    let host = host.unwrap_or_else(|| panic!("{shown} led to {page}"));
                    followed[host] += 1;
                    if hosts[host] == LANDING {
                        assert_eq!(page.path_segments().unwrap().count(), 3, "{shown}: {page}");
                    }
                }
            }
        }
    }
    assert!(followed.iter().all(|count| *count > 600), "{followed:?}");
}
