//! Aliases of a program: a network's names of conversion parameters, and its values of `status`.
//!
//! A wrong alias loses what it names from every conversion, so it is refused when core data is entered. What is
//! already in Redis is still read: a program that a tracker refuses would lose every event.

use std::collections::BTreeMap;

use crate::unfilled::{is_macro, visible};

/// The maximum length of a parameter's name in bytes.
pub const MAX_PARAMETER_NAME_BYTES: usize = 64;

/// The parameters that `/conversion` reads itself, which aliases may lead to.
pub const CONVERSION_PARAMETERS: [&str; 12] = [
    "transaction_id",
    "event_name",
    "status",
    "amount",
    "currency",
    "click_id",
    "at_event_id",
    "sig",
    "checksum",
    "customerId",
    "gdpr",
    "gdpr_consent",
];

/// The values of `status`.
pub const STATUSES: [&str; 4] = ["pending", "approved", "rejected", "refunded"];

/// Why an alias is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlias {
    /// It renames one of our own parameters.
    #[error(
        "{name:?} is a parameter of adtrack itself; an alias has the network's name first{}",
        .reversed.as_ref().map_or_else(String::new, |theirs| {
            format!(", as in {{{theirs:?}:{name:?}}}")
        })
    )]
    RenamesOurs {
        /// Our parameter.
        name: String,
        /// The network's name, if the alias is the wrong way round.
        reversed: Option<String>,
    },
    /// The network's name or value has blanks around it, which nothing that a network sends has.
    #[error("{theirs:?} has blanks or invisible characters around it")]
    Blanks {
        /// The network's name or value.
        theirs: String,
    },
    /// The network's name or value is a macro that was not filled.
    #[error("{theirs:?} is a macro that nobody filled")]
    Unfilled {
        /// The network's name or value.
        theirs: String,
    },
    /// It leads to a parameter that adtrack does not have.
    #[error("{name:?} is not a parameter of conversions{}; {} are", did_you_mean(.name, &CONVERSION_PARAMETERS), CONVERSION_PARAMETERS.join(", "))]
    UnknownParameter {
        /// The name that it leads to.
        name: String,
    },
    /// It leads to a status that adtrack does not have.
    #[error("{status:?} is not a status{}; {} are", did_you_mean(.status, &STATUSES), STATUSES.join(", "))]
    UnknownStatus {
        /// The status that it leads to.
        status: String,
    },
    /// It gives one of our statuses another meaning.
    #[error("{ours:?} is a status of adtrack itself and cannot mean {status:?}")]
    RedefinesStatus {
        /// Our status, as the alias writes it.
        ours: String,
        /// What it is to mean.
        status: String,
    },
    /// Another alias differs from it only in case, which does not matter, and means something else.
    #[error(
        "{first:?} and {second:?} differ only in case, which does not matter, but mean different statuses"
    )]
    Ambiguous {
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
}

/// Checks that each alias leads from a network's name to one of [`CONVERSION_PARAMETERS`].
pub fn check_parameter_aliases(aliases: &BTreeMap<String, String>) -> Result<(), InvalidAlias> {
    let is_ours = |name: &str| CONVERSION_PARAMETERS.contains(&name);
    for (theirs, ours) in aliases {
        check_theirs(theirs)?;
        if is_ours(theirs) {
            let reversed = (!is_ours(ours)).then(|| ours.clone());
            return Err(InvalidAlias::RenamesOurs { name: theirs.clone(), reversed });
        }
        if !is_ours(ours) {
            return Err(InvalidAlias::UnknownParameter { name: ours.clone() });
        }
    }
    Ok(())
}

fn check_theirs(theirs: &str) -> Result<(), InvalidAlias> {
    if visible(theirs) != theirs {
        return Err(InvalidAlias::Blanks { theirs: theirs.to_owned() });
    }
    if is_macro(theirs) {
        return Err(InvalidAlias::Unfilled { theirs: theirs.to_owned() });
    }
    Ok(())
}

/// Checks that each alias leads from a network's value to one of [`STATUSES`], regardless of case.
pub fn check_status_aliases(aliases: &BTreeMap<String, String>) -> Result<(), InvalidAlias> {
    let mut known = BTreeMap::<String, &str>::new();
    for (theirs, ours) in aliases {
        check_theirs(theirs)?;
        if !STATUSES.contains(&ours.as_str()) {
            return Err(InvalidAlias::UnknownStatus { status: ours.clone() });
        }
        let folded = theirs.to_lowercase();
        if STATUSES.contains(&folded.as_str()) && folded != *ours {
            let (ours, status) = (theirs.clone(), ours.clone());
            return Err(InvalidAlias::RedefinesStatus { ours, status });
        }
        if let Some(first) = known.insert(folded, theirs)
            && aliases.get(first) != Some(ours)
        {
            let (first, second) = (first.to_owned(), theirs.clone());
            return Err(InvalidAlias::Ambiguous { first, second });
        }
    }
    Ok(())
}

fn did_you_mean(name: &str, candidates: &[&str]) -> String {
    let nearest = nearest(name, candidates);
    nearest.map_or_else(String::new, |candidate| format!(", did you mean {candidate:?}?"))
}

/// The candidate that `name` is most likely meant to be; none if it resembles none.
pub fn nearest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let name = letters(name);
    let distance = |candidate: &&str| edit_distance(&name, &letters(candidate));
    let nearest = candidates.iter().copied().min_by_key(distance)?;
    // A third of the letters may be wrong.
    (distance(&nearest) * 3 <= letters(nearest).len().max(3)).then_some(nearest)
}

/// The letters and digits of a name, in lower case: `clickId`, `CLICK_ID` and `click-id` have the same.
pub fn letters(name: &str) -> Vec<char> {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The number of letters to insert, remove or replace (Levenshtein).
fn edit_distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (number, from) in (1..).zip(a) {
        let mut diagonal = std::mem::replace(&mut row[0], number);
        for (position, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[position + 1];
            row[position + 1] = replaced.min(diagonal + 1).min(row[position] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aliases(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(theirs, ours)| ((*theirs).to_owned(), (*ours).to_owned())).collect()
    }

    fn problem(result: Result<(), InvalidAlias>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn accepts_aliases_from_theirs_to_ours() {
        let parameters =
            aliases(&[("payout", "amount"), ("sum", "amount"), ("clickid", "click_id")]);
        assert_eq!(check_parameter_aliases(&parameters), Ok(()));
        let statuses = aliases(&[
            ("1", "approved"),
            ("Confirmed", "approved"),
            ("2", "pending"),
            ("Approved", "approved"),
            ("declined", "rejected"),
            ("DECLINED", "rejected"),
        ]);
        assert_eq!(check_status_aliases(&statuses), Ok(()));
    }

    #[test]
    fn refuses_what_no_network_sends() {
        for theirs in [" ok ", "approved ", "\tok", "\u{feff}ok"] {
            for result in [
                check_status_aliases(&aliases(&[(theirs, "approved")])),
                check_parameter_aliases(&aliases(&[(theirs, "amount")])),
            ] {
                let error = problem(result);
                assert!(error.contains("has blanks"), "{error}");
            }
        }
        for theirs in ["{status}", "${STATUS}", "[x]", "INSERT_STATUS_HERE"] {
            for result in [
                check_status_aliases(&aliases(&[(theirs, "approved")])),
                check_parameter_aliases(&aliases(&[(theirs, "amount")])),
            ] {
                let error = problem(result);
                assert!(error.contains("is a macro that nobody filled"), "{error}");
            }
        }
        let words = aliases(&[("0", "rejected"), ("true", "approved"), ("none", "pending")]);
        assert_eq!(check_status_aliases(&words), Ok(()));
        assert_eq!(check_status_aliases(&aliases(&[("not approved", "rejected")])), Ok(()));
    }

    #[test]
    fn names_the_right_way_round() {
        let error = problem(check_parameter_aliases(&aliases(&[("amount", "payout")])));
        assert!(error.ends_with("as in {\"payout\":\"amount\"}"), "{error}");
        let error = problem(check_parameter_aliases(&aliases(&[("status", "amount")])));
        assert!(error.contains("\"status\" is a parameter of adtrack itself"), "{error}");
    }

    #[test]
    fn names_the_nearest_right_name() {
        for (wrong, right) in [
            ("clickId", "click_id"),
            ("CLICK_ID", "click_id"),
            ("transactionId", "transaction_id"),
            ("transation_id", "transaction_id"),
            ("ammount", "amount"),
            ("customer_id", "customerId"),
            ("eventName", "event_name"),
        ] {
            let error = problem(check_parameter_aliases(&aliases(&[("x", wrong)])));
            assert!(error.contains(&format!("did you mean {right:?}?")), "{error}");
        }
        let error = problem(check_parameter_aliases(&aliases(&[("x", "campaign")])));
        assert!(!error.contains("did you mean") && error.contains("currency"), "{error}");
        for (wrong, right) in
            [("Approved", "approved"), ("aproved", "approved"), ("refund", "refunded")]
        {
            let error = problem(check_status_aliases(&aliases(&[("x", wrong)])));
            assert!(error.contains(&format!("did you mean {right:?}?")), "{error}");
        }
    }

    #[test]
    fn refuses_statuses_with_two_meanings() {
        let error = problem(check_status_aliases(&aliases(&[("Approved", "pending")])));
        assert!(error.contains("cannot mean \"pending\""), "{error}");
        let error =
            problem(check_status_aliases(&aliases(&[("OK", "approved"), ("ok", "pending")])));
        assert!(error.contains("\"OK\" and \"ok\" differ only in case"), "{error}");
    }

    #[test]
    fn edit_distances() {
        for (a, b, distance) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 2)]
        {
            assert_eq!(edit_distance(&letters(a), &letters(b)), distance, "{a} {b}");
            assert_eq!(edit_distance(&letters(b), &letters(a)), distance, "{b} {a}");
        }
    }
}
