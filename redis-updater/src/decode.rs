//! From a Kinesis record to an update. Pure.

use adtrack_proto::Version;
use adtrack_proto::program::{CoreData, Update};
use adtrack_runtime::lambda::{PoisonRecord, StreamRecord};

/// The update that `record` carries; its version is the record's place in the stream.
pub fn decode(record: &StreamRecord, epoch: u64) -> Result<Update, PoisonRecord> {
    let update = || -> Result<Update, String> {
        let core_data = CoreData::from_json(&record.data).map_err(|error| error.to_string())?;
        let version =
            Version::new(epoch, &record.sequence_number).map_err(|error| error.to_string())?;
        Ok(Update { version, core_data })
    };
    update().map_err(|reason| PoisonRecord {
        carrier: record.clone(),
        sub_sequence_number: 0,
        data: record.data.clone(),
        reason,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(data: &'static str) -> StreamRecord {
        StreamRecord {
            stream_arn: String::new(),
            shard_id: String::new(),
            sequence_number: "4959".into(),
            partition_key: String::new(),
            arrived_at: jiff::Timestamp::UNIX_EPOCH,
            data: data.into(),
        }
    }

    #[test]
    fn the_sequence_number_is_the_version() {
        let update = decode(&record(r#"{"programId":"p","deleted":true}"#), 3).unwrap();
        assert_eq!(update.version.to_string(), "3.4959");
        assert_eq!(update.core_data.program_id().as_str(), "p");
    }

    #[test]
    fn what_is_no_core_data_is_poison_and_whole() {
        let poison = decode(&record("{\"programId\":\"p\"}"), 0).unwrap_err();
        assert_eq!(poison.data, "{\"programId\":\"p\"}");
        assert_eq!(poison.reason, "member `programName` is missing");
    }
}
