//! Decodes a Kinesis record's bytes into an update. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use adtrack_proto::program::{CoreData, InvalidCoreData, Update, replaced_by};
use adtrack_proto::store_script::Bounds;
use adtrack_proto::{InvalidVersion, ProgramId, Version, sequence_number};
use adtrack_runtime::lambda::{Poison, StreamRecord, UserRecord};
use adtrack_runtime::redis_access::BoundedUpdate;
use jiff::Timestamp;

/// Why a record can never be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUpdate {
    /// Its data is invalid.
    #[error(transparent)]
    CoreData(#[from] InvalidCoreData),
    /// Its place in the stream is not a version.
    #[error(transparent)]
    Version(#[from] InvalidVersion),
}

/// Decodes the update in `data`. Its version is its record's place in the stream.
pub fn decode(data: &[u8], epoch: u64, sequence_number: &str) -> Result<Update, InvalidUpdate> {
    let core_data = CoreData::from_json(data)?;
    Ok(Update { version: Version::new(epoch, sequence_number)?, core_data })
}

/// The bounds of the versions that the stream can have given by `now`. Epochs are raised by one, and a
/// function with the next epoch may already run.
pub fn bounds_of_stream(records: &[StreamRecord], epoch: u64, now: Timestamp) -> Bounds {
    let seconds = |at: Timestamp| u64::try_from(at.as_second()).unwrap_or_default();
    let highest_sequence = records.last().and_then(|record| {
        let arrived_at = seconds(record.arrived_at);
        sequence_number::highest_possible(&record.sequence_number, arrived_at, seconds(now))
    });
    Bounds { highest_epoch: Some(epoch.saturating_add(1)), highest_sequence, replaces: None }
}

/// Decodes the update in `record`, with the bounds of its stream and the wrong version that it names, if any.
pub fn decode_bounded(
    record: &UserRecord<'_>,
    epoch: u64,
    of_stream: &Bounds,
) -> Result<BoundedUpdate, InvalidUpdate> {
    let update = decode(&record.data, epoch, &record.kinesis_record.sequence_number)?;
    let bounds = Bounds { replaces: replaced_by(&record.data), ..of_stream.clone() };
    Ok(BoundedUpdate { update, bounds })
}

/// The updates of a batch, each with the sequence number of its Kinesis record.
#[derive(Debug, Default)]
pub struct Updates {
    /// In the order of the stream.
    pub updates: Vec<BoundedUpdate>,
    /// The Kinesis record of each.
    pub sequence_numbers: Vec<String>,
}

impl Updates {
    /// Decodes the user records of a Kinesis record. They all have its place in the stream, and so the same
    /// version: of several that are about one program, only the last counts, as if each had a record of its own.
    pub fn add_record<'a>(
        &mut self,
        record: &'a StreamRecord,
        epoch: u64,
        of_stream: &Bounds,
        poison: &mut Poison<'a>,
    ) {
        let user_records = match UserRecord::all_of(record) {
            Ok(user_records) => user_records,
            Err(error) => return poison.add(&UserRecord::whole(record), error.to_string()),
        };
        let mut positions = HashMap::new();
        for user_record in user_records {
            match decode_bounded(&user_record, epoch, of_stream) {
                Ok(update) => match positions.entry(update.update.core_data.program_id().clone()) {
                    Entry::Occupied(known) => self.updates[*known.get()] = update,
                    Entry::Vacant(new) => {
                        new.insert(self.updates.len());
                        self.updates.push(update);
                        self.sequence_numbers.push(record.sequence_number.clone());
                    }
                },
                Err(error) => poison.add(&user_record, error.to_string()),
            }
        }
    }

    /// Programs with a member that may be a mistake, and what is suspicious about it.
    pub fn warnings(&self) -> impl Iterator<Item = (&ProgramId, String)> {
        self.updates.iter().filter_map(|BoundedUpdate { update, .. }| match &update.core_data {
            CoreData::Program(program) => Some((&program.program_id, program.warning()?)),
            CoreData::Deleted(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_version_from_epoch_and_sequence_number() {
        let update = decode(br#"{"programId":"p","deleted":true}"#, 3, "4959").unwrap();
        assert_eq!(update.version.to_string(), "3.4959");
        assert_eq!(update.core_data.program_id().as_str(), "p");
    }

    fn update_of(landing_url: &str) -> BoundedUpdate {
        let json = format!(
            r#"{{"programId":"p","programName":"n","checksum":"1","customerId":1,
            "customerName":"c","valid":true,"landingUrl":"{landing_url}"}}"#
        );
        decode(json.as_bytes(), 0, "1").unwrap().into()
    }

    #[test]
    fn warns_of_members_that_may_be_mistakes() {
        let links = ["https://shop.example/?c={click_id}", "https://shop.example/?c=[CLICKID]"];
        let updates = Updates { updates: links.map(update_of).into(), ..Updates::default() };
        let warnings: Vec<_> = updates.warnings().collect();
        let [(program, warning)] = &warnings[..] else { panic!("{warnings:?}") };
        assert_eq!(program.as_str(), "p");
        assert!(warning.contains("[CLICKID]"), "{warning}");
    }

    #[test]
    fn reports_why_a_record_is_invalid() {
        let error = decode(br#"{"programId":"p"}"#, 0, "1").unwrap_err().to_string();
        assert_eq!(error, "member `programName` is missing");
        let error = decode(br#"{"programId":"p","deleted":true}"#, 0, "x").unwrap_err().to_string();
        assert!(error.contains("EPOCH.SEQUENCE"), "{error}");
    }
}
