"""Alarms in the simulation: the faults of which they must not be silent, one by one."""

import copy
import json

import pytest

from model import alarms, alarms_failures, scenarios, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def judged(templates, scenario=scenarios.PRODUCTION):
    return [str(finding) for finding in alarms.judge(synth.system(templates, scenario))]


def changed(templates, template, resource, path, value):
    copied = copy.deepcopy(templates)
    node = copied[template]["Resources"][resource]["Properties"]
    *way, last = path.split(".")
    for step in way:
        node = node[int(step) if step.isdigit() else step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return copied


EVENTS, CORE_DATA, OBJECTIVES = "observability-events", "observability-core-data", "observability-objectives"
AGENT = "ContainerDefinitions.1.Environment.0.Value.Fn::Sub"


def test_alarms_ring_for_their_failures_and_for_no_other(templates):
    assert judged(templates) == []


@pytest.mark.parametrize(("template", "resource", "path", "value", "found"), [
    (EVENTS, "HealthyTargets", "TreatMissingData", "notBreaching", "no target is registered"),
    (EVENTS, "HealthyTargets", "Statistic", "Maximum", "HealthyTargets"),
    (EVENTS, "JournalAge", "TreatMissingData", "ignore", "JournalAge"),
    (EVENTS, "Target5xx", "ComparisonOperator", "LessThanThreshold", "Target5xx"),
    (EVENTS, "Target5xx", "Dimensions.0.Name", "Balancer", "which nothing publishes"),
    (EVENTS, "EventStreamThrottles", "Dimensions.0.Value", {"Ref": "TableName"}, "which nothing publishes"),
    (EVENTS, "ConsumerErrors", "MetricName", "Failures", "which nothing publishes"),
    (EVENTS, "ConsumerErrors", "Namespace", "AWS/Kinesis", "which nothing publishes"),
    (EVENTS, "ConsumerErrors", "Statistic", "Maximum", "what means something"),
    (EVENTS, "ConsumerErrors", "AlarmActions", [], "are not the topic"),
    (EVENTS, "ConsumerErrors", "DatapointsToAlarm", 2, "ConsumerErrors"),
    (EVENTS, "ConsumerIdle", "Metrics.0.Expression", "IF(FILL(records, 0) > 0, IF(invocations > 0, 0, 1), 0)",
     "ConsumerIdle"),
    (EVENTS, "ConsumerIdle", "DatapointsToAlarm", 3, "ConsumerIdle"),
    (EVENTS, "ConsumerIdle", "Metrics.1.MetricStat.Metric.Dimensions.0.Value", {"Ref": "TableName"},
     "which nothing publishes"),
    (CORE_DATA, "RedisCpu", "Threshold", 95, "RedisCpu"),
    (OBJECTIVES, "AvailabilityFast", "AlarmRule.Fn::Sub", 'ALARM("${ErrorsFast5m.Arn}")', "AvailabilityFast"),
    (OBJECTIVES, "ErrorsFast5m", "AlarmActions", [{"Ref": "AlarmTopicArn"}], "is a part of another alarm"),
    (OBJECTIVES, "CoreDataToTrackers", "Metrics.0.Expression", "stores / 1000 + 60 * (1 - subscribed)",
     "CoreDataToTrackers"),
    ("lambdas", "ConsumerMapping", "MetricsConfig", None, "which nothing publishes"),
    ("lambdas", "Consumer", "Environment.Variables.METRICS_NAMESPACE", None, "which nothing publishes"),
    ("compute", "Spilled", "FilterPattern", '{ $.message = "spilled" }', "which nothing publishes"),
    ("compute", "Task", AGENT, "receivers: {}", "cannot rely on its metrics agent"),
    (EVENTS, "AlarmTopic", "KmsMasterKeyId", "alias/aws/sns", "is not encrypted"),
])
def test_fault_is_found(templates, template, resource, path, value, found):
    findings = judged(changed(templates, template, resource, path, value))

    assert any(found in finding for finding in findings), findings


def test_missing_alarm_is_found(templates):
    copied = copy.deepcopy(templates)
    del copied[EVENTS]["Resources"]["JournalFill"]

    assert any("JournalFill: is not there" in finding for finding in judged(copied))


def test_every_change_of_a_failure_is_of_a_metric_that_there_is():
    named = {source for failure in alarms_failures.FAILURES for source in failure.changes}

    assert named <= set(alarms_failures.DAY)


@pytest.mark.parametrize("scenario", [scenarios.TRIAL, scenarios.EXISTING_BALANCER, scenarios.PRODUCTION],
                         ids=["1 node", "2 nodes", "3 nodes"])
@pytest.mark.parametrize(("name", "number"), [
    (name, number) for name in ("RedisMemory", "RedisEvictions", "RedisCpu") for number in (1, 2, 3)])
def test_each_node_is_watched(templates, scenario, name, number):
    nodes = int(scenario.parameters.get("RedisNodes", 3))
    text = json.dumps(templates)
    resource = json.dumps(templates[CORE_DATA]["Resources"][name])
    # The alarm reads another node in place of this one.
    other = resource.replace(f"${{RedisId}}-00{number}", f"${{RedisId}}-00{number % 3 + 1}")
    found = judged(json.loads(text.replace(resource, other)), scenario)
    assert any(name in finding for finding in found) == (number <= nodes)


def test_nothing_mutes_an_alarm(templates):
    muted = changed(templates, OBJECTIVES, "AvailabilityFast", "ActionsSuppressor", {"Ref": "NoHealthyTarget"})
    assert any("mutes it" in finding for finding in judged(muted))
