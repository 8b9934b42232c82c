//! The signals by which a client objects to tracking.

use super::tcf;
use crate::domain::Parameters;

/// Which request headers count as an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacySignals {
    /// `Sec-GPC` (W3C Global Privacy Control) and `DNT` (W3C Tracking Preference Expression).
    GpcAndDnt,
    /// `Sec-GPC` alone: browsers are abandoning `DNT`.
    Gpc,
    /// Neither.
    None,
}

impl PrivacySignals {
    /// Whether a `Sec-GPC` header with this value is an objection: the standard has only `1`, but clients write
    /// other things, too. What cannot be read is an objection.
    pub fn is_gpc_objection(self, value: &[u8]) -> bool {
        self != Self::None && !is_any_of(value, &["", "0", "false"])
    }

    /// The same for a `DNT` header. `null` and `unspecified` are what browsers call a preference that nobody set.
    pub fn is_dnt_objection(self, value: &[u8]) -> bool {
        self == Self::GpcAndDnt && !is_any_of(value, &["", "0", "false", "null", "unspecified"])
    }
}

fn is_any_of(value: &[u8], texts: &[&str]) -> bool {
    let value = value.trim_ascii();
    texts.iter().any(|text| value.eq_ignore_ascii_case(text.as_bytes()))
}

/// Whether consent is required and missing: a `gdpr` other than `0` (one that cannot be read counts as an
/// objection) without a `gdpr_consent` that allows storing an id on the device, for `vendor` if one is given. These are the URL parameters of IAB Europe's Transparency and
/// Consent Framework.
pub fn refuses_consent(parameters: &Parameters, vendor: Option<u16>) -> bool {
    let allows = |consent: &str| tcf::allows_storage(consent, vendor);
    parameters.gdpr_applies && !parameters.consent.as_deref().is_some_and(allows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Rules;

    const CONSENT: &str = "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA";

    #[test]
    fn honors_the_signals_of_each_setting() {
        for (signals, gpc, dnt) in [
            (PrivacySignals::GpcAndDnt, true, true),
            (PrivacySignals::Gpc, true, false),
            (PrivacySignals::None, false, false),
        ] {
            for value in [&b"1"[..], b" 1", b"true", b"\"1\"", b"1, 1", b"yes", b"?", b"\xff"] {
                assert_eq!(signals.is_gpc_objection(value), gpc, "{value:?}");
                assert_eq!(signals.is_dnt_objection(value), dnt, "{value:?}");
            }
            assert_eq!(signals.is_gpc_objection(b"null"), gpc);
            for value in [&b""[..], b" ", b"0", b" 0 ", b"false", b"False"] {
                assert!(!signals.is_gpc_objection(value) && !signals.is_dnt_objection(value));
            }
            for value in [&b"null"[..], b"unspecified", b"Unspecified"] {
                assert!(!signals.is_dnt_objection(value));
            }
        }
    }

    #[test]
    fn refuses_consent_that_is_required_and_missing() {
        for (query, vendor, refused) in [
            (String::new(), None, false),
            ("gdpr=0".to_owned(), None, false),
            ("gdpr=0&gdpr_consent=x".to_owned(), None, false),
            ("gdpr=".to_owned(), None, false),
            ("gdpr=1".to_owned(), None, true),
            ("gdpr=true".to_owned(), None, true),
            ("gdpr=${GDPR}".to_owned(), None, true),
            ("GDPR=1".to_owned(), None, true),
            ("gdpr=0&gdpr[]=1".to_owned(), None, true),
            ("+gdpr=1".to_owned(), None, true),
            ("gdpr%00=1".to_owned(), None, true),
            ("x=1;gdpr=1".to_owned(), None, true),
            ("x=1%3BGdpr%3D1".to_owned(), None, true),
            ("x=1;gdpr=0".to_owned(), None, false),
            ("GDPR=0".to_owned(), None, false),
            (format!("GDPR=1&gdprConsent={CONSENT}"), None, false),
            (format!("GDPR=1&gdprConsent={CONSENT}&gdpr_consent=x"), None, true),
            (format!("gdpr=1&gdpr_consent={CONSENT}&gdpr_consent=x"), None, true),
            ("gdpr=1&gdpr_consent=".to_owned(), None, true),
            ("gdpr=1&gdpr_consent=x".to_owned(), None, true),
            (format!("gdpr=1&gdpr_consent={CONSENT}"), None, false),
            (format!("gdpr=1&gdpr_consent={CONSENT}"), Some(6), false),
            (format!("gdpr=1&gdpr_consent={CONSENT}"), Some(7), true),
            (format!("gdpr_consent={CONSENT}.{}&gdpr=1", "A".repeat(600)), None, false),
        ] {
            let parameters = Parameters::parse(&query, Rules::EVENT).unwrap();
            assert_eq!(refuses_consent(&parameters, vendor), refused, "{query} {vendor:?}");
        }
    }
}
