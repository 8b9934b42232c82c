//! The stack under test, with everything that the machine needs to disturb and to observe it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use local_stack::faults::Fault as CallFault;
use local_stack::process::Process;
use local_stack::stack::EVENT_STREAM;
use local_stack::tcp_proxy::TcpProxy;
use local_stack::{Stack, StackOptions};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::watch;

use crate::plan::{Service, TRACKERS};

/// How long a tracker may drain after a signal: shorter than many outages, so that it has to spill.
pub const GRACE_SECONDS: u64 = 2;
/// Connections that a tracker serves at a time.
pub const MAX_CONNECTIONS: usize = 300;
/// File handles of a tracker: those of its connections, and the reserve that it keeps for everything else.
const MAX_HANDLES: u64 = MAX_CONNECTIONS as u64 + 256;
/// The folders of the trackers' journals.
pub const JOURNALS: [&str; TRACKERS] = ["journal", "journal-2"];

pub struct Rig {
    pub stack: tokio::sync::Mutex<Stack>,
    pub kinesis: aws_sdk_kinesis::Client,
    pub dynamodb: aws_sdk_dynamodb::Client,
    pub folder: PathBuf,
    pub binaries: PathBuf,
    /// A proxy in front of each tracker.
    pub clients: Vec<TcpProxy>,
    /// The log of each tracker.
    pub logs: Vec<Log>,
    /// Held while a fault stops a tracker's process. Starting it again may last longer than planned.
    pub processes: Vec<tokio::sync::Mutex<()>>,
    /// Held while a shard is split or two are merged: which ones is read first.
    pub resharding: tokio::sync::Mutex<()>,
    /// The files of a tracker's journal.
    pub journal_files: BTreeSet<String>,
    /// What goes wrong with calls at the moment, by number of the fault.
    calls: Mutex<Vec<(u64, Service, CallFault, f64)>>,
    /// The records that can never be processed, since the last check: the function that keeps them, and their data,
    /// as text as far as it is.
    pub poison: Mutex<Vec<(&'static str, String)>>,
    /// Problems noticed before the check.
    pub problems: Mutex<Vec<String>>,
}

/// A log that is a small pipe. A task copies it to a file, unless nobody is to read it.
pub struct Log {
    is_read: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub async fn start(folder: &Path) -> Arc<Self> {
        // Idle clients, and the servers of all others, are in this process.
        let limit = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit }).unwrap();
        let binaries = Path::new(env!("CARGO_BIN_EXE_local-stack")).parent().unwrap().to_owned();
        for name in ["spill", "tmp", "logs"] {
            std::fs::create_dir_all(folder.join(name)).unwrap();
        }
        let logs = ["tracker", "tracker-2"].map(|name| Log::start(&folder.join("logs"), name));
        let settings = [
            // So that a tracker soon asks Redis again whether it holds something newer.
            ("CACHE_TTL_SECONDS", "4".to_owned()),
            ("JOURNAL_MAX_BYTES", (32 << 20).to_string()),
            ("MAX_CONNECTIONS", MAX_CONNECTIONS.to_string()),
            ("SHUTDOWN_GRACE_SECONDS", GRACE_SECONDS.to_string()),
            ("SPILL_URL", format!("file://{}", folder.join("spill").display())),
            ("TMPDIR", folder.join("tmp").display().to_string()),
        ];
        let options = StackOptions {
            faults: true,
            tracker_environment: Some(
                settings.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            ),
            trackers: TRACKERS,
            // Few, so that a program's rows are in one that can be hot.
            index_buckets: Some(1),
            ..StackOptions::new(&binaries, folder)
        };
        let mut stack = Stack::start(&options).await.unwrap();
        let mut clients = Vec::new();
        for tracker in stack.trackers() {
            limit_handles(tracker.process());
            let address = tracker.public_url().strip_prefix("http://").unwrap();
            clients.push(TcpProxy::start(address.parse().unwrap()).await.unwrap());
        }
        Arc::new(Self {
            kinesis: stack.kinesis().await,
            dynamodb: stack.dynamodb().await,
            stack: tokio::sync::Mutex::new(stack),
            folder: folder.to_owned(),
            binaries,
            clients,
            logs: logs.into(),
            resharding: tokio::sync::Mutex::default(),
            processes: (0..TRACKERS).map(|_| tokio::sync::Mutex::default()).collect(),
            journal_files: names(&folder.join(JOURNALS[0])),
            calls: Mutex::default(),
            poison: Mutex::default(),
            problems: Mutex::default(),
        })
    }

    /// The trackers' public URLs, through the proxies.
    pub fn urls(&self) -> Vec<String> {
        self.clients.iter().map(|proxy| format!("http://{}", proxy.address)).collect()
    }

    pub async fn management_urls(&self) -> Vec<String> {
        let mut stack = self.stack.lock().await;
        stack.trackers().iter().map(|tracker| tracker.management_url().to_owned()).collect()
    }

    /// Starts a tracker again after it has ended. Does not wait until it serves.
    pub async fn launch(&self, tracker: usize) {
        let mut stack = self.stack.lock().await;
        stack.trackers()[tracker].launch_again().unwrap();
        limit_handles(stack.trackers()[tracker].process());
    }

    /// Whether a tracker serves, which it does only with its journal open.
    pub async fn has_opened_journal(&self, tracker: usize) -> bool {
        let (url, id) = {
            let mut stack = self.stack.lock().await;
            let tracker = &mut stack.trackers()[tracker];
            (format!("{}/health/live", tracker.management_url()), tracker.process().id())
        };
        let response = client().get(url).send().await;
        let Ok(response) = response else { return false };
        let live: serde_json::Value = response.json().await.unwrap_or_default();
        id.is_some() && live["processId"].as_u64() == id.map(u64::from)
    }

    pub fn report(&self, problem: impl Into<String>) {
        self.problems.lock().unwrap().push(problem.into());
    }

    /// Adds a fault of calls to those that other faults have set.
    pub async fn add_call_fault(
        &self,
        number: u64,
        service: Service,
        fault: CallFault,
        share: f64,
    ) {
        self.calls.lock().unwrap().push((number, service, fault, share));
        self.set_call_faults().await;
    }

    pub async fn remove_call_fault(&self, number: u64) {
        self.calls.lock().unwrap().retain(|(other, ..)| *other != number);
        self.set_call_faults().await;
    }

    async fn set_call_faults(&self) {
        let stack = self.stack.lock().await;
        let faults = stack.faults.as_ref().unwrap();
        for (proxy, of) in
            [(&faults.kinesis, Service::Kinesis), (&faults.dynamodb, Service::DynamoDb)]
        {
            let calls = self.calls.lock().unwrap();
            let calls = calls.iter().filter(|(_, service, ..)| *service == of);
            proxy.set(&calls.map(|(_, _, fault, share)| (*fault, *share)).collect::<Vec<_>>());
        }
    }

    /// Puts a record on a stream that can never be processed.
    pub async fn put_poison(&self, stream: &str, key: &str, data: Vec<u8>) {
        let functions = if stream == EVENT_STREAM {
            &["kinesis-consumer", "archiver"][..]
        } else {
            &["redis-updater"]
        };
        let text = String::from_utf8_lossy(&data);
        let poison = functions.iter().map(|function| (*function, text.clone().into_owned()));
        self.poison.lock().unwrap().extend(poison);
        self.put(stream, key, data).await;
    }

    /// Puts a record on a stream, not through the proxy.
    pub async fn put(&self, stream: &str, key: &str, data: Vec<u8>) {
        let put = self.kinesis.put_record().stream_name(stream).partition_key(key);
        put.data(Blob::new(data)).send().await.unwrap();
    }
}

/// A client of the management listeners.
pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build().unwrap()
}

fn limit_handles(process: &Process) {
    let Some(id) = process.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)) else { return };
    let limit = Rlimit { current: Some(MAX_HANDLES), maximum: Some(MAX_HANDLES) };
    prlimit(Some(id), Resource::Nofile, limit).unwrap();
}

impl Log {
    fn start(folder: &Path, name: &str) -> Self {
        let path = folder.join(format!("{name}.log"));
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let mut pipe = pipe::OpenOptions::new().read_write(true).open_receiver(&path).unwrap();
        fcntl_setpipe_size(&pipe, 4_096).unwrap();
        let copy = folder.join(format!("{name}.txt"));
        let (is_read, mut gate) = watch::channel(true);
        let task = tokio::spawn(async move {
            let mut copy = tokio::fs::File::create(copy).await.unwrap();
            let mut buffer = vec![0; 4_096];
            while gate.wait_for(|is_read| *is_read).await.is_ok() {
                let length = pipe.read(&mut buffer).await.unwrap();
                copy.write_all(&buffer[..length]).await.unwrap();
                copy.flush().await.unwrap();
            }
        });
        Self { is_read, task }
    }

    pub fn read(&self, is_read: bool) {
        self.is_read.send_replace(is_read);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// All files below `folder`.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(self::files(&entry.path())),
            _ => files.push(entry.path()),
        }
    }
    files
}

/// The names of the files in `folder`.
pub fn names(folder: &Path) -> BTreeSet<String> {
    let names = files(folder).into_iter();
    names.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect()
}
