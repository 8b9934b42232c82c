//! Decodes a Kinesis record's bytes into an update. Pure.

use adtrack_proto::program::{CoreData, InvalidCoreData, Update};
use adtrack_proto::{InvalidVersion, Version};

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
