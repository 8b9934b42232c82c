//! What is repaired in a request before it is recorded.
//!
//! The rule, for every endpoint: *an event is never lost for something that does not count, and never misread
//! in something that does.* What only describes an event (free parameters, texts, headers) is repaired, cut or
//! dropped; the event is recorded and flagged. What counts (program, money, ids that decide identity,
//! signatures, consent) is exact, or the request is refused.

use crate::domain::TrafficFlags;

/// A set of reasons for which a request was repaired. Empty for nearly every request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Repairs(u32);

impl Repairs {
    /// More parameters than an event carries; the others are left out.
    pub const TOO_MANY_PARAMETERS: Self = Self(1);
    /// A parameter's name is empty or too long; the parameter is left out.
    pub const NAME_LENGTH: Self = Self(1 << 1);
    /// A parameter's value is too long and was cut, or left out where a part of it would be misleading.
    pub const VALUE_TOO_LONG: Self = Self(1 << 2);
    /// A name is given twice; its first value stays.
    pub const REPEATED_NAME: Self = Self(1 << 3);
    /// A name begins with `at_` and is not one of ours; the parameter is left out.
    pub const RESERVED_NAME: Self = Self(1 << 4);
    /// The query is too long; free parameters beyond the limit are left out.
    pub const QUERY_TOO_LONG: Self = Self(1 << 5);
    /// A reference to another event that does not decide identity, or a click's `at_event_id`, is not usable, and
    /// is left out.
    pub const INVALID_REFERENCE: Self = Self(1 << 6);
    /// A text is not UTF-8; what is not is replaced by U+FFFD.
    pub const NOT_UTF8: Self = Self(1 << 7);
    /// A percent sign begins no escape, and is kept as it is.
    pub const INVALID_ESCAPE: Self = Self(1 << 8);
    /// A separator was escaped for HTML: `&amp;name` is read as `name`.
    pub const ESCAPED_AMPERSAND: Self = Self(1 << 9);
    /// A free parameter's value is a JSON object or array, and is kept as JSON.
    pub const NESTED_VALUE: Self = Self(1 << 10);
    /// The body's media type does not say what it is; its first character does.
    pub const MEDIA_TYPE: Self = Self(1 << 11);
    /// An amount that is a JSON number was rounded to millionths.
    pub const AMOUNT_ROUNDED: Self = Self(1 << 12);
    /// An id is an unfilled macro, such as `{txid}`, and counts as not given.
    pub const UNFILLED_MACRO: Self = Self(1 << 13);
    /// A name is not quite one of ours: `Amount`. It is read as ours if its value allows it.
    pub const MISSPELT_NAME: Self = Self(1 << 14);
    /// A conversion has a currency and no amount, which may have been lost.
    pub const CURRENCY_WITHOUT_AMOUNT: Self = Self(1 << 15);
    /// An id had blanks, control characters or invisible ones around it, which do not count.
    pub const TRIMMED: Self = Self(1 << 16);
    /// A text that only describes the event is of another JSON type, and is left out.
    pub const WRONG_TYPE: Self = Self(1 << 17);

    /// The reasons in responses, metrics and logs, in the order of the bits.
    pub const REASONS: [&'static str; 18] = [
        "too_many_parameters",
        "name_length",
        "value_too_long",
        "repeated_name",
        "reserved_name",
        "query_too_long",
        "invalid_reference",
        "not_utf8",
        "invalid_escape",
        "escaped_ampersand",
        "nested_value",
        "media_type",
        "amount_rounded",
        "unfilled_macro",
        "misspelt_name",
        "currency_without_amount",
        "trimmed_id",
        "wrong_type",
    ];

    /// Reasons for which something is missing from the event.
    const CUT: u32 = ((1 << 7) - 1) | Self::WRONG_TYPE.0;

    /// Whether nothing was repaired.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Adds `reasons`.
    pub fn insert(&mut self, reasons: Self) {
        self.0 |= reasons.0;
    }

    /// The positions in [`Self::REASONS`].
    pub fn positions(self) -> impl Iterator<Item = usize> {
        (0..Self::REASONS.len()).filter(move |position| self.0 >> position & 1 == 1)
    }

    /// The flags that the recorded event has.
    pub fn traffic_flags(self) -> TrafficFlags {
        let mut flags = TrafficFlags::default();
        for (mask, flag) in Self::flags() {
            if self.0 & mask != 0 {
                flags.insert(flag);
            }
        }
        flags
    }

    fn flags() -> [(u32, TrafficFlags); 3] {
        let repaired = !(Self::CUT | Self::UNFILLED_MACRO.0);
        [
            (Self::CUT, TrafficFlags::PARAMETERS_CUT),
            (repaired, TrafficFlags::PARAMETERS_REPAIRED),
            (Self::UNFILLED_MACRO.0, TrafficFlags::UNFILLED_MACRO),
        ]
    }

    /// The value of the response's header: each flag, with its reasons as parameters (a list as in RFC 9651):
    /// `parameters_cut;value_too_long, unfilled_macro`.
    pub fn header(self) -> String {
        let of_flag = |(mask, flag): (u32, TrafficFlags)| {
            let set = Self(self.0 & mask);
            if set.is_empty() {
                return None;
            }
            let mut item = flag.with_names(|names| names.concat());
            for position in set.positions() {
                if Self::REASONS[position] != item {
                    item.push(';');
                    item.push_str(Self::REASONS[position]);
                }
            }
            Some(item)
        };
        Self::flags().into_iter().filter_map(of_flag).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_each_reason_under_its_flag() {
        let mut all = Repairs::default();
        assert_eq!(all.header(), "");
        for position in 0..Repairs::REASONS.len() {
            let one = Repairs(1 << position);
            all.insert(one);
            assert_eq!(one.positions().collect::<Vec<_>>(), [position]);
            assert!(one.header().ends_with(Repairs::REASONS[position]), "{}", one.header());
            assert_ne!(one.traffic_flags(), TrafficFlags::default());
        }
        assert_eq!(
            all.header(),
            "parameters_cut;too_many_parameters;name_length;value_too_long;repeated_name;reserved_name;\
             query_too_long;invalid_reference;wrong_type, parameters_repaired;not_utf8;invalid_escape;\
             escaped_ampersand;nested_value;media_type;amount_rounded;misspelt_name;\
             currency_without_amount;trimmed_id, unfilled_macro"
        );
        let names = all.traffic_flags().with_names(|names| names.join(","));
        assert_eq!(names, "parameters_cut,parameters_repaired,unfilled_macro");
    }
}
