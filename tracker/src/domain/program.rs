//! A program prepared for requests: what they all need is already rendered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use adtrack_proto::event::ProgramFields;
use adtrack_proto::program::{CoreData, Program, Validity};
use adtrack_proto::{ProgramId, Version};
use serde_json::json;

use super::meant;

/// A program as the cache holds it. What is the same for all its requests is rendered once, when it is
/// cached, and then copied. Kept small, because there are many: a text has a field of its own only
/// if requests need it apart from the rendered fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedProgram {
    /// Its version: its place in the order of the core-data stream.
    pub version: Version,
    /// When the program is valid.
    pub validity: Validity,
    /// The checksum that a request may give, to show that its link was made for this program.
    pub checksum: Box<str>,
    /// The customer whose program it is. A request may give it as `customerId`, for the same purpose.
    pub customer_id: i64,
    /// The program's part of an event.
    pub event_fields: ProgramFields,
    /// The program's two parts of the response's JSON, and where the second begins.
    response_fields: Box<str>,
    last_response_fields_at: u16,
    /// Where a click leads while the program is valid.
    pub landing_url: Option<Box<str>>,
    /// Where a click leads if the program is not valid or has no landing page.
    pub fallback_url: Option<Box<str>>,
    /// Hosts that a link may name as its landing page.
    pub allowed_hosts: Box<[Box<str>]>,
    /// The key that conversions have to be signed with.
    pub conversion_key_id: Option<Box<str>>,
    /// Other names of a conversion's parameters.
    pub parameter_aliases: Box<[Alias]>,
    /// Other values of a conversion's `status`.
    pub status_aliases: Box<[Alias]>,
    /// Counts its accepted requests.
    pub requests: RequestCounter,
}

/// How many requests of a program were accepted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestCount {
    /// Events, impressions and clicks: an estimate.
    pub events: u64,
    /// Conversions.
    pub conversions: u64,
}

/// Counts a program's accepted requests. Not a part of what the program is: all counters are equal.
#[derive(Debug, Default)]
pub struct RequestCounter {
    /// One of [`SAMPLED`] requests counts, so that nearly all requests do without writing.
    sampled_events: AtomicU32,
    conversions: AtomicU32,
}

/// Of how many events, impressions and clicks one is counted.
const SAMPLED: u32 = 16;

impl RequestCounter {
    /// Whether an event with this random number is one of those that are counted.
    pub fn is_sampled(random: u128) -> bool {
        random >> (u128::BITS - SAMPLED.trailing_zeros()) == 0
    }

    /// Counts an event that [`Self::is_sampled`].
    pub fn count_sampled_event(&self) {
        self.sampled_events.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a conversion.
    pub fn count_conversion(&self) {
        self.conversions.fetch_add(1, Ordering::Relaxed);
    }

    /// Goes on where `other`, of an earlier version of the program, is.
    pub fn continue_from(&self, other: &Self) {
        let add = |to: &AtomicU32, from: &AtomicU32| {
            to.fetch_add(from.load(Ordering::Relaxed), Ordering::Relaxed);
        };
        add(&self.sampled_events, &other.sampled_events);
        add(&self.conversions, &other.conversions);
    }

    /// What was counted so far. Begins from scratch after 2^32.
    pub fn count(&self) -> RequestCount {
        let load = |count: &AtomicU32| u64::from(count.load(Ordering::Relaxed));
        RequestCount {
            events: load(&self.sampled_events) * u64::from(SAMPLED),
            conversions: load(&self.conversions),
        }
    }
}

impl Clone for RequestCounter {
    fn clone(&self) -> Self {
        let clone = Self::default();
        clone.continue_from(self);
        clone
    }
}

impl PartialEq for RequestCounter {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for RequestCounter {}

/// A network's name of a conversion's parameter, or its value of `status`, and ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alias {
    pub(super) theirs: Box<str>,
    pub(super) ours: Box<str>,
}

impl Alias {
    fn all_of(aliases: BTreeMap<String, String>) -> Box<[Self]> {
        let alias =
            |(theirs, ours): (String, String)| Self { theirs: theirs.into(), ours: ours.into() };
        aliases.into_iter().map(alias).collect()
    }

    fn to_map(aliases: &[Self]) -> BTreeMap<String, String> {
        let pair = |Self { theirs, ours }: &Self| (theirs.clone().into(), ours.clone().into());
        aliases.iter().map(pair).collect()
    }

    /// Our text for `theirs`, whose case does not matter.
    pub fn resolve<'a>(aliases: &'a [Self], theirs: &str) -> Option<&'a str> {
        let theirs = theirs.to_lowercase();
        let alias = aliases.iter().find(|alias| alias.theirs.to_lowercase() == theirs);
        alias.map(|alias| &*alias.ours)
    }
}

impl PreparedProgram {
    /// Renders what a request on `program` needs.
    pub fn new(program: Program, version: Version) -> Self {
        let mut response_fields = format!(
            r#""programId":{},"programName":{},"checksum":{},"customerId":{},"customerName":{}"#,
            json!(program.program_id.as_str()),
            json!(program.program_name),
            json!(program.checksum),
            program.customer_id,
            json!(program.customer_name),
        );
        // The texts have at most 512 bytes each, and six times as many with escapes.
        let last_response_fields_at = u16::try_from(response_fields.len()).unwrap_or(u16::MAX);
        // For readers that round large numbers, as browsers do.
        let customer_id_text = format!(r#","customerIdText":"{}"}}"#, program.customer_id);
        response_fields.push_str(&customer_id_text);
        let event_fields = ProgramFields::of(&program);
        // Without `..`, so that the compiler reports a new member that is forgotten here.
        let Program {
            validity,
            checksum,
            customer_id,
            landing_url,
            fallback_url,
            allowed_hosts,
            conversion_key_id,
            parameter_aliases,
            status_aliases,
            // Part of the rendered fields.
            program_id: _,
            program_name: _,
            customer_name: _,
            test: _,
        } = program;
        Self {
            version,
            validity,
            event_fields,
            response_fields: response_fields.into(),
            last_response_fields_at,
            checksum: checksum.into(),
            customer_id,
            landing_url: landing_url.map(Into::into),
            fallback_url: fallback_url.map(Into::into),
            allowed_hosts: allowed_hosts.into_iter().map(Into::into).collect(),
            conversion_key_id: conversion_key_id.map(Into::into),
            parameter_aliases: Alias::all_of(parameter_aliases),
            status_aliases: Alias::all_of(status_aliases),
            requests: RequestCounter::default(),
        }
    }

    /// The members of the response that precede the message id, `"programId":…,"customerName":…`, and its end,
    /// `,"customerIdText":…}`.
    pub(super) fn response_fields(&self) -> (&str, &str) {
        let fields = self.response_fields.split_at_checked(self.last_response_fields_at.into());
        fields.unwrap_or((&self.response_fields, "}"))
    }

    /// Our name of the parameter that the program's network calls `name`; none if it has no alias.
    pub fn parameter_of(&self, name: &str) -> Option<&str> {
        let alias = self.parameter_aliases.iter().find(|alias| *alias.theirs == *name);
        alias.map(|alias| &*alias.ours)
    }

    /// Our name of the parameter for which the program's network has a name that `name` resembles.
    #[cold]
    pub fn meant(&self, name: &str) -> Option<&str> {
        let theirs = meant(name, self.parameter_aliases.iter().map(|alias| &*alias.theirs))?;
        self.parameter_of(theirs)
    }

    /// Reconstructs the core data, for the management listener.
    pub fn to_program(&self, program_id: ProgramId) -> Program {
        let event = self.event_fields.to_event();
        Program {
            program_id,
            program_name: event.program_name,
            checksum: event.checksum,
            customer_id: self.customer_id,
            customer_name: event.customer_name,
            validity: self.validity,
            landing_url: self.landing_url.as_deref().map(str::to_owned),
            fallback_url: self.fallback_url.as_deref().map(str::to_owned),
            allowed_hosts: self.allowed_hosts.iter().map(|host| host.clone().into()).collect(),
            conversion_key_id: self.conversion_key_id.as_deref().map(str::to_owned),
            parameter_aliases: Alias::to_map(&self.parameter_aliases),
            status_aliases: Alias::to_map(&self.status_aliases),
            test: event.is_test,
        }
    }

    /// The program as core-data JSON.
    pub fn to_json(&self, program_id: ProgramId) -> serde_json::Value {
        let json = CoreData::Program(Box::new(self.to_program(program_id))).to_json();
        serde_json::from_str(&json).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_requests() {
        let (counter, next) = (RequestCounter::default(), RequestCounter::default());
        (0..3).for_each(|_| counter.count_conversion());
        counter.count_sampled_event();
        next.count_sampled_event();
        next.continue_from(&counter);
        assert_eq!(next.clone().count(), RequestCount { events: 32, conversions: 3 });
        let sampled = |random: u128| RequestCounter::is_sampled(random);
        assert!(sampled(0) && sampled((1 << 123) - 1) && !sampled(1 << 124) && !sampled(u128::MAX));
    }

    #[test]
    fn keeps_every_member_of_a_program() {
        let json = br#"{"programId":"p","programName":"n","checksum":"124","customerId":9124,
            "customerName":"c","valid":false,"validFrom":"2026-01-01T00:00:00Z",
            "validUntil":"2027-01-01T00:00:00Z","landingUrl":"https://a.example/",
            "fallbackUrl":"https://b.example/","allowedHosts":["a.example","b.example"],
            "conversionKeyId":"k","parameterAliases":{"payout":"amount"},"statusAliases":{"1":"approved"},"test":true}"#;
        let CoreData::Program(program) = CoreData::from_json(json).unwrap() else { panic!() };
        let prepared = PreparedProgram::new((*program).clone(), Version::zero());
        assert_eq!(prepared.to_program(program.program_id.clone()), *program);
    }
}
