//! Recognizes bots by their user agents, with the patterns of monperrus/crawler-user-agents (MIT) in
//! data/crawlers.txt, which data/renew-crawlers updates. They include HTTP libraries (curl, okhttp, …).

use std::cell::Cell;
use std::hash::BuildHasher;
use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use foldhash::quality::RandomState;
use regex::bytes::{RegexSet, RegexSetBuilder};

const CRAWLERS: &str = include_str!("../../../data/crawlers.txt");

/// User agents that each thread remembers, in 4 KiB: a repeated one costs a hash instead of a search.
const REMEMBERED: usize = 512;
const REMEMBERED_BITS: u32 = REMEMBERED.trailing_zeros();

thread_local! {
    /// Results, in the slot that a user agent's hash selects: the hash, with the result in its lowest bit.
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
    hashes: RandomState,
}

impl Patterns {
    fn compile() -> Self {
        let lines = |kind| CRAWLERS.lines().filter_map(move |line| pattern(line, kind));
        // The patterns are compiled into the program, and a test checks that each is valid.
        Self {
            texts: AhoCorasick::new(lines("text")).ok(),
            // `\d` and the like mean ASCII.
            expressions: RegexSetBuilder::new(lines("expression"))
                .unicode(false)
                .build()
                .unwrap_or_default(),
            hashes: RandomState::default(),
        }
    }

    fn match_any(&self, user_agent: &str) -> bool {
        self.texts.as_ref().is_some_and(|texts| texts.is_match(user_agent))
            || self.expressions.is_match(user_agent.as_bytes())
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

/// Whether `user_agent` belongs to a known bot.
pub fn is_bot(user_agent: &str) -> bool {
    let patterns = &*PATTERNS;
    let hash = patterns.hashes.hash_one(user_agent) & !1;
    RESULTS.with(|results| {
        let Some(slot) = results.get((hash >> (u64::BITS - REMEMBERED_BITS)) as usize) else {
            return patterns.match_any(user_agent);
        };
        if slot.get() & !1 != hash {
            slot.set(hash | u64::from(patterns.match_any(user_agent)));
        }
        slot.get() & 1 == 1
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// User agents that crawlers really sent: for every expression, and for some of the texts.
    const SEEN_CRAWLERS: &str = include_str!("../../../data/crawlers-seen.txt");

    const PEOPLE: [&str; 9] = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 Edg/141.0.0.0",
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Safari/605.1.15",
        "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/530.0.0.38.107;FBDV/iPhone14,5;FBLC/de_DE]",
        "Mozilla/5.0 (Linux; Android 15; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
        "Mozilla/5.0 (Linux; Android 11; KFTRWI) AppleWebKit/537.36 (KHTML, like Gecko) Silk/138.5.1 like Chrome/138.0.0.0 Safari/537.36",
        "",
    ];

    #[test]
    fn every_pattern_compiles() {
        let patterns = Patterns::compile();
        let lines = CRAWLERS.lines().filter(|line| !line.starts_with('#')).count();
        let texts = patterns.texts.as_ref().unwrap().patterns_len();
        assert_eq!(texts + patterns.expressions.len(), lines);
        assert!(texts > 1_000 && patterns.expressions.len() > 30);
    }

    #[test]
    fn recognizes_bots_and_not_people() {
        // Twice: the second time from memory.
        for _ in 0..2 {
            for user_agent in SEEN_CRAWLERS.lines().chain(["curl/8.14.1"]) {
                assert!(is_bot(user_agent), "{user_agent}");
            }
            for user_agent in PEOPLE {
                assert!(!is_bot(user_agent), "{user_agent}");
            }
        }
    }

    #[test]
    fn is_right_for_more_user_agents_than_it_remembers() {
        for number in 0..REMEMBERED * 4 {
            assert!(!is_bot(&format!("Mozilla/5.0 ({number})")));
            assert!(is_bot(&format!("Googlebot/2.1 ({number})")));
        }
    }
}
