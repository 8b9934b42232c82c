//! What was accepted against what was stored. Pure.

use super::partitions::Entry;

/// What a comparison found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Joined {
    /// Accepted and stored.
    pub(super) stored: u64,
    /// Stored, and never in an answer.
    pub(super) unknown: u64,
    /// Accepted and not stored, the first of them.
    pub(super) missing: Vec<u128>,
    /// Accepted and not stored.
    pub(super) lost: u64,
}

/// Compares entries, both in order. Calls `stored` with the time of the answer and that of the row.
/// A row counts once, however often it was seen, and stands for one answer alone: a second answer
/// with the same id is lost.
pub(super) fn join(
    accepted: &[Entry],
    rows: &[Entry],
    keep_missing: usize,
    found: &mut Joined,
    mut stored: impl FnMut(u64, u64),
) {
    let mut rows = rows.chunk_by(|a, b| a.id == b.id).map(|same| same[0]).peekable();
    for answer in accepted {
        while rows.next_if(|row| row.id < answer.id).is_some() {
            found.unknown += 1;
        }
        match rows.next_if(|row| row.id == answer.id) {
            Some(row) => {
                found.stored += 1;
                stored(answer.at_ms, row.at_ms);
            }
            None => {
                found.lost += 1;
                if found.missing.len() < keep_missing {
                    found.missing.push(answer.id);
                }
            }
        }
    }
    found.unknown += rows.count() as u64;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn entries(ids: &[u128]) -> Vec<Entry> {
        ids.iter().map(|id| Entry { id: *id, at_ms: 0 }).collect()
    }

    #[test]
    fn lost_stored_and_unknown_are_told_apart() {
        let mut found = Joined::default();
        let accepted = entries(&[1, 2, 4, 6]);
        let rows = entries(&[0, 2, 3, 4, 4, 9]);
        join(&accepted, &rows, 1, &mut found, |_, _| {});
        assert_eq!(found, Joined { stored: 2, unknown: 3, missing: vec![1], lost: 2 });
    }

    #[test]
    fn two_answers_with_one_id_are_one_row_too_few() {
        let mut found = Joined::default();
        join(&entries(&[7, 7]), &entries(&[7]), 9, &mut found, |_, _| {});
        assert_eq!((found.stored, found.lost), (1, 1));
    }

    #[test]
    fn the_times_are_handed_on() {
        let mut times = Vec::new();
        let accepted = [Entry { id: 1, at_ms: 5 }];
        let rows = [Entry { id: 1, at_ms: 9 }, Entry { id: 1, at_ms: 20 }];
        join(&accepted, &rows, 0, &mut Joined::default(), |a, b| times.push((a, b)));
        assert_eq!(times, [(5, 9)]);
    }

    proptest! {
        #[test]
        fn it_is_set_arithmetic(
            accepted in proptest::collection::btree_set(0_u128..60, 0..40),
            rows in proptest::collection::vec(0_u128..60, 0..60),
        ) {
            let mut sorted = rows.clone();
            sorted.sort_unstable();
            let rows: BTreeSet<u128> = rows.into_iter().collect();
            let mut found = Joined::default();
            let ids: Vec<u128> = accepted.iter().copied().collect();
            join(&entries(&ids), &entries(&sorted), 100, &mut found, |_, _| {});
            prop_assert_eq!(found.stored as usize, accepted.intersection(&rows).count());
            prop_assert_eq!(found.unknown as usize, rows.difference(&accepted).count());
            prop_assert!(found.missing.iter().eq(accepted.difference(&rows)));
        }
    }
}
