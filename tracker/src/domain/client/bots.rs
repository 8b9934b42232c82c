//! Recognizes bots by their user agents, with the patterns of monperrus/crawler-user-agents (MIT) in
//! data/crawlers.txt, which data/renew-crawlers updates, and those of HTTP libraries and health checkers in
//! data/http-clients.txt. The image proxies of mail providers, in data/image-proxies.txt, are not bots: each
//! of their requests is that of a person who reads a mail.

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use foldhash::quality::RandomState;
use regex::bytes::{RegexSet, RegexSetBuilder};

const CRAWLERS: &str = include_str!("../../../data/crawlers.txt");
const HTTP_CLIENTS: &str = include_str!("../../../data/http-clients.txt");
const IMAGE_PROXIES: &str = include_str!("../../../data/image-proxies.txt");

/// Who sends a user agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserAgentKind {
    /// As far as known, a person's browser or app.
    Person,
    /// A crawler, an HTTP library or a health checker.
    Bot,
    /// A mail provider that loads images for the readers of a mail.
    ImageProxy,
}

/// User agents that each thread remembers, in 4 KiB: a repeated one costs a hash instead of a search.
const REMEMBERED: usize = 512;
const REMEMBERED_BITS: u32 = REMEMBERED.trailing_zeros();

thread_local! {
    /// Results, in the slot that a user agent's hash selects: the hash, with the result in its lowest bits.
    /// The hash stands for the user agent. Its seed is random per process, so nobody can construct user
    /// agents that collide.
    static RESULTS: [Cell<u64>; REMEMBERED] = const { [const { Cell::new(0) }; REMEMBERED] };
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(Patterns::compile);

/// Plain texts are kept apart from expressions: a search for more than a thousand texts at once costs no
/// more than for one expression.
struct Patterns {
    texts: Option<AhoCorasick>,
    expressions: RegexSet,
    image_proxies: Option<AhoCorasick>,
    hashes: RandomState,
}

impl Patterns {
    fn compile() -> Self {
        let all = || CRAWLERS.lines().chain(HTTP_CLIENTS.lines());
        let lines = |kind| all().filter_map(move |line| pattern(line, kind));
        // The patterns are compiled into the program, and a test checks that each is valid.
        Self {
            texts: AhoCorasick::new(lines("text")).ok(),
            // `\d` and the like mean ASCII.
            expressions: RegexSetBuilder::new(lines("expression"))
                .unicode(false)
                .build()
                .unwrap_or_default(),
            image_proxies: AhoCorasick::new(
                IMAGE_PROXIES.lines().filter_map(|line| pattern(line, "text")),
            )
            .ok(),
            hashes: RandomState::default(),
        }
    }

    fn kind_of(&self, user_agent: &str) -> UserAgentKind {
        let has = |texts: &Option<AhoCorasick>| {
            texts.as_ref().is_some_and(|texts| texts.is_match(user_agent))
        };
        if has(&self.image_proxies) {
            UserAgentKind::ImageProxy
        } else if has(&self.texts) || self.expressions.is_match(user_agent.as_bytes()) {
            UserAgentKind::Bot
        } else {
            UserAgentKind::Person
        }
    }
}

/// The pattern of a line; none if the line is of another kind.
fn pattern<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    line.strip_prefix(kind)?.strip_prefix(" \"")?.strip_suffix('"')
}

/// Compiles the patterns (some milliseconds) before the first request.
pub fn prepare() {
    LazyLock::force(&PATTERNS);
}

/// Bits of a remembered result that hold the kind.
const KIND_BITS: u64 = 0b11;

/// Who sends `user_agent`.
pub fn kind_of(user_agent: &str) -> UserAgentKind {
    let patterns = &*PATTERNS;
    let hash = patterns.hashes.hash_one(user_agent) & !KIND_BITS;
    RESULTS.with(|results| {
        let Some(slot) = results.get((hash >> (u64::BITS - REMEMBERED_BITS)) as usize) else {
            return patterns.kind_of(user_agent);
        };
        if slot.get() & !KIND_BITS != hash {
            slot.set(hash | patterns.kind_of(user_agent) as u64);
        }
        match slot.get() & KIND_BITS {
            0 => UserAgentKind::Person,
            1 => UserAgentKind::Bot,
            _ => UserAgentKind::ImageProxy,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User agents that crawlers really sent: for every expression, and for some of the texts.
    const SEEN_CRAWLERS: &str = include_str!("../../../data/crawlers-seen.txt");

    const HTTP_CLIENTS_SEEN: [&str; 37] = [
        "curl/8.14.1",
        "GuzzleHttp/7",
        "GuzzleHttp/6.5.5 curl/7.58.0 PHP/7.4.3",
        "Java/1.8.0_392",
        "Java-http-client/17.0.9",
        "PHP/8.2.1",
        "undici",
        "node",
        "Dart/3.2 (dart:io)",
        "PostmanRuntime/7.36.0",
        "k6/0.49.0 (https://k6.io/)",
        "Grafana k6/1.2.0",
        "ApacheBench/2.3",
        "ELB-HealthChecker/2.0",
        "Amazon-Route53-Health-Check-Service (ref 00000000-0000-0000-0000-000000000000)",
        "GoogleHC/1.0",
        "kube-probe/1.29",
        "python-requests/2.31.0",
        "python-httpx/0.26.0",
        "Go-http-client/1.1",
        "okhttp/4.12.0",
        "axios/1.6.2",
        "Apache-HttpClient/4.5.14 (Java/11.0.21)",
        "ReactorNetty/1.1.13",
        "Symfony HttpClient/Curl",
        "WordPress/6.4; https://shop.example",
        "Ruby",
        "insomnia/8.4.5",
        "Wget/1.21.4",
        "guzzlehttp/7.0",
        "PHP-SOAP/7.4.3",
        "gatling/3.9",
        "ureq/2.9.1",
        "hyper/0.14",
        "WinHttp",
        ".NET/8.0",
        "Microsoft-CryptoAPI/10.0",
    ];

    const IMAGE_PROXIES_SEEN: [&str; 3] = [
        "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)",
        "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html",
        "Mozilla/5.0 (compatible; YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html)",
    ];

    const PEOPLE: [&str; 11] = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/530.0.0.38.107;FBDV/iPhone14,5;FBLC/de_DE]",
        "Mozilla/5.0 (Linux; Android 15; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/138.5.1 like Chrome/138.0.0.0 Safari/537.36",
        "ShopApp/4.1 CFNetwork/1490.0.4 Darwin/23.2.0",
        "Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A.240105.004)",
        "",
    ];

    #[test]
    fn every_pattern_compiles() {
        let patterns = Patterns::compile();
        let lines = [CRAWLERS, HTTP_CLIENTS]
            .map(|list| list.lines().filter(|line| !line.starts_with('#')).count());
        let proxies = IMAGE_PROXIES.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(patterns.image_proxies.as_ref().unwrap().patterns_len(), proxies);
        let lines: usize = lines.iter().sum();
        let texts = patterns.texts.as_ref().unwrap().patterns_len();
        assert_eq!(texts + patterns.expressions.len(), lines);
        assert!(texts > 1_000 && patterns.expressions.len() > 30);
    }

    #[test]
    fn recognizes_bots_and_not_people() {
        // Twice: the second time from memory.
        for _ in 0..2 {
            for user_agent in SEEN_CRAWLERS.lines().chain(HTTP_CLIENTS_SEEN) {
                assert_eq!(kind_of(user_agent), UserAgentKind::Bot, "{user_agent}");
            }
            for user_agent in PEOPLE {
                assert_eq!(kind_of(user_agent), UserAgentKind::Person, "{user_agent}");
            }
            for user_agent in IMAGE_PROXIES_SEEN {
                assert_eq!(kind_of(user_agent), UserAgentKind::ImageProxy, "{user_agent}");
            }
        }
    }

    #[test]
    fn is_right_for_more_user_agents_than_it_remembers() {
        for number in 0..REMEMBERED * 4 {
            let person = kind_of(&format!("Mozilla/5.0 ({number})"));
            assert_eq!(person, UserAgentKind::Person);
            assert_eq!(kind_of(&format!("Googlebot/2.1 ({number})")), UserAgentKind::Bot);
        }
    }
}
