"""Rules that hold templates and source together: permissions, variables, metrics."""

import json
import re

import source
import yaml
from rules import at, default_of, metrics_of, resources, rule

TRACKER, CONSUMER, UPDATER = "TaskRole", "ConsumerRole", "UpdaterRole"
REDRIVE, CORE_DATA = "the operator's redrive", "the data team's core-data"

# Every AWS call of the source, who makes it, and the permission that it takes.
CALLS = {
    ("tracker/src/delivery/kinesis.rs", "kinesis", "put_records"):
        ({TRACKER, REDRIVE}, "kinesis:PutRecords"),
    ("tracker/src/delivery/spill.rs", "object_store", "put"): ({TRACKER}, "s3:PutObject"),
    ("tracker/src/delivery/spill.rs", "object_store", "list"): ({REDRIVE}, "s3:ListBucket"),
    ("tracker/src/delivery/spill.rs", "object_store", "get"): ({REDRIVE}, "s3:GetObject"),
    ("tracker/src/delivery/spill.rs", "object_store", "delete"): ({REDRIVE}, "s3:DeleteObject"),
    ("kinesis-consumer/src/store.rs", "dynamodb", "batch_write_item"):
        ({CONSUMER}, "dynamodb:BatchWriteItem"),
    ("kinesis-consumer/src/store/once.rs", "dynamodb", "put_item"):
        ({CONSUMER}, "dynamodb:PutItem"),
    ("deploy/runtime/src/lambda/failure_store.rs", "object_store", "put"):
        ({CONSUMER, UPDATER}, "s3:PutObject"),
    ("redis-updater/core-data/src/stream.rs", "kinesis", "put_records"):
        ({CORE_DATA}, "kinesis:PutRecords"),
    ("tracker/src/task_protection.rs", "ecs agent", "task-protection"):
        ({TRACKER}, "ecs:UpdateTaskProtection"),  # asked for by the agent, in the task's name
}

# A permission is granted on these ARNs and no other.
EVENTS, CORE_DATA_STREAM, TABLE = "EventStreamArn", "CoreDataStreamArn", "TableArn"
FAILED, ON_FAILURE = "${RecordsBucketArn}/failed-records/*", "${RecordsBucketArn}/aws/lambda/*"
READ_STREAM = ["kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:GetRecords",
               "kinesis:GetShardIterator", "kinesis:ListShards"]
LOG = ["logs:CreateLogStream", "logs:PutLogEvents"]
# Lambda makes a function's network interfaces with its role, and names no resource when it asks.
INTERFACES = [f"ec2:{action}" for action in
              ("AssignPrivateIpAddresses", "CreateNetworkInterface", "DeleteNetworkInterface",
               "DescribeNetworkInterfaces", "DescribeSubnets", "UnassignPrivateIpAddresses")]


def grants(actions, *where):
    """Each action on each of the ARNs."""
    return {(action, arn) for action in actions for arn in where}


# What each role may do, in all: the calls above, and what ECS, Lambda and the agent do in its name.
ROLES = {
    TRACKER: grants(["kinesis:PutRecords"], EVENTS)
    | grants(["s3:PutObject"], "${RecordsBucketArn}/spill/*")
    | grants(["kms:GenerateDataKey"], "KeyArn")  # both of them encrypt
    | grants(["ecs:UpdateTaskProtection"], "task/${Name}/*")  # by the ECS agent
    | grants(LOG, "MetricLogs"),  # the metrics agent, in the same task
    CONSUMER: grants(READ_STREAM, EVENTS)
    | grants(["dynamodb:BatchWriteItem", "dynamodb:PutItem"], TABLE)
    | grants(["s3:PutObject"], FAILED, ON_FAILURE)
    | grants(["s3:ListBucket"], "RecordsBucketArn")  # the mapping's destination
    | grants(["kms:Decrypt", "kms:GenerateDataKey"], "KeyArn")
    | grants(LOG, "ConsumerLogs"),
    UPDATER: grants(READ_STREAM, CORE_DATA_STREAM)
    | grants(["s3:PutObject"], FAILED, ON_FAILURE)
    | grants(["s3:ListBucket"], "RecordsBucketArn")
    | grants(["kms:Decrypt", "kms:GenerateDataKey"], "KeyArn")
    | grants(LOG, "UpdaterLogs")
    | grants(INTERFACES, "*"),
    "ExecutionRole": grants(["ecr:GetAuthorizationToken"], "*")  # takes no resource
    | grants(["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
             "TrackerRepositoryArn", "AgentRepositoryArn")
    | grants(["secretsmanager:GetSecretValue"],
             "TrackerRedisUrlArn", "LinkKeysSecretArn", "ConversionKeysSecretArn")
    | grants(["kms:Decrypt"], "KeyArn")
    | grants(LOG, "TrackerLogs"),
}
PRINCIPALS = {TRACKER: "ecs-tasks", "ExecutionRole": "ecs-tasks",
              CONSUMER: "lambda", UPDATER: "lambda"}

# Files whose settings each program reads.
SETTINGS_OF = {
    "tracker": ["tracker/src/config.rs", "tracker/src/http/click_settings.rs",
                "tracker/src/http/conversion.rs", "tracker/src/http/server.rs",
                "tracker/src/http/visitors.rs",
                "deploy/runtime/src/redis_settings.rs", "deploy/runtime/src/telemetry.rs"],
    "kinesis-consumer": ["kinesis-consumer/src/config.rs", "deploy/runtime/src/telemetry.rs"],
    "redis-updater": ["redis-updater/src/config.rs", "deploy/runtime/src/redis_settings.rs",
                      "deploy/runtime/src/telemetry.rs"],
    # Run by people, not deployed.
    "commands": ["tracker/src/bin/redrive.rs", "tracker/src/bin/sign-link.rs",
                 "redis-updater/core-data/src/arguments.rs"],
}
REDIS_BY_URL = {
    "REDIS_HOST": "REDIS_URL names user, password and TLS as well",
    "REDIS_PORT": "as REDIS_HOST",
    "REDIS_PASSWORD_FILE": "ECS and Lambda give secrets as variables, not as files",
    "REDIS_CLUSTER": "cluster mode is off",
}
# Left at its default, and why.
LEFT_AT_DEFAULT = {
    "tracker": REDIS_BY_URL | {
        "WORKERS": "as many as the task has cores",
        "SAMPLE_PROGRAMS": "for the local stack",
        "JOURNAL_SYNC": "the disk dies with its host",
        "CACHE_TTL_SECONDS": "no reason to change it",
        "NEGATIVE_CACHE_TTL_SECONDS": "no reason to change it",
        "CACHE_STALE_SECONDS": "no reason to change it",
        "WARM_UP_RATE": "no reason to change it",
        "CONVERSION_KEYS_FILE": "ECS gives secrets as variables: CONVERSION_KEYS",
        "LINK_KEYS_FILE": "as CONVERSION_KEYS_FILE: LINK_KEYS",
        "ECS_AGENT_URI": "ECS sets it in every task",
        "PROTECT_AFTER_SECONDS": "no reason to change it",
        "MAX_CONNECTIONS": "no reason to change it",
        "REQUEST_TIMEOUT_SECONDS": "no reason to change it",
    },
    "kinesis-consumer": {},
    "redis-updater": REDIS_BY_URL,
}
# Read by the AWS SDK and object_store.
OF_THE_SDK = {"AWS_REGION"}


def listed(value):
    """A value that may stand alone or in a list."""
    return value if isinstance(value, list) else [value]


def whatever_the_condition(item):
    """What an item of a list is, where it is there."""
    choice = item.get("Fn::If") if isinstance(item, dict) else None
    return choice[1] if choice and choice[2] == {"Ref": "AWS::NoValue"} else item


def arn_name(resource):
    """How ROLES names a resource: by the parameter or resource, or by its text."""
    resource = whatever_the_condition(resource)
    if isinstance(resource, str):
        return resource
    if "Ref" in resource:
        return resource["Ref"]
    if "Fn::GetAtt" in resource:
        return resource["Fn::GetAtt"][0]
    text = resource["Fn::Sub"] if isinstance(resource["Fn::Sub"], str) else resource["Fn::Sub"][0]
    return text.rsplit(":", 1)[-1] if text.startswith("arn:") else text


@rule
def calls_are_reviewed(templates):
    """The source makes the AWS calls that are listed here, and no others."""
    found = source.aws_calls()
    for call in sorted(found - set(CALLS)):
        yield f"{call[0]} calls {call[1]} {call[2]}, which CALLS does not have"
    for call in sorted(set(CALLS) - found):
        yield f"{call[0]} does not call {call[1]} {call[2]} any more"
    for call, (roles, action) in CALLS.items():
        for role in roles & set(ROLES):
            if not any(granted == action for granted, _ in ROLES[role]):
                yield f"{role} may not {action}, which {call[0]} needs"


@rule
def roles_allow_just_that(templates):
    """Each role allows what is listed: each action on each ARN, nothing else."""
    seen = set()
    for template, name, role in resources(templates, "AWS::IAM::Role"):
        seen.add(name)
        properties = role["Properties"]
        if properties.get("ManagedPolicyArns"):
            yield f"{template}: {name} has a managed policy, which may allow anything"
        principal = at(properties, "AssumeRolePolicyDocument.Statement.0.Principal")
        if principal != {"Service": f"{PRINCIPALS.get(name)}.amazonaws.com"}:
            yield f"{template}: {name} may be assumed by {principal}"
        granted = set()
        for policy in properties.get("Policies", []):
            for statement in policy["PolicyDocument"]["Statement"]:
                if statement["Effect"] != "Allow":
                    continue
                if "NotAction" in statement or "NotResource" in statement:
                    yield f"{template}: {name} allows all but something"
                granted |= grants(listed(statement.get("Action", [])),
                                  *map(arn_name, listed(statement.get("Resource", []))))
        for grant in sorted(granted - ROLES.get(name, set())):
            yield f"{template}: {name} allows {grant[0]} on {grant[1]}, which nobody needs"
        for grant in sorted(ROLES.get(name, set()) - granted):
            yield f"{template}: {name} does not allow {grant[0]} on {grant[1]}"
    if seen != set(ROLES):
        yield f"roles differ: {sorted(seen ^ set(ROLES))}"
    statements = at(templates["lambdas"]["Resources"],
                    f"{UPDATER}.Properties.Policies.0.PolicyDocument.Statement")
    if not any(s["Effect"] == "Deny" and s["Action"] == "ec2:*" for s in statements):
        yield f"lambdas: the code of redis-updater may use {UPDATER}'s network permissions"


def environments(templates):
    """What each program is given: name → value."""
    task = templates["compute"]["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    tracker = at(task, "tracker")
    functions = templates["lambdas"]["Resources"]
    return {
        "tracker": {entry["Name"]: entry.get("Value", entry.get("ValueFrom"))
                    for entry in map(whatever_the_condition,
                                     tracker.get("Environment", []) + tracker.get("Secrets", []))},
        "kinesis-consumer": at(functions, "Consumer.Properties.Environment.Variables") or {},
        "redis-updater": at(functions, "Updater.Properties.Environment.Variables") or {},
    }


@rule
def functions_fit_what_was_measured(templates):
    """Functions have the memory with which they were measured, twice what they took, ten times the time."""
    for function, (name, parameter) in {"kinesis-consumer": ("Consumer", "ConsumerMemory"),
                                        "redis-updater": ("Updater", "UpdaterMemory")}.items():
        properties = templates["lambdas"]["Resources"][name]["Properties"]
        memory = default_of(templates, "lambdas", properties["MemorySize"])
        measured, longest, peak = source.measured()[function]
        if properties["MemorySize"] != {"Ref": parameter} or memory != measured:
            yield f"lambdas: {name} has {memory} MB, and was measured with {measured}"
        if memory < 2 * peak:
            yield f"lambdas: {name} has {memory} MB, and took {peak}"
        if properties["Timeout"] * 1_000 < 10 * longest:
            yield f"lambdas: {name} has {properties['Timeout']} s, and took {longest} ms"


@rule
def variables_are_read(templates):
    """Programs are given the variables that they read; the others are left at their default."""
    found = source.variables()
    for path in sorted(set(found) - {path for paths in SETTINGS_OF.values() for path in paths}):
        yield f"{path} reads {sorted(found[path])}; SETTINGS_OF does not say whose settings it has"
    for program, given in environments(templates).items():
        missing = [path for path in SETTINGS_OF[program] if path not in found]
        if missing:
            yield f"{program}: no settings found in {missing}"
        read = set().union(*(found.get(path, set()) for path in SETTINGS_OF[program]))
        left = LEFT_AT_DEFAULT[program]
        for name in sorted(set(given) - read - OF_THE_SDK):
            yield f"{program} does not read {name}"
        for name in sorted(read - set(given) - set(left)):
            yield f"{program} reads {name}, which its template does not set"
        for name in sorted(set(left) - read):
            yield f"LEFT_AT_DEFAULT has {name}, which {program} does not read"
        for name in sorted(set(left) & set(given)):
            yield f"LEFT_AT_DEFAULT has {name}, which the template of {program} sets"


@rule
def metrics_are_emitted(templates):
    """Alarms and the dashboard read metrics that something emits, with the dimensions it gives."""
    filters = {}
    for _, _, resource in resources(templates, "AWS::Logs::MetricFilter"):
        for transformation in resource["Properties"]["MetricTransformations"]:
            filters[transformation["MetricName"]] = resource["Properties"]["FilterPattern"]
    said = (source.ROOT / "tracker/src/app.rs").read_text()
    for name, pattern in filters.items():
        text = re.search(r'"([^"*]+)\*?"', pattern)
        if text and text[1] not in said:
            yield f"{name} waits for a log line that the tracker does not write: {text[1]}"
    tracker = source.tracker_metrics()
    agent = json.dumps(at(templates["compute"]["Resources"]["Task"]["Properties"],
                          "ContainerDefinitions.metrics-agent.Environment"))
    kept = re.search(r"regex: (\S+?)\\n", agent)
    used = set()
    for template, _, alarm in resources(templates, "AWS::CloudWatch::Alarm"):
        for metric in metrics_of(alarm):
            if "adtrack" in json.dumps(metric["Namespace"]):
                used.add((template, metric["MetricName"], json.dumps(metric.get("Dimensions", []))))
    body = json.dumps(at(templates["observability-dashboard"]["Resources"],
                         "Dashboard.Properties.DashboardBody"))
    used |= {("observability-dashboard", name, "Service")
             for name in re.findall(r"adtrack_\w+", body)}
    used |= {("observability-dashboard", name, dimensions or "[]") for name, dimensions in re.findall(
        r'adtrack/\$\{Deployment\}", "([A-Z]\w+)", ((?:"[\w-]+", )*)', body.replace("\\", ""))}
    for template, name, dimensions in sorted(used):
        if name.startswith("adtrack_"):
            if name not in tracker:
                yield f"{template}: the tracker has no metric {name}"
            elif not kept or not re.fullmatch(kept[1], name):
                yield f"{template}: the agent does not pass {name} on"
            elif tracker[name][0] == "histogram":
                yield f"{template}: {name} is a histogram, which the agent does not pass on"
            if "Service" not in dimensions:
                yield f"{template}: {name} has the dimension Service"
        elif name in source.function_metrics():
            functions = re.findall("|".join(source.FUNCTIONS), dimensions)
            if len(functions) != 1 or '"Function"' not in dimensions:
                yield f"{template}: {name} has the dimension Function"
            elif name == "DifferingRepeats" and functions != ["kinesis-consumer"]:
                yield f"{template}: {functions[0]} has no {name}"
        elif name not in filters:
            yield f"{template}: nothing emits {name}"
        elif dimensions != "[]":
            yield f"{template}: {name} has no dimensions"


@rule
def agent_is_configured(templates):
    """The metrics agent scrapes the management listener, and writes to this deployment's namespace."""
    task = templates["compute"]["Resources"]["Task"]["Properties"]["ContainerDefinitions"]
    text = at(task, "metrics-agent.Environment.AOT_CONFIG_CONTENT.Fn::Sub") or ""
    try:
        config = yaml.safe_load(text)
        [scrape] = config["receivers"]["prometheus"]["config"]["scrape_configs"]
        [static] = scrape["static_configs"]
        exporter = config["exporters"]["awsemf"]
        [pipeline] = config["service"]["pipelines"].values()
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        yield f"compute: the agent's configuration cannot be read: {error}"
        return
    if static["targets"] != [at(task, "tracker.Environment.MANAGEMENT_ADDR")]:
        yield f"compute: the agent scrapes {static['targets']}"
    if static["labels"] != {"Service": "tracker"} or "/metrics" != scrape.get("metrics_path", "/metrics"):
        yield "compute: the agent gives metrics other dimensions"
    if exporter["namespace"] != "adtrack/${Deployment}" or exporter["log_group_name"] != "${MetricLogs}":
        yield "compute: the agent writes elsewhere"
    if pipeline != {"receivers": ["prometheus"], "exporters": ["awsemf"]}:
        yield "compute: the agent's pipeline is another"
    if "$" in re.sub(r"\$\{\w+\}", "", text):
        yield "compute: the agent would expand a $ of its configuration"
    dimensions = {tuple(one) for declared in exporter["metric_declarations"] for one in declared["dimensions"]}
    labels = {label for _, label in source.tracker_metrics().values() if label}
    for one in dimensions:
        if one[0] != "Service" or not set(one[1:]) <= labels:
            yield f"compute: the agent makes dimensions {one} of no label"


@rule
def dashboard_reads_left_to_right(templates):
    """The dashboard is JSON, and each path's stages stand in their order from left to right."""
    body = at(templates["observability-dashboard"]["Resources"],
              "Dashboard.Properties.DashboardBody.Fn::Sub") or ""
    try:
        widgets = json.loads(body)["widgets"]
    except (ValueError, KeyError) as error:
        yield f"observability-dashboard: no dashboard: {error}"
        return
    rows = {}
    for widget in widgets:
        if widget["type"] == "metric":
            rows.setdefault(widget["y"], []).append((widget["x"], widget["properties"]["title"]))
    titles = [title.split(":")[0] for row in sorted(rows) for _, title in sorted(rows[row])]
    expected = [
        "Load balancer", "Tracker", "Event stream", "Table",
        "Load balancer", "Tracker", "Event stream", "kinesis-consumer",
        "Core-data stream", "redis-updater", "Redis", "Trackers",
        "Core-data stream", "redis-updater", "Redis", "Trackers",
    ]
    if titles != expected:
        yield f"observability-dashboard: its stages are {titles}"
