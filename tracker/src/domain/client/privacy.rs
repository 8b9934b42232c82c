//! Whether a client may be followed: the signals with which somebody objects.

use super::tcf;
use crate::domain::Parameters;

/// Which request headers count as an objection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PrivacySignals {
    /// `Sec-GPC: 1` (W3C Global Privacy Control) and `DNT: 1` (W3C Tracking Preference Expression).
    GpcAndDnt,
    /// `Sec-GPC: 1` alone: browsers give up `DNT`.
    Gpc,
    /// Neither.
    None,
}

impl PrivacySignals {
    /// Whether the header `Sec-GPC` with this value objects.
    pub fn object_by_gpc(self, value: &[u8]) -> bool {
        self != Self::None && value == b"1"
    }

    /// Whether the header `DNT` with this value objects. What follows its first character are
    /// extensions.
    pub fn object_by_dnt(self, value: &[u8]) -> bool {
        self == Self::GpcAndDnt && value.first() == Some(&b'1')
    }
}

/// Whether consent is asked for and not given: `gdpr=1` without a `gdpr_consent` by which an id may be
/// kept on the device, for `vendor` where one is named. The parameters are those that IAB Europe's
/// Transparency and Consent Framework has for URLs.
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
    fn each_setting_has_its_signals() {
        for (signals, gpc, dnt) in [
            (PrivacySignals::GpcAndDnt, true, true),
            (PrivacySignals::Gpc, true, false),
            (PrivacySignals::None, false, false),
        ] {
            assert_eq!(signals.object_by_gpc(b"1"), gpc);
            assert_eq!(signals.object_by_dnt(b"1"), dnt);
            assert_eq!(signals.object_by_dnt(b"1xy"), dnt);
            for value in [&b""[..], b"0", b"true"] {
                assert!(!signals.object_by_gpc(value) && !signals.object_by_dnt(value));
            }
        }
    }

    #[test]
    fn consent_is_refused_where_it_is_asked_for_and_not_given() {
        for (query, vendor, refused) in [
            (String::new(), None, false),
            ("gdpr=0".to_owned(), None, false),
            ("gdpr=0&gdpr_consent=x".to_owned(), None, false),
            ("gdpr=1".to_owned(), None, true),
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
