//! The stack: starts its parts in order, and stops them in reverse order.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use crate::aws::{self, DUMMY_CREDENTIAL, EmbeddedServer, REGION};
use crate::faults::FaultProxy;
use crate::lambda::{EventSourceMapping, Function, FunctionSettings, MappingSettings};
use crate::ports::{self, Port};
use crate::process::{Process, own_binary};
use crate::tcp_proxy::TcpProxy;
use crate::tracker::{Tracker, http_client};
use crate::{RedisServer, StackError};

/// Name of the event stream.
pub const EVENT_STREAM: &str = "adtrack-events";
/// Name of the core-data stream.
pub const CORE_DATA_STREAM: &str = "adtrack-core-data";
/// Name of the table of events.
pub const TABLE: &str = "adtrack-events";

const TRACKER_START_ATTEMPTS: u32 = 3;

/// The ports of the stack's parts.
#[derive(Debug, Clone, Copy)]
pub struct PortPlan {
    /// Port of Kinesis.
    pub kinesis: Port,
    /// Port of DynamoDB.
    pub dynamodb: Port,
    /// Port of Redis.
    pub redis: Port,
    /// The tracker's public listener.
    pub tracker: Port,
    /// The tracker's management listener.
    pub management: Port,
}

/// Options of a stack.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Folder of adtrack's own binaries.
    pub binaries: PathBuf,
    /// Folder for logs, failed records, the archive and the tracker's journal.
    pub folder: PathBuf,
    /// The ports of the stack's parts.
    pub ports: PortPlan,
    /// Number of shards per stream.
    pub shards: i32,
    /// Whether the functions run. Without them, the streams fill up.
    pub functions: bool,
    /// Environment of the trackers, in addition to the stack's; `None`: no tracker runs.
    pub tracker_environment: Option<Vec<(String, String)>>,
    /// Number of trackers, each with a journal of its own.
    pub trackers: usize,
    /// How long a mapping waits for a batch to fill.
    pub batching_window: Duration,
    /// How long the archiver's mapping waits. Each batch is a file, or several.
    pub archive_window: Duration,
    /// Whether the trackers reach Kinesis, the functions DynamoDB, and all of them the stack's Redis, through
    /// proxies that can inject faults.
    pub faults: bool,
    /// Number of index partitions for an hour of a program's events; `None`: the table has no index.
    pub index_buckets: Option<u32>,
    /// Environment of the tracker and redis-updater for a Redis other than the stack's own.
    pub redis_environment: Vec<(String, String)>,
}

impl StackOptions {
    /// Options for a complete stack on free ports, without faults and without an index.
    pub fn new(binaries: &Path, folder: &Path) -> Self {
        Self {
            binaries: binaries.to_owned(),
            folder: folder.to_owned(),
            ports: PortPlan {
                kinesis: Port::Any,
                dynamodb: Port::Any,
                redis: Port::Any,
                tracker: Port::Any,
                management: Port::Any,
            },
            shards: 2,
            functions: true,
            tracker_environment: Some(Vec::new()),
            trackers: 1,
            batching_window: Duration::ZERO,
            archive_window: Duration::from_secs(1),
            faults: false,
            index_buckets: None,
            redis_environment: Vec::new(),
        }
    }
}

/// The proxies of a stack that can inject faults.
#[derive(Debug)]
pub struct Faults {
    /// Between the trackers and Kinesis.
    pub kinesis: FaultProxy,
    /// Between the functions and DynamoDB.
    pub dynamodb: FaultProxy,
    /// Between the trackers, the functions and Redis.
    pub redis: TcpProxy,
}

/// What has ended on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The first tracker's process.
    Tracker,
    /// The stack's Redis.
    Redis,
}

/// A running stack. [`Stack::stop`] stops it gracefully; dropping it kills everything that runs.
#[derive(Debug)]
pub struct Stack {
    /// Environment variables with which an AWS client, redis-cli or a second tracker uses this stack.
    pub environment: Vec<(String, String)>,
    /// The stack's Redis.
    pub redis: RedisServer,
    /// Folder of failed records.
    pub failed_records: PathBuf,
    /// Folder of the archive.
    pub archive: PathBuf,
    /// Folder of the batches that a mapping gave up on.
    pub on_failure: PathBuf,
    /// The proxies that inject faults, if the options ask for them.
    pub faults: Option<Faults>,
    trackers: Vec<Tracker>,
    mappings: Vec<EventSourceMapping>,
    functions: Vec<Arc<Function>>,
    kinesis: EmbeddedServer,
    dynamodb: EmbeddedServer,
}

impl Stack {
    /// Starts a stack and waits until it is ready.
    pub async fn start(options: &StackOptions) -> Result<Self, StackError> {
        let folder = absolute(&options.folder)?;
        let failed_records = folder.join("failed-records");
        let archive = folder.join("archive");
        let on_failure = folder.join("on-failure");
        let redis_folder = folder.join("redis");
        let (kinesis, dynamodb, redis) = tokio::try_join!(
            aws::kinesis(options.ports.kinesis),
            aws::dynamodb(options.ports.dynamodb),
            RedisServer::start(options.ports.redis, &redis_folder),
        )?;
        let servers = Servers { kinesis: &kinesis, dynamodb: &dynamodb, redis: &redis };
        let mut environment = servers.environment(&failed_records, &archive);
        environment.extend_from_slice(&options.redis_environment);
        let mut stack = Self {
            environment,
            redis,
            failed_records,
            archive,
            on_failure,
            faults: None,
            trackers: Vec::new(),
            mappings: Vec::new(),
            functions: Vec::new(),
            kinesis,
            dynamodb,
        };
        stack.provision(options).await?;
        if options.faults {
            stack.faults = Some(Faults {
                kinesis: FaultProxy::start(&stack.kinesis.url).await?,
                dynamodb: FaultProxy::start(&stack.dynamodb.url).await?,
                redis: TcpProxy::start(stack.redis.address()).await?,
            });
        }
        if options.functions {
            stack.start_functions(options, &folder).await?;
        }
        if let Some(extra) = &options.tracker_environment {
            for _ in 0..options.trackers {
                stack.start_tracker(options, extra, &folder).await?;
            }
        }
        Ok(stack)
    }

    /// A client of the stack's Kinesis.
    pub async fn kinesis(&self) -> aws_sdk_kinesis::Client {
        aws_sdk_kinesis::Client::new(&aws::sdk_config(&self.kinesis.url).await)
    }

    /// A client of the stack's DynamoDB.
    pub async fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&aws::sdk_config(&self.dynamodb.url).await)
    }

    /// The first tracker's public URL; empty if the stack has no tracker.
    pub fn tracker_url(&self) -> &str {
        self.trackers.first().map_or("", Tracker::public_url)
    }

    /// The first tracker's management URL; empty if the stack has no tracker.
    pub fn management_url(&self) -> &str {
        self.trackers.first().map_or("", Tracker::management_url)
    }

    /// The first tracker's process; `None` if the stack has no tracker.
    pub fn tracker(&mut self) -> Option<&mut Process> {
        self.trackers.first_mut().map(Tracker::process)
    }

    /// All trackers.
    pub fn trackers(&mut self) -> &mut [Tracker] {
        &mut self.trackers
    }

    /// The function named `name`; `None` if the stack has none.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.iter().find(|function| function.name() == name)
    }

    /// Waits until the first tracker or Redis ends on its own. Reports each end once.
    pub async fn wait_for_end(&mut self) -> (Ended, std::io::Result<ExitStatus>) {
        let Self { trackers, redis, .. } = self;
        let tracker_end = async {
            match trackers.first_mut() {
                Some(tracker) => tracker.wait_for_end().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            status = tracker_end => (Ended::Tracker, status),
            status = redis.wait_for_end() => (Ended::Redis, status),
        }
    }

    /// Kills the first tracker, as `kill -9` does.
    pub async fn kill_tracker(&mut self) {
        if let Some(tracker) = self.tracker() {
            tracker.kill().await;
        }
    }

    /// Starts the first tracker again after it has ended, with the same addresses and the same journal.
    pub async fn start_tracker_again(&mut self) -> Result<(), StackError> {
        match self.trackers.first_mut() {
            Some(tracker) => tracker.start_again().await,
            None => Ok(()),
        }
    }

    /// Stops everything. The trackers are first, so that they can drain into Kinesis.
    pub async fn stop(mut self) {
        futures::future::join_all(self.trackers.drain(..).map(Tracker::stop)).await;
        self.mappings.clear();
        let functions =
            futures::future::join_all(self.functions.iter().map(|function| function.stop()));
        tokio::join!(functions, self.redis.stop());
    }

    async fn provision(&self, options: &StackOptions) -> Result<(), StackError> {
        let kinesis = self.kinesis().await;
        let dynamodb = self.dynamodb().await;
        tokio::try_join!(
            aws::create_stream(&kinesis, EVENT_STREAM, options.shards),
            aws::create_stream(&kinesis, CORE_DATA_STREAM, options.shards),
            aws::create_table(&dynamodb, TABLE),
        )?;
        if options.index_buckets.is_some() {
            aws::create_index(&dynamodb, TABLE).await?;
        }
        Ok(())
    }

    async fn start_functions(
        &mut self,
        options: &StackOptions,
        folder: &Path,
    ) -> Result<(), StackError> {
        for StackFunction { name, stream, batching_window } in functions(options) {
            let mut environment = self.environment.clone();
            environment.extend(self.proxies(options));
            if let Some(buckets) = options.index_buckets {
                environment.push(("INDEX_BUCKETS".to_owned(), buckets.to_string()));
            }
            let function = Function::new(FunctionSettings {
                name: name.to_owned(),
                binary: own_binary(&options.binaries, name)?,
                environment,
                timeout: Duration::from_secs(30),
                concurrency: usize::try_from(options.shards).unwrap_or(1),
                log_folder: folder.join("logs"),
            });
            function.warm_up().await?;
            let settings = MappingSettings {
                stream: stream.to_owned(),
                batch_size: 1_000,
                batching_window,
                maximum_retry_attempts: None,
                maximum_record_age: Duration::from_secs(7 * 24 * 60 * 60),
                bisect_on_error: true,
                on_failure_folder: self.on_failure.clone(),
            };
            let client = self.kinesis().await;
            self.mappings.push(EventSourceMapping::start(client, Arc::clone(&function), settings));
            self.functions.push(function);
        }
        Ok(())
    }

    async fn start_tracker(
        &mut self,
        options: &StackOptions,
        extra: &[(String, String)],
        folder: &Path,
    ) -> Result<(), StackError> {
        let mut attempt = 1;
        let tracker = loop {
            match self.try_tracker(options, extra, folder).await {
                // Another process took a port in the meantime.
                Err(StackError::NotReady { .. }) if attempt < TRACKER_START_ATTEMPTS => {
                    attempt += 1;
                }

                started => break started?,
            }
        };
        if self.trackers.is_empty() {
            for (name, url) in [
                ("TRACKER_URL", tracker.public_url()),
                ("MANAGEMENT_URL", tracker.management_url()),
            ] {
                self.environment.push((name.to_owned(), url.to_owned()));
            }
        }
        self.trackers.push(tracker);
        Ok(())
    }

    async fn try_tracker(
        &self,
        options: &StackOptions,
        extra: &[(String, String)],
        folder: &Path,
    ) -> Result<Tracker, StackError> {
        let public = ports::free("the tracker", options.ports.tracker).await?;
        let management = ports::free("the tracker's management", options.ports.management).await?;
        let suffix = match self.trackers.len() {
            0 => String::new(),
            others => format!("-{}", others + 1),
        };
        let mut environment = self.environment.clone();
        environment.extend([
            (
                "JOURNAL_DIR".to_owned(),
                folder.join(format!("journal{suffix}")).display().to_string(),
            ),
            // A quarter of the default: enough here, and small enough for a folder in memory.
            ("JOURNAL_MAX_BYTES".to_owned(), (256 << 20).to_string()),
            ("SAMPLE_PROGRAMS".to_owned(), "true".to_owned()),
            // There is no load balancer to wait for.
            ("SHUTDOWN_DELAY_SECONDS".to_owned(), "0".to_owned()),
        ]);
        environment.extend(self.proxies(options));
        environment.extend_from_slice(extra);
        let binary = own_binary(&options.binaries, "tracker")?;
        let log = folder.join(format!("logs/tracker{suffix}.log"));
        Tracker::start(binary, environment, log, public, management).await
    }

    /// The environment with which a program goes through the stack's proxies, if there are any. There is none in
    /// front of a Redis other than the stack's own.
    fn proxies(&self, options: &StackOptions) -> Vec<(String, String)> {
        let Some(faults) = &self.faults else { return Vec::new() };
        let mut proxies = vec![
            ("AWS_ENDPOINT_URL_KINESIS".to_owned(), faults.kinesis.url.clone()),
            ("AWS_ENDPOINT_URL_DYNAMODB".to_owned(), faults.dynamodb.url.clone()),
            ("REDIS_URL".to_owned(), format!("redis://{}", faults.redis.address)),
        ];
        proxies.extend_from_slice(&options.redis_environment);
        proxies
    }

    /// Has the tracker store its sample programs.
    pub async fn load_samples(&self) -> Result<(), StackError> {
        let url = format!("{}/cache/fill", self.management_url());
        let problem = |error: reqwest::Error| StackError::Provisioning(format!("{url}: {error}"));
        let response = http_client().post(&url).send().await.map_err(problem)?;
        response.error_for_status().map_err(problem)?;
        Ok(())
    }
}

/// A function of the stack, and what invokes it.
struct StackFunction {
    name: &'static str,
    stream: &'static str,
    /// How long a batch waits to fill.
    batching_window: Duration,
}

fn functions(options: &StackOptions) -> [StackFunction; 3] {
    let function =
        |name, stream| StackFunction { name, stream, batching_window: options.batching_window };
    [
        function("kinesis-consumer", EVENT_STREAM),
        StackFunction {
            batching_window: options.archive_window,
            ..function("archiver", EVENT_STREAM)
        },
        function("redis-updater", CORE_DATA_STREAM),
    ]
}

/// The servers that adtrack's processes connect to.
struct Servers<'a> {
    kinesis: &'a EmbeddedServer,
    dynamodb: &'a EmbeddedServer,
    redis: &'a RedisServer,
}

impl Servers<'_> {
    /// The environment variables of adtrack's processes.
    fn environment(&self, failed_records: &Path, archive: &Path) -> Vec<(String, String)> {
        let variables = [
            ("AWS_REGION", REGION.to_owned()),
            ("AWS_DEFAULT_REGION", REGION.to_owned()),
            ("AWS_ACCESS_KEY_ID", DUMMY_CREDENTIAL.to_owned()),
            ("AWS_SECRET_ACCESS_KEY", DUMMY_CREDENTIAL.to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
            ("AWS_ENDPOINT_URL_KINESIS", self.kinesis.url.clone()),
            ("AWS_ENDPOINT_URL_DYNAMODB", self.dynamodb.url.clone()),
            ("REDIS_URL", self.redis.url()),
            ("EVENT_STREAM", EVENT_STREAM.to_owned()),
            ("CORE_DATA_STREAM", CORE_DATA_STREAM.to_owned()),
            ("TABLE_NAME", TABLE.to_owned()),
            ("FAILED_RECORDS_URL", format!("file://{}", failed_records.display())),
            ("ARCHIVE_URL", format!("file://{}", archive.display())),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

fn absolute(folder: &Path) -> Result<PathBuf, StackError> {
    let file_error = |error| StackError::File(folder.to_owned(), error);
    std::fs::create_dir_all(folder).map_err(file_error)?;
    std::fs::canonicalize(folder).map_err(file_error)
}
