//! Decodes a Kinesis record's bytes into an update. Pure.

use adtrack_proto::program::{CoreData, InvalidCoreData, Update, replaced_by};
use adtrack_proto::store_script::Bounds;
use adtrack_proto::{InvalidVersion, Version, sequence_number};
use adtrack_runtime::lambda::StreamRecord;
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
    record: &StreamRecord,
    epoch: u64,
    of_stream: &Bounds,
) -> Result<BoundedUpdate, InvalidUpdate> {
    let update = decode(&record.data, epoch, &record.sequence_number)?;
    let bounds = Bounds { replaces: replaced_by(&record.data), ..of_stream.clone() };
    Ok(BoundedUpdate { update, bounds })
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

    #[test]
    fn reports_why_a_record_is_invalid() {
        let error = decode(br#"{"programId":"p"}"#, 0, "1").unwrap_err().to_string();
        assert_eq!(error, "member `programName` is missing");
        let error = decode(br#"{"programId":"p","deleted":true}"#, 0, "x").unwrap_err().to_string();
        assert!(error.contains("EPOCH.SEQUENCE"), "{error}");
    }
}
