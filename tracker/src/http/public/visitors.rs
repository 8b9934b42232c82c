//! The visitor cookie, and the settings that decide who gets one.

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{COOKIE as COOKIES, HeaderMap, HeaderValue, SET_COOKIE};
use adtrack_runtime::cli::integer;
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use uuid::{Uuid, Variant};

use super::cors::AllowedOrigins;
use crate::domain::Client;
use crate::domain::privacy::PrivacySignals;

/// The cookie that identifies a visitor.
const COOKIE: &str = "adtrack_id";
/// Browsers keep cookies no longer than this (RFC 6265bis, section 5.5; Chromium since 104).
const MAX_COOKIE_DAYS: u32 = 400;
const SECONDS_PER_DAY: u32 = 86_400;
/// The length of a UUID with hyphens.
const UUID_BYTES: usize = 36;

/// How the tracker recognizes visitors, and which pages may call it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Visitors")]
pub struct VisitorSettings {
    /// Days for which the cookie `adtrack_id` identifies a visitor, counted from the last request. 0: no
    /// cookie.
    #[arg(long, env, default_value = "0", value_parser = integer(0, MAX_COOKIE_DAYS))]
    pub cookie_max_age_days: u32,
    /// Domain that the cookie is for, including its subdomains. Unset: only the requested host.
    #[arg(long, env, value_parser = domain)]
    pub cookie_domain: Option<String>,
    /// Which requests from other sites' pages carry the cookie. `none` makes it a partitioned cookie: a
    /// visitor of two sites counts as two visitors.
    #[arg(long, env, default_value = "lax", ignore_case = true)]
    pub cookie_samesite: SameSite,
    /// Which request headers count as an objection to tracking: `Sec-GPC` and `DNT`, only the first, or none.
    #[arg(long, env, default_value = "gpc-and-dnt")]
    pub privacy_signals: PrivacySignals,
    /// Vendor id, from IAB Europe's list of vendors, that a `gdpr_consent` must also consent to. Unset:
    /// consent to purpose 1 is enough.
    #[arg(long, env, value_parser = integer(1_u16, u16::MAX))]
    pub tcf_vendor_id: Option<u16>,
    /// Load balancers and CDNs whose `X-Forwarded-For` is trusted: addresses and CIDRs, separated by
    /// commas.
    #[arg(long, env, default_value = "", value_parser = networks, hide_default_value = true)]
    pub trusted_proxies: Networks,
    /// Origins whose pages may read responses and send JSON, separated by commas: `https://shop.example`; or
    /// `*` for all, without cookies. Unset: none; image tags and links work without it.
    #[arg(long, env, default_value = "", value_parser = AllowedOrigins::parse, hide_default_value = true)]
    pub cors_allowed_origins: AllowedOrigins,
}

/// Which requests carry the cookie (RFC 6265bis, section 4.1.2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SameSite {
    /// Those from pages of the cookie's own site, and navigation by a link to it.
    Lax,
    /// Those from pages of the cookie's own site.
    Strict,
    /// All, with a separate cookie for each site on which it was set (`Partitioned`, CHIPS).
    None,
}

/// A list of networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Networks(pub Vec<IpNet>);

// Not derived: the domain does not depend on clap.
impl ValueEnum for PrivacySignals {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::GpcAndDnt, Self::Gpc, Self::None]
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::GpcAndDnt => "gpc-and-dnt",
            Self::Gpc => "gpc",
            Self::None => "none",
        }))
    }
}

impl VisitorSettings {
    /// The visitor that a `Cookie` header names; none if cookies are off. Ignores a value that is not a
    /// `UUIDv4`: a page or another host of the domain may have set it to anything.
    pub(super) fn id_in_cookies(&self, cookies: &[u8]) -> Option<Uuid> {
        if self.cookie_max_age_days == 0 {
            return None;
        }
        cookies.split(|byte| *byte == b';').find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(COOKIE.as_bytes())?.strip_prefix(b"=")?;
            let id = Uuid::try_parse_ascii(value).ok()?;
            let is_uuid_v4 = value.len() == UUID_BYTES
                && id.get_version_num() == 4
                && id.get_variant() == Variant::RFC4122;
            is_uuid_v4.then_some(id)
        })
    }

    /// Whether `request` comes with a visitor's cookie.
    pub(super) fn has_cookie(&self, request: &HttpRequest) -> bool {
        let mut cookies = request.headers().get_all(COOKIES);
        cookies.any(|cookies| self.id_in_cookies(cookies.as_bytes()).is_some())
    }

    /// The id of a visitor who does not object: the cookie's, or a new one. Empty if cookies are off.
    pub(super) fn id_or_new(&self, cookie: Option<Uuid>) -> String {
        if self.cookie_max_age_days == 0 {
            return String::new();
        }
        cookie.unwrap_or_else(Uuid::new_v4).to_string()
    }

    /// Sets or renews the cookie of a client that has a visitor id.
    pub(super) fn set_cookie(&self, client: &Client<'_>, headers: &mut HeaderMap) {
        if !client.visitor_id.is_empty()
            && let Ok(cookie) = HeaderValue::try_from(self.cookie(&client.visitor_id))
        {
            headers.append(SET_COOKIE, cookie);
        }
    }

    fn cookie(&self, visitor_id: &str) -> String {
        let seconds = self.cookie_max_age_days * SECONDS_PER_DAY;
        let (domain_name, domain) =
            self.cookie_domain.as_deref().map_or(("", ""), |domain| ("; Domain=", domain));
        let same_site = match self.cookie_samesite {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
            SameSite::None => "None; Partitioned",
        };
        format!(
            "{COOKIE}={visitor_id}; Max-Age={seconds}; Path=/{domain_name}{domain}; Secure; \
             HttpOnly; SameSite={same_site}"
        )
    }
}

fn domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_domain = text.len() <= 253 && text.contains('.') && text.split('.').all(is_label);
    is_domain
        .then(|| text.to_ascii_lowercase())
        .ok_or_else(|| "expected a domain without a leading dot, such as shop.example".to_owned())
}

/// A value parser: addresses and CIDRs, separated by commas.
pub(super) fn networks(text: &str) -> Result<Networks, String> {
    let network = |text: &str| {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        text.parse::<IpNet>().or_else(|_| address()).ok()
    };
    let networks = text.split(',').map(str::trim).filter(|text| !text.is_empty()).map(network);
    networks.collect::<Option<Vec<_>>>().map(Networks).ok_or_else(|| {
        "expected addresses and CIDRs separated by commas, such as 10.0.0.0/8,2001:db8::/32"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Settings {
        #[command(flatten)]
        visitors: VisitorSettings,
    }

    fn settings(flags: &[&str]) -> VisitorSettings {
        let arguments = ["tracker"].iter().chain(flags);
        Settings::try_parse_from(arguments).unwrap().visitors
    }

    const ID: &str = "6ba7b810-9dad-41d1-80b4-00c04fd430c8";

    #[test]
    fn sets_cookie_attributes() {
        let days = "--cookie-max-age-days=30";
        for (flags, attributes) in [
            (&[days][..], "Secure; HttpOnly; SameSite=Lax"),
            (&[days, "--cookie-samesite=strict"], "Secure; HttpOnly; SameSite=Strict"),
            (&[days, "--cookie-samesite=Lax"], "Secure; HttpOnly; SameSite=Lax"),
            (&[days, "--cookie-samesite=None"], "Secure; HttpOnly; SameSite=None; Partitioned"),
            (
                &[days, "--cookie-domain=Shop.Example"],
                "Domain=shop.example; Secure; HttpOnly; SameSite=Lax",
            ),
        ] {
            let expected = format!("adtrack_id={ID}; Max-Age=2592000; Path=/; {attributes}");
            assert_eq!(settings(flags).cookie(ID), expected);
        }
    }

    #[test]
    fn ignores_cookies_that_are_not_uuid_v4() {
        let on = settings(&["--cookie-max-age-days=1"]);
        let known = |cookies: String| on.id_in_cookies(cookies.as_bytes()).map(|id| id.to_string());
        for cookies in [
            format!("adtrack_id={ID}"),
            format!("a=b; adtrack_id={ID};c"),
            format!("adtrack_id=x; adtrack_id={ID}"),
            format!("adtrack_id={}", ID.to_uppercase()),
        ] {
            assert_eq!(known(cookies.clone()).as_deref(), Some(ID), "{cookies}");
            assert_eq!(settings(&[]).id_in_cookies(cookies.as_bytes()), None);
        }
        for cookies in [
            String::new(),
            "adtrack_id=".to_owned(),
            "adtrack_id=me@b.example".to_owned(),
            format!("xadtrack_id={ID}"),
            format!("adtrack_id={{{ID}}}"),
            format!("adtrack_id={}", ID.replace('-', "")),
            // Version 7, another variant, nil.
            format!("adtrack_id={}", ID.replace("-41", "-71")),
            format!("adtrack_id={}", ID.replace("-80", "-c0")),
            format!("adtrack_id={}", Uuid::nil()),
        ] {
            assert_eq!(known(cookies.clone()), None, "{cookies}");
        }
    }

    #[test]
    fn refuses_invalid_networks_and_domains() {
        assert_eq!(networks("").unwrap().0, []);
        let two = networks("10.0.0.0/8, 2001:db8::1").unwrap();
        assert_eq!(two.0.iter().map(IpNet::prefix_len).collect::<Vec<_>>(), [8, 128]);
        for text in ["10.0.0.0/33", "10.0.0", "any", "10.0.0.0/8 10.1.0.0/8"] {
            assert!(networks(text).is_err(), "{text}");
        }
        for text in ["", ".shop.example", "shop", "shop.example;", "a..b", "a b.example"] {
            assert!(domain(text).is_err(), "{text}");
        }
    }
}
