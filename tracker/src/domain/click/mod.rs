//! Chooses the page that a click redirects to.

mod landing_page;
pub mod signed_link;

use std::borrow::Cow;

use adtrack_proto::event::InvalidReason;
use url::Url;

use crate::domain::{
    CLICK_ID, IMPRESSION_ID, MISSPELT_URL, Refusal, Rules, SigningKeys, TrackedEvent,
};
use landing_page::{landing_page, with_click_id};
use signed_link::{EXPIRES, KEY_ID, SIGNATURE, SignedLink, URL_PARAMETER, link_url};

/// The rules of `/click`. A `url` may have any length: a click that names a page that is not allowed must be
/// refused, not redirected elsewhere.
pub const CLICK_RULES: Rules = Rules {
    for_endpoint: &[URL_PARAMETER, SIGNATURE, KEY_ID, EXPIRES, IMPRESSION_ID, CLICK_ID],
    exact: &[URL_PARAMETER],
    // Not `click_id`: networks have a `clickid` of their own.
    misspellable: &[URL_PARAMETER, SIGNATURE, KEY_ID, EXPIRES, IMPRESSION_ID],
    never_strands: true,
};

/// How many of the allowed hosts a refusal shows.
const MAX_SHOWN_HOSTS: usize = 5;

/// Where a click leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// This page: ASCII, http or https.
    Page(String),
    /// 204: the program is valid and has no page.
    Nowhere,
    /// 410: the program is not valid and has no fallback page.
    Gone(InvalidReason),
}

impl TrackedEvent<'_> {
    /// Where the click leads. Refuses a click whose `url` is neither on a host that the program allows nor
    /// signed with one of `keys`, whether the program is valid or not.
    pub fn destination(&self, keys: &SigningKeys) -> Result<Destination, Refusal> {
        // First, so that a page that is not allowed is refused even if the program is not valid.
        let link_page = self.link_page(keys)?;
        if let Err(reason) = self.validity_outcome {
            let fallback = self.fallback_page().map(|page| Destination::Page(page.into()));
            return Ok(fallback.unwrap_or(Destination::Gone(reason)));
        }
        let page = link_page.or_else(|| self.fill(self.program.landing_url.as_deref()?));
        let page = page.or_else(|| self.fallback_page());
        Ok(page.map_or(Destination::Nowhere, |page| Destination::Page(page.into())))
    }

    /// The page that the link itself names. Its macros are filled only if it is signed: otherwise anybody
    /// could have a click's other parameters sent to a page of their choice.
    fn link_page(&self, keys: &SigningKeys) -> Result<Option<Url>, Refusal> {
        let own = &self.request.parameters.for_endpoint;
        match own.get(URL_PARAMETER) {
            Some(text) => self.allowed_page(text, keys).map(Some),
            None => Ok(own.get(MISSPELT_URL).and_then(|text| self.allowed_page(text, keys).ok())),
        }
    }

    /// The page `text`, if the click may lead there.
    fn allowed_page(&self, text: &str, keys: &SigningKeys) -> Result<Url, Refusal> {
        let url = link_url(text).map_err(|problem| {
            Refusal::UrlNotAllowed(format!("it {problem}; got {}", Refusal::shown(text)))
        })?;
        let signature = self.check_signature(text, keys);
        if signature.is_ok()
            && let Some(page) = self.fill(text)
        {
            return Ok(page);
        }
        let is_host =
            |allowed: &str| url.host_str().is_some_and(|host| host.eq_ignore_ascii_case(allowed));
        if self.program.allowed_hosts.iter().any(|allowed| is_host(allowed)) {
            return Ok(with_click_id(url, &self.message_id));
        }
        Err(self.host_refusal(&url, signature.err().unwrap_or_default()))
    }

    /// Why the link's page is refused, whose host is not allowed and whose signature has this problem.
    #[cold]
    fn host_refusal(&self, url: &Url, signature: &str) -> Refusal {
        let hosts = &self.program.allowed_hosts;
        let mut shown: Vec<_> =
            hosts.iter().take(MAX_SHOWN_HOSTS).map(|host| Refusal::shown(host)).collect();
        if hosts.len() > MAX_SHOWN_HOSTS {
            shown.push(format!("{} more", hosts.len() - MAX_SHOWN_HOSTS));
        }
        let listed = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
        let host = Refusal::shown(url.host_str().unwrap_or_default());
        Refusal::UrlNotAllowed(format!(
            "{signature}, and {host} is not one of the program's allowedHosts ({listed})"
        ))
    }

    /// Why the signature does not allow the link's page, if it does not.
    fn check_signature(&self, url: &str, keys: &SigningKeys) -> Result<(), &'static str> {
        let own = &self.request.parameters.for_endpoint;
        let signed = || {
            let link = SignedLink {
                program_id: &self.request.program_id,
                url,
                key_id: own.get(KEY_ID)?,
                expires: own.get(EXPIRES)?.parse().ok()?,
            };
            Some((link, own.get(SIGNATURE)?))
        };
        let now = self.request.received_at;
        let reason = match signed() {
            Some((link, _)) if !link.expires_plausibly(now) => {
                "`at_expires` is more than 100 years ahead; it is in seconds since 1970, not in milliseconds"
            }
            Some((link, signature)) if link.verify(signature, keys, now) => return Ok(()),
            None if !own.contains_key(SIGNATURE) => "it has no signature",
            _ => "its signature is wrong or has expired",
        };
        Err(reason)
    }

    fn fallback_page(&self) -> Option<Url> {
        Url::parse(self.program.fallback_url.as_deref()?).ok()
    }

    fn fill(&self, template: &str) -> Option<Url> {
        let click_id = &*self.message_id;
        landing_page(template, click_id, |name| match name {
            CLICK_ID => Cow::Borrowed(click_id),
            "customer_id" => Cow::Owned(self.program.customer_id.to_string()),
            _ => Cow::Borrowed(self.parameter(name).unwrap_or_default()),
        })
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let parameters = &self.request.parameters;
        match name {
            "program_id" => Some(self.request.program_id.as_str()),
            IMPRESSION_ID => Some(&self.request.impression_id),
            "checksum" => parameters.checksum.as_deref(),
            "customerId" => parameters.customer_id.as_deref(),
            "at_event_id" => parameters.event_id.as_deref(),
            _ => parameters.carried.get(name).map(String::as_str),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use adtrack_proto::event::EventType;
    use adtrack_proto::program::CoreData;
    use adtrack_proto::{ProgramId, Version};
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::{Client, Parameters, PreparedProgram, TrackingRequest};

    const NOW: i64 = 1_767_323_045;
    const CLICK: &str = "019b7ca9-8c88-7707-8707-070707070707";

    fn keys() -> SigningKeys {
        SigningKeys::parse("k1=CwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCwsLCws=").unwrap()
    }

    fn program(members: &[(&str, Value)]) -> Arc<PreparedProgram> {
        let mut json = json!({"programId":"212313","programName":"n","checksum":"124",
            "customerId":-9124,"customerName":"c","valid":true,
            "landingUrl":"https://shop.example/p?c={click_id}&p={program_id}&u={customer_id}&x={x}",
            "fallbackUrl":"https://fallback.example/","allowedHosts":["Www.Shop.example"]});
        for (member, value) in members {
            json[*member] = value.clone();
        }
        let CoreData::Program(program) = CoreData::from_json(json.to_string().as_bytes()).unwrap()
        else {
            panic!("a program")
        };
        Arc::new(PreparedProgram::new(*program, Version::zero()))
    }

    fn destination(program: &Arc<PreparedProgram>, query: &str) -> Result<Destination, Refusal> {
        let at = Timestamp::from_second(NOW).unwrap();
        let request = TrackingRequest {
            program_id: ProgramId::parse("212313").unwrap(),
            event_type: EventType::Click,
            parameters: Parameters::parse(query, CLICK_RULES).unwrap(),
            client: Client::default(),
            impression_id: String::new(),
            click_id: String::new(),
            conversion: None,
            occurred_at: at,
            received_at: at,
        };
        let random = u128::from_le_bytes([7; 16]);
        TrackedEvent::new(&request, Arc::clone(program), random)?.destination(&keys())
    }

    fn page(program: &Arc<PreparedProgram>, query: &str) -> String {
        match destination(program, query) {
            Ok(Destination::Page(page)) => page,
            other => panic!("{query}: {other:?}"),
        }
    }

    /// The query of a link that is signed until `expires`.
    fn signed_query(url: &str, expires: i64) -> String {
        let program_id = &ProgramId::parse("212313").unwrap();
        let link = SignedLink { program_id, url, key_id: "k1", expires };
        let signature = link.sign(&keys()).unwrap();
        let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
        format!("url={url}&at_key=k1&at_expires={expires}&sig={signature}")
    }

    #[test]
    fn leads_to_the_landing_page_or_the_fallback() {
        let landing = format!("https://shop.example/p?c={CLICK}&p=212313&u=-9124&x=a%26b");
        assert_eq!(page(&program(&[]), "x=a%26b&click_id=mine&program_id=mine"), landing);
        let none = Value::Null;
        let fallback = "https://fallback.example/";
        assert_eq!(page(&program(&[("landingUrl", none.clone())]), ""), fallback);
        assert_eq!(page(&program(&[("valid", json!(false))]), ""), fallback);
        let pageless = |valid: bool| {
            program(&[
                ("landingUrl", none.clone()),
                ("fallbackUrl", none.clone()),
                ("valid", json!(valid)),
            ])
        };
        assert_eq!(destination(&pageless(true), ""), Ok(Destination::Nowhere));
        let gone = Destination::Gone(InvalidReason::ProgramDisabled);
        assert_eq!(destination(&pageless(false), ""), Ok(gone));
    }

    #[test]
    fn follows_the_links_page_on_an_allowed_host_or_with_a_signature() {
        let program = program(&[]);
        for (query, expected) in [
            ("url=https://www.shop.example/a%3Fb=1", format!("/a?b=1&click_id={CLICK}")),
            // The page's own bytes, whatever their encoding.
            ("url=https://www.shop.example/caf%E9", format!("/caf%E9?click_id={CLICK}")),
            (
                "url=https://www.shop.example/caf%25E9?x=%2526",
                format!("/caf%E9?x=%26&click_id={CLICK}"),
            ),
            ("url=HTTPS://WWW.SHOP.EXAMPLE&sig=x", format!("/?click_id={CLICK}")),
            // Macros of an unsigned page are not filled.
            ("url=https://www.shop.example/{x}&x=1", format!("/%7Bx%7D?click_id={CLICK}")),
        ] {
            assert_eq!(page(&program, query), format!("https://www.shop.example{expected}"));
        }
        assert_eq!(page(&program, "url="), page(&program, ""));
        let other = signed_query("https://other.example/{x}#{click_id}", NOW + 1);
        assert_eq!(
            page(&program, &format!("{other}&x=1&appended=by-a-network")),
            format!("https://other.example/1#{CLICK}")
        );
        let plain = signed_query("https://other.example/+?a=b c", NOW + 1);
        // The signature is valid, but browsers read this URL differently.
        assert!(destination(&program, &plain).is_err());
        let plus = signed_query("https://other.example/+", NOW + 1);
        assert_eq!(page(&program, &plus), format!("https://other.example/+?click_id={CLICK}"));

        for query in [
            "url=https://shop.example/",
            "url=https://evil.example/",
            "url=https://www.shop.example.evil.example/",
            "url=https://www.shop.example./",
            "url=https://x.www.shop.example/",
            "url=/p",
            "url=%ff",
            "url=https://other.example/&sig=x&at_key=k1",
            "url=https://other.example/caf%E9",
            &other.replace("other", "evil"),
            &other.replace("at_key=k1", "at_key=k2"),
            &other.replace("sig=", "sig=x"),
            &signed_query("https://other.example/", NOW),
            // In milliseconds.
            &signed_query("https://other.example/", NOW * 1_000),
            &format!("url=https://www.shop.example/{}", "x".repeat(2_048)),
        ] {
            let refusal = destination(&program, query).unwrap_err();
            assert_eq!(refusal.code(), "url_not_allowed", "{query}");
        }
        for (query, reason) in [
            (
                "url=https://evil.example/",
                "it has no signature, and \"evil.example\" is not one of the program's allowedHosts \
                 (\"Www.Shop.example\")",
            ),
            (
                "url=https://u@www.shop.example/",
                "it holds user information, which is not accepted; got",
            ),
            ("url=https://www.shop.example/a%20b", "it holds a control character, white space or"),
            ("url=ftp://www.shop.example/", "it has the scheme `ftp`; http and https are accepted"),
            ("url=/p", "it is not a URL: relative URL without a base; got \"/p\""),
            (&other.replace("sig=", "sig=x"), "its signature is wrong or has expired, and \"other"),
        ] {
            let refusal = destination(&program, query).unwrap_err().to_string();
            assert!(refusal.contains(reason), "{query}: {refusal}");
        }
        // A program that is not valid does not lead to the link's page either.
        let disabled = self::program(&[("valid", json!(false))]);
        assert_eq!(page(&disabled, &other), "https://fallback.example/");
        assert!(destination(&disabled, "url=https://evil.example/").is_err());
    }

    fn parameter() -> impl Strategy<Value = String> {
        let trick = "[htps]{0,5}:?[/\\\\]{0,3}[a-z.@:%0-9\t\u{3002}\u{ff0e}]{0,12}";
        let host = "(https?:)?[/\\\\]{0,3}(www\\.shop\\.example|evil\\.example)?";
        prop_oneof![
            any::<String>(),
            trick,
            (host, trick, host).prop_map(|(a, b, c)| format!("{a}{b}{c}")),
        ]
    }

    proptest! {
        #[test]
        fn no_parameter_leads_to_another_host(
            url in proptest::option::of(parameter()),
            names in proptest::collection::vec(("(x|sig|at_key|at_expires|[a-z]{1,8})", parameter()), 0..4),
            rest in "[/?#][a-z/{}x]{0,12}",
        ) {
            let program = program(&[("landingUrl", json!(format!("https://shop.example{rest}")))]);
            let mut query = url::form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(url.iter().map(|url| ("url", url)));
            query.extend_pairs(&names);
            match destination(&program, &query.finish()) {
                Ok(Destination::Page(page)) => {
                    let page = Url::parse(&page).unwrap();
                    let hosts = ["shop.example", "www.shop.example"];
                    prop_assert!(hosts.contains(&page.host_str().unwrap()), "{}", page);
                    prop_assert!(matches!(page.scheme(), "http" | "https"), "{}", page);
                    prop_assert!(page.username().is_empty() && page.password().is_none());
                    prop_assert!(page.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                }
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(refusal) => prop_assert!(
                    matches!(refusal.code(), "url_not_allowed" | "parameter_mismatch")
                ),
            }
        }
    }
}
