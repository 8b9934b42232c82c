"""CloudWatch's evaluation of alarms: its documented behaviour, case by case."""

import pytest

from model.alarms_cloudwatch import ALARM, INSUFFICIENT_DATA, OK, Alarm, AlarmError, Signal, rule_holds, statistic

KEY = ("Space", "name", frozenset())


def alarm(**changes):
    properties = {"Namespace": "Space", "MetricName": "name", "Statistic": "Sum", "Period": 60,
                  "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 10,
                  "ComparisonOperator": "GreaterThanThreshold", "TreatMissingData": "notBreaching"} | changes
    return Alarm({key: value for key, value in properties.items() if value is not None})


def states(of, *minutes):
    """The state after each minute; a minute is its sum, or None without data."""
    segments = [(-1, ())] + [(index, () if value is None else ((value, 1),)) for index, value in enumerate(minutes)]
    return of.states({KEY: Signal(segments)}, range(1, len(minutes) + 1))


@pytest.mark.parametrize(("changes", "minutes", "expected"), [
    ({}, (11, 11), [OK, ALARM]),
    ({}, (11, 0, 11, 0, 0), [OK, OK, ALARM, OK, OK]),
    ({}, (10, 10, 10), [OK, OK, OK]),
    ({"ComparisonOperator": "GreaterThanOrEqualToThreshold"}, (10, 10), [OK, ALARM]),
    ({"ComparisonOperator": "LessThanThreshold"}, (9, 9), [OK, ALARM]),
    ({"TreatMissingData": "breaching"}, (0, 0, 0, None, None), [ALARM, OK, OK, OK, ALARM]),
    ({"TreatMissingData": "notBreaching"}, (11, 11, None, None), [OK, ALARM, ALARM, OK]),
    ({"TreatMissingData": "missing"}, (11, 11, None, None, None), [OK, ALARM, ALARM, OK, INSUFFICIENT_DATA]),
    ({"TreatMissingData": "ignore"}, (11, 11, None, None, None), [INSUFFICIENT_DATA, ALARM, ALARM, ALARM, ALARM]),
])
def test_state_follows_datapoints(changes, minutes, expected):
    assert states(alarm(**changes), *minutes) == expected


def test_period_sums_its_minutes():
    long = alarm(Period=180, EvaluationPeriods=1, DatapointsToAlarm=1)

    assert states(long, 4, 4, 4, 0, 0) == [OK, OK, ALARM, OK, OK]


@pytest.mark.parametrize(("name", "expected"), [
    ("Sum", 12), ("SampleCount", 6), ("Average", 2), ("Maximum", 5), ("Minimum", 1), ("p50", 1), ("p99", 5)])
def test_statistic_of_samples(name, expected):
    assert statistic([(1, 4), (5, 1), (3, 1)], name) == expected


def test_percentile_of_few_samples_is_ignored():
    slow = alarm(Statistic=None, ExtendedStatistic="p99", EvaluateLowSampleCountPercentile="ignore")

    assert ALARM not in slow.states({KEY: Signal([(0, ((99, 999),))])}, range(5))
    assert ALARM in slow.states({KEY: Signal([(0, ((99, 1000),))])}, range(5))


def math(expression, **samples):
    """The state of an alarm on an expression over metrics with constant values."""
    metrics = [{"Id": "value", "Expression": expression}] + [
        {"Id": name, "ReturnData": False, "MetricStat": {
            "Metric": {"Namespace": "Space", "MetricName": name}, "Period": 60, "Stat": "Sum"}} for name in samples]
    of = alarm(Metrics=metrics, Namespace=None, MetricName=None, Statistic=None, Period=None)
    signals = {("Space", name, frozenset()): Signal([(0, () if value is None else ((value, 1),))])
               for name, value in samples.items()}
    return of.states(signals, range(5))[-1]


@pytest.mark.parametrize(("expression", "samples", "expected"), [
    ("a + b", {"a": 6, "b": 6}, ALARM),
    ("a - b", {"a": 6, "b": 6}, OK),
    ("a + b", {"a": 60, "b": None}, OK),
    ("FILL(a, 0) + FILL(b, 0)", {"a": 60, "b": None}, ALARM),
    ("100 * a / b", {"a": 1, "b": 0}, OK),
    ("MAX([a, b])", {"a": None, "b": 11}, ALARM),
    ("SUM([a, b])", {"a": 6, "b": 5}, ALARM),
    ("MIN([a, b])", {"a": 60, "b": 5}, OK),
    ("IF(a > 5, b, 0)", {"a": 6, "b": 11}, ALARM),
    ("IF(a > 5, b, 0)", {"a": 5, "b": 11}, OK),
])
def test_metric_math(expression, samples, expected):
    assert math(expression, **samples) == expected


@pytest.mark.parametrize("changes", [
    {"Period": 30}, {"DatapointsToAlarm": 4}, {"ComparisonOperator": "Above"}, {"TreatMissingData": "none"},
    {"Statistic": "Total"}, {"Threshold": None}, {"ExtendedStatistic": "p99"}, {"Statistic": None},
])
def test_refuses_alarm_that_cloudwatch_refuses(changes):
    with pytest.raises(AlarmError):
        alarm(**changes)


@pytest.mark.parametrize("expression", ["a +", "a + c", "a", "MEDIAN([a, b])", "FILL(a, b) + b", "a + b; a"])
def test_refuses_expression_that_reads_badly(expression):
    with pytest.raises(AlarmError):
        math(expression, a=1, b=1)


def test_composite_rule_combines_states():
    rule = 'ALARM("a") AND (ALARM("b") OR NOT OK("c"))'

    assert rule_holds(rule, {"a": ALARM, "b": OK, "c": ALARM})
    assert not rule_holds(rule, {"a": ALARM, "b": OK, "c": OK})
    assert not rule_holds(rule, {"a": OK, "b": ALARM, "c": ALARM})
