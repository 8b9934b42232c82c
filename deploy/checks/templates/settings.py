"""What the templates must say: for each setting its template, resource, path, value and the reason.

`ANY` is a value that only has to be there; an `Expected` is asked. A setting that is removed, weakened
or moved is a finding.
"""

from collections.abc import Callable
from typing import NamedTuple


class Expected(NamedTuple):
    """What a value has to be, if it is not one value: in words, and as a function of it and of a function
    that gives a parameter's default."""

    shown: str
    holds: Callable


ANY = Expected("any value", lambda value, default: True)


def at_least(number):
    """A number, or a parameter whose default is one, not below `number`; perhaps under a condition."""
    return Expected(f"at least {number}",
                    lambda value, default: float(default(whatever_the_condition(value))) >= number)


def whatever_the_condition(item):
    """What a value is, where it is there."""
    choice = item.get("Fn::If") if isinstance(item, dict) else None
    return choice[1] if choice and choice[2] == {"Ref": "AWS::NoValue"} else item


def default_is(expected):
    """A parameter with this default, or the value itself."""
    return Expected(f"{expected}, or a parameter with this default", lambda value, default: default(value) == expected)


def contains(*expected):
    """A list with all of these."""
    return Expected(f"with {', '.join(map(str, expected))}",
                    lambda value, default: all(item in value for item in expected))


def names_all(*expected):
    """A text with all of these."""
    return Expected(f"with {', '.join(expected)}", lambda value, default: all(item in str(value) for item in expected))


def where(condition, item):
    """An item of a list that is there under a condition."""
    return {"Fn::If": [condition, item, {"Ref": "AWS::NoValue"}]}


OUTLIVES = "data outlives its stack, and a creation that failed can be repeated"
RETAIN = [("DeletionPolicy", "RetainExceptOnCreate", OUTLIVES), ("UpdateReplacePolicy", "Retain", OUTLIVES)]
PRIVATE_BUCKET = [
    (f"Properties.PublicAccessBlockConfiguration.{name}", True, "no object is ever public")
    for name in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
]
ONE_KEY = [{"AttributeName": "id", "KeyType": "HASH"}]
ROW_IS_EVENT = "a row is an event, so that a repeat writes the same row"
ROWS_EXPIRE = "kinesis-consumer writes expires_at, and rows go after EventTtlDays"
STREAM = [
    *RETAIN,
    ("Properties.StreamModeDetails.StreamMode", default_is("ON_DEMAND"), "a peak needs no operator"),
    ("Properties.ShardCount", names_all("Provisioned", "Shards"), "only a provisioned stream has shards to choose"),
    ("Properties.RetentionPeriodHours", default_is("168"), "an outage of a week loses nothing"),
    ("Properties.StreamEncryption.EncryptionType", "KMS", "events are encrypted at rest with our key"),
]
MAPPING = [
    ("Properties.StartingPosition", "TRIM_HORIZON", "what came before the mapping is read, too"),
    ("Properties.BatchSize", default_is(1000), "what time-out and memory of the functions are sized for"),
    ("Properties.MaximumBatchingWindowInSeconds", ANY, "Lambda's own waits for nothing, or too long"),
    ("Properties.ParallelizationFactor", ANY, "how many invocations a shard has is decided here"),
    ("Properties.BisectBatchOnFunctionError", True, "one bad record does not hold its batch up"),
    ("Properties.FunctionResponseTypes", ["ReportBatchItemFailures"],
     "otherwise Lambda ignores the failures that functions report, and records are lost"),
    ("Properties.MaximumRetryAttempts", -1, "a record is tried until it expires"),
    ("Properties.MaximumRecordAgeInSeconds",
     {"Fn::FindInMap": ["Retention", {"Ref": "RetentionHours"}, "Seconds"]},
     "as long as the stream keeps a record"),
    ("Properties.MetricsConfig.Metrics", ["EventCount"], "alarms on dropped records read these metrics"),
]
FUNCTION = [
    ("Properties.Runtime", "provided.al2023", "the package is a program of its own"),
    ("Properties.Architectures", [{"Ref": "Architecture"}], "the package is built for Architecture"),
    ("Properties.ReservedConcurrentExecutions", at_least(10), "no other function of the account takes its place"),
    ("Properties.Timeout", at_least(30), "a batch and its retries take seconds"),
]
TRACKER = "Properties.ContainerDefinitions.tracker."
SWITCHED = "it is on if its parameter is set, and off otherwise"

SETTINGS = {
    ("artifacts", "ArtifactBucket"): RETAIN + PRIVATE_BUCKET,
    ("artifacts", "TrackerRepository"): [
        *RETAIN,
        ("Properties.ImageTagMutability", "IMMUTABLE", "a tag names one image for ever: what rolls back is what ran"),
        ("Properties.ImageScanningConfiguration.ScanOnPush", True, "known vulnerabilities show"),
    ],
    ("artifacts", "AgentRepository"): [
        *RETAIN,
        ("Properties.ImageTagMutability", "IMMUTABLE", "a tag names one image for ever: what rolls back is what ran"),
        ("Properties.ImageScanningConfiguration.ScanOnPush", True, "known vulnerabilities show"),
    ],
    ("data", "EventStream"): STREAM,
    ("data", "CoreDataStream"): STREAM,
    ("data", "Key"): [*RETAIN, ("Properties.EnableKeyRotation", True, "AWS rotates it yearly, and nobody has to")],
    ("data", "EventTable"): [
        *RETAIN,
        ("Properties.KeySchema", ONE_KEY, ROW_IS_EVENT),
        ("Properties.BillingMode", "PAY_PER_REQUEST", "a peak is not throttled"),
        ("Properties.TimeToLiveSpecification.AttributeName", "expires_at", ROWS_EXPIRE),
        ("Properties.TimeToLiveSpecification.Enabled", True, ROWS_EXPIRE),
        ("Properties.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled", True,
         "what an error deletes can be had back"),
        ("Properties.DeletionProtectionEnabled", {"Fn::If": ["IsProtected", True, False]}, SWITCHED),
        ("Properties.SSESpecification.SSEEnabled", True, "rows are encrypted by a key whose use is logged"),
        ("Properties.GlobalSecondaryIndexes",
         names_all("by-program", "program_bucket", "occurred_at", "KEYS_ONLY", "HasIndex"),
         "the index that kinesis-consumer writes for, if ByProgramIndex asks for it"),
    ],
    ("data", "RecordsBucket"): [
        *RETAIN, *PRIVATE_BUCKET,
        ("Properties.BucketEncryption", names_all("aws:kms", "Key"), "records are encrypted with our key"),
    ],
    ("data-redis", "Redis"): [
        ("DeletionPolicy", "Snapshot", "core data can be restored"),
        ("UpdateReplacePolicy", "Snapshot", "core data can be restored"),
        ("Properties.Engine", "valkey", "what the programs are tested with"),
        ("Properties.TransitEncryptionEnabled", True, "programs speak TLS alone"),
        ("Properties.TransitEncryptionMode", "required", "plain text is refused"),
        ("Properties.AtRestEncryptionEnabled", True, "snapshots and disks are encrypted"),
        ("Properties.MultiAZEnabled", {"Fn::If": ["FailsOver", True, False]}, SWITCHED),
        ("Properties.AutomaticFailoverEnabled", {"Fn::If": ["FailsOver", True, False]}, SWITCHED),
        ("Properties.NumCacheClusters", at_least(2), "a replica takes over"),
        ("Properties.SnapshotRetentionLimit", at_least(1), "core data can be restored"),
        ("Properties.UserGroupIds", [{"Ref": "Users"}], "each program has its own user, and no other may connect"),
    ],
    ("data-redis", "Settings"): [
        ("Properties.Properties.maxmemory-policy", "noeviction",
         "an evicted program would be unknown to trackers, and nobody would notice"),
    ],
    ("lambdas", "Consumer"): FUNCTION,
    ("lambdas", "Updater"): FUNCTION,
    ("lambdas", "ConsumerMapping"): MAPPING,
    ("lambdas", "UpdaterMapping"): MAPPING,
    ("load-balancer", "LoadBalancer"): [
        ("Properties.LoadBalancerAttributes",
         contains({"Key": "access_logs.s3.enabled",
                   "Value": {"Fn::If": ["LogsAccess", "true", "false"]}},
                  {"Key": "routing.http.drop_invalid_header_fields.enabled", "Value": "true"},
                  {"Key": "deletion_protection.enabled", "Value": {"Ref": "DeletionProtection"}}),
         "headers that no HTTP parser agrees about do not reach trackers; the others are the operator's"),
    ],
    ("load-balancer", "AccessLogBucket"): PRIVATE_BUCKET,
    ("load-balancer", "WebAcl"): [
        ("Properties.DefaultAction", {"Allow": {}}, "the firewall stops floods, and nothing else"),
        ("Properties.Rules.0.Action", {"Fn::If": ["Blocks", {"Block": {}}, {"Count": {}}]},
         "it counts unless WebFirewallAction is block"),
        ("Properties.Rules.0.Statement.RateBasedStatement.Limit", {"Ref": "WebFirewallRateLimit"},
         "the operator decides"),
        ("Properties.Rules.0.Statement.RateBasedStatement.ScopeDownStatement.NotStatement",
         names_all("'SearchString': '/conversion'", "'SearchString': '/events'"),
         "servers of customers send many requests from one address"),
        ("Properties.Rules.0.VisibilityConfig.SampledRequestsEnabled", False,
         "samples hold addresses and user agents"),
    ],
    ("compute", "Task"): [
        ("Properties.Volumes", [{"Name": "journal"}], "the journal is on the task's own disk"),
        (TRACKER + "User", "65532", "it is not root, and owns /journal"),
        (TRACKER + "ReadonlyRootFilesystem", True, "nothing but the journal is written"),
        (TRACKER + "LinuxParameters.Capabilities.Drop", ["ALL"], "the tracker needs none"),
        (TRACKER + "MountPoints",
         [{"SourceVolume": "journal", "ContainerPath": "/journal", "ReadOnly": False}],
         "events survive a restart of the container"),
        (TRACKER + "RestartPolicy.Enabled", True, "a restart delivers the journal; a new task has none"),
        (TRACKER + "StopTimeout", 120, "Fargate's most: what the drain needs"),
        (TRACKER + "HealthCheck.Command", ["CMD", "/tracker", "healthcheck"], "the image has no shell"),
        (TRACKER + "Environment.JOURNAL_DIR", "/journal", "the mounted volume"),
        (TRACKER + "Environment", contains(
            where("HasCookieDomain", {"Name": "COOKIE_DOMAIN", "Value": {"Ref": "CookieDomain"}}),
            where("HasTcfVendorId", {"Name": "TCF_VENDOR_ID", "Value": {"Ref": "TcfVendorId"}}),
            where("HasDefaultFallbackUrl",
                  {"Name": "DEFAULT_FALLBACK_URL", "Value": {"Ref": "DefaultFallbackUrl"}})), SWITCHED),
        (TRACKER + "DockerLabels", names_all("TrackerPasswordVersion", "SigningKeysRevision"),
         "new passwords and keys reach the tasks"),
        (TRACKER + "LogConfiguration.Options.mode", "non-blocking", "a slow log does not hold requests up"),
        ("Properties.ContainerDefinitions.metrics-agent.Essential", False,
         "a tracker outlives its metrics agent"),
        ("Properties.ContainerDefinitions.metrics-agent.ReadonlyRootFilesystem", True, "it writes nothing"),
    ],
    ("compute", "Service"): [
        ("Properties.Tags", contains({"Key": "listener", "Value": {"Ref": "ForwardingArn"}}),
         "ECS refuses a service whose target group no listener leads to; the tag makes it wait"),
        ("Properties.DesiredCount", None, "scaling decides; a number here would undo it at each roll-out"),
        ("Properties.DeploymentConfiguration.MinimumHealthyPercent", 100, "no deployment takes capacity away"),
        ("Properties.DeploymentConfiguration.MaximumPercent", 200, "all new tasks at once"),
        ("Properties.DeploymentConfiguration.DeploymentCircuitBreaker.Enable", True,
         "a deployment that cannot succeed ends"),
        ("Properties.DeploymentConfiguration.DeploymentCircuitBreaker.Rollback", True,
         "what ran before comes back"),
    ],
    ("compute-scaling", "Scaling"): [
        ("Properties.MinCapacity", at_least(3), "a task in each zone"),
        ("Properties.MaxCapacity", at_least(3), "not below the least"),
    ],
    ("global-table", "GlobalTable"): [
        *RETAIN,
        ("Properties.KeySchema", ONE_KEY, ROW_IS_EVENT),
        ("Properties.TimeToLiveSpecification", {"AttributeName": "expires_at", "Enabled": True}, ROWS_EXPIRE),
        ("Properties.SSESpecification.SSEEnabled", True, "rows are encrypted by a key whose use is logged"),
    ],
}

# Parameter → its default and the reason.
DEFAULTS = {
    ("load-balancer", "WebFirewallAction"): ("count", "an operator looks at what it would block first"),
    ("load-balancer", "WebFirewall"): ("false", "it costs by the request"),
    ("load-balancer", "InsecurePlainHttp"): ("false", "only a trial without a domain has no TLS"),
    ("data", "DeletionProtection"): ("true", "a deployment in use is not deleted by mistake"),
    ("data-redis", "RedisFailover"): ("true", "a replica takes over"),
    ("compute", "RateLimit"): ("", "a limit that nobody chose would refuse real clients"),
    ("load-balancer", "AccessLogs"): ("false", "they hold full client addresses"),
    ("load-balancer", "DeletionProtection"): ("true", "a deployment in use is not deleted by mistake"),
    ("load-balancer", "AccessLogDays"): (3, "they hold full client addresses"),
    ("compute", "LinkKeysSecretArn"): ("", "the operator's own secret"),
    ("compute", "ConversionKeysSecretArn"): ("", "the operator's own secret"),
    ("observability-events", "DifferingRepeatsLimit"): (0, "none is expected"),
}

# Metric → the template that must alarm on it.
ALARMS = {
    "AWS/Lambda IteratorAge": ["observability-events", "observability-core-data"],
    "AWS/Lambda Errors": ["observability-events", "observability-core-data"],
    "AWS/Lambda Throttles": ["observability-events", "observability-core-data"],
    "AWS/Lambda OnFailureDestinationDeliveredEventCount":
        ["observability-events", "observability-core-data"],
    "AWS/Lambda DroppedEventCount": ["observability-events", "observability-core-data"],
    "AWS/Kinesis WriteProvisionedThroughputExceeded":
        ["observability-events", "observability-core-data"],
    "AWS/Kinesis ReadProvisionedThroughputExceeded": ["observability-events"],
    "AWS/ApplicationELB HTTPCode_Target_5XX_Count": ["observability-events"],
    "AWS/ApplicationELB HTTPCode_ELB_5XX_Count": ["observability-events"],
    "AWS/ApplicationELB HealthyHostCount": ["observability-events"],
    "AWS/ApplicationELB TargetResponseTime": ["observability-objectives"],
    "AWS/DynamoDB WriteThrottleEvents": ["observability-events"],
    "AWS/ElastiCache DatabaseMemoryUsagePercentage": ["observability-core-data"],
    "AWS/ElastiCache Evictions": ["observability-core-data"],
    "AWS/ElastiCache ReplicationLag": ["observability-core-data"],
    "adtrack adtrack_journal_oldest_seconds": ["observability-events", "observability-objectives"],
    "adtrack adtrack_journal_bytes": ["observability-events"],
    "adtrack adtrack_journal_lost_files": ["observability-events"],
    "adtrack adtrack_task_stalled": ["observability-events"],
    "adtrack adtrack_program_share_jumps": ["observability-events"],
    "adtrack adtrack_subscribed": ["observability-core-data", "observability-objectives"],
    "adtrack adtrack_redis_connected": ["observability-core-data"],
    "adtrack adtrack_core_data_loaded": ["observability-core-data"],
    "adtrack Failures": ["observability-events", "observability-core-data"],
    "adtrack DifferingRepeats": ["observability-events"],
    "adtrack adtrack_task_protection_failed_total": ["observability-events"],
    "adtrack NotDrained": ["observability-events"],
    "adtrack OldestRecordAge": ["observability-objectives"],
}
OBJECTIVES = ["AvailabilityFast", "AvailabilitySlow", "LatencyP99", "ResponseToRow", "CoreDataToTrackers"]
