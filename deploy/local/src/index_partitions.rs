//! A model of the write capacity of the index partitions in DynamoDB. Pure.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use serde_json::Value;

/// The partitions of the index `by-program`. Each takes a number of writes per second; an idle one takes
/// a second's worth at once.
///
/// If a partition of the index has no capacity, DynamoDB rejects the write to the table, even if the
/// table itself has capacity:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/gsi-throttling.html>.
#[derive(Debug, Default)]
pub struct IndexPartitions {
    partitions: BTreeMap<String, Partition>,
}

#[derive(Debug)]
struct Partition {
    capacity: f64,
    filled_at: Instant,
    entries: HashSet<String>,
    throttled: u64,
}

/// Outcome of the writes to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionWrites {
    /// Number of rows in the partition.
    pub taken: usize,
    /// Number of rejected writes.
    pub throttled: u64,
}

impl IndexPartitions {
    /// Whether the index has capacity at `now` for a request of a `BatchWriteItem` call. A request that
    /// changes no entry of the index needs none: a row that is not in the index, or the same row again.
    pub fn admits(&mut self, request: &Value, writes_per_second: f64, now: Instant) -> bool {
        let item = &request["PutRequest"]["Item"];
        let (Some(key), Some(id)) =
            (item["program_bucket"]["S"].as_str(), item["id"]["S"].as_str())
        else {
            return true;
        };
        let partition = self.partitions.entry(key.to_owned()).or_insert_with(|| Partition {
            capacity: writes_per_second,
            filled_at: now,
            entries: HashSet::new(),
            throttled: 0,
        });
        if partition.entries.contains(id) {
            return true;
        }
        let refill = now.duration_since(partition.filled_at).as_secs_f64() * writes_per_second;
        partition.capacity = (partition.capacity + refill).min(writes_per_second);
        partition.filled_at = now;
        if partition.capacity < 1.0 {
            partition.throttled += 1;
            return false;
        }
        partition.capacity -= 1.0;
        partition.entries.insert(id.to_owned());
        true
    }

    /// Outcome of the writes to each partition, by partition key.
    pub fn writes(&self) -> BTreeMap<String, PartitionWrites> {
        let writes = |partition: &Partition| PartitionWrites {
            taken: partition.entries.len(),
            throttled: partition.throttled,
        };
        self.partitions.iter().map(|(key, partition)| (key.clone(), writes(partition))).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn put(id: &str, partition: &str) -> Value {
        json!({"PutRequest": {"Item": {"id": {"S": id}, "program_bucket": {"S": partition}}}})
    }

    #[test]
    fn limits_each_partition_separately() {
        let mut index = IndexPartitions::default();
        let start = Instant::now();
        let mut admits = |id: &str, partition: &str, seconds: f64| {
            index.admits(&put(id, partition), 2.0, start + Duration::from_secs_f64(seconds))
        };
        assert_eq!(["a", "b", "c"].map(|id| admits(id, "hot", 0.0)), [true, true, false]);
        assert!(admits("d", "other", 0.0));
        assert!(admits("a", "hot", 0.0), "its entry exists");
        assert_eq!(["c", "e"].map(|id| admits(id, "hot", 0.5)), [true, false]);
        let unlisted = json!({"PutRequest": {"Item": {"id": {"S": "f"}}}});
        assert!(index.admits(&unlisted, 0.0, start));
        let writes = index.writes();
        assert_eq!(writes["hot"], PartitionWrites { taken: 3, throttled: 2 });
        assert_eq!(writes["other"], PartitionWrites { taken: 1, throttled: 0 });
    }
}
