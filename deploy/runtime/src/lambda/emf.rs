//! Metrics of an invocation as a log line in CloudWatch's embedded metric format, which costs no
//! call: <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use jiff::Timestamp;
use serde_json::json;

/// What an invocation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchMetrics<'a> {
    /// The metrics' namespace, `METRICS_NAMESPACE`: one deployment's own.
    pub namespace: &'a str,
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

impl BatchMetrics<'_> {
    /// The log line.
    pub fn to_emf(&self, now: Timestamp) -> String {
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
            "Records": self.records,
            "Failures": self.failures,
            "Retries": self.retries,
            "OldestRecordAge": self.oldest_age_ms,
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

    #[test]
    fn every_metric_named_has_its_value() {
        for (differing_repeats, count) in [(Some(5), 5), (None, 4)] {
            let metrics = BatchMetrics {
                namespace: "adtrack/test",
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
