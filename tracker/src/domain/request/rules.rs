//! Which parameters an endpoint reads.

use super::names::{may_mean_any, meant};

pub(super) const CHECKSUM: &str = "checksum";
pub(super) const CUSTOMER_ID: &str = "customerId";
/// Whether European data protection law applies (IAB Europe's Transparency and Consent Framework).
pub(super) const GDPR: &str = "gdpr";
/// A consent string. It may be longer than other values; then it is read, but not carried on the event.
pub(super) const CONSENT: &str = "gdpr_consent";
/// The client's own id of the event.
pub(super) const EVENT_ID: &str = "at_event_id";
/// Parameters that every endpoint reads.
pub(super) const COMMON: [&str; 5] = [CHECKSUM, CUSTOMER_ID, EVENT_ID, GDPR, CONSENT];

/// The parameter with the message id of the click that led to the event.
pub const CLICK_ID: &str = "click_id";
/// The parameter with the message id of the impression that led to the event.
pub const IMPRESSION_ID: &str = "impression_id";

/// The maximum length of the id that a client gives its event, in bytes.
pub(super) const MAX_EVENT_ID_BYTES: usize = 128;

/// Which parameters an endpoint reads itself, and what happens to those that are not valid.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Parameters that only this endpoint reads. They are not carried on the event.
    pub for_endpoint: &'static [&'static str],
    /// Those of them that count: two different values are refused.
    pub exact: &'static [&'static str],
    /// Those of them that are recognized if their name is misspelt.
    pub misspellable: &'static [&'static str],
    /// Whether the endpoint leaves out ids that are not valid, and flags the request, instead of refusing it:
    /// a visitor who clicked has to get somewhere.
    pub never_strands: bool,
}

impl Rules {
    /// The rules of `/event` and `/impression`.
    pub const EVENT: Self = Self { for_endpoint: &[CLICK_ID, IMPRESSION_ID], ..Self::ITEM };

    /// The rules of the `parameters` of batch items, which have members for everything else.
    pub const ITEM: Self =
        Self { for_endpoint: &[], exact: &[], misspellable: &[], never_strands: false };

    pub(super) fn own_name(&self, name: &str) -> Option<&'static str> {
        self.for_endpoint.iter().find(|known| **known == name).copied()
    }

    /// Whether `name` is one that the endpoint reads.
    pub fn is_known(&self, name: &str) -> bool {
        COMMON.contains(&name) || self.own_name(name).is_some()
    }

    /// Whether `name` is one that the endpoint reads, or means one.
    #[cold]
    pub fn is_read(&self, name: &str) -> bool {
        self.is_known(name) || self.meant(name).is_some()
    }

    /// Whether `name`, which is not known, may be a misspelt one. Cheap.
    pub(super) fn may_be_misspelt(&self, name: &str) -> bool {
        may_mean_any(name, &COMMON) || may_mean_any(name, self.misspellable)
    }

    /// The name that `name`, which is not known, means.
    #[cold]
    pub fn meant(&self, name: &str) -> Option<&'static str> {
        meant(name, COMMON.into_iter().chain(self.misspellable.iter().copied()))
    }
}
