"""Alarms: each reads a metric that there is, and rings when, and only when, it has to.

Every failure of `alarms_failures` is played to every alarm of a deployment, as `alarms_cloudwatch`
evaluates them. Each alarm has to be rung by at least one failure, and reach the topic.
"""

import functools
import json
import math

from . import alarms_failures, objectives, programs
from .alarms_cloudwatch import ALARM, OK, Alarm, AlarmError, Signal, rule_holds, rule_names
from .alarms_metrics import broken_agents, misread_logs, published
from .finding import Finding

KINDS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")
# What an alarm says and does, but for when it rings.
NOT_EVALUATED = ("AlarmDescription", "AlarmActions", "OKActions", "Tags", "AlarmName", "ActionsEnabled")


def judge(system):
    """Findings about the alarms of a deployment, their topic, and what they miss."""
    alarms = {resource.name: resource for resource in system.of_type(*KINDS)}
    if not alarms:
        return
    broken = list(broken_agents(system))
    for task, reason in broken:
        yield task.finding(f"alarms cannot rely on its metrics agent: AOT_CONFIG_CONTENT: {reason}")
    if broken:
        return
    for metric_filter, reason in misread_logs(system):
        yield metric_filter.finding(reason)
    metrics = published(system)
    readable, parts = {}, set()
    for name, resource in alarms.items():
        try:
            readable[name] = _read(system, resource, metrics)
        except AlarmError as error:
            yield resource.finding(str(error))
        if resource.type == KINDS[1]:
            parts |= {found.name for found in _parts(system, resource)}
    for name, (kind, text) in readable.items():
        if kind == "alarm" and (wrong := _objective(name, text)):
            yield alarms[name].finding(wrong)
    tasks = [target.get("MinCapacity") for target in system.of_type("AWS::ApplicationAutoScaling::ScalableTarget")]
    # When a composite alarm rings comes before what its former parts do.
    yield from _rings(system, alarms, readable, metrics, int(tasks[0]) if tasks else 1)
    for resource in alarms.values():
        yield from _actions(system, resource, resource.name in parts)
    yield from _topic(system)
    yield from _of_the_runbook(system, metrics)


def _read(system, resource, metrics):
    """The alarm as it is evaluated: its properties without words, as text; or a composite's rule."""
    if resource.type == KINDS[1]:
        rule = resource.get("AlarmRule")
        named = rule_names(rule)
        by_name = {}
        for name in named:
            found = system.called(name)
            if found is None or found.type not in KINDS:
                raise AlarmError(f"its rule reads {name}, which is not an alarm")
            by_name[name] = found.name
        return "composite", json.dumps([rule, by_name], sort_keys=True)
    text = json.dumps({key: value for key, value in resource.properties.items() if key not in NOT_EVALUATED},
                      sort_keys=True)
    for namespace, name, dimensions, stat in _queries(text):
        key = (namespace, name, dimensions)
        if key not in metrics:
            shown = ", ".join(f"{key}={value}" for key, value in sorted(dimensions, key=str)) or "no dimension"
            raise AlarmError(f"reads {namespace} {name} with {shown}, which nothing publishes")
        if stat not in metrics[key].statistics:
            raise AlarmError(f"reads the {stat} of {name}; what means something is its "
                             f"{' or '.join(metrics[key].statistics)}")
    return "alarm", text


@functools.lru_cache(8192)
def _alarm(text):
    return Alarm(json.loads(text))


@functools.lru_cache(1024)
def _objective(name, text):
    return objectives.problem(name, _alarm(text))


def _queries(text):
    return [(*query.key, query.stat) for query in _alarm(text).queries.values()]


def _keys(text):
    return {query.key for query in _alarm(text).queries.values()}


def _parts(system, composite):
    try:
        return [found for name in rule_names(composite.get("AlarmRule")) if (found := system.called(name))]
    except AlarmError:
        return []


def _actions(system, resource, is_part):
    """An alarm tells the topic when it rings and when it ends; a part of a composite alarm tells nobody."""
    topics = [topic.ref for topic in system.of_type("AWS::SNS::Topic")]
    for key in ("AlarmActions", "OKActions"):
        actions = resource.get(key, [])
        if is_part and actions:
            yield resource.finding(f"is a part of another alarm, and has {key}")
        elif not is_part and not actions:
            yield resource.finding(f"{key} are not the topic of alarms: there is none, and no composite alarm reads it")
        elif not is_part and (len(topics) != 1 or actions != topics):
            yield resource.finding(f"{key} are not the topic of alarms")
    if resource.get("ActionsEnabled", True) not in (True, "true"):
        yield resource.finding("its actions are not enabled")
    if resource.get("ActionsSuppressor"):
        yield resource.finding(f"{resource.get('ActionsSuppressor')} mutes it")
    if resource.get("InsufficientDataActions"):
        yield resource.finding("notifies of missing data, which TreatMissingData decides")


def _of_the_runbook(system, metrics):
    """The runbook sends the engineer on call to metrics: each of them is in CloudWatch, too."""
    there = {name for _, name, _ in metrics}
    for task in system.of_type("AWS::ECS::TaskDefinition"):
        for name in sorted(programs.metrics_of_the_runbook() - there):
            if any(container.get("Name") == "tracker" for container in task.get("ContainerDefinitions", [])):
                yield task.finding(f"{name}, which the runbook says to look at, does not reach CloudWatch")


def _topic(system):
    """The topic is encrypted with the deployment's key, and an address is subscribed if there is one."""
    keys = {identifier for key in system.of_type("AWS::KMS::Key") for identifier in (key.ref, key.arn)}
    for topic in system.of_type("AWS::SNS::Topic"):
        if topic.get("KmsMasterKeyId") not in keys:
            yield topic.finding("is not encrypted with the deployment's key")
        address = system.parameters.get("AlarmEmail")
        subscribed = [(item.get("Protocol"), item.get("Endpoint")) for item in
                      system.of_type("AWS::SNS::Subscription") if item.get("TopicArn") == topic.ref]
        if subscribed != ([("email", address)] if address else []):
            yield topic.finding(f"{subscribed or 'nobody'} is subscribed; AlarmEmail is {address or 'empty'}")


def _file_of(system, name):
    """The template that declares a resource which this deployment does not have."""
    return next((file for file, body in system.templates.items() if name in body.get("Resources", {})), "-")


def _rings(system, alarms, readable, metrics, tasks):
    keys = {}
    for key, metric in metrics.items():
        keys.setdefault((metric.entity, metric.name), set()).add(key)
    known = frozenset((source, frozenset(found)) for source, found in keys.items())
    parts = {}
    for name, (kind, text) in readable.items():
        if kind == "composite":
            parts[name] = {label: readable.get(part, ("", ""))[1] for label, part in json.loads(text)[1].items()}
    of_others = {part for text in readable.values() if text[0] == "composite"
                 for part in json.loads(text[1])[1].values()}
    # A composite alarm says more than an alarm that was its part.
    for name, (_, text) in sorted(readable.items(), key=lambda item: item[1][0] != "composite"):
        if name not in of_others:
            mine = tuple(sorted(parts.get(name, {}).items()))
            read = {key for part in [text for _, text in mine] or [text] if part
                    for key in _keys(part)}
            relevant = frozenset((source, found) for source, found in known if found & read)
            for problem in _problems(name, text, relevant, frozenset(keys), mine, tasks):
                yield alarms[name].finding(problem)
    rung = {name for failure in alarms_failures.FAILURES if set(failure.changes) & set(keys)
            for name in failure.rings}
    for name in sorted(rung - set(alarms)):
        yield Finding(_file_of(system, name), name, "is not there, and a failure has to ring it")
    for name in sorted(set(alarms) - rung - of_others):
        yield alarms[name].finding("is rung by no failure; alarms_failures.py has to have one")


@functools.lru_cache(8192)
def _problems(name, text, known, sources, parts, tasks):
    """What is wrong with when an alarm rings, over all failures. `known` are the metrics that it reads,
    `sources` those of the deployment; `parts` are those of a composite alarm.
    """
    if any(not part for _, part in parts):
        return ()  # what is wrong with a part has been found
    found = []
    for index, failure in enumerate(alarms_failures.FAILURES):
        if not failure.tasks[0] <= tasks <= failure.tasks[1]:
            continue
        if name in failure.rings and sources.isdisjoint(failure.changes):
            continue  # of a node that this Redis does not have
        states = _composite(json.loads(text)[0], parts, index, known) if parts else _states(text, index, known)
        found += _judged(name, failure, states)
    return tuple(found)


def _judged(name, failure, states):
    if states[0] != OK:
        yield f"is {states[0]} before {failure.name}"
        return
    limit = failure.rings.get(name)
    rang_at = next((minute for minute, state in enumerate(states) if state == ALARM), math.inf)
    if limit is None:
        if rang_at < math.inf and name not in failure.may:
            yield f"rings {rang_at} minutes into {failure.name}"
    elif rang_at > limit:
        late = "does not ring" if rang_at == math.inf else f"rings after {rang_at} minutes"
        yield f"{late}; {failure.name} has to ring it within {limit}"
    elif failure.minutes > limit and not failure.is_flapping and states[int(failure.minutes)] != ALARM:
        yield f"is silent while {failure.name} lasts"
    if name not in failure.may and any(state != OK for state in states[int(failure.minutes) + failure.recovers:]):
        yield f"is not silent {failure.recovers} minutes after {failure.name}"


def _signals(failure, known, wanted):
    """The signals of a failure: before it, during it, after it."""
    signals = {}
    for source, found in known:
        if not found & wanted:
            continue
        usual = failure.regime.get(source, alarms_failures.NOTHING)
        changed = failure.changes.get(source)
        if changed is None:
            segments = [(0, usual)]
        elif failure.is_flapping and changed:
            segments = [(-1, usual), *changed, (failure.minutes, usual)]
        else:
            segments = [(-1, usual), (0, changed), (failure.minutes, usual)]
        for key in found:
            signals[key] = Signal(segments)
    return signals


@functools.lru_cache(65536)
def _states(text, index, known):
    """An alarm's state at the end of each minute, from the one before a failure until it is over."""
    failure = alarms_failures.FAILURES[index]
    alarm, wanted = _alarm(text), _keys(text)
    touched = any(found & wanted for source, found in known if source in failure.changes)
    minutes = int(failure.minutes + failure.recovers) if touched else 0
    return tuple(alarm.states(_signals(failure, known, wanted), range(minutes + 1)))


def _composite(rule, parts, index, known):
    found = {name: _states(text, index, known) for name, text in parts}
    # A part that no change touches stays as it is.
    return tuple(
        ALARM if rule_holds(rule, {name: states[min(minute, len(states) - 1)] for name, states in found.items()})
        else OK for minute in range(max(map(len, found.values()))))
