//! Decodes a Kinesis record's bytes into an update. Pure.

use adtrack_proto::Version;
use adtrack_proto::program::{CoreData, Update};

/// Decodes the update in `data`. Its version is its record's place in the stream. The error says why it
/// can never be stored.
pub fn decode(data: &[u8], epoch: u64, sequence_number: &str) -> Result<Update, String> {
    let core_data = CoreData::from_json(data).map_err(|error| error.to_string())?;
    let version = Version::new(epoch, sequence_number).map_err(|error| error.to_string())?;
    Ok(Update { version, core_data })
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
        let error = decode(br#"{"programId":"p"}"#, 0, "1").unwrap_err();
        assert_eq!(error, "member `programName` is missing");
        let error = decode(br#"{"programId":"p","deleted":true}"#, 0, "x").unwrap_err();
        assert!(error.contains("EPOCH.SEQUENCE"), "{error}");
    }
}
