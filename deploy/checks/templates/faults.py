"""Seeded faults: what each breaks, and how. The reference's own come first."""

FAULTS = []


def fault(text):
    """Adds a fault: a function that breaks the templates it is given."""
    def add(function):
        FAULTS.append((text, function))
        return function
    return add


def properties(templates, template, name):
    return templates[template]["Resources"][name]["Properties"]


def container(templates, name="tracker"):
    containers = properties(templates, "compute", "Task")["ContainerDefinitions"]
    return next(one for one in containers if one["Name"] == name)


def statements(templates, template, role):
    return properties(templates, template, role)["Policies"][0]["PolicyDocument"]["Statement"]


def put(template, name, path, value):
    """A fault that sets a value."""
    def change(templates):
        node = templates[template]["Resources"][name]
        *steps, last = path.split(".")
        for step in steps:
            node = node[int(step)] if isinstance(node, list) else node[step]
        if value is None:
            del node[last]
        else:
            node[last] = value
    return change


SIMPLE = [
    # What the reference gets wrong.
    ("reference: Redis without TLS", "data-redis", "Redis", "Properties.TransitEncryptionEnabled", False),
    ("reference: Redis without users", "data-redis", "Redis", "Properties.UserGroupIds", None),
    ("reference: Redis open to any address", "network-groups", "RedisFromTasks", "Properties",
     {"GroupId": {"Fn::GetAtt": ["RedisGroup", "GroupId"]}, "IpProtocol": "tcp", "FromPort": 6379,
      "ToPort": 6379, "CidrIp": "0.0.0.0/0"}),
    ("reference: a plain HTTP listener", "load-balancer", "HttpListener", "Properties.DefaultActions",
     [{"Type": "forward", "TargetGroupArn": {"Ref": "TargetGroupArn"}}]),
    ("reference: a table with a fixed name", "data", "EventTable", "Properties.TableName", "events"),
    ("reference: a stream with a fixed name", "data", "EventStream", "Properties.Name", "events"),
    ("reference: a role with a fixed name", "compute", "TaskRole", "Properties.RoleName", "tracker"),
    # Network.
    ("two zones instead of three", "network", "PrivateSubnet3", "Properties.AvailabilityZone",
     {"Ref": "Zone2"}),
    ("private subnets routed to the internet", "network", "PublicDefaultRoute",
     "Properties.RouteTableId", {"Ref": "PrivateRoutes"}),
    ("tasks open to the whole VPC", "load-balancer-group", "TasksFromLoadBalancer", "Properties.ToPort", 9090),
    ("Redis' group allows everything out", "network-groups", "RedisGroup", "Properties.SecurityGroupEgress", None),
    ("no endpoint for Kinesis", "network-endpoints", "KinesisEndpoint", "Type", "AWS::EC2::Route"),
    ("S3 by a paid endpoint", "network-endpoints", "S3Endpoint", "Properties.VpcEndpointType", "Interface"),
    # Data.
    ("streams not encrypted", "data", "EventStream", "Properties.StreamEncryption", None),
    ("a day of retention", "data", "EventStream", "Properties.RetentionPeriodHours", 24),
    ("the table is deleted with its stack", "data", "EventTable", "DeletionPolicy", "Delete"),
    ("the table is deleted by a replacement", "data", "EventTable", "UpdateReplacePolicy", None),
    ("no deletion protection", "data", "EventTable", "Properties.DeletionProtectionEnabled", False),
    ("no recovery to a point in time", "data", "EventTable",
     "Properties.PointInTimeRecoverySpecification.PointInTimeRecoveryEnabled", False),
    ("another TTL attribute", "data", "EventTable", "Properties.TimeToLiveSpecification.AttributeName", "ttl"),
    ("failed records public", "data", "RecordsBucket",
     "Properties.PublicAccessBlockConfiguration.BlockPublicPolicy", False),
    ("failed records for ever", "data", "RecordsBucket", "Properties.LifecycleConfiguration", None),
    ("Redis evicts programs", "data-redis", "Settings", "Properties.Properties.maxmemory-policy", "allkeys-lru"),
    ("Redis in one zone", "data-redis", "Redis", "Properties.MultiAZEnabled", False),
    ("Redis does not fail over", "data-redis", "Redis", "Properties.AutomaticFailoverEnabled", False),
    ("TLS is optional", "data-redis", "Redis", "Properties.TransitEncryptionMode", "preferred"),
    ("no snapshots", "data-redis", "Redis", "Properties.SnapshotRetentionLimit", 0),
    ("trackers may do anything in Redis", "data-redis", "TrackerUser", "Properties.AccessString", "on ~* &* +@all"),
    ("the default user is on", "data-redis", "DefaultUser", "Properties.AccessString", "on ~* +@all"),
    ("a password in the template", "data-redis", "TrackerRedisUrl", "Properties.SecretString",
     {"Fn::Sub": "rediss://tracker:hunter2@${Redis.PrimaryEndPoint.Address}:6379"}),
    # Load balancer.
    ("TLS 1.0", "load-balancer", "HttpsListener", "Properties.SslPolicy", "ELBSecurityPolicy-2016-08"),
    ("health checks by /health/ready", "target-group", "TargetGroup", "Properties.HealthCheckPath", "/health/ready"),
    ("the rate rule counts postbacks", "load-balancer", "WebAcl",
     "Properties.Rules.0.Statement.RateBasedStatement.ScopeDownStatement", None),
    ("the rate rule blocks", "load-balancer", "WebAcl", "Properties.Rules.0.Action", {"Block": {}}),
    ("the rate rule protects nothing", "load-balancer", "WebAclAssociation", "Properties.ResourceArn", "x"),
    ("customers' certificates are not used", "load-balancer", "CustomerCertificate1", "Condition", "Blocks"),
    # Trackers.
    ("one deployment stops half of the tasks", "compute", "Service",
     "Properties.DeploymentConfiguration.MinimumHealthyPercent", 50),
    ("no rollback", "compute", "Service",
     "Properties.DeploymentConfiguration.DeploymentCircuitBreaker.Rollback", False),
    ("an update resets the number of tasks", "compute", "Service", "Properties.DesiredCount", 3),
    ("one task", "compute-scaling", "Scaling", "Properties.MinCapacity", 1),
    ("Intel instead of ARM", "compute", "Task", "Properties.RuntimePlatform.CpuArchitecture", "X86_64"),
    ("tasks with public addresses", "compute", "Service",
     "Properties.NetworkConfiguration.AwsvpcConfiguration.AssignPublicIp", "ENABLED"),
    ("the service does not wait for its listener", "compute", "Service", "Properties.Tags",
     [{"Key": "application", "Value": "adtrack"}, {"Key": "deployment", "Value": {"Ref": "Deployment"}}]),
    ("a shell in the task", "compute", "Service", "Properties.EnableExecuteCommand", True),
    # Functions.
    ("no partial failures", "lambdas", "ConsumerMapping", "Properties.FunctionResponseTypes", None),
    ("no bisection", "lambdas", "UpdaterMapping", "Properties.BisectBatchOnFunctionError", False),
    ("three retries", "lambdas", "ConsumerMapping", "Properties.MaximumRetryAttempts", 3),
    ("records dropped after an hour", "lambdas", "ConsumerMapping", "Properties.MaximumRecordAgeInSeconds", 3600),
    ("nothing kept on failure", "lambdas", "ConsumerMapping", "Properties.DestinationConfig", None),
    ("reading begins with the newest", "lambdas", "ConsumerMapping", "Properties.StartingPosition", "LATEST"),
    ("kinesis-consumer in the VPC", "lambdas", "Consumer", "Properties.VpcConfig",
     {"SubnetIds": {"Ref": "PrivateSubnetIds"}, "SecurityGroupIds": [{"Ref": "UpdaterGroupId"}]}),
    ("a time-out of three seconds", "lambdas", "Consumer", "Properties.Timeout", 3),
    ("memory that nobody measured", "lambdas", "Updater", "Properties.MemorySize", 128),
    ("no reserved concurrency", "lambdas", "Consumer", "Properties.ReservedConcurrentExecutions", None),
    ("functions' variables by AWS' key", "lambdas", "Updater", "Properties.KmsKeyArn", None),
    # Observability.
    ("an alarm that notifies nobody", "observability-events", "JournalAge", "Properties.AlarmActions", []),
    ("an alarm that says nothing", "observability-events", "JournalAge", "Properties.AlarmDescription", "high"),
    ("an alarm without a runbook", "observability-events", "JournalFill", "Properties.AlarmDescription",
     "A journal is half full and the rest of this sentence is long enough, but it leads nowhere. "
     "Runbook - docs/RUNBOOK.md#nowhere"),
    ("an alarm on a metric that nobody emits", "observability-events", "JournalAge", "Properties.MetricName",
     "adtrack_journal_age"),
    ("metrics of all deployments in one", "observability-core-data", "Subscription", "Properties.Namespace", "adtrack"),
    ("a filter for a line that nobody writes", "compute", "Spilled", "Properties.FilterPattern",
     '{ $.message = "spilled*" }'),
    ("an alarm on a function's metric without the function", "observability-events",
     "ConsumerFailedRecords", "Properties.Dimensions", []),
    ("nobody hears of conversions that change", "observability-events", "DifferingRepeats", "Type",
     "AWS::CloudWatch::CompositeAlarm"),
    ("repeats that differ are looked for in redis-updater", "observability-events", "DifferingRepeats",
     "Properties.Dimensions", [{"Name": "Function", "Value": "redis-updater"}]),
    ("nobody hears that tasks are not protected", "observability-events", "TaskProtection",
     "Properties.MetricName", "adtrack_journal_damaged_total"),
    ("functions of all deployments in one namespace", "lambdas", "Consumer",
     "Properties.Environment.Variables.METRICS_NAMESPACE", "adtrack"),
    ("redis-updater's metrics where nobody looks", "lambdas", "Updater",
     "Properties.Environment.Variables.METRICS_NAMESPACE", None),
    ("not tagged", "data", "EventStream", "Properties.Tags", []),
    ("routing without a health check", "global-routing", "Record", "Properties.HealthCheckId", None),
    ("a table of all regions without TTL", "global-table", "GlobalTable",
     "Properties.TimeToLiveSpecification.Enabled", False),
]
for _text, *_where in SIMPLE:
    fault(_text)(put(*_where))


@fault("reference: * in a role")
def star(templates):
    statements(templates, "compute", "TaskRole")[0].update(Action="kinesis:*", Resource="*")


@fault("reference: no alarms")
def no_alarms(templates):
    for name in list(templates["observability-events"]["Resources"]):
        if name.startswith("Consumer"):
            del templates["observability-events"]["Resources"][name]


@fault("reference: cache control in public")
def public_management(templates):
    for entry in container(templates)["Environment"]:
        if entry.get("Name") == "MANAGEMENT_ADDR":
            entry["Value"] = "0.0.0.0:9090"


@fault("the file system is writable")
def writable(templates):
    container(templates)["ReadonlyRootFilesystem"] = False


@fault("the tracker is root")
def root(templates):
    del container(templates)["User"]


@fault("the journal is in the container")
def no_volume(templates):
    del container(templates)["MountPoints"]


@fault("a crash ends the task")
def no_restart(templates):
    container(templates)["RestartPolicy"]["Enabled"] = False


@fault("30 s to stop")
def short_stop(templates):
    container(templates)["StopTimeout"] = 30


@fault("drain is longer than the stop time-out")
def long_drain(templates):
    for entry in container(templates)["Environment"]:
        if entry.get("Name") == "SHUTDOWN_GRACE_SECONDS":
            entry["Value"] = "110"


@fault("nothing is spilled")
def no_spill(templates):
    given = container(templates)["Environment"]
    given[:] = [entry for entry in given if entry.get("Name") != "SPILL_URL"]


@fault("the password in the task's environment")
def password_in_environment(templates):
    tracker = container(templates)
    tracker["Secrets"] = []
    tracker["Environment"].append({"Name": "REDIS_URL", "Value": "rediss://tracker:hunter2@redis:6379"})


@fault("a variable that the tracker does not read")
def unknown_variable(templates):
    container(templates)["Environment"].append({"Name": "REDIS_TLS", "Value": "true"})


def named(entries, name):
    """The place of an entry, also of one that is there under a condition."""
    return next(index for index, entry in enumerate(entries)
                if entry.get("Name", entry.get("Fn::If", [None, {}])[1].get("Name")) == name)


def without(entries, name):
    del entries[named(entries, name)]


def without_condition(entries, name):
    place = named(entries, name)
    entries[place] = entries[place]["Fn::If"][1]


@fault("the keys of links are plain text in the task definition")
def plain_keys(templates):
    tracker = container(templates)
    without(tracker["Secrets"], "LINK_KEYS")
    tracker["Environment"].append({"Name": "LINK_KEYS", "Value": {"Ref": "LinkKeysSecretArn"}})


@fault("the keys of conversions are not given")
def no_conversion_keys(templates):
    without(container(templates)["Secrets"], "CONVERSION_KEYS")


@fault("an empty secret is asked for where there is none")
def unconditional_keys(templates):
    without_condition(container(templates)["Secrets"], "LINK_KEYS")


@fault("ECS may not read the keys of links")
def unreadable_keys(templates):
    rule = next(one for one in statements(templates, "compute", "ExecutionRole")
                if one["Sid"] == "ReadSecrets")
    rule["Resource"] = [one for one in rule["Resource"] if "LinkKeysSecretArn" not in str(one)]


@fault("new keys do not reach the tasks")
def stale_keys(templates):
    del container(templates)["DockerLabels"]["adtrack.signing-keys-revision"]


@fault("a cookie's domain is given though there is none")
def empty_domain(templates):
    without_condition(container(templates)["Environment"], "COOKIE_DOMAIN")


@fault("the vendor of the TCF is not given")
def no_vendor(templates):
    without(container(templates)["Environment"], "TCF_VENDOR_ID")


@fault("the page for lost clicks is not given")
def no_fallback(templates):
    without(container(templates)["Environment"], "DEFAULT_FALLBACK_URL")


@fault("every task may be protected, of any cluster")
def protects_all(templates):
    rule = next(one for one in statements(templates, "compute", "TaskRole")
                if one["Sid"] == "ProtectTask")
    rule["Resource"] = {"Fn::Sub": "arn:${AWS::Partition}:ecs:${AWS::Region}:${AWS::AccountId}:task/*"}


@fault("many repeats may differ before anybody hears of it")
def deaf_to_repeats(templates):
    templates["observability-events"]["Parameters"]["DifferingRepeatsLimit"]["Default"] = 1000


@fault("a variable is missing")
def missing_variable(templates):
    del properties(templates, "lambdas", "Consumer")["Environment"]["Variables"]["TABLE_NAME"]


@fault("kinesis-consumer may delete rows")
def may_delete(templates):
    statements(templates, "lambdas", "ConsumerRole")[1]["Action"] = [
        "dynamodb:BatchWriteItem", "dynamodb:PutItem", "dynamodb:DeleteItem"]


@fault("kinesis-consumer may not write rows")
def may_not_write(templates):
    del statements(templates, "lambdas", "ConsumerRole")[1]


@fault("the tracker may not protect its task")
def no_protection(templates):
    rules = statements(templates, "compute", "TaskRole")
    rules[:] = [one for one in rules if one["Sid"] != "ProtectTask"]


@fault("the metrics agent drops the journal's age")
def dropped_metric(templates):
    agent = container(templates, "metrics-agent")["Environment"][0]["Value"]
    agent["Fn::Sub"] = agent["Fn::Sub"].replace("journal_.*|", "")


@fault("the metrics agent scrapes another port")
def other_port(templates):
    agent = container(templates, "metrics-agent")["Environment"][0]["Value"]
    agent["Fn::Sub"] = agent["Fn::Sub"].replace("127.0.0.1:9090", "127.0.0.1:9100")


@fault("the task dies with its metrics agent")
def essential_agent(templates):
    container(templates, "metrics-agent")["Essential"] = True


@fault("access logs by default")
def access_logs(templates):
    templates["load-balancer"]["Parameters"]["AccessLogs"]["Default"] = "true"


@fault("streams provisioned by default")
def provisioned(templates):
    templates["data"]["Parameters"]["StreamMode"]["Default"] = "PROVISIONED"


@fault("an output is exported")
def exported(templates):
    templates["data"]["Outputs"]["TableName"]["Export"] = {"Name": "adtrack-table"}


@fault("the journal is larger than the disk")
def large_journal(templates):
    templates["compute"]["Parameters"]["JournalMaxBytes"]["Default"] = 100 << 30


@fault("a parameter without a description")
def undescribed(templates):
    del templates["compute-scaling"]["Parameters"]["MinTasks"]["Description"]


@fault("an objective is gone")
def no_objective(templates):
    del templates["observability-objectives"]["Resources"]["ResponseToRow"]


@fault("no alarm on Redis' memory")
def no_memory_alarm(templates):
    del templates["observability-core-data"]["Resources"]["RedisMemory"]


@fault("the dashboard's stages are mixed up")
def mixed_up(templates):
    dashboard = properties(templates, "observability-dashboard", "Dashboard")
    body = dashboard["DashboardBody"]["Fn::Sub"]
    dashboard["DashboardBody"]["Fn::Sub"] = body.replace('"x": 18', '"x": 1')


@fault("tracking requests reach the tasks past the load balancer")
def public_tasks(templates):
    properties(templates, "network-groups", "TasksGroup")["SecurityGroupIngress"] = [
        {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "CidrIp": "0.0.0.0/0"}]


@fault("plain HTTP to the bucket of failed records")
def plain_bucket(templates):
    properties(templates, "data", "RecordsBucketPolicy")["PolicyDocument"]["Statement"][0]["Condition"] = {}
