//! Rings that this version and the one before the copy of the header open in turn.

use super::earlier::EarlierRing;
use super::*;

#[test]
fn drains_a_ring_of_the_earlier_version_and_then_writes_the_copy() {
    let (_folder, path) = file();
    EarlierRing::create(&path, MIN_WORDS, BOOT);
    let mut earlier = EarlierRing::open(&path, BOOT).unwrap();
    let mut count = 0;
    while earlier.append(count, &payload(count, 40)) {
        count += 1;
    }
    earlier.close(&path);
    let last_page = read_words(&path)[COPY - 8..].to_vec();
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_words(&path)[COPY - 8..], last_page, "it is full of records");
    assert_eq!(read_all(&ring, ring.tail()), ((0..count).collect(), 0));
    ring.acknowledge(ring.head());
    // In the next lap, the last page is free.
    while ring.head() <= MIN_WORDS {
        ring.append(count, &payload(count, 40), false).unwrap();
        ring.acknowledge(ring.head());
    }
    ring.append(count, &payload(count, 40), false).unwrap();
    drop(ring);
    edit(&path, |words| words[..512].fill(0));
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, ring.tail()), (vec![count], 0), "the copy has the tail");
}

#[test]
fn recovers_a_ring_of_the_earlier_version_whose_first_page_is_gone() {
    let (_folder, path) = file();
    EarlierRing::create(&path, MIN_WORDS, BOOT);
    let mut earlier = EarlierRing::open(&path, BOOT).unwrap();
    (0..200).for_each(|number| assert!(earlier.append(number, &payload(number, 200))));
    earlier.close(&path);
    edit(&path, |words| words[..512].fill(0));
    let ring = Ring::open(&path, BOOT).unwrap();
    assert_eq!(read_all(&ring, ring.tail()), ((0..200).collect(), 0));
}

#[test]
fn recovers_a_ring_of_the_earlier_version_that_is_shortened() {
    let (_folder, path) = file();
    EarlierRing::create(&path, MIN_WORDS, BOOT);
    let mut earlier = EarlierRing::open(&path, BOOT).unwrap();
    // Into the second lap, where a record's place depends on the capacity.
    let mut number = 0;
    while earlier.append(number, &payload(number, 200)) {
        number += 1;
    }
    earlier.tail = earlier.read_all().unwrap()[99].1;
    while earlier.append(number, &payload(number, 200)) {
        number += 1;
    }
    earlier.close(&path);
    let length = std::fs::metadata(&path).unwrap().len();
    File::options().write(true).open(&path).unwrap().set_len(length - 8).unwrap();
    let ring = Ring::open(&path, BOOT).unwrap();
    let (numbers, damaged) = read_all(&ring, ring.tail());
    assert!(damaged <= 1 && !ring.is_whole());
    let last_of_lap = MIN_WORDS / record::words_of(200) - 1;
    let intact = (100..number).filter(|number| damaged == 0 || *number != last_of_lap);
    assert_eq!(numbers, intact.collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    /// Of so many that are read.
    Acknowledge(prop::sample::Index),
    /// The process ends, or the host does.
    Restart {
        earlier: bool,
        boots: bool,
    },
    /// Ends the process and zeroes the page.
    ZeroFirstPage,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        24 => (0..1_500_usize).prop_map(Step::Append),
        8 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        2 => any::<(bool, bool)>().prop_map(|(earlier, boots)| Step::Restart { earlier, boots }),
        1 => Just(Step::ZeroFirstPage),
    ]
}

/// A ring that either version has opened.
enum Opened {
    Now(Ring),
    Earlier(EarlierRing),
}

impl Opened {
    fn append(&mut self, number: u64, payload: &[u8]) -> bool {
        match self {
            Self::Now(ring) => ring.append(number, payload, false).is_ok(),
            Self::Earlier(ring) => ring.append(number, payload),
        }
    }

    /// Numbers and ends of what is not acknowledged.
    fn read(&self) -> Vec<(u64, u64)> {
        match self {
            Self::Earlier(ring) => ring.read_all().expect("nothing is damaged"),
            Self::Now(ring) => {
                let (mut position, mut found) = (ring.tail(), Vec::new());
                loop {
                    match ring.read(position) {
                        Read::Record(record, end) => {
                            found.push((record.accepted_at, end));
                            position = end;
                        }
                        Read::Empty => return found,
                        Read::Damaged(..) => panic!("nothing is damaged"),
                    }
                }
            }
        }
    }

    fn acknowledge(&mut self, position: u64) {
        match self {
            Self::Now(ring) => ring.acknowledge(position),
            Self::Earlier(ring) => ring.tail = position,
        }
    }

    fn close(self, path: &Path) {
        if let Self::Earlier(ring) = self {
            ring.close(path);
        }
    }
}

proptest! {
    /// Whichever versions open it in turn, and whether or not its first page is lost between, a ring gives back
    /// what is not acknowledged, in order. Without the page's tail it may give back more.
    #[test]
    fn loses_nothing_between_versions(steps in proptest::collection::vec(step(), 1..150)) {
        let (_folder, path) = file();
        EarlierRing::create(&path, MIN_WORDS, BOOT);
        let mut boot = BOOT;
        let mut ring = Opened::Now(Ring::open(&path, boot).unwrap());
        let (mut number, mut unacknowledged) = (0, VecDeque::new());
        for step in steps {
            match step {
                Step::Append(length) => {
                    if ring.append(number, &payload(number, length)) {
                        unacknowledged.push_back(number);
                        number += 1;
                    }
                    continue;
                }
                Step::Acknowledge(index) => {
                    let read = ring.read();
                    if let Some((last, end)) = read.get(index.index(read.len() + 1)) {
                        ring.acknowledge(*end);
                        unacknowledged.retain(|number| number > last);
                    }
                    continue;
                }
                Step::Restart { earlier, boots } => {
                    ring.close(&path);
                    boot += u64::from(boots);
                    ring = if earlier {
                        Opened::Earlier(EarlierRing::open(&path, boot).unwrap())
                    } else {
                        Opened::Now(Ring::open(&path, boot).unwrap())
                    };
                }
                Step::ZeroFirstPage => {
                    ring.close(&path);
                    edit(&path, |words| words[..512].fill(0));
                    prop_assert!(EarlierRing::open(&path, boot).is_none(), "refused, not lost");
                    ring = match Ring::open(&path, boot) {
                        Ok(ring) => Opened::Now(ring),
                        // Neither a record nor a copy: nothing is left to lose.
                        Err(error) => {
                            prop_assert!(matches!(error, RingError::Foreign), "{}", error);
                            prop_assert!(unacknowledged.is_empty());
                            return Ok(());
                        }
                    };
                }
            }
            let read: Vec<u64> = ring.read().into_iter().map(|(number, _)| number).collect();
            let expected = Vec::from(unacknowledged.clone());
            prop_assert!(read.ends_with(&expected), "{:?} {:?}", read, expected);
            prop_assert!(read.is_sorted());
            // What is delivered again is not acknowledged again yet.
            unacknowledged = read.into();
        }
    }
}
