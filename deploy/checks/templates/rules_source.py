"""Rules that hold templates and source together: AWS calls, variables, metrics."""

import json
import re

import source
import yaml
from model import calls
from rules import at, default_of, metrics_of, resources, rule, whatever_the_condition

# Files whose settings each program reads.
SETTINGS_OF = {
    "tracker": ["tracker/src/config.rs", "tracker/src/http/public/click_settings.rs",
                "tracker/src/http/public/rate_limits.rs", "tracker/src/http/public/server.rs",
                "tracker/src/http/public/signatures.rs", "tracker/src/http/public/visitors.rs",
                "deploy/runtime/src/redis_settings.rs", "deploy/runtime/src/telemetry.rs"],
    "kinesis-consumer": ["kinesis-consumer/src/config.rs", "deploy/runtime/src/telemetry.rs"],
    "redis-updater": ["redis-updater/src/config.rs", "deploy/runtime/src/redis_settings.rs",
                      "deploy/runtime/src/telemetry.rs"],
    # Not in the templates yet.
    "archiver": ["kinesis-consumer/src/archive/config.rs", "deploy/runtime/src/telemetry.rs"],
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
        "RATE_LIMIT_PATHS": "conversions and batches come from partners' servers",
        "RATE_LIMIT_DIRECT_CLIENTS": "clients connect to the load balancer",
        "CONVERSION_KEYS_FILE": "ECS gives secrets as variables: CONVERSION_KEYS",
        "LINK_KEYS_FILE": "as CONVERSION_KEYS_FILE: LINK_KEYS",
        "ECS_AGENT_URI": "ECS sets it in every task",
        "PROTECT_AFTER_SECONDS": "no reason to change it",
        "MAX_CONNECTIONS": "no reason to change it",
        "REQUEST_TIMEOUT_SECONDS": "no reason to change it",
    },
    "kinesis-consumer": {
        "ROW_TYPES": "without the archive, an event that is no row is nowhere",
    },
    "redis-updater": REDIS_BY_URL,
}
# Read by the AWS SDK and object_store.
OF_THE_SDK = {"AWS_REGION"}


@rule
def calls_are_reviewed(templates):
    """The source makes the AWS calls that the model has grants for, and no others."""
    yield from calls.findings(templates, source.aws_calls())


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
