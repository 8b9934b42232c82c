//! The event that a function gets for a batch, and the meaning of its response. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

/// A record that a mapping has read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Sequence number, unique in the stream.
    pub sequence_number: String,
    /// Partition key, set by the producer.
    pub partition_key: String,
    /// Data, not encoded.
    pub data: Vec<u8>,
    /// Time of arrival, seconds since the Unix epoch with milliseconds as a fraction.
    pub arrived_at: f64,
}

impl Record {
    /// Upper estimate of the record's size in the payload.
    pub fn payload_bytes(&self) -> usize {
        self.data.len().div_ceil(3) * 4 + self.partition_key.len() + 600
    }
}

/// The event that the function gets, as JSON.
pub fn payload(stream_arn: &str, shard_id: &str, records: &[Record]) -> Vec<u8> {
    let records: Vec<_> = records
        .iter()
        .map(|record| {
            json!({
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": record.partition_key,
                    "sequenceNumber": record.sequence_number,
                    "data": STANDARD.encode(&record.data),
                    "approximateArrivalTimestamp": record.arrived_at,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": format!("{shard_id}:{}", record.sequence_number),
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/local",
                "awsRegion": crate::aws::REGION,
                "eventSourceARN": stream_arn,
            })
        })
        .collect();
    json!({ "Records": records }).to_string().into_bytes()
}

/// The outcome of a batch, as the function's response states it.
#[derive(Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// The whole batch is done.
    Done,
    /// The records before this index are done; this one and the following ones have to be retried.
    RetryFrom(usize),
    /// The whole batch has to be retried.
    RetryAll,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionResponse {
    batch_item_failures: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: Option<String>,
}

/// Interprets a function's response as AWS does with `ReportBatchItemFailures`. An empty response, `null`
/// and an empty list mean success. The retry starts at the earliest of the reported records. If an
/// identifier is not a record of the batch, the whole batch has failed.
pub fn batch_outcome(response: &[u8], records: &[Record]) -> BatchOutcome {
    if response.trim_ascii().is_empty() {
        return BatchOutcome::Done;
    }
    let failures = match serde_json::from_slice::<Option<FunctionResponse>>(response) {
        Ok(Some(FunctionResponse { batch_item_failures: Some(failures) })) => failures,
        Ok(_) => return BatchOutcome::Done,
        Err(_) => return BatchOutcome::RetryAll,
    };
    let position = |failure: &Failure| {
        let identifier = failure.item_identifier.as_deref()?;
        records.iter().position(|record| record.sequence_number == identifier)
    };
    let positions: Option<Vec<usize>> = failures.iter().map(position).collect();
    match positions {
        Some(positions) => {
            positions.into_iter().min().map_or(BatchOutcome::Done, BatchOutcome::RetryFrom)
        }
        None => BatchOutcome::RetryAll,
    }
}

/// Number of `records`, from the first, that fit into one invocation; at least 1 if there are any.
pub fn count_fitting(records: &[Record], batch_size: usize, max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take(batch_size).take_while(|record| {
        bytes += record.payload_bytes();
        bytes <= max_bytes
    });
    // A record that is too large on its own would otherwise block the shard.
    fitting.count().max(1).min(records.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(sequence_numbers: &[&str]) -> Vec<Record> {
        sequence_numbers
            .iter()
            .map(|number| Record {
                sequence_number: (*number).to_owned(),
                partition_key: "k".to_owned(),
                data: b"Hi".to_vec(),
                arrived_at: 1.5,
            })
            .collect()
    }

    #[test]
    fn accepts_a_response_without_failures() {
        for response in
            ["", " ", "null", "{}", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#]
        {
            assert_eq!(
                batch_outcome(response.as_bytes(), &records(&["1"])),
                BatchOutcome::Done,
                "{response}"
            );
        }
    }

    #[test]
    fn retries_from_the_lowest_failure() {
        let response = br#"{"batchItemFailures":[{"itemIdentifier":"12"},{"itemIdentifier":"9"}]}"#;
        assert_eq!(
            batch_outcome(response, &records(&["8", "9", "12"])),
            BatchOutcome::RetryFrom(1)
        );
    }

    #[test]
    fn retries_the_batch_if_an_identifier_is_unknown() {
        for response in [
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"wrong":"1"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"77"}]}"#,
            "[]x",
        ] {
            assert_eq!(
                batch_outcome(response.as_bytes(), &records(&["1"])),
                BatchOutcome::RetryAll,
                "{response}"
            );
        }
    }

    #[test]
    fn limits_the_number_and_size_of_records() {
        let records = records(&["1", "2", "3", "4"]);
        let one = records[0].payload_bytes();
        assert_eq!(count_fitting(&records, 10, usize::MAX), 4);
        assert_eq!(count_fitting(&records, 3, usize::MAX), 3);
        assert_eq!(count_fitting(&records, 10, 2 * one), 2);
        assert_eq!(count_fitting(&records, 10, 1), 1);
        assert_eq!(count_fitting(&[], 10, 1), 0);
    }
}
