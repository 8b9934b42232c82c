"""The table of numbers, and the relations: nothing is stale, and each notices what it is for."""

import copy

import pytest

from model import numbers, scenarios, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def test_every_entry_covers_a_number(templates):
    used = {numbers.entry_of(template, path) for template, body in templates.items()
            for path, _ in numbers.numbers(body)}

    stale = [f"{entry.template} {entry.pattern}" for entry in numbers.table() if entry not in used]
    assert stale == []


def test_templates_are_within_their_ranges(templates):
    assert list(numbers.static_findings(templates)) == []


CHANGES = [
    ("load-balancer", "LoadBalancer", "LoadBalancerAttributes.0.Value", "75"),
    ("compute", "Task", "ContainerDefinitions.0.StopTimeout", 110),
    ("target-group", "TargetGroup", "HealthCheckIntervalSeconds", 10),
    ("target-group", "TargetGroup", "HealthCheckTimeoutSeconds", 5),
    ("compute", "Service", "HealthCheckGracePeriodSeconds", 60),
    ("lambdas", "Consumer", "ReservedConcurrentExecutions", 7),
    ("lambdas", "ConsumerMapping", "MaximumRecordAgeInSeconds", 86400),
    ("lambdas", "Consumer", "Timeout", 5),
    ("compute", "Task", "Memory", 9000),
    ("compute", "Task", "ContainerDefinitions.1.Memory", 2048),
    ("compute", "Task", "EphemeralStorage.SizeInGiB", 15),
    ("data-redis", "Redis", "EngineVersion", "7.2"),
    ("data-redis", "Settings", "CacheParameterGroupFamily", "valkey7"),
    ("data-redis", "Redis", "NumCacheClusters", 1),
    ("compute-scaling", "Scaling", "MinCapacity", 31),
]


@pytest.mark.parametrize(("template", "resource", "path", "value"), CHANGES)
def test_relation_notices(templates, template, resource, path, value):
    changed = copy.deepcopy(templates)
    node = changed[template]["Resources"][resource]["Properties"]
    *way, last = path.split(".")
    for step in way:
        node = node[int(step) if step.isdigit() else step]
    node[last] = value

    assert list(numbers.judge(synth.system(changed, scenarios.PRODUCTION)))
