//! The signals by which a client objects to tracking.

use super::tcf;
use crate::domain::Parameters;

/// Which request headers count as an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacySignals {
    /// `Sec-GPC: 1` (W3C Global Privacy Control) and `DNT: 1` (W3C Tracking Preference Expression).
    GpcAndDnt,
    /// `Sec-GPC: 1` alone: browsers are abandoning `DNT`.
    Gpc,
    /// Neither.
    None,
}

impl PrivacySignals {
    /// Whether a `Sec-GPC` header with this value is an objection.
    pub fn is_gpc_objection(self, value: &[u8]) -> bool {
        self != Self::None && value == b"1"
    }

    /// Whether a `DNT` header with this value is an objection. Extensions may follow the first character.
    pub fn is_dnt_objection(self, value: &[u8]) -> bool {
        self == Self::GpcAndDnt && value.first() == Some(&b'1')
    }
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
            assert_eq!(signals.is_gpc_objection(b"1"), gpc);
            assert_eq!(signals.is_dnt_objection(b"1"), dnt);
            assert_eq!(signals.is_dnt_objection(b"1xy"), dnt);
            for value in [&b""[..], b"0", b"true"] {
                assert!(!signals.is_gpc_objection(value) && !signals.is_dnt_objection(value));
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
