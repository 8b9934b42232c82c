//! Reads the consent string of IAB Europe's Transparency and Consent Framework, as far as it decides whether
//! an id may be stored on a device.
//!
//! Format: IAB Tech Lab, "Consent string and vendor list formats v2", "The Core String": base64url with six
//! bits per character, in segments separated by full stops, the core first.
//! <https://github.com/InteractiveAdvertisingBureau/GDPR-Transparency-and-Consent-Framework>

/// The longest consent string that is read, in bytes: enough for a range for each of a thousand vendors.
pub const MAX_BYTES: usize = 4_096;

/// Offsets of the core segment's fields, in bits.
mod bit {
    pub(super) const VERSION: usize = 0;
    pub(super) const PURPOSES_CONSENT: usize = 152;
    pub(super) const MAX_VENDOR_ID: usize = 213;
    pub(super) const IS_RANGE_ENCODING: usize = 229;
    pub(super) const VENDORS: usize = 230;
}

/// Whether `consent` is a consent string of version 2 that consents to purpose 1, "Store and/or access
/// information on a device", and, if a vendor is given, to that vendor.
///
/// "Purpose one treatment" (the purpose was not disclosed at all) does not count as consent.
pub fn allows_storage(consent: &str, vendor: Option<u16>) -> bool {
    let allowed = || {
        let core = CoreSegment::parse(consent)?;
        let is_allowed = core.number(bit::VERSION, 6)? == 2
            && core.is_set(bit::PURPOSES_CONSENT)?
            && match vendor {
                Some(vendor) => core.consents_to(vendor.into())?,
                // A string that ends before its vendors is not valid.
                None => core.is_set(bit::IS_RANGE_ENCODING).is_some(),
            };
        Some(is_allowed)
    };
    allowed().unwrap_or(false)
}

/// The first segment of a consent string: base64url characters only.
struct CoreSegment<'a>(&'a [u8]);

impl<'a> CoreSegment<'a> {
    fn parse(consent: &'a str) -> Option<Self> {
        let core = consent.split('.').next().unwrap_or_default().trim_end_matches('=').as_bytes();
        let is_core =
            consent.len() <= MAX_BYTES && core.iter().all(|byte| six_bits(*byte).is_some());
        is_core.then_some(Self(core))
    }

    fn is_set(&self, at: usize) -> Option<bool> {
        let six = six_bits(*self.0.get(at / 6)?)?;
        Some(six >> (5 - at % 6) & 1 == 1)
    }

    /// A number of `length` bits, the most significant first.
    fn number(&self, at: usize, length: usize) -> Option<usize> {
        (at..at + length)
            .try_fold(0, |number, at| Some(number << 1 | usize::from(self.is_set(at)?)))
    }

    fn consents_to(&self, vendor: usize) -> Option<bool> {
        if vendor == 0 || vendor > self.number(bit::MAX_VENDOR_ID, 16)? {
            return Some(false);
        }
        if !self.is_set(bit::IS_RANGE_ENCODING)? {
            return self.is_set(bit::VENDORS + vendor - 1);
        }
        let entries = self.number(bit::VENDORS, 12)?;
        let mut at = bit::VENDORS + 12;
        for _ in 0..entries {
            let is_range = self.is_set(at)?;
            let first = self.number(at + 1, 16)?;
            let last = if is_range { self.number(at + 17, 16)? } else { first };
            if (first..=last).contains(&vendor) {
                return Some(true);
            }
            at += if is_range { 33 } else { 17 };
        }
        Some(false)
    }
}

/// The value of a base64url character (RFC 4648, section 5).
fn six_bits(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The specification's example: purposes 1 to 3, vendors 2, 6 and 8 as a bit field.
    const BIT_FIELD: &str =
        "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA.IFoEUQQgAIQwgIwQABAEAAAAOIAACAIAAAAQ";
    /// Purposes 1 to 6, 9 and 10; vendors 25, 32, 53, 285 and 436 as ranges.
    const RANGES: &str = "COxSKBCOxSKCCBcABCENAgCMAPzAAEPAAAqIDaQBQAMgAgABqAR0A2gDaQAwAMgAgANoAAA";
    /// Purpose 1 is refused.
    const REFUSED: &str = "COwAdDhOwAdDhN4ABAENAPCgAAQAAv___wAAAFP_AAp_4AI6ACACAA";

    #[test]
    fn requires_purpose_1() {
        assert!(allows_storage(BIT_FIELD, None));
        assert!(allows_storage(RANGES, None));
        assert!(!allows_storage(REFUSED, None));
    }

    #[test]
    fn finds_vendors_in_bit_fields_and_ranges() {
        for (consent, vendor, allowed) in [
            (BIT_FIELD, 2, true),
            (BIT_FIELD, 6, true),
            (BIT_FIELD, 8, true),
            (BIT_FIELD, 0, false),
            (BIT_FIELD, 1, false),
            (BIT_FIELD, 7, false),
            (BIT_FIELD, 9, false),
            (RANGES, 25, true),
            (RANGES, 436, true),
            (RANGES, 26, false),
            (RANGES, 437, false),
            (REFUSED, 2, false),
        ] {
            assert_eq!(allows_storage(consent, Some(vendor)), allowed, "{vendor} in {consent}");
        }
    }

    #[test]
    fn takes_no_invalid_string_for_consent() {
        let long = format!("{BIT_FIELD}.{}", "A".repeat(MAX_BYTES));
        let standard = BIT_FIELD.replacen("CO", "C+", 1);
        // Version 1 of the format, now withdrawn.
        let version_1 = BIT_FIELD.replacen('C', "B", 1);
        for consent in ["", ".", "1", "C", &BIT_FIELD[..30], "${GDPR_CONSENT_1}", "ü", &long] {
            assert!(!allows_storage(consent, None), "{consent}");
        }
        assert!(!allows_storage(&standard, None));
        assert!(!allows_storage(&version_1, None));
        // Cut off within the ranges.
        assert!(!allows_storage(&RANGES[..50], Some(436)));
    }

    proptest! {
        #[test]
        fn never_panics(consent in "C[A-Za-z0-9_-]{0,200}(\\..{0,9})?", vendor: u16) {
            allows_storage(&consent, Some(vendor));
        }
    }
}
