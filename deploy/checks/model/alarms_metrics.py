"""The metrics that a deployment has in CloudWatch: AWS's own, by AWS's documentation, and ours, by the
programs' source and by what passes them on.

A metric here is of an *entity*: the load balancer, a stream, a function, … `published` gives each metric
of each entity its names in CloudWatch; an alarm that reads any other reads nothing, for ever.
"""

import functools
import re
from typing import NamedTuple

import yaml

from . import programs


class Metric(NamedTuple):
    """A metric of AWS: where it is, under which sets of dimensions, and which statistics mean something."""

    namespace: str
    dimensions: tuple
    statistics: tuple
    unit: str


COUNT = ("Sum",)
LEVEL = ("Maximum",)
# https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-cloudwatch-metrics.html
_ELB = "AWS/ApplicationELB"
_BALANCER, _GROUP = ("LoadBalancer",), ("LoadBalancer", "TargetGroup")
# https://docs.aws.amazon.com/streams/latest/dev/monitoring-with-cloudwatch.html
_STREAM = (("StreamName",),)
# https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html
_FUNCTION, _MAPPING = (("FunctionName",),), (("EventSourceMappingUUID",),)
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
_TABLE = (("TableName",),)
# https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
_NODE = (("CacheClusterId",), ("CacheClusterId", "CacheNodeId"))

# Of AWS, by entity; it says what each is worth as a statistic ("The most useful statistic is …").
AWS = {
    "balancer": {
        # Only of requests for which a target was chosen.
        "RequestCount": Metric(_ELB, (_BALANCER, _GROUP), COUNT, "Count"),
        "HTTPCode_Target_5XX_Count": Metric(_ELB, (_BALANCER, _GROUP), COUNT, "Count"),
        "HTTPCode_ELB_5XX_Count": Metric(_ELB, (_BALANCER,), COUNT, "Count"),
        # Of requests for which no target was chosen.
        "HTTPCode_ELB_503_Count": Metric(_ELB, (_BALANCER,), COUNT, "Count"),
        # Not there without a registered target.
        "HealthyHostCount": Metric(_ELB, (_GROUP,), ("Minimum", "Maximum"), "Count"),
        "UnHealthyHostCount": Metric(_ELB, (_GROUP,), LEVEL, "Count"),
        "TargetResponseTime": Metric(_ELB, (_BALANCER, _GROUP), ("p99", "p99.9"), "Seconds"),
    },
    "stream": {
        "IncomingRecords": Metric("AWS/Kinesis", _STREAM, COUNT, "Count"),
        "WriteProvisionedThroughputExceeded": Metric("AWS/Kinesis", _STREAM, COUNT, "Count"),
        "ReadProvisionedThroughputExceeded": Metric("AWS/Kinesis", _STREAM, COUNT, "Count"),
    },
    "function": {
        # Not there in a minute without an invocation.
        "Invocations": Metric("AWS/Lambda", _FUNCTION, COUNT, "Count"),
        "IteratorAge": Metric("AWS/Lambda", _FUNCTION, LEVEL, "Milliseconds"),
        "Errors": Metric("AWS/Lambda", _FUNCTION, COUNT, "Count"),
        "Throttles": Metric("AWS/Lambda", _FUNCTION, COUNT, "Count"),
    },
    # Only of a mapping whose MetricsConfig names EventCount.
    "mapping": {
        "OnFailureDestinationDeliveredEventCount": Metric("AWS/Lambda", _MAPPING, COUNT, "Count"),
        "DroppedEventCount": Metric("AWS/Lambda", _MAPPING, COUNT, "Count"),
    },
    "table": {"WriteThrottleEvents": Metric("AWS/DynamoDB", _TABLE, COUNT, "Count")},
    "node": {
        "DatabaseMemoryUsagePercentage": Metric("AWS/ElastiCache", _NODE, LEVEL, "Percent"),
        "Evictions": Metric("AWS/ElastiCache", _NODE, COUNT, "Count"),
        # Only of replicas.
        "ReplicationLag": Metric("AWS/ElastiCache", _NODE, LEVEL, "Seconds"),
        "EngineCPUUtilization": Metric("AWS/ElastiCache", _NODE, LEVEL, "Percent"),
    },
}
MOST_NODES = 3
# Ours: the statistic that means something. Of a gauge the worst task counts.
OURS = {
    # How many samples there are says how many agents report.
    "adtrack_journal_oldest_seconds": ("Maximum", "SampleCount"), "adtrack_journal_bytes": LEVEL,
    "adtrack_journal_capacity_bytes": ("Minimum",), "adtrack_subscribed": ("Minimum",),
    "adtrack_redis_connected": ("Minimum",), "adtrack_core_data_loaded": ("Minimum",),
    "OldestRecordAge": LEVEL, "adtrack_journal_lost_files": LEVEL,
    "adtrack_task_stalled": LEVEL, "adtrack_program_share_jumps": LEVEL,
}


# Metrics of the tracker's log: how the messages begin that they count.
COUNTED = {"NotDrained": "not drained in time"}


class Published(NamedTuple):
    """A metric that there is: (entity, its name), and the statistics that mean something."""

    entity: str
    name: str
    statistics: tuple


def published(system):
    """Every metric of a deployment: (namespace, name, dimensions) → Published."""
    found = {}
    has_replicas = any(int(redis.get("NumCacheClusters", 1)) > 1
                       for redis in system.of_type("AWS::ElastiCache::ReplicationGroup"))
    for entity, kind, values in _entities(system):
        for name, metric in AWS[kind].items():
            if name == "ReplicationLag" and not has_replicas:
                continue
            for names in metric.dimensions:
                if all(key in values for key in names):
                    dimensions = frozenset((key, values[key]) for key in names)
                    found[metric.namespace, name, dimensions] = Published(entity, name, metric.statistics)
    found.update(_of_functions(system))
    found.update(_of_trackers(system))
    found.update(_of_logs(system))
    return found


def _entities(system):
    """Entities of AWS: name, kind, dimensions."""
    yield "balancer", "balancer", {
        "LoadBalancer": _full_name(system, "AWS::ElasticLoadBalancingV2::LoadBalancer", "LoadBalancerFullName"),
        "TargetGroup": _full_name(system, "AWS::ElasticLoadBalancingV2::TargetGroup", "TargetGroupFullName")}
    for function in system.of_type("AWS::Lambda::Function"):
        program = programs.function_of(function)
        if program is None:
            continue
        yield program, "function", {"FunctionName": function.ref}
        for mapping in system.of_type("AWS::Lambda::EventSourceMapping"):
            if mapping.get("FunctionName") not in (function.ref, function.arn):
                continue
            if "EventCount" in mapping.get("MetricsConfig.Metrics", []):
                yield f"{program}'s mapping", "mapping", {"EventSourceMappingUUID": mapping.ref}
            stream = system.called(mapping.get("EventSourceArn"))
            if stream:
                yield f"{program}'s stream", "stream", {"StreamName": stream.ref}
        if program == "kinesis-consumer":
            yield "table", "table", {"TableName": function.get("Environment.Variables.TABLE_NAME")}
    for redis in system.of_type("AWS::ElastiCache::ReplicationGroup"):
        nodes = int(redis.get("NumCacheClusters", 1))
        # Alarms read three nodes; those that are not there publish nothing, and MAX and SUM pass over them.
        for number in range(1, MOST_NODES + 1):
            yield f"node{number}" if number <= nodes else "no node", "node", {
                "CacheClusterId": f"{redis.ref}-{number:03}", "CacheNodeId": "0001"}


def _full_name(system, kind, attribute):
    found = system.of_type(kind)
    # An existing one is a parameter.
    return found[0].identity.attributes.get(attribute) if found else system.parameters.get(attribute)


def _of_functions(system):
    """What the functions write as log lines in the embedded metric format."""
    for function in system.of_type("AWS::Lambda::Function"):
        program = programs.function_of(function)
        namespace = function.get("Environment.Variables.METRICS_NAMESPACE")
        if program is None or not namespace:
            continue
        for name in programs.function_metrics():
            if name != "DifferingRepeats" or program == "kinesis-consumer":
                key = (namespace, name, frozenset({("Function", program)}))
                yield key, Published(program, name, OURS.get(name, COUNT))


def _of_trackers(system):
    """What the metrics agent passes on."""
    for _, agent in _agents(system):
        yield from _passed_on(*agent)[0]


def broken_agents(system):
    """Tasks whose metrics agent passes nothing on that this model can be sure of, and why."""
    for task, agent in _agents(system):
        if reason := _passed_on(*agent)[1]:
            yield task, reason


def _agents(system):
    """Tasks with a metrics agent: its configuration, where the tracker listens, and the groups of logs."""
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        environments = {
            container.get("Name"): {entry.get("Name"): entry.get("Value")
                                    for entry in container.get("Environment", [])}
            for container in task.get("ContainerDefinitions", [])}
        for environment in environments.values():
            if "AOT_CONFIG_CONTENT" in environment:
                groups = {group.ref for group in system.of_type("AWS::Logs::LogGroup")}
                listens = environments.get("tracker", {}).get("MANAGEMENT_ADDR")
                yield task, (environment["AOT_CONFIG_CONTENT"], listens, frozenset(groups))


@functools.lru_cache(1024)
def _passed_on(text, listens, groups):
    """The metrics that an agent with this configuration puts into CloudWatch; none, and why, if it is not
    as this model knows it.

    The receiver keeps names that match wholly; a declaration takes names that one of its selectors finds,
    and gives them its sets of dimensions (awsemfexporter's README).
    """
    try:
        return tuple(_declared(yaml.safe_load(text), listens, groups)), ""
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError, re.error) as error:
        return (), " ".join(str(error).split()) or type(error).__name__


def _declared(config, listens, groups):
    if len(config) != 3:
        raise ValueError(f"it has {', '.join(config)}, expected receivers, exporters and service alone")
    pipeline = config["service"]["pipelines"]["metrics"]
    if pipeline != {"receivers": ["prometheus"], "exporters": ["awsemf"]}:
        raise ValueError(f"its pipeline is {pipeline}, expected from prometheus to awsemf alone")
    exporter = config["exporters"]["awsemf"]
    known = {"namespace", "log_group_name", "log_stream_name", "dimension_rollup_option", "metric_declarations"}
    if set(exporter) != known or not exporter["log_stream_name"]:
        raise ValueError(f"awsemf sets {', '.join(sorted(exporter))}, expected {', '.join(sorted(known))}")
    if exporter["log_group_name"] not in groups:
        raise ValueError(f"log_group_name {exporter['log_group_name']} is no log group of the deployment")
    if exporter["dimension_rollup_option"] != "NoDimensionRollup":
        raise ValueError(f"dimension_rollup_option is {exporter['dimension_rollup_option']}, expected "
                         "NoDimensionRollup: each rollup is one more metric to pay for")
    for job in config["receivers"]["prometheus"]["config"]["scrape_configs"]:
        unknown = set(job) - {"job_name", "scrape_interval", "static_configs", "metric_relabel_configs"}
        if unknown:
            raise ValueError(f"its job sets {', '.join(sorted(unknown))}, which this model does not know")
        # The alarms' periods are minutes.
        if not re.fullmatch(r"(5|10|15|20|30)s", job["scrape_interval"]):
            raise ValueError(f"scrape_interval is {job['scrape_interval']}, expected 5 to 30 s: several in a minute")
        for target in job["static_configs"]:
            if target["targets"] != [listens]:
                raise ValueError(f"it scrapes {target['targets']}; the tracker's MANAGEMENT_ADDR is {listens}")
            labels = target.get("labels", {})
            for name, (kind, label) in programs.tracker_metrics().items():
                if kind != "histogram" and _kept(name, job.get("metric_relabel_configs", [])):
                    own = {label} if label else set()
                    yield from _with_dimensions(name, labels, own, exporter)


def _kept(name, relabels):
    for relabel in relabels:
        if relabel["source_labels"] != ["__name__"] or relabel["action"] not in ("keep", "drop"):
            raise ValueError("a relabel rule that this model does not know")
        if bool(re.fullmatch(relabel["regex"], name)) != (relabel["action"] == "keep"):
            return False
    return True


def _with_dimensions(name, labels, own, exporter):
    statistics = OURS.get(name, COUNT)
    for declaration in exporter["metric_declarations"]:
        if not any(re.search(selector, name) for selector in declaration["metric_name_selectors"]):
            continue
        for names in declaration["dimensions"]:
            if set(names) <= set(labels) | own:
                # A label of the metric itself has many values; alarms read those without.
                dimensions = frozenset((key, labels.get(key, "*")) for key in names)
                yield (exporter["namespace"], name, dimensions), Published("tracker", name, statistics)


def misread_logs(system):
    """Metric filters that pass over log lines which they have to count, or count others; and what is wrong."""
    for found in system.of_type("AWS::Logs::MetricFilter"):
        if reason := _misread(found):
            yield found, reason


def _misread(metric_filter):
    """Which of the tracker's messages a filter counts and should not, or the other way; None if it is right.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html: a text is compared as a
    whole, and * stands for any text.
    """
    pattern = str(metric_filter.get("FilterPattern"))
    match = re.fullmatch(r'\{ \$\.message = "([^"]+)" \}', pattern)
    if not match:
        return f"the pattern {pattern} is none that this model knows"
    for item in metric_filter.get("MetricTransformations", []):
        begins = COUNTED.get(item.get("MetricName"))
        if begins is None:
            return f"{item.get('MetricName')} is a metric of which alarms_metrics.py does not say what it counts"
        for message in programs.log_messages():
            counts = re.fullmatch(re.escape(match[1]).replace(r"\*", ".*"), message)
            if message.startswith(begins) and not counts:
                return f"the pattern {pattern} passes over the message {message!r}"
            if counts and not message.startswith(begins):
                return f"the pattern {pattern} counts the message {message!r} as {item.get('MetricName')}"
        if not any(message.startswith(begins) for message in programs.log_messages()):
            return f"the tracker writes no message that begins with {begins!r}"
    return None


def _of_logs(system):
    """What metric filters count in the trackers' log."""
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        for container in task.get("ContainerDefinitions", []):
            if container.get("Name") != "tracker":
                continue
            group = (container.get("LogConfiguration") or {}).get("Options", {}).get("awslogs-group")
            formats = [entry.get("Value") for entry in container.get("Environment", [])
                       if entry.get("Name") == "LOG_FORMAT"]
            for found in system.of_type("AWS::Logs::MetricFilter"):
                if found.get("LogGroupName") != group or formats != ["json"] or _misread(found):
                    continue
                for item in found.get("MetricTransformations", []):
                    if item.get("MetricValue") == "1":
                        key = (item.get("MetricNamespace"), item.get("MetricName"), frozenset())
                        yield key, Published("tracker's log", item.get("MetricName"), COUNT)
