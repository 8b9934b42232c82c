//! Decides which records go into the next call. Pure.
//!
//! `PutRecords` keeps no order, and concurrent calls overtake each other. So a program has at most one
//! record in flight; its other records wait for the acknowledgement, in their order.

use std::collections::{HashSet, VecDeque};

use adtrack_proto::ProgramId;

use super::spool::SpooledRecord;

/// Records per `PutRecords` call: as many as Kinesis accepts.
pub const MAX_BATCH_RECORDS: usize = 500;
/// Bytes of data and partition keys per `PutRecords` call. Kinesis accepts 5 MiB; a batch of typical
/// records is about a tenth of this limit.
pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Maximum number of records that wait for another record of their program. With so many, the outbox reads no
/// further until some are sent.
const MAX_WAITING: usize = 5_000;

/// The records still to send.
pub struct Outbox<I> {
    source: I,
    waiting: VecDeque<SpooledRecord>,
    in_flight: HashSet<ProgramId>,
}

/// A batch under construction.
#[derive(Default)]
struct Batch {
    records: Vec<SpooledRecord>,
    bytes: usize,
}

impl Batch {
    fn has_room_for(&self, record: &SpooledRecord) -> bool {
        self.records.len() < MAX_BATCH_RECORDS && self.bytes + bytes(record) <= MAX_BATCH_BYTES
    }

    fn push(&mut self, record: SpooledRecord) {
        self.bytes += bytes(&record);
        self.records.push(record);
    }
}

fn bytes(record: &SpooledRecord) -> usize {
    record.program_id.as_str().len() + record.json.len()
}

impl<E, I: Iterator<Item = Result<SpooledRecord, E>>> Outbox<I> {
    /// Sends everything in `source`, each program's records in order.
    pub fn new(source: I) -> Self {
        Self { source, waiting: VecDeque::new(), in_flight: HashSet::new() }
    }

    /// Returns the next batch and marks its programs as in flight. It is empty at the end, and while every
    /// remaining record waits for one in flight.
    pub fn next_batch(&mut self) -> Result<Vec<SpooledRecord>, E> {
        let mut batch = Batch::default();
        let mut full = false;
        let mut still_waiting = VecDeque::new();
        while let Some(record) = self.waiting.pop_front() {
            if !batch.has_room_for(&record) {
                self.waiting.push_front(record);
                full = true;
                break;
            }
            if self.in_flight.insert(record.program_id.clone()) {
                batch.push(record);
            } else {
                still_waiting.push_back(record);
            }
        }
        still_waiting.append(&mut self.waiting);
        self.waiting = still_waiting;
        // If the batch is full, records are waiting that could be sent: new ones must not overtake them.
        while !full && self.waiting.len() < MAX_WAITING {
            let Some(record) = self.source.next() else { break };
            let record = record?;
            full = !batch.has_room_for(&record);
            if !full && self.in_flight.insert(record.program_id.clone()) {
                batch.push(record);
            } else {
                self.waiting.push_back(record);
            }
        }
        Ok(batch.records)
    }

    /// Records that the stream has acknowledged the program's record in flight.
    pub fn acknowledge(&mut self, program_id: &ProgramId) {
        self.in_flight.remove(program_id);
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn record(program: usize, number: usize, padding: usize) -> SpooledRecord {
        let json = format!("{number} {}", "x".repeat(padding));
        SpooledRecord { program_id: ProgramId::parse(&format!("p{program}")).unwrap(), json }
    }

    #[test]
    fn bounds_a_batch_in_records_and_bytes() {
        let small = (0..1_200).map(|n| Ok::<_, Infallible>(record(n, n, 10)));
        let mut outbox = Outbox::new(small);
        let sizes: Vec<usize> = (0..4).map(|_| outbox.next_batch().unwrap().len()).collect();
        assert_eq!(sizes, [500, 500, 200, 0]);
        let large = (0..10).map(|n| Ok::<_, Infallible>(record(n, n, MAX_BATCH_BYTES / 3)));
        let mut outbox = Outbox::new(large);
        assert_eq!(outbox.next_batch().unwrap().len(), 2);
    }

    #[test]
    fn holds_back_only_further_records_of_a_program_in_flight() {
        let records = [(0, 0), (0, 1), (1, 2), (0, 3)];
        let records = records.map(|(program, n)| Ok::<_, Infallible>(record(program, n, 0)));
        let mut outbox = Outbox::new(records.into_iter());
        let mut numbers = |acknowledged: Option<usize>| {
            if let Some(program) = acknowledged {
                outbox.acknowledge(&record(program, 0, 0).program_id);
            }
            let batch = outbox.next_batch().unwrap();
            batch.into_iter().map(|record| record.json.trim().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(None), ["0", "2"]);
        assert!(numbers(None).is_empty());
        assert!(numbers(Some(1)).is_empty());
        assert_eq!(numbers(Some(0)), ["1"]);
        assert_eq!(numbers(Some(0)), ["3"]);
        assert!(numbers(Some(0)).is_empty());
    }

    proptest! {
        /// Batches are acknowledged in an arbitrary order.
        #[test]
        fn sends_every_record_once_in_its_programs_order_and_one_at_a_time(
            programs in prop::collection::vec((0_usize..40, prop::sample::select(vec![0, 0, 0, MAX_BATCH_BYTES / 3])), 0..80),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 200),
        ) {
            let records: Vec<SpooledRecord> = programs
                .iter()
                .enumerate()
                .map(|(number, (program, padding))| record(*program, number, *padding))
                .collect();
            let mut outbox = Outbox::new(records.iter().cloned().map(Ok::<_, Infallible>));
            let mut in_flight: Vec<Vec<SpooledRecord>> = Vec::new();
            let mut sent: Vec<SpooledRecord> = Vec::new();
            let mut picks = picks.iter().cycle();
            loop {
                let batch = outbox.next_batch().unwrap();
                if batch.is_empty() && in_flight.is_empty() {
                    break;
                }
                for record in &batch {
                    let id = &record.program_id;
                    prop_assert!(!in_flight.iter().flatten().any(|other| other.program_id == *id));
                }
                let ids: HashSet<_> = batch.iter().map(|record| &record.program_id).collect();
                prop_assert_eq!(ids.len(), batch.len());
                sent.extend(batch.iter().cloned());
                if !batch.is_empty() {
                    in_flight.push(batch);
                }
                if in_flight.len() == 3 || picks.next().unwrap().index(2) == 0 {
                    let done = in_flight.swap_remove(picks.next().unwrap().index(in_flight.len()));
                    done.iter().for_each(|record| outbox.acknowledge(&record.program_id));
                }
            }
            prop_assert_eq!(sent.len(), records.len());
            for program in 0..40 {
                let of_program = |records: &[SpooledRecord]| -> Vec<SpooledRecord> {
                    let id = format!("p{program}");
                    records.iter().filter(|r| r.program_id.as_str() == id).cloned().collect()
                };
                prop_assert_eq!(of_program(&sent), of_program(&records));
            }
        }
    }
}
