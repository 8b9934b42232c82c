"""How CloudWatch evaluates alarms, as far as the templates use it.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html

Time is in minutes. A signal is what a metric's sources send: segments of time, each with the samples of one
minute as (value, how many). An alarm is evaluated every minute over windows that end then. Simpler than
CloudWatch: it does not wait for late data, nor look further back than its evaluation periods; and DatapointsToAlarm
has to be there.
"""

import ast
import bisect
import functools
import math
import re

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
COMPARISONS = {
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}
MISSING = ("breaching", "notBreaching", "ignore", "missing")


class AlarmError(Exception):
    """An alarm that CloudWatch would refuse, or that never has a value."""


class Signal:
    """A metric over time: segments of (first minute, samples of each minute); the first begins long ago."""

    def __init__(self, segments):
        self.segments = [(-math.inf if index == 0 else start, samples)
                         for index, (start, samples) in enumerate(segments)]
        self._starts = [start for start, _ in self.segments]

    def between(self, start, end):
        """All samples of the minutes from `start` until before `end`."""
        found = []
        index = bisect.bisect_right(self._starts, start) - 1
        while index < len(self.segments) and self.segments[index][0] < end:
            begin, samples = self.segments[index]
            following = self._starts[index + 1] if index + 1 < len(self._starts) else math.inf
            minutes = min(end, following) - max(start, begin)
            found.extend((value, count * minutes) for value, count in samples)
            index += 1
        return found


STATISTICS = {
    "Sum": lambda samples: sum(value * number for value, number in samples),
    "SampleCount": lambda samples: sum(number for _, number in samples),
    "Average": lambda samples: (sum(value * number for value, number in samples)
                                / sum(number for _, number in samples)),
    "Maximum": lambda samples: max(value for value, _ in samples),
    "Minimum": lambda samples: min(value for value, _ in samples),
}


def statistic(samples, name):
    """A statistic of samples; None if there are none."""
    if not any(number for _, number in samples):
        return None
    return STATISTICS[name](samples) if name in STATISTICS else _percentile(samples, name)


def _percentile(samples, name):
    found = re.fullmatch(r"p(\d+(?:\.\d+)?)", name or "")
    if not found or not 0 <= float(found[1]) <= 100:
        raise AlarmError(f"{name} is not a statistic")
    rank = float(found[1]) / 100 * STATISTICS["SampleCount"](samples)
    for value, number in sorted(samples):
        rank -= number
        if rank <= 1e-9:
            return value
    return STATISTICS["Maximum"](samples)


class MetricQuery:
    """A metric that an alarm reads: which, over how long, and as which statistic."""

    def __init__(self, metric, period, stat):
        dimensions = metric.get("Dimensions", [])
        self.key = (metric.get("Namespace"), metric.get("MetricName"),
                    frozenset((item.get("Name"), item.get("Value")) for item in dimensions))
        if len({item.get("Name") for item in dimensions}) != len(dimensions):
            raise AlarmError("a dimension is there twice")
        if not isinstance(period, int) or period < 60 or period % 60:
            raise AlarmError(f"period {period} is not a whole number of minutes")
        if not isinstance(stat, str):
            raise AlarmError("has no statistic")
        statistic([(1, 1)], stat)
        self.minutes, self.stat = period // 60, stat


class Alarm:
    """An alarm of one metric or of an expression over several."""

    def __init__(self, properties):
        self.periods = _whole(properties, "EvaluationPeriods")
        self.datapoints = _whole(properties, "DatapointsToAlarm")
        if self.datapoints > self.periods:
            raise AlarmError(f"{self.datapoints} of {self.periods} datapoints can never be")
        try:
            self.breaches = COMPARISONS[properties.get("ComparisonOperator")]
        except KeyError:
            raise AlarmError(f"ComparisonOperator {properties.get('ComparisonOperator')} is none of "
                             f"{', '.join(COMPARISONS)}") from None
        self.threshold = _number(properties, "Threshold")
        self.missing = properties.get("TreatMissingData", "missing")
        if self.missing not in MISSING:
            raise AlarmError(f"TreatMissingData {self.missing} is none of {', '.join(MISSING)}")
        self.ignores_low_counts = properties.get("EvaluateLowSampleCountPercentile") == "ignore"
        self.queries, self.expressions, self.result = {}, {}, None
        if "Metrics" in properties:
            self._read_metrics(properties)
        else:
            stats = [properties[key] for key in ("Statistic", "ExtendedStatistic") if key in properties]
            if len(stats) != 1:
                raise AlarmError("has to have one of Statistic and ExtendedStatistic")
            self.queries["m"] = MetricQuery(properties, _period(properties), stats[0])
            self.result = "m"
        minutes = {query.minutes for query in self.queries.values()}
        if len(minutes) != 1:
            raise AlarmError("its metrics are not of one period")
        self.minutes = minutes.pop()

    def _read_metrics(self, properties):
        if any(key in properties for key in ("MetricName", "Namespace", "Statistic", "Period")):
            raise AlarmError("has both a metric and Metrics")
        returned = []
        for item in properties["Metrics"]:
            name, stat = item.get("Id"), item.get("MetricStat")
            if not re.fullmatch(r"[a-z][A-Za-z0-9_]*", str(name)):
                raise AlarmError(f"Id {name} does not begin with a small letter")
            if name in self.queries or name in self.expressions:
                raise AlarmError(f"Id {name} is there twice")
            if ("Expression" in item) == (stat is not None):
                raise AlarmError(f"{name} has to be a metric or an expression")
            if stat is not None:
                self.queries[name] = MetricQuery(stat.get("Metric") or {}, _period(stat), stat.get("Stat"))
            else:
                self.expressions[name] = parsed(item["Expression"])
            if item.get("ReturnData", True) in (True, "true"):
                returned.append(name)
        if len(returned) != 1:
            raise AlarmError(f"has to return one value, and returns {len(returned)}")
        self.result = returned[0]
        self._check_names()

    def _check_names(self):
        used = {self.result}
        waiting = [self.result]
        while waiting:
            expression = self.expressions.get(waiting.pop())
            for node in ast.walk(expression) if expression is not None else ():
                if isinstance(node, ast.Name) and node.id not in FUNCTIONS and node.id not in used:
                    if node.id not in self.queries and node.id not in self.expressions:
                        raise AlarmError(f"its expression reads {node.id}, which is not there")
                    used.add(node.id)
                    waiting.append(node.id)
        unused = (set(self.queries) | set(self.expressions)) - used
        if unused:
            raise AlarmError(f"{', '.join(sorted(unused))} is read by no expression")
        if not self.queries:
            raise AlarmError("reads no metric")

    def value(self, values):
        """What it compares with its threshold, given the values of its metrics by their Id."""
        return self._of(self.result, values)

    def states(self, signals, minutes):
        """The state at the end of each of `minutes`, which follow each other."""
        memory, state, found = {}, INSUFFICIENT_DATA, []
        for minute in minutes:
            state = self._state(signals, minute, memory, state)
            found.append(state)
        return found

    def _state(self, signals, minute, memory, before):
        points = [self._value(signals, minute - index * self.minutes, memory) for index in range(self.periods)]
        present = [point for point in points if point is not None]
        breaching = sum(self.breaches(point, self.threshold) for point in present)
        absent = len(points) - len(present)
        if self.missing == "breaching":
            breaching += absent
        elif self.missing in ("ignore", "missing"):
            if not present:
                return before if self.missing == "ignore" else INSUFFICIENT_DATA
            if breaching < self.datapoints and self.missing == "ignore" and breaching + absent >= self.datapoints:
                return before
        return ALARM if breaching >= self.datapoints else OK

    def _value(self, signals, end, memory):
        if end not in memory:
            memory[end] = self._evaluate(signals, end)
        return memory[end]

    def _evaluate(self, signals, end):
        values = {}
        for name, query in self.queries.items():
            samples = signals[query.key].between(end - query.minutes, end)
            if self.ignores_low_counts and self._is_too_few(samples, query.stat):
                samples = []
            values[name] = statistic(samples, query.stat)
        return self.value(values)

    @staticmethod
    def _is_too_few(samples, stat):
        """https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/percentiles-with-low-samples.html"""
        share = float(stat[1:]) / 100 if stat[:1] == "p" else None
        if share is None or share >= 1:
            return False
        least = 10 / (1 - share) if share > 0.5 else 10 / share
        return 0 < sum(number for _, number in samples) < least - 1e-6

    def _of(self, name, values):
        if name in values:
            return values[name]
        return _compute(self.expressions[name], lambda other: self._of(other, values))


@functools.lru_cache(4096)
def parsed(text):
    """An expression of metric math."""
    try:
        return ast.parse(str(text).strip(), mode="eval").body
    except SyntaxError:
        raise AlarmError(f"cannot be read as metric math: {text}") from None


def _present(function):
    def of(values):
        found = [value for value in values if value is not None]
        return function(found) if found else None
    return of


ARRAYS = {"MAX": _present(max), "MIN": _present(min), "SUM": _present(sum),
          "AVG": _present(lambda found: sum(found) / len(found))}
FUNCTIONS = {*ARRAYS, "FILL", "IF", "ABS", "CEIL", "FLOOR"}
OPERATORS = {
    ast.Add: lambda left, right: left + right, ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right, ast.Gt: lambda left, right: float(left > right),
    ast.Div: lambda left, right: left / right if right else None,
    ast.Lt: lambda left, right: float(left < right), ast.GtE: lambda left, right: float(left >= right),
    ast.LtE: lambda left, right: float(left <= right), ast.Eq: lambda left, right: float(left == right),
}


def _compute(node, value_of):
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name):
        return value_of(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _compute(node.operand, value_of)
        return None if value is None else -value
    if isinstance(node, ast.BinOp) or (isinstance(node, ast.Compare) and len(node.ops) == 1):
        left, right, kind = (node.left, node.right, node.op) if isinstance(node, ast.BinOp) else (
            node.left, node.comparators[0], node.ops[0])
        if type(kind) in OPERATORS:
            values = _compute(left, value_of), _compute(right, value_of)
            return None if None in values else OPERATORS[type(kind)](*values)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        return _call(node.func.id, node.args, value_of)
    raise AlarmError(f"metric math that this model does not know: {ast.unparse(node)}")


def _call(name, arguments, value_of):
    if name in ARRAYS and len(arguments) == 1 and isinstance(arguments[0], ast.List):
        return ARRAYS[name]([_compute(item, value_of) for item in arguments[0].elts])
    if name == "FILL" and len(arguments) == 2 and isinstance(arguments[1], ast.Constant):
        value = _compute(arguments[0], value_of)
        return _compute(arguments[1], value_of) if value is None else value
    if name == "IF" and len(arguments) == 3:
        condition = _compute(arguments[0], value_of)
        return None if condition is None else _compute(arguments[1 if condition else 2], value_of)
    raise AlarmError(f"metric math that this model does not know: {name} with {len(arguments)} arguments")


def rule_names(rule):
    """The alarms that a composite alarm's rule reads. Raises AlarmError if it cannot be read."""
    tree = _rule(rule)
    return {node.args[0].value for node in ast.walk(tree) if isinstance(node, ast.Call)}


def rule_holds(rule, states):
    """Whether a composite alarm's rule holds, given the state of each alarm by name."""
    def holds(node):
        if isinstance(node, ast.BoolOp):
            found = [holds(value) for value in node.values]
            return all(found) if isinstance(node.op, ast.And) else any(found)
        if isinstance(node, ast.UnaryOp):
            return not holds(node.operand)
        return states[node.args[0].value] == node.func.id
    return holds(_rule(rule))


@functools.lru_cache(1024)
def _rule(rule):
    text = re.sub(r"\b(AND|OR|NOT)\b", lambda found: found[0].lower(), str(rule))
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise AlarmError(f"its rule cannot be read: {rule}") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            good = (isinstance(node.func, ast.Name) and node.func.id in (OK, ALARM, INSUFFICIENT_DATA)
                    and len(node.args) == 1 and isinstance(node.args[0], ast.Constant))
        else:
            good = isinstance(node, ast.BoolOp | ast.boolop | ast.Constant | ast.Name | ast.Load) or (
                isinstance(node, ast.UnaryOp | ast.Not))
        if not good:
            raise AlarmError(f"its rule cannot be read: {rule}")
    if not any(isinstance(node, ast.Call) for node in ast.walk(tree)):
        raise AlarmError(f"its rule reads no alarm: {rule}")
    return tree


def _number(properties, name):
    value = properties.get(name)
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AlarmError(f"{name} {value} is not a number")
    return value


def _whole(properties, name):
    value = _number(properties, name)
    if value != int(value) or value < 1:
        raise AlarmError(f"{name} {value} is not a count")
    return int(value)


def _period(properties):
    return _whole(properties, "Period")
