//! Why traffic may be invalid. It is flagged, never dropped: who bills decides.

use crate::domain::client::bots::is_bot;

/// The reasons, as a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficFlags(u8);

impl TrafficFlags {
    /// The user agent is that of a known bot, or of a library for programs.
    pub const BOT: Self = Self(1);
    /// A browser fetches ahead what may never be shown.
    pub const PREFETCH: Self = Self(1 << 1);
    /// A browser renders ahead what may never be shown.
    pub const PRERENDER: Self = Self(1 << 2);
    /// There is no user agent, or an empty one.
    pub const NO_USER_AGENT: Self = Self(1 << 3);
    /// Parameters were cut or left out.
    pub const PARAMETERS_CUT: Self = Self(1 << 4);

    /// What each is called on the wire and in the table, by its bit.
    const NAMES: [&'static str; 5] =
        ["bot", "prefetch", "prerender", "no_user_agent", "parameters_cut"];

    /// Adds `flags`.
    pub fn insert(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    /// Calls `take` with their names, which it puts on the stack: every event asks for them.
    pub fn with_names<T>(self, take: impl FnOnce(&[&str]) -> T) -> T {
        let mut names = [""; Self::NAMES.len()];
        let mut count = 0;
        let mut left = self.0;
        while left != 0 {
            let bit = left.trailing_zeros() as usize;
            if let (Some(slot), Some(name)) = (names.get_mut(count), Self::NAMES.get(bit)) {
                *slot = name;
                count += 1;
            }
            left &= left - 1;
        }
        take(names.get(..count).unwrap_or_default())
    }

    /// What a user agent says.
    pub fn of_user_agent(user_agent: &str) -> Self {
        if user_agent.trim_ascii().is_empty() {
            Self::NO_USER_AGENT
        } else if is_bot(user_agent) {
            Self::BOT
        } else {
            Self::default()
        }
    }

    /// What a header that says what a request is for says: `Sec-Purpose` (Fetch standard), `Purpose`
    /// (Chromium until 2022, WebKit), `X-Purpose` (WebKit) and `X-Moz` (Gecko).
    pub fn of_purpose(value: &[u8]) -> Self {
        let mut flags = Self::default();
        for token in value.split(|byte| matches!(byte, b';' | b',')) {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"prerender") {
                // Which says more than the `prefetch` in front of it.
                return Self::PRERENDER;
            }
            if [&b"prefetch"[..], b"preview", b"instant"]
                .iter()
                .any(|ahead| token.eq_ignore_ascii_case(ahead))
            {
                flags.insert(Self::PREFETCH);
            }
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(flags: TrafficFlags) -> Vec<String> {
        flags.with_names(|names| names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn each_flag_has_its_name() {
        let all = [
            TrafficFlags::BOT,
            TrafficFlags::PREFETCH,
            TrafficFlags::PRERENDER,
            TrafficFlags::NO_USER_AGENT,
            TrafficFlags::PARAMETERS_CUT,
        ];
        let mut set = TrafficFlags::default();
        assert!(names(set).is_empty());
        for (flag, name) in all.into_iter().zip(TrafficFlags::NAMES) {
            assert_eq!(names(flag), [name]);
            set.insert(flag);
            set.insert(flag);
        }
        assert_eq!(names(set), TrafficFlags::NAMES);
    }

    #[test]
    fn what_a_browser_fetches_ahead_says_so() {
        for (value, flags) in [
            ("prefetch", TrafficFlags::PREFETCH),
            ("Prefetch", TrafficFlags::PREFETCH),
            ("prefetch;anonymous-client-ip", TrafficFlags::PREFETCH),
            ("prefetch;prerender", TrafficFlags::PRERENDER),
            ("prefetch; prerender", TrafficFlags::PRERENDER),
            ("prerender", TrafficFlags::PRERENDER),
            ("preview", TrafficFlags::PREFETCH),
            ("instant", TrafficFlags::PREFETCH),
            ("", TrafficFlags::default()),
            ("prefetched", TrafficFlags::default()),
            ("navigate", TrafficFlags::default()),
        ] {
            assert_eq!(TrafficFlags::of_purpose(value.as_bytes()), flags, "{value}");
        }
    }
}
