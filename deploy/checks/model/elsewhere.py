"""The same deployment in another place: another region, account and partition, and under another name.

Nothing but the place may change: the deployment elsewhere is the one here with the place's names replaced.
What is different, or the same where it should not be, is written out in a template in place of a reference.
"""

import dataclasses
import functools
import re

from adtrack_deploy.template import walk

from . import scenarios, synth
from .finding import Finding

HERE = {"region": scenarios.REGION, "account": scenarios.ACCOUNT, "partition": "aws", "deployment": "deployment-here"}
THERE = {"region": "ca-west-1", "account": "444455556666", "partition": "aws-cn",
         "deployment": "deployment-there"}
# Deployments that together have every template.
TRIED = (scenarios.PRODUCTION, scenarios.EVERY_OPTION, scenarios.EXISTING_BALANCER, scenarios.GLOBAL_TABLE)
ACCOUNT = re.compile(r"(?<![\w-])\d{12}(?![\w-])")
REGION = re.compile(r"(?<![\w-])(?:af|ap|ca|cn|eu|il|me|mx|sa|us)-(?:[a-z]+-)?[a-z]+-\d(?=[a-z]?\b)(?!-)")
PARTITION = re.compile(r"\barn:(aws[a-z-]*):")
# The product's name where it is not that of a deployment: before one, in names of metrics and of Redis' key,
# and in the tag `application`.
PRODUCT = re.compile(r"adtrack(?!/deployment-there|[_:])")
TAG = "application"
# Texts for people.
LEFT_OUT = ("AlarmDescription", "Description", "GroupDescription")


def static_findings(templates):
    """Values of templates that are right in one place alone."""
    templates = synth.Templates.of(templates)
    for scenario in TRIED:
        here, there = (templates.system(_placed(scenario, place)) for place in (HERE, THERE))
        yield from _compared(here, there)
        yield from _foreign(there)


def _placed(scenario, place):
    parameters = {name: _moved(value, place) for name, value in scenario.parameters.items()}
    return dataclasses.replace(
        scenario, name=f"{scenario.name} in {place['region']}", region=place["region"], account=place["account"],
        partition=place["partition"], parameters=parameters | {"Deployment": place["deployment"]})


def _moved(text, place):
    """A text of the deployment here as it is in a place."""
    for name, pattern in (("region", HERE["region"]), ("account", HERE["account"]),
                          ("deployment", HERE["deployment"])):
        text = text.replace(pattern, place[name])
    return re.sub(rf"\barn:{HERE['partition']}:", f"arn:{place['partition']}:", text)


def _compared(here, there):
    others = {(resource.file, resource.name): resource for resource in there.resources}
    for resource in here.resources:
        other = others.pop((resource.file, resource.name), None)
        if other is None:
            yield resource.finding(f"is not there in {THERE['region']}")
            continue
        left, right = dict(_texts(resource)), dict(_texts(other))
        for path in [*left, *(path for path in right if path not in left)]:
            moved = _moved(left[path], THERE) if path in left else None
            if moved != right.get(path):
                yield resource.finding(f"{path} is {_short(right.get(path))} elsewhere, not {_short(moved)}")
                break
    for other in others.values():
        yield other.finding(f"is there in {THERE['region']} alone")
    for name, value in here.outputs.items():
        if _moved(value, THERE) != there.outputs.get(name):
            yield Finding(_declarer(here.templates, name), name, "is not the same output elsewhere")


def _foreign(system):
    """Places and deployments that are named and are not the system's."""
    given = set(system.scenario.parameters.values())
    for resource in system.resources:
        for path, text in _texts(resource):
            named = ({"region": set(REGION.findall(text)) - {THERE["region"]},
                      "account": set(ACCOUNT.findall(text)) - {THERE["account"]},
                      "partition": set(PARTITION.findall(text)) - {THERE["partition"]},
                      "deployment": set() if path.endswith(TAG) else set(PRODUCT.findall(text))}
                     if text not in given else {})
            for what, names in named.items():
                if names:
                    yield resource.finding(f"{path} names the {what} {', '.join(sorted(names))}, "
                                           "which is not always that of the deployment")


@functools.lru_cache(20_000)
def _texts(resource):
    """Every text of a resource, with the way to it; a tag's by its key."""
    return tuple((_way(resource.properties, path), str(value)) for path, value in walk(resource.properties)
                 if isinstance(value, bool | int | float)
                 or (isinstance(value, str) and not set(path) & set(LEFT_OUT)))


def _way(properties, path):
    steps, node = [], properties
    for step in path:
        if step == "Value" and isinstance(node, dict) and "Key" in node:
            step_name = node["Key"]
        else:
            step_name = step
        node = node[step]
        steps.append(str(step_name))
    return ".".join(steps)


def _short(value):
    if value is None:
        return "not there"
    return value if len(value) < 100 else f"{value[:97]}..."


def _declarer(templates, output):
    return next((file for file, body in templates.items() if output in (body.get("Outputs") or {})), "-")
