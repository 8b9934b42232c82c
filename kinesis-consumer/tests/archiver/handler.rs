//! The function, invoked as Lambda does it, with an archive in a folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use adtrack_proto::failed_record::FailedRecord;
use adtrack_runtime::lambda::FailureStore;
use kinesis_consumer::archive::handler::{FUNCTION, Handler};
use kinesis_consumer::archive::store::Archive;
use local_stack::lambda::{Record, payload};
use tempfile::TempDir;

use super::*;

struct Function {
    handler: Handler,
    folder: TempDir,
}

impl Function {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = |name| format!("file://{}", folder.path().join(name).display());
        let failures = FailureStore::open(FUNCTION, &url("failed")).unwrap();
        let archive = Archive::open(&url("archive")).unwrap();
        Self { handler: Handler::new(archive, failures, "adtrack".to_owned()), folder }
    }

    /// Invokes the function; returns the sequence numbers that it reports.
    async fn invoke(&self, records: &[Record]) -> Vec<String> {
        self.invoke_within(records, Duration::from_secs(20)).await
    }

    async fn invoke_within(&self, records: &[Record], time: Duration) -> Vec<String> {
        let event = serde_json::from_slice(&payload("arn:stream", SHARD, records)).unwrap();
        let response = self.handler.handle(event, SystemTime::now() + time).await;
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// The archive's files below `kind`, by name, and their contents.
    fn files(&self, kind: &str) -> Vec<(PathBuf, Bytes)> {
        let mut files: Vec<_> = files(&self.path(kind))
            .into_iter()
            .map(|path| (path.clone(), std::fs::read(path).unwrap().into()))
            .collect();
        files.sort();
        files
    }

    /// A path within the archive.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("archive").join(name)
    }

    /// Puts a file in place of a folder of the archive, so that nothing can be put there.
    fn block(&self, folder: &str) {
        std::fs::create_dir_all(self.path(folder).parent().unwrap()).unwrap();
        std::fs::write(self.path(folder), "").unwrap();
    }

    fn unblock(&self, folder: &str) {
        std::fs::remove_file(self.path(folder)).unwrap();
    }

    fn failed_records(&self) -> Vec<FailedRecord> {
        let files = files(&self.folder.path().join("failed"));
        files
            .iter()
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect()
}

fn incoming(sequence_number: u32, data: Vec<u8>) -> Record {
    Record {
        sequence_number: sequence_number.to_string(),
        partition_key: RECEIPT.into(),
        data,
        arrived_at: 1_767_323_046.5,
    }
}

/// Records whose events are of two hours.
fn two_hours() -> [Record; 2] {
    let data = |id: &str, ms| event(id, RECEIVED_AT + ms).encode_to_vec();
    [incoming(1, data("a", 0)), incoming(2, data("b", HOUR))]
}

#[tokio::test]
async fn archives_a_batch_by_hour_with_receipts() {
    let function = Function::start();

    let reported = function.invoke(&two_hours()).await;

    assert_eq!(reported, Vec::<String>::new());
    let (raw, receipts) = (function.files("raw"), function.files("receipts"));
    let relative = |files: &[(PathBuf, Bytes)], kind: &str| -> Vec<PathBuf> {
        let of_kind = |(path, _): &(PathBuf, Bytes)| {
            path.strip_prefix(function.path(kind)).unwrap().to_owned()
        };
        files.iter().map(of_kind).collect()
    };
    assert_eq!(raw.len(), 2);
    assert_eq!(relative(&raw, "raw"), relative(&receipts, "receipts"), "the same names");
    let ids: Vec<_> = raw.iter().flat_map(|(_, file)| rows_of(file)).collect();
    let ids: Vec<_> = ids.iter().map(|row| row["message_id"].as_s().unwrap()).collect();
    assert_eq!(ids, ["a", "b"]);
}

#[tokio::test]
async fn a_redelivered_batch_replaces_its_files() {
    let function = Function::start();
    function.invoke(&two_hours()).await;
    let first = [function.files("raw"), function.files("receipts")];

    function.invoke(&two_hours()).await;

    assert_eq!([function.files("raw"), function.files("receipts")], first);
}

#[tokio::test]
async fn reports_all_and_writes_no_receipt_if_a_raw_file_cannot_be_put() {
    let function = Function::start();
    function.block("raw/dt=2026-01-02/hour=04");

    let reported = function.invoke(&two_hours()).await;

    assert_eq!(reported, ["1", "2"]);
    assert_eq!(function.files("receipts"), []);
    function.unblock("raw/dt=2026-01-02/hour=04");
    assert_eq!(function.invoke(&two_hours()).await, Vec::<String>::new());
    assert_eq!((function.files("raw").len(), function.files("receipts").len()), (2, 2));
}

#[tokio::test]
async fn reports_the_records_of_a_receipts_file_that_cannot_be_put() {
    let function = Function::start();
    function.block("receipts/dt=2026-01-02/hour=04");

    let reported = function.invoke(&two_hours()).await;

    assert_eq!(reported, ["2"]);
    assert_eq!(
        (function.files("raw").len(), function.files("receipts").len()),
        (2, 2),
        "one blocks"
    );
    function.unblock("receipts/dt=2026-01-02/hour=04");
    let rest = &two_hours()[1..];
    assert_eq!(function.invoke(rest).await, Vec::<String>::new());
    assert_eq!((function.files("raw").len(), function.files("receipts").len()), (3, 2));
}

#[tokio::test]
async fn reports_all_after_the_deadline() {
    let function = Function::start();

    let reported = function.invoke_within(&two_hours(), Duration::ZERO).await;

    assert_eq!(reported, ["1", "2"]);
}

#[tokio::test]
async fn reports_all_if_the_time_left_is_that_of_the_response() {
    let function = Function::start();

    let reported = function.invoke_within(&two_hours(), Duration::from_millis(400)).await;

    assert_eq!(reported, ["1", "2"]);
    assert_eq!(function.files("receipts"), []);
}

#[tokio::test]
async fn keeps_invalid_records_and_archives_the_others() {
    let function = Function::start();
    let batch = [
        incoming(1, b"\xff\xfe not protobuf".to_vec()),
        incoming(2, event("a", RECEIVED_AT).encode_to_vec()),
    ];

    for _ in 0..2 {
        assert_eq!(function.invoke(&batch).await, Vec::<String>::new(), "never reported");
    }

    let failed = function.failed_records();
    assert_eq!(failed.len(), 1, "redelivery replaces it");
    assert_eq!(
        (failed[0].function.as_str(), failed[0].sequence_number.as_str()),
        ("archiver", "1")
    );
    assert!(failed[0].reason.contains("not a TrackingEvent"), "{}", failed[0].reason);
    assert_eq!(function.files("raw").iter().flat_map(|(_, file)| rows_of(file)).count(), 1);
}

#[tokio::test]
async fn reports_only_the_invalid_record_if_it_cannot_be_kept() {
    let function = Function::start();
    std::fs::write(function.folder.path().join("failed/archiver"), "").unwrap();
    let batch = [
        incoming(1, event("a", RECEIVED_AT).encode_to_vec()),
        incoming(2, b"\xff\xfe not protobuf".to_vec()),
    ];

    assert_eq!(function.invoke(&batch).await, ["2"]);
    assert_eq!((function.files("raw").len(), function.files("receipts").len()), (1, 1));
}

#[tokio::test]
async fn an_empty_batch_writes_nothing() {
    let function = Function::start();

    assert_eq!(function.invoke(&[]).await, Vec::<String>::new());
    assert_eq!((function.files("raw"), function.files("receipts")), (vec![], vec![]));
}

/// Runs the program outside of Lambda; returns its exit status and what it says.
fn run(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_archiver"))
        .env_clear()
        .envs(settings.iter().copied())
        .output()
        .unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn an_invalid_setting_ends_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let valid = [("ARCHIVE_URL", url.as_str()), ("FAILED_RECORDS_URL", url.as_str())];
    for (settings, problem) in [
        (&valid[..1], "archiver: FAILED_RECORDS_URL is required and not set"),
        (&valid[1..], "archiver: ARCHIVE_URL is required and not set"),
        (
            &[("ARCHIVE_URL", "/tmp"), valid[1]],
            "archiver: ARCHIVE_URL=\"/tmp\": expected s3://BUCKET/PREFIX or file:///FOLDER",
        ),
        (
            &[("ARCHIVE_URL", "file:///dev/null/x"), valid[1]],
            "archiver: ARCHIVE_URL=\"file:///dev/null/x\":",
        ),
        (&valid[..], "archiver: AWS_LAMBDA_RUNTIME_API is not set"),
    ] {
        let (status, said) = run(settings);
        assert_eq!(status, Some(64), "{said}");
        assert!(said.starts_with(problem) && said.lines().count() == 1, "{said}");
    }
}
