//! Metrics of an invocation, as a log line in CloudWatch's embedded metric format, which needs no API
//! call: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use jiff::Timestamp;
use serde_json::json;

use super::StreamRecord;

/// The metrics of an invocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMetrics<'a> {
    /// The CloudWatch namespace, `METRICS_NAMESPACE`; each deployment has its own.
    pub namespace: &'a str,
    /// The function's name, which is the metrics' dimension.
    pub function: &'static str,
    /// The Kinesis records received.
    pub records: &'a [StreamRecord],
    /// User records written to the failure store.
    pub failures: usize,
    /// Records reported for retry.
    pub retries: usize,
    /// Repeated events that differ from the stored one in a field that must not change; `None` for a
    /// function that stores no events.
    pub differing_repeats: Option<usize>,
}

impl BatchMetrics<'_> {
    /// Formats the log line of an invocation that ends at `now`.
    pub fn to_emf(&self, now: Timestamp) -> String {
        let oldest = self.records.iter().map(|record| record.arrived_at).min().unwrap_or(now);
        let mut line = json!({
            "_aws": {
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": self.namespace,
                    "Dimensions": [["Function"]],
                    "Metrics": [
                        {"Name": "Records", "Unit": "Count"},
                        {"Name": "Failures", "Unit": "Count"},
                        {"Name": "Retries", "Unit": "Count"},
                        {"Name": "OldestRecordAge", "Unit": "Milliseconds"},
                    ],
                }],
            },
            "Function": self.function,
            "Records": self.records.len(),
            "Failures": self.failures,
            "Retries": self.retries,
            "OldestRecordAge": now.as_millisecond() - oldest.as_millisecond(),
        });
        if let Some(count) = self.differing_repeats {
            let metric = json!({"Name": "DifferingRepeats", "Unit": "Count"});
            line["DifferingRepeats"] = json!(count);
            if let Some(metrics) = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array_mut() {
                metrics.push(metric);
            }
        }
        line.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(arrived_at_ms: i64) -> StreamRecord {
        StreamRecord {
            stream_arn: String::new(),
            shard_id: String::new(),
            sequence_number: String::new(),
            partition_key: String::new(),
            arrived_at: Timestamp::from_millisecond(arrived_at_ms).unwrap(),
            data: bytes::Bytes::new(),
        }
    }

    #[test]
    fn every_declared_metric_has_a_value() {
        let records = [20, 10, 30].map(record);
        for (differing_repeats, count) in [(Some(5), 5), (None, 4)] {
            let metrics = BatchMetrics {
                namespace: "adtrack/test",
                function: "f",
                records: &records,
                failures: 2,
                retries: 1,
                differing_repeats,
            };
            let now = Timestamp::from_millisecond(50).unwrap();
            let line: serde_json::Value = serde_json::from_str(&metrics.to_emf(now)).unwrap();
            assert_eq!((&line["Records"], &line["OldestRecordAge"]), (&json!(3), &json!(40)));
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            assert_eq!(directive["Namespace"], "adtrack/test");
            let names = directive["Metrics"].as_array().unwrap();
            assert_eq!(names.len(), count);
            for metric in names {
                assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
            }
            assert_eq!(line[directive["Dimensions"][0][0].as_str().unwrap()], "f");
        }
    }
}
