"""Numbers: each is within its stated range (numbers.yaml), and those that belong together agree.

`static_findings` reads the templates as they are written; `judge` looks at a deployment. A relation is a
function whose docstring says what has to hold, and why; it yields what does not.
"""

import fnmatch
import functools
import re
from pathlib import Path
from typing import NamedTuple

import yaml

from . import programs
from .finding import Finding
from .synth import Templates, number

TABLE = Path(__file__).with_name("numbers.yaml")
# Numbers in these decide something, and are judged by what they decide.
NOT_HERE = ("Rules", "Conditions", "Outputs")
# Pictures and texts for people.
IGNORED_TEMPLATES = ("observability-dashboard",)
NAMES_OF_ITEMS = ("Name", "Id", "Key", "Sid", "PolicyName", "AttributeName", "IndexName", "ContainerName")


class Range(NamedTuple):
    """What a number may be: from `low` to `high`, or one of `items`."""

    text: str
    low: float = 0
    high: float = 0
    items: frozenset = frozenset()

    def __contains__(self, value):
        return value in self.items if self.items else self.low <= value <= self.high


class Entry(NamedTuple):
    """A line of the table."""

    template: str
    pattern: str
    range: Range
    reason: str

    @property
    def is_judged_elsewhere(self):
        """Whether the range is wide because something else decides about the number."""
        return "judged by" in self.reason

    @property
    def is_exact(self):
        return "*" not in self.pattern and self.template != "*"

    def covers(self, path):
        # `[` and `?` stand for themselves.
        return fnmatch.fnmatchcase(path, re.sub(r"([\[?])", r"[\1]", self.pattern))


@functools.cache
def table():
    """The entries of numbers.yaml, those of a template before those for all."""
    found = []
    for template, lines in yaml.safe_load(TABLE.read_text()).items():
        for pattern, line in lines.items():
            text, _, reason = str(line).partition("|")
            if not reason.strip():
                raise ValueError(f"{TABLE.name}: {template} {pattern} has no reason")
            found.append(Entry(template, pattern, _range(text.strip()), reason.strip()))
    return tuple(sorted(found, key=lambda entry: entry.template == "*"))


def _range(text):
    if text.startswith("{"):
        return Range(text, items=frozenset(float(item) for item in text[1:-1].split(",")))
    low, _, high = text.partition("..")
    return Range(text, float(low), float(high or low))


@functools.lru_cache(20_000)
def entry_of(template, path):
    """The first entry that covers a number."""
    found = _entries(template)
    return next((entry for entry in found if entry.covers(path)), None)


@functools.cache
def _entries(template):
    """A template's entries, those without a pattern first."""
    mine = [entry for entry in table() if entry.template in (template, "*")]
    return tuple(sorted(mine, key=lambda entry: "*" in entry.pattern or entry.template == "*"))


def numbers(body):
    """Every number of a template with its path, as the table names it. A list of allowed values is one."""
    for section, members in body.items():
        if section not in NOT_HERE and isinstance(members, dict):
            yield from _walk(members, "" if section == "Resources" else f"{section}.")


def _walk(node, prefix):
    """Of a section: RESOURCE PATH, or SECTION.NAME.PATH."""
    for name, member in node.items():
        if not isinstance(member, dict):
            continue
        if prefix:
            yield from _numbers(member, f"{prefix}{name}")
        else:
            for key, value in (member.get("Properties") or {}).items() \
                    if isinstance(member.get("Properties"), dict) else ():
                yield from _numbers(value, f"{name} {key}")


def _numbers(node, path):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "AllowedValues" and isinstance(value, list):
                found = [number(item) for item in value]
                if found and None not in found:
                    yield f"{path}.{key}", frozenset(map(float, found))
            # Digits there are an account.
            elif key != "Principal":
                yield from _numbers(value, f"{path}.{key}")
    elif isinstance(node, list):
        for index, item in enumerate(node):
            yield from _numbers(item, f"{path}.{_name_of(item, index)}")
    else:
        value = number(node)
        if value is not None:
            yield path, value


def _name_of(item, index):
    if isinstance(item, dict):
        for key in NAMES_OF_ITEMS:
            if isinstance(item.get(key), str):
                return item[key]
    return str(index)


def static_findings(templates):
    """Numbers outside of their range, without an entry, or missing."""
    return Templates.of(templates).each(_static_findings)


def _static_findings(template, body):
    if template in IGNORED_TEMPLATES:
        return
    seen = set()
    for path, value in numbers(body):
        seen.add(path)
        entry = entry_of(template, path)
        resource = path.split(" ")[0]
        if entry is None:
            yield Finding(template, resource, f"{path} is {_text(value)}; numbers.yaml has no range for it")
        elif value != entry.range.items if isinstance(value, frozenset) else value not in entry.range:
            yield Finding(template, resource, f"{path} is {_text(value)}; its range is {entry.range.text}")
    for entry in _entries(template):
        if entry.template == template and entry.is_exact and entry.pattern not in seen:
            yield Finding(template, entry.pattern.split(" ")[0],
                          f"{entry.pattern} is not there; its range is {entry.range.text}")


def stays_within(template, before, after):
    """Whether one number differs between two versions of a template, and is in its range in both."""
    old, new = dict(numbers(before)), dict(numbers(after))
    differing = [path for path in old if new.get(path) != old[path]]
    if len(differing) != 1 or set(old) != set(new):
        return False
    entry = entry_of(template, differing[0])
    value = new[differing[0]]
    return (entry is not None and not entry.is_judged_elsewhere and not isinstance(value, frozenset)
            and value in entry.range)


def _text(value):
    return "{" + ", ".join(f"{item:g}" for item in sorted(value)) + "}" if isinstance(value, frozenset) else value


RELATIONS = []


def relation(function):
    """Adds a relation."""
    RELATIONS.append(function)
    return function


def judge(system):
    """What does not agree in a deployment."""
    for holds in RELATIONS:
        yield from holds(system)


def _container(system, name="tracker"):
    """The task definition that has a container of this name, and the container."""
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        for container in task.get("ContainerDefinitions", []):
            if container.get("Name") == name:
                return task, container
    return None, {}


def _setting(container, name, default=None):
    """A number of a container's environment; without it, the program's default."""
    for entry in container.get("Environment", []):
        if entry.get("Name") == name:
            return number(entry.get("Value"))
    return default


@relation
def idle_connections_are_closed_by_the_load_balancer(system):
    """Idle time-out < the tracker's keep-alive (KEEP_ALIVE, tracker/src/http/public/server.rs): a request on a
    connection that the tracker is closing becomes a 502."""
    for balancer in system.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        attributes = _attributes(balancer, "LoadBalancerAttributes")
        idle = number(attributes.get("idle_timeout.timeout_seconds", 60))
        if idle is None or idle >= programs.keep_alive_seconds():
            yield balancer.finding(f"idle time-out {idle} s is not below the tracker's keep-alive, "
                                   f"{programs.keep_alive_seconds()} s")


def _attributes(resource, name):
    return {item.get("Key"): item.get("Value") for item in resource.get(name, []) if isinstance(item, dict)}


@relation
def a_stop_has_time_to_drain(system):
    """StopTimeout > deregistration + SHUTDOWN_GRACE_SECONDS, or the task is killed with events in its
    journal; SHUTDOWN_DELAY_SECONDS > the time after which the load balancer notices."""
    task, container = _container(system)
    for group in system.of_type("AWS::ElasticLoadBalancingV2::TargetGroup"):
        if task is None:
            return
        attributes = _attributes(group, "TargetGroupAttributes")
        deregistration = number(attributes.get("deregistration_delay.timeout_seconds", 300)) or 0
        grace = _setting(container, "SHUTDOWN_GRACE_SECONDS", 25) or 0
        delay = _setting(container, "SHUTDOWN_DELAY_SECONDS", 5) or 0
        stop = number(container.get("StopTimeout", 30)) or 0
        if stop <= deregistration + grace:
            yield task.finding(f"StopTimeout {stop} s is not above deregistration {deregistration} s "
                               f"and drain {grace} s together")
        if not delay < grace:
            yield task.finding(f"SHUTDOWN_DELAY_SECONDS {delay} is not below SHUTDOWN_GRACE_SECONDS {grace}")
        noticed = (number(group.get("HealthCheckIntervalSeconds", 30)) or 0) * (
            number(group.get("UnhealthyThresholdCount", 2)) or 0)
        if delay <= noticed:
            yield task.finding(f"stops listening after {delay} s; the load balancer notices after {noticed} s")
        if (number(group.get("HealthCheckTimeoutSeconds", 5)) or 0) >= (
                number(group.get("HealthCheckIntervalSeconds", 30)) or 0):
            yield group.finding("the health check's time-out is not below its interval")


@relation
def a_start_has_time_to_warm_up(system):
    """WARM_UP_SECONDS < StartPeriod <= the service's grace period: a task that loads is not a failure."""
    _, container = _container(system)
    for service in system.of_type("AWS::ECS::Service"):
        warm_up = _setting(container, "WARM_UP_SECONDS", 0) or 0
        start = number((container.get("HealthCheck") or {}).get("StartPeriod", 0)) or 0
        grace = number(service.get("HealthCheckGracePeriodSeconds", 0)) or 0
        if not warm_up < start <= grace:
            yield service.finding(f"warm-up {warm_up} s, start period {start} s and grace period {grace} s "
                                  "are not in this order")


# The parameter that says how many invocations are kept for a function.
KEPT = {"kinesis-consumer": "ConsumerConcurrency", "redis-updater": "UpdaterConcurrency", None: None}


@relation
def shards_have_invocations(system):
    """Parallelization x shards <= the function's reserved concurrency, or shards wait for each other."""
    for mapping in system.of_type("AWS::Lambda::EventSourceMapping"):
        stream, function = system.called(mapping.get("EventSourceArn")), system.called(mapping.get("FunctionName"))
        if stream is None or function is None:
            continue
        reserved = number(function.get("ReservedConcurrentExecutions"))
        # An on-demand stream starts with four shards.
        shards = number(stream.get("ShardCount", 4)) or 4
        needed = shards * (number(mapping.get("ParallelizationFactor", 1)) or 1)
        if reserved is None and str(system.parameters.get(KEPT[programs.function_of(function)])) == "0":
            continue  # asked for, in an account whose concurrency is too small to keep any
        if reserved is None or reserved < needed:
            yield function.finding(f"is kept {reserved} invocations; its stream needs {needed}")


@relation
def nothing_is_given_up_before_the_stream_does(system):
    """MaximumRecordAge = the stream's retention: an outage of the store costs nothing for that long."""
    for mapping in system.of_type("AWS::Lambda::EventSourceMapping"):
        stream = system.called(mapping.get("EventSourceArn"))
        if stream is None:
            continue
        kept = (number(stream.get("RetentionPeriodHours", 24)) or 0) * 3600
        age = number(mapping.get("MaximumRecordAgeInSeconds", -1))
        if age != kept:
            yield mapping.finding(f"gives records up after {age} s; the stream keeps them for {kept} s")
        for bucket in system.of_type("AWS::S3::Bucket"):
            for rule in bucket.get("LifecycleConfiguration.Rules", []):
                days = number(rule.get("ExpirationInDays"))
                if rule.get("Id") == "records" and days is not None and days * 86400 < 2 * kept:
                    yield bucket.finding(f"keeps failed records for {days} days, hardly longer than the stream")


@relation
def a_batch_fits_its_function(system):
    """Memory is what was measured with, and twice the peak; the time-out ten times the longest batch
    (docs/DEPLOY.md, written by deploy/checks/packages)."""
    for function in system.of_type("AWS::Lambda::Function"):
        program = programs.function_of(function)
        if program is None:
            continue
        measured, longest, peak = programs.measured()[program]
        memory, limit = number(function.get("MemorySize", 128)) or 0, number(function.get("Timeout", 3)) or 0
        if memory < measured and memory < 2 * peak:
            yield function.finding(f"has {memory} MB; a batch took {peak} with {measured}")
        if limit * 1000 < 10 * longest:
            yield function.finding(f"has {limit} s; a batch took {longest:g} ms")


# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
FARGATE = {256: {512, 1024, 2048}, 512: set(range(1024, 4097, 1024)), 1024: set(range(2048, 8193, 1024)),
           2048: set(range(4096, 16385, 1024)), 4096: set(range(8192, 30721, 1024)),
           8192: set(range(16384, 61441, 4096)), 16384: set(range(32768, 122881, 8192))}


@relation
def fargate_has_such_a_size(system):
    """CPU and memory are a pair that Fargate has; the containers' own fit into it."""
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        cpu, memory = number(task.get("Cpu")), number(task.get("Memory"))
        if memory not in FARGATE.get(cpu, ()):
            yield task.finding(f"Fargate has no task of {cpu} CPU units and {memory} MB")
            continue
        containers = task.get("ContainerDefinitions", [])
        if sum(number(item.get("Cpu", 0)) or 0 for item in containers) > cpu / 2:
            yield task.finding("the containers next to the tracker take more than half of the CPU")
        if sum(number(item.get("Memory", 0)) or 0 for item in containers) > memory / 2:
            yield task.finding("the containers next to the tracker take more than half of the memory")


@relation
def the_disk_holds_the_journal(system):
    """JOURNAL_MAX_BYTES + 10 GiB for image and logs <= the task's disk."""
    task, container = _container(system)
    if task is None:
        return
    disk = number(task.get("EphemeralStorage.SizeInGiB", 20)) or 0
    journal = _setting(container, "JOURNAL_MAX_BYTES", 1 << 30) or 0
    if journal + (10 << 30) > disk << 30:
        yield task.finding(f"has {disk} GiB for a journal of {journal / (1 << 30):g} GiB")


@relation
def redis_is_of_one_version(system):
    """The parameter group's family is that of the engine and its version."""
    for redis in system.of_type("AWS::ElastiCache::ReplicationGroup"):
        engine, version = redis.get("Engine"), str(redis.get("EngineVersion", ""))
        group = system.called(redis.get("CacheParameterGroupName"))
        family = group.get("CacheParameterGroupFamily") if group else None
        if family != f"{engine}{version.partition('.')[0]}":
            yield redis.finding(f"is {engine} {version}, and its parameters are of {family}")
        nodes = number(redis.get("NumCacheClusters", 1)) or 1
        if nodes < 2 and (redis.get("AutomaticFailoverEnabled") in (True, "true")
                          or redis.get("MultiAZEnabled") in (True, "true")):
            yield redis.finding("has one node, and is to fail over to another")


@relation
def the_service_can_grow(system):
    """MinCapacity <= MaxCapacity; there is a way out under load, and both policies scale the same service."""
    for target in system.of_type("AWS::ApplicationAutoScaling::ScalableTarget"):
        low, high = number(target.get("MinCapacity")), number(target.get("MaxCapacity"))
        if low is None or high is None or low > high:
            yield target.finding(f"scales from {low} to {high}")
