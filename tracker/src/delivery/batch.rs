//! Which events go into one `PutRecords`, and which go again. Pure.

use crate::track::AcceptedEvent;

/// `PutRecords`' limit for records.
pub const MAX_RECORDS: usize = 500;
/// `PutRecords`' limit for the whole request: data and partition keys.
pub const MAX_BYTES: usize = 5 * 1024 * 1024;
/// A partition key: a UUID as text.
const PARTITION_KEY_BYTES: usize = 36;

/// The events of one `PutRecords`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The events, each a record.
    pub events: Vec<AcceptedEvent>,
    bytes: usize,
}

impl Batch {
    /// Takes the event, or gives it back where it does not fit.
    pub fn try_push(&mut self, event: AcceptedEvent) -> Result<(), AcceptedEvent> {
        let size = event.bytes.len() + PARTITION_KEY_BYTES;
        if self.events.len() == MAX_RECORDS || self.bytes + size > MAX_BYTES {
            return Err(event);
        }
        self.bytes += size;
        self.events.push(event);
        Ok(())
    }

    /// Whether it carries nothing.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Splits the events by the stream's answer, which has one entry for each, in their order:
    /// (acknowledged, failed). Where the answer is short, what it leaves out failed.
    pub fn split(self, acknowledged: &[bool]) -> (Vec<AcceptedEvent>, Self) {
        let mut taken = Vec::with_capacity(self.events.len());
        let mut failed = Self::default();
        for (position, event) in self.events.into_iter().enumerate() {
            if acknowledged.get(position) == Some(&true) {
                taken.push(event);
            } else {
                failed.bytes += event.bytes.len() + PARTITION_KEY_BYTES;
                failed.events.push(event);
            }
        }
        (taken, failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: u128, length: usize) -> AcceptedEvent {
        AcceptedEvent { message_id: uuid::Uuid::from_u128(number), bytes: vec![0; length].into() }
    }

    fn filled(length: usize) -> Batch {
        let mut batch = Batch::default();
        let mut number = 0;
        while batch.try_push(event(number, length)).is_ok() {
            number += 1;
        }
        batch
    }

    #[test]
    fn a_batch_ends_at_500_records_or_5_mib() {
        assert_eq!(filled(200).events.len(), 500);
        let large = filled(100_000);
        assert_eq!(large.events.len(), MAX_BYTES / 100_036);
        assert!(large.bytes <= MAX_BYTES);
    }

    #[test]
    fn only_what_failed_goes_again() {
        let mut batch = Batch::default();
        for number in 0..4 {
            batch.try_push(event(number, 10)).unwrap();
        }
        let (taken, failed) = batch.split(&[true, false, true]);
        assert_eq!(taken, [event(0, 10), event(2, 10)]);
        assert_eq!(failed.events, [event(1, 10), event(3, 10)]);
        assert_eq!(failed.bytes, 2 * (10 + PARTITION_KEY_BYTES));
    }
}
