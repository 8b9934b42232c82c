//! Reasons why traffic may be invalid. It is flagged, never dropped: billing decides what counts.

use crate::domain::client::bots::{UserAgentKind, kind_of};

/// A set of reasons.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficFlags(u16);

impl TrafficFlags {
    /// The user agent belongs to a known bot, or to an HTTP library.
    pub const BOT: Self = Self(1);
    /// A browser prefetches a page that may never be shown.
    pub const PREFETCH: Self = Self(1 << 1);
    /// A browser prerenders a page that may never be shown.
    pub const PRERENDER: Self = Self(1 << 2);
    /// The user agent is missing or empty.
    pub const NO_USER_AGENT: Self = Self(1 << 3);
    /// Parameters were cut or dropped. This and the next two say what was repaired; they are no sign of
    /// invalid traffic.
    pub const PARAMETERS_CUT: Self = Self(1 << 4);
    /// Parameters were repaired.
    pub const PARAMETERS_REPAIRED: Self = Self(1 << 5);
    /// An id was an unfilled macro.
    pub const UNFILLED_MACRO: Self = Self(1 << 6);
    /// A mail provider loads images for the people who read the mail.
    pub const IMAGE_PROXY: Self = Self(1 << 7);

    /// The names on the wire and in the table, in the order of the bits.
    const NAMES: [&'static str; 8] = [
        "bot",
        "prefetch",
        "prerender",
        "no_user_agent",
        "parameters_cut",
        "parameters_repaired",
        "unfilled_macro",
        "image_proxy",
    ];

    /// Adds `flags`.
    pub fn insert(&mut self, flags: Self) {
        self.0 |= flags.0;
    }

    /// Calls `take` with the names, in an array on the stack: this runs for every event.
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

    /// The flags of a user agent.
    pub fn of_user_agent(user_agent: &str) -> Self {
        if user_agent.trim_ascii().is_empty() {
            return Self::NO_USER_AGENT;
        }
        match kind_of(user_agent) {
            UserAgentKind::Person => Self::default(),
            UserAgentKind::Bot => Self::BOT,
            UserAgentKind::ImageProxy => Self::IMAGE_PROXY,
        }
    }

    /// The flags of a header that names a request's purpose: `Sec-Purpose` (Fetch standard), `Purpose`
    /// (Chromium until 2022, WebKit), `X-Purpose` (WebKit) or `X-Moz` (Gecko).
    pub fn of_purpose(value: &[u8]) -> Self {
        let mut flags = Self::default();
        for token in value.split(|byte| matches!(byte, b';' | b',')) {
            let token = token.trim_ascii();
            if token.eq_ignore_ascii_case(b"prerender") {
                // More specific than the `prefetch` before it.
                return Self::PRERENDER;
            }
            if [&b"prefetch"[..], b"preview", b"instant"]
                .iter()
                .any(|purpose| token.eq_ignore_ascii_case(purpose))
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
    fn names_each_flag() {
        let all = [
            TrafficFlags::BOT,
            TrafficFlags::PREFETCH,
            TrafficFlags::PRERENDER,
            TrafficFlags::NO_USER_AGENT,
            TrafficFlags::PARAMETERS_CUT,
            TrafficFlags::PARAMETERS_REPAIRED,
            TrafficFlags::UNFILLED_MACRO,
            TrafficFlags::IMAGE_PROXY,
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
    fn recognizes_prefetching_and_prerendering() {
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
