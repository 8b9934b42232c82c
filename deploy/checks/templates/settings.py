"""What the templates must say: for each setting its template, resource, path and value.

`ANY` is a value that only has to be there; a function is asked. A setting that is removed, weakened
or moved is a red test, and `mutate` shows that it is.
"""

ANY = object()


def at_least(number):
    """A number, or a parameter whose default is one, not below `number`; perhaps under a condition."""
    return lambda value, default: float(default(whatever_the_condition(value))) >= number


def whatever_the_condition(item):
    """What a value is, where it is there."""
    choice = item.get("Fn::If") if isinstance(item, dict) else None
    return choice[1] if choice and choice[2] == {"Ref": "AWS::NoValue"} else item


def default_is(expected):
    """A parameter with this default, or the value itself."""
    return lambda value, default: default(value) == expected


def contains(*expected):
    """A list with all of these."""
    return lambda value, default: all(item in value for item in expected)


def names_all(*expected):
    """A text with all of these."""
    return lambda value, default: all(item in str(value) for item in expected)


def without(*unexpected):
    """A text with none of these."""
    return lambda value, default: not any(item in str(value) for item in unexpected)


def is_reference(value, default):
    """Not a text of its own: a Ref, GetAtt, Sub or the like."""
    return isinstance(value, dict)


def where(condition, item):
    """An item of a list that is there under a condition."""
    return {"Fn::If": [condition, item, {"Ref": "AWS::NoValue"}]}


RETAIN = [("DeletionPolicy", "RetainExceptOnCreate"), ("UpdateReplacePolicy", "Retain")]
PRIVATE_BUCKET = [
    (f"Properties.PublicAccessBlockConfiguration.{name}", True)
    for name in ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
]
STREAM = RETAIN + [
    ("Properties.StreamModeDetails.StreamMode", default_is("ON_DEMAND")),
    ("Properties.ShardCount", names_all("Provisioned", "Shards")),
    ("Properties.RetentionPeriodHours", default_is("168")),
    ("Properties.StreamEncryption.EncryptionType", "KMS"),
]
MAPPING = [
    ("Properties.StartingPosition", "TRIM_HORIZON"),
    ("Properties.BatchSize", default_is(1000)),
    ("Properties.MaximumBatchingWindowInSeconds", ANY),
    ("Properties.ParallelizationFactor", ANY),
    ("Properties.BisectBatchOnFunctionError", True),
    ("Properties.FunctionResponseTypes", ["ReportBatchItemFailures"]),
    ("Properties.MaximumRetryAttempts", -1),
    ("Properties.MaximumRecordAgeInSeconds",
     {"Fn::FindInMap": ["Retention", {"Ref": "RetentionHours"}, "Seconds"]}),
    ("Properties.MetricsConfig.Metrics", ["EventCount"]),
]
FUNCTION = [
    ("Properties.Runtime", "provided.al2023"),
    ("Properties.Architectures", [{"Ref": "Architecture"}]),
    ("Properties.ReservedConcurrentExecutions", at_least(10)),
    ("Properties.Timeout", at_least(30)),
]
TRACKER = "Properties.ContainerDefinitions.tracker."

SETTINGS = {
    ("artifacts", "ArtifactBucket"): RETAIN + PRIVATE_BUCKET,
    ("artifacts", "TrackerRepository"): RETAIN
    + [
        ("Properties.ImageTagMutability", "IMMUTABLE"),
        ("Properties.ImageScanningConfiguration.ScanOnPush", True),
    ],
    ("data", "EventStream"): STREAM,
    ("data", "CoreDataStream"): STREAM,
    ("data", "Key"): RETAIN + [("Properties.EnableKeyRotation", True)],
    ("data", "EventTable"): RETAIN
    + [
        ("Properties.KeySchema", [{"AttributeName": "id", "KeyType": "HASH"}]),
        ("Properties.BillingMode", "PAY_PER_REQUEST"),
        ("Properties.TimeToLiveSpecification.AttributeName", "expires_at"),
        ("Properties.TimeToLiveSpecification.Enabled", True),
        ("Properties.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled", True),
        ("Properties.DeletionProtectionEnabled", {"Fn::If": ["IsProtected", True, False]}),
        ("Properties.SSESpecification.SSEEnabled", True),
        ("Properties.GlobalSecondaryIndexes",
         names_all("by-program", "program_bucket", "occurred_at", "KEYS_ONLY", "HasIndex")),
    ],
    ("data", "RecordsBucket"): RETAIN
    + PRIVATE_BUCKET
    + [
        ("Properties.BucketEncryption", names_all("aws:kms", "Key")),
        ("Properties.LifecycleConfiguration", names_all("RecordsDays")),
    ],
    ("data-redis", "Redis"): [
        ("DeletionPolicy", "Snapshot"),
        ("UpdateReplacePolicy", "Snapshot"),
        ("Properties.Engine", "valkey"),
        ("Properties.TransitEncryptionEnabled", True),
        ("Properties.TransitEncryptionMode", "required"),
        ("Properties.AtRestEncryptionEnabled", True),
        ("Properties.MultiAZEnabled", {"Fn::If": ["FailsOver", True, False]}),
        ("Properties.AutomaticFailoverEnabled", {"Fn::If": ["FailsOver", True, False]}),
        ("Properties.NumCacheClusters", at_least(2)),
        ("Properties.SnapshotRetentionLimit", at_least(1)),
        ("Properties.UserGroupIds", [{"Ref": "Users"}]),
    ],
    ("data-redis", "Settings"): [("Properties.Properties.maxmemory-policy", "noeviction")],
    ("lambdas", "Consumer"): FUNCTION,
    ("lambdas", "Updater"): FUNCTION,
    ("lambdas", "ConsumerMapping"): MAPPING,
    ("lambdas", "UpdaterMapping"): MAPPING,
    ("load-balancer", "LoadBalancer"): [
        ("Properties.LoadBalancerAttributes",
         contains({"Key": "access_logs.s3.enabled",
                   "Value": {"Fn::If": ["LogsAccess", "true", "false"]}},
                  {"Key": "routing.http.drop_invalid_header_fields.enabled", "Value": "true"},
                  {"Key": "deletion_protection.enabled", "Value": {"Ref": "DeletionProtection"}})),
    ],
    ("load-balancer", "AccessLogBucket"): PRIVATE_BUCKET
    + [("Properties.LifecycleConfiguration", names_all("AccessLogDays"))],
    ("load-balancer", "WebAcl"): [
        ("Properties.DefaultAction", {"Allow": {}}),
        ("Properties.Rules.0.Action", {"Fn::If": ["Blocks", {"Block": {}}, {"Count": {}}]}),
        ("Properties.Rules.0.Statement.RateBasedStatement.Limit", {"Ref": "WebFirewallRateLimit"}),
        ("Properties.Rules.0.Statement.RateBasedStatement.ScopeDownStatement.NotStatement",
         names_all("'SearchString': '/conversion'", "'SearchString': '/events'")),
        ("Properties.Rules.0.VisibilityConfig.SampledRequestsEnabled", False),
    ],
    ("compute", "Task"): [
        ("Properties.Volumes", [{"Name": "journal"}]),
        (TRACKER + "User", "65532"),
        (TRACKER + "ReadonlyRootFilesystem", True),
        (TRACKER + "LinuxParameters.Capabilities.Drop", ["ALL"]),
        (TRACKER + "MountPoints",
         [{"SourceVolume": "journal", "ContainerPath": "/journal", "ReadOnly": False}]),
        (TRACKER + "RestartPolicy.Enabled", True),
        (TRACKER + "StopTimeout", 120),
        (TRACKER + "HealthCheck.Command", ["CMD", "/tracker", "healthcheck"]),
        (TRACKER + "Environment.JOURNAL_DIR", "/journal"),
        (TRACKER + "Environment", contains(
            where("HasCookieDomain", {"Name": "COOKIE_DOMAIN", "Value": {"Ref": "CookieDomain"}}),
            where("HasTcfVendorId", {"Name": "TCF_VENDOR_ID", "Value": {"Ref": "TcfVendorId"}}),
            where("HasDefaultFallbackUrl",
                  {"Name": "DEFAULT_FALLBACK_URL", "Value": {"Ref": "DefaultFallbackUrl"}}))),
        # New passwords and keys reach the tasks.
        (TRACKER + "DockerLabels", names_all("TrackerPasswordVersion", "SigningKeysRevision")),
        (TRACKER + "LogConfiguration.Options.mode", "non-blocking"),
        ("Properties.ContainerDefinitions.metrics-agent.Essential", False),
        ("Properties.ContainerDefinitions.metrics-agent.ReadonlyRootFilesystem", True),
    ],
    ("compute", "Service"): [
        ("Properties.Tags", contains({"Key": "listener", "Value": {"Ref": "ForwardingArn"}})),
        ("Properties.DesiredCount", None),
        ("Properties.DeploymentConfiguration.MinimumHealthyPercent", 100),
        ("Properties.DeploymentConfiguration.MaximumPercent", 200),
        ("Properties.DeploymentConfiguration.DeploymentCircuitBreaker.Enable", True),
        ("Properties.DeploymentConfiguration.DeploymentCircuitBreaker.Rollback", True),
    ],
    ("compute-scaling", "Scaling"): [
        ("Properties.MinCapacity", at_least(3)),
        ("Properties.MaxCapacity", at_least(3)),
    ],
    ("global-table", "GlobalTable"): RETAIN
    + [
        ("Properties.KeySchema", [{"AttributeName": "id", "KeyType": "HASH"}]),
        ("Properties.TimeToLiveSpecification", {"AttributeName": "expires_at", "Enabled": True}),
        ("Properties.SSESpecification.SSEEnabled", True),
    ],
}

DEFAULTS = {
    ("load-balancer", "WebFirewallAction"): "count",
    ("load-balancer", "WebFirewall"): "false",
    ("load-balancer", "InsecurePlainHttp"): "false",
    ("data", "DeletionProtection"): "true",
    ("data-redis", "RedisFailover"): "true",
    ("compute", "RateLimit"): "",
    ("load-balancer", "AccessLogs"): "false",
    ("load-balancer", "DeletionProtection"): "true",
    ("load-balancer", "AccessLogDays"): 3,
    ("compute", "LinkKeysSecretArn"): "",
    ("compute", "ConversionKeysSecretArn"): "",
    ("observability-events", "DifferingRepeatsLimit"): 0,
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
    "adtrack adtrack_subscribed": ["observability-core-data", "observability-objectives"],
    "adtrack adtrack_redis_connected": ["observability-core-data"],
    "adtrack Failures": ["observability-events", "observability-core-data"],
    "adtrack DifferingRepeats": ["observability-events"],
    "adtrack adtrack_task_protection_failed_total": ["observability-events"],
    "adtrack NotDrained": ["observability-events"],
    "adtrack OldestRecordAge": ["observability-objectives"],
}
OBJECTIVES = ["AvailabilityFast", "AvailabilitySlow", "LatencyP99", "AnswerToRow", "PushToAnswer"]
