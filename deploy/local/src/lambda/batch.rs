//! What a batch looks like to the function, and what its answer means. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

/// A record that a mapping has read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Unique in the stream.
    pub sequence_number: String,
    /// What its producer gave it.
    pub partition_key: String,
    /// The payload.
    pub data: Vec<u8>,
    /// Seconds since the Unix epoch, with the milliseconds as fraction.
    pub arrived_at: f64,
}

impl Record {
    /// About how many bytes it takes in the payload.
    pub fn payload_bytes(&self) -> usize {
        self.data.len().div_ceil(3) * 4 + self.partition_key.len() + 600
    }
}

/// The event that the function gets.
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

/// What an answer says of its batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is done.
    Done,
    /// Everything before this record is done; it and what follows is to come again.
    RetryFrom(usize),
    /// Nothing is known to be done.
    RetryAll,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    batch_item_failures: Option<Vec<Failure>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: Option<String>,
}

/// Reads a function's answer as AWS does with `ReportBatchItemFailures`: no answer, `null` and an
/// empty list are success; the lowest sequence number reported is where the retry begins; an
/// identifier that is no record of the batch fails all of it.
pub fn verdict(answer: &[u8], records: &[Record]) -> Verdict {
    if answer.trim_ascii().is_empty() {
        return Verdict::Done;
    }
    let failures = match serde_json::from_slice::<Option<Answer>>(answer) {
        Ok(Some(Answer { batch_item_failures: Some(failures) })) => failures,
        Ok(_) => return Verdict::Done,
        Err(_) => return Verdict::RetryAll,
    };
    let position = |failure: &Failure| {
        let identifier = failure.item_identifier.as_deref()?;
        records.iter().position(|record| record.sequence_number == identifier)
    };
    let positions: Option<Vec<usize>> = failures.iter().map(position).collect();
    match positions {
        Some(positions) => positions.into_iter().min().map_or(Verdict::Done, Verdict::RetryFrom),
        None => Verdict::RetryAll,
    }
}

/// How many of `records`, from the first, one invocation may carry.
pub fn fitting(records: &[Record], batch_size: usize, max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fitting = records.iter().take(batch_size).take_while(|record| {
        bytes += record.payload_bytes();
        bytes <= max_bytes
    });
    // A record that is too large alone would never leave.
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
    fn an_answer_without_failures_is_success() {
        for answer in
            ["", " ", "null", "{}", r#"{"batchItemFailures":null}"#, r#"{"batchItemFailures":[]}"#]
        {
            assert_eq!(verdict(answer.as_bytes(), &records(&["1"])), Verdict::Done, "{answer}");
        }
    }

    #[test]
    fn the_lowest_failure_is_where_the_retry_begins() {
        let answer = br#"{"batchItemFailures":[{"itemIdentifier":"12"},{"itemIdentifier":"9"}]}"#;
        assert_eq!(verdict(answer, &records(&["8", "9", "12"])), Verdict::RetryFrom(1));
    }

    #[test]
    fn an_answer_that_names_no_record_fails_the_batch() {
        for answer in [
            r#"{"batchItemFailures":[{"itemIdentifier":""}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":null}]}"#,
            r#"{"batchItemFailures":[{"wrong":"1"}]}"#,
            r#"{"batchItemFailures":[{"itemIdentifier":"1"},{"itemIdentifier":"77"}]}"#,
            "[]x",
        ] {
            assert_eq!(verdict(answer.as_bytes(), &records(&["1"])), Verdict::RetryAll, "{answer}");
        }
    }

    #[test]
    fn a_payload_stays_below_its_limits() {
        let records = records(&["1", "2", "3", "4"]);
        let one = records[0].payload_bytes();
        assert_eq!(fitting(&records, 10, usize::MAX), 4);
        assert_eq!(fitting(&records, 3, usize::MAX), 3);
        assert_eq!(fitting(&records, 10, 2 * one), 2);
        assert_eq!(fitting(&records, 10, 1), 1);
        assert_eq!(fitting(&[], 10, 1), 0);
    }
}
