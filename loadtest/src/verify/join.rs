//! Compares accepted events with stored rows. Pure.

use super::partitions::Entry;

/// Outcome of a comparison.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Joined {
    /// Number of accepted events with a row.
    pub(super) stored: u64,
    /// Number of rows whose id was in no response.
    pub(super) unknown: u64,
    /// Ids of the first accepted events without a row.
    pub(super) missing: Vec<u128>,
    /// Number of accepted events without a row.
    pub(super) lost: u64,
    /// Number of rows that are not linked to the event that led to them.
    pub(super) mislinked: u64,
    /// Number of rows that hold something else than their events' requests say.
    pub(super) altered: u64,
}

/// Compares two sorted lists of entries and adds the outcome to `found`, with up to `keep_missing`
/// missing ids. Calls `stored` with the time of each response and of its row.
///
/// A row counts once, however often it is in `rows`, and matches one response only: a second response
/// with the same id counts as lost.
pub(super) fn join(
    accepted: &[Entry],
    rows: &[Entry],
    keep_missing: usize,
    found: &mut Joined,
    mut stored: impl FnMut(u64, u64),
) {
    let mut rows = rows.chunk_by(|a, b| a.id == b.id).map(|same| same[0]).peekable();
    for event in accepted {
        while rows.next_if(|row| row.id < event.id).is_some() {
            found.unknown += 1;
        }
        match rows.next_if(|row| row.id == event.id) {
            Some(row) => {
                found.stored += 1;
                found.mislinked += u64::from(event.link != 0 && row.link != event.link);
                found.altered += u64::from(event.digest != 0 && row.digest != event.digest);
                stored(event.at_ms, row.at_ms);
            }
            None => {
                found.lost += 1;
                if found.missing.len() < keep_missing {
                    found.missing.push(event.id);
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
        ids.iter().map(|id| Entry { id: *id, at_ms: 0, link: 0, digest: 0 }).collect()
    }

    #[test]
    fn distinguishes_lost_stored_and_unknown() {
        let mut found = Joined::default();
        let accepted = entries(&[1, 2, 4, 6]);
        let rows = entries(&[0, 2, 3, 4, 4, 9]);
        join(&accepted, &rows, 1, &mut found, |_, _| {});
        assert_eq!(
            found,
            Joined { stored: 2, unknown: 3, missing: vec![1], lost: 2, ..Joined::default() }
        );
    }

    #[test]
    fn second_response_with_the_same_id_is_lost() {
        let mut found = Joined::default();
        join(&entries(&[7, 7]), &entries(&[7]), 9, &mut found, |_, _| {});
        assert_eq!((found.stored, found.lost), (1, 1));
    }

    #[test]
    fn counts_rows_that_are_linked_to_another_event() {
        let entry = |id, link| Entry { id, at_ms: 0, link, digest: 0 };
        let accepted = [entry(1, 0), entry(2, 1), entry(3, 1), entry(4, 1), entry(5, 1)];
        let rows = [entry(1, 9), entry(2, 1), entry(3, 2), entry(4, 0)];
        let mut found = Joined::default();
        join(&accepted, &rows, 9, &mut found, |_, _| {});
        assert_eq!((found.stored, found.lost, found.mislinked), (4, 1, 2));
    }

    #[test]
    fn counts_rows_that_hold_something_else() {
        let entry = |id, digest| Entry { id, at_ms: 0, link: 0, digest };
        let accepted = [entry(1, 0), entry(2, 7), entry(3, 7), entry(4, 7)];
        let rows = [entry(1, 9), entry(2, 7), entry(3, 8)];
        let mut found = Joined::default();
        join(&accepted, &rows, 9, &mut found, |_, _| {});
        assert_eq!((found.stored, found.lost, found.altered), (3, 1, 1));
    }

    #[test]
    fn passes_on_the_times_of_response_and_first_row() {
        let mut times = Vec::new();
        let entry = |at_ms| Entry { id: 1, at_ms, link: 0, digest: 0 };
        let (accepted, rows) = ([entry(5)], [entry(9), entry(20)]);
        join(&accepted, &rows, 0, &mut Joined::default(), |a, b| times.push((a, b)));
        assert_eq!(times, [(5, 9)]);
    }

    proptest! {
        #[test]
        fn matches_set_arithmetic(
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
