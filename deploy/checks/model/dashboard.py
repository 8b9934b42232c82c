"""The dashboard: each widget shows what its title says, by a metric that there is and a statistic that means
something of it, in the deployment's own region.
"""

import itertools
import json
import re
from typing import NamedTuple

from .alarms_metrics import broken_agents, published
from .finding import Finding
from .synth import Templates

KIND = "AWS::CloudWatch::Dashboard"
COLUMNS = 24
REGION = "${AWS::Region}"
# Words of titles, and the entities that they stand for (alarms_metrics.py).
SUBJECTS = {
    "Load balancer": "balancer", "Tracker": "tracker", "Trackers": "tracker", "events": "tracker",
    "Event stream": "kinesis-consumer's stream", "Core-data stream": "redis-updater's stream",
    "consumer": "kinesis-consumer", "kinesis-consumer": "kinesis-consumer", "redis-updater": "redis-updater",
    "Table": "table", "table": "table", "Redis": "redis",
}
# For people, next to what alarms read: namespace, name → the dimension that says whose it is, and statistics.
SHOWN = {
    ("AWS/Kinesis", "IncomingRecords"): ("StreamName", ("Sum",)),
    ("AWS/DynamoDB", "ConsumedWriteCapacityUnits"): ("TableName", ("Sum",)),
    ("AWS/Lambda", "Invocations"): ("FunctionName", ("Sum",)),
    ("AWS/Lambda", "Duration"): ("FunctionName", ("p99", "Maximum")),
    ("AWS/ECS", "CPUUtilization"): ("ServiceName", ("Average", "Maximum")),
    ("AWS/ElastiCache", "ReplicationLag"): ("CacheClusterId", ("Maximum",)),
}
# The slowest responses, and the usual one.
PERCENTILES = {"TargetResponseTime": ("p50",)}
SEARCH = re.compile(r"""SEARCH\('\{"([^"]+)",([\w,]+)\} MetricName="(\w+)"', '(\w+)', (\d+)\)""")


class _Shown(NamedTuple):
    """A metric of a widget: what it is of, its name, its statistic, and those that mean something."""

    entity: str
    name: str
    statistic: str
    statistics: tuple


class _DashboardError(Exception):
    """What is wrong with a metric of a widget."""


def static_findings(templates):
    """Widgets of a region that is written out: they show nothing in any other."""
    return Templates.of(templates).each(_static_findings)


def _static_findings(file, body):
    for name, resource in body["Resources"].items():
        if isinstance(resource, dict) and resource.get("Type") == KIND:
            text = json.dumps(resource.get("Properties")).replace('\\"', '"')
            for title, region in re.findall(r'"title": "([^"]*)", "region": "([^"]*)"', text):
                if region != REGION:
                    yield Finding(file, name, f"widget {title!r}: its region is {region}, not {REGION}")


def judge(system):
    """Findings about each widget of a dashboard."""
    for resource in system.of_type(KIND):
        if list(broken_agents(system)):
            return  # the trackers' metrics are not known, which is a finding already
        try:
            widgets = json.loads(resource.get("DashboardBody"))["widgets"]
            for text in _problems(system, widgets):
                yield resource.finding(text)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
            yield resource.finding(f"its body is not formed as a dashboard's: {type(error).__name__}: {error}")


def _problems(system, widgets):
    metrics = published(system)
    for widget in widgets:
        if widget["type"] == "metric":
            for text in _of_widget(system, metrics, widget["properties"]):
                yield f"widget {widget['properties'].get('title')!r}: {text}"
    yield from _places(widgets)


def _places(widgets):
    """Widgets that lie outside the page, or over each other."""
    cells = {}
    for widget in widgets:
        name = widget["properties"].get("title", widget["properties"].get("markdown"))
        left, top, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        if left < 0 or left + width > COLUMNS:
            yield f"widget {name!r}: ends at column {left + width} of {COLUMNS}"
        for cell in itertools.product(range(left, left + width), range(top, top + height)):
            if cells.setdefault(cell, name) != name:
                yield f"widget {name!r}: lies over {cells[cell]!r}"
                break


def _of_widget(system, metrics, properties):
    if properties["region"] != system.scenario.region:
        yield f"its region is {properties['region']}, not that of the deployment"
    if properties["view"] != "timeSeries" or properties["period"] != 60:
        yield f"shows {properties['view']} by {properties['period']} s; alarms look at minutes"
    shown, named = set(), _named(properties["title"])
    for item in properties["metrics"]:
        options = item[-1] if isinstance(item[-1], dict) else {}
        try:
            metric = _searched(metrics, options, properties) if "expression" in options else _read(
                system, metrics, item, options)
        except _DashboardError as error:
            yield str(error)
            continue
        shown.add(metric.entity)
        yield from _of_metric(metric, options, named)
    for word, entity in named.items():
        if entity not in shown:
            yield f"names {word!r}, and shows no metric of the {entity}"


def _of_metric(metric, options, named):
    """A statistic that means something, the label of the same, and an entity that the title names."""
    if metric.statistic not in metric.statistics:
        yield (f"shows the {metric.statistic} of {metric.name}; what means something is its "
               f"{' or '.join(metric.statistics)}")
    percentile = re.fullmatch(r"p\d+(\.\d+)?", str(options.get("label")))
    if percentile and options["label"] != metric.statistic:
        yield f"{metric.name} is called {options['label']}, and shows the {metric.statistic}"
    if metric.entity not in named.values():
        yield f"shows {metric.name} of the {metric.entity}, which the title does not name"


def _named(title):
    """Words of the title that stand for an entity; longer ones first, so that none counts within another."""
    found = {}
    for word in sorted(SUBJECTS, key=len, reverse=True):
        pattern = rf"(?<![\w-]){re.escape(word)}(?![\w-])"
        if re.search(pattern, title):
            found[word] = SUBJECTS[word]
            title = re.sub(pattern, "", title)
    return found


def _read(system, metrics, item, options):
    namespace, name, *rest = [part for part in item if not isinstance(part, dict)]
    dimensions = dict(zip(rest[::2], rest[1::2], strict=True))
    statistic = options.get("stat", "Average")
    known = metrics.get((namespace, name, frozenset(dimensions.items())))
    if known:
        return _Shown(_subject(known.entity), name, statistic, known.statistics + PERCENTILES.get(name, ()))
    if (namespace, name) in SHOWN:
        owner, statistics = SHOWN[namespace, name]
        entity = _owners(system, metrics).get((owner, dimensions.get(owner)))
        if entity:
            return _Shown(entity, name, statistic, statistics)
    shown = ", ".join(f"{key}={value}" for key, value in dimensions.items()) or "no dimension"
    raise _DashboardError(f"shows {namespace} {name} with {shown}, which nothing publishes")


def _searched(metrics, options, properties):
    """The metric that an expression searches for, by each value of a label."""
    match = SEARCH.fullmatch(options["expression"])
    if not match:
        raise _DashboardError(f"its expression {options['expression']} is none that this model knows")
    namespace, labels, name, statistic, period = match.groups()
    if "," not in labels:
        raise _DashboardError(f"searches for {name} by {labels} alone, and shows one sum in place of each kind")
    if int(period) != properties["period"]:
        raise _DashboardError(f"searches by {period} s in a widget of {properties['period']}")
    for (space, metric, dimensions), known in metrics.items():
        if (space, metric) == (namespace, name) and {key for key, _ in dimensions} == set(labels.split(",")):
            return _Shown(_subject(known.entity), name, statistic, known.statistics)
    raise _DashboardError(f"searches for {namespace} {name} by {labels}, which nothing publishes")


def _owners(system, metrics):
    """Dimension and its value → the entity."""
    found = {}
    for (_, _, dimensions), metric in metrics.items():
        if len(dimensions) == 1 or ("CacheNodeId", "0001") in dimensions:
            found |= dict.fromkeys(dimensions, _subject(metric.entity))
    for service in system.of_type("AWS::ECS::Service"):
        found["ServiceName", service.identity.attributes.get("Name")] = "tracker"
    return found


def _subject(entity):
    return "redis" if "node" in entity else entity
