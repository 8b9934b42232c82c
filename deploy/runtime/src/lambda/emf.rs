//! Metrics of an invocation as a log line in CloudWatch's embedded metric format, which costs no
//! call: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use jiff::Timestamp;
use serde_json::json;

/// What an invocation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMetrics {
    /// The function: the metrics' dimension.
    pub function: &'static str,
    /// Kinesis records received.
    pub records: usize,
    /// User records written to the failure store.
    pub failures: usize,
    /// Records reported for retry.
    pub retries: usize,
    /// Events that repeat one which is stored, and differ from it in what counts; none for a function
    /// that stores no events.
    pub differing_repeats: Option<usize>,
    /// Age of the oldest record of the batch when the invocation ended, in milliseconds.
    pub oldest_age_ms: i64,
}

impl BatchMetrics {
    /// The log line.
    pub fn to_emf(&self, now: Timestamp) -> String {
        let metrics = [
            ("Records", "Count", Some(json!(self.records))),
            ("Failures", "Count", Some(json!(self.failures))),
            ("Retries", "Count", Some(json!(self.retries))),
            ("DifferingRepeats", "Count", self.differing_repeats.map(|count| json!(count))),
            ("OldestRecordAge", "Milliseconds", Some(json!(self.oldest_age_ms))),
        ];
        let given = metrics.iter().filter(|(_, _, value)| value.is_some());
        let names: Vec<_> =
            given.map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        let mut line = json!({
            "_aws": {
                "Timestamp": now.as_millisecond(),
                "CloudWatchMetrics": [{
                    "Namespace": "adtrack",
                    "Dimensions": [["Function"]],
                    "Metrics": names,
                }],
            },
            "Function": self.function,
        });
        for (name, _, value) in metrics {
            if let Some(value) = value {
                line[name] = value;
            }
        }
        line.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_named_has_its_value() {
        for (differing_repeats, count) in [(Some(5), 5), (None, 4)] {
            let metrics = BatchMetrics {
                function: "f",
                records: 3,
                failures: 2,
                retries: 1,
                differing_repeats,
                oldest_age_ms: 40,
            };
            let line: serde_json::Value =
                serde_json::from_str(&metrics.to_emf(Timestamp::UNIX_EPOCH)).unwrap();
            let directive = &line["_aws"]["CloudWatchMetrics"][0];
            let names = directive["Metrics"].as_array().unwrap();
            assert_eq!(names.len(), count);
            for metric in names {
                assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
            }
            assert_eq!(line[directive["Dimensions"][0][0].as_str().unwrap()], "f");
        }
    }
}
