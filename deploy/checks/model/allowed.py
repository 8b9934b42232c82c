"""What templates may set at all: allowed-properties.yaml lists, for each type of resource, the properties that
somebody has reviewed, and the values of those that are a choice. Anything else is a finding: no other judge
looks at a property that nobody expected.
"""

import functools
from pathlib import Path

import yaml

from .finding import Finding
from .synth import Templates

TABLE = Path(__file__).with_name("allowed-properties.yaml")
# invariants.everything_is_tagged judges them.
TAGS = ("Tags", "HealthCheckTags")
# Attributes of a resource next to its properties.
ATTRIBUTES = ("Type", "Properties", "Condition", "DependsOn", "DeletionPolicy", "UpdateReplacePolicy", "Metadata")
NO_VALUE = {"Ref": "AWS::NoValue"}
COMPUTED = "a computed value"


@functools.cache
def table():
    """Type → path → the values that may stand there; None if any may, and any below it."""
    found = {}
    for kind, groups in yaml.safe_load(TABLE.read_text()).items():
        found[kind] = {}
        for head, leaves in (groups or {}).items():
            for leaf, values in leaves.items():
                path = (leaf,) if head == "." else (*head.split("."), leaf)
                found[kind][path] = None if values is None else tuple(values)
    return found


def static_findings(templates):
    """Properties and values that are not in the table."""
    return Templates.of(templates).each(_static_findings)


def _static_findings(file, body):
    for name, resource in body["Resources"].items():
        if not isinstance(resource, dict):
            continue
        allowed = table().get(resource.get("Type"))
        if allowed is None:
            kind = resource.get("Type")
            yield Finding(file, name, f"has the type {kind}, which nobody has reviewed ({TABLE.name})")
            continue
        for attribute in sorted(set(resource) - set(ATTRIBUTES)):
            yield Finding(file, name, f"sets the attribute {attribute}, which nobody has reviewed")
        for text in dict.fromkeys(_problems(allowed, resource.get("Properties") or {}, ())):
            yield Finding(file, name, text)


def _problems(allowed, node, path):
    if (path and path[-1] in TAGS) or allowed.get(path, COMPUTED) is None:
        return
    if isinstance(node, dict) and len(node) == 1 and _is_function(next(iter(node))):
        yield from _of_function(allowed, node, path)
    elif isinstance(node, dict) and set(node) == {"Key", "Value"} and isinstance(node["Key"], str):
        # An attribute of a load balancer and the like, which has the name in Key.
        yield from _problems(allowed, node["Value"], (*path, node["Key"]))
    elif isinstance(node, dict) and (node or not path):
        for name, value in node.items():
            yield from _problems(allowed, value, (*path, str(name)))
    elif isinstance(node, list) and node:
        for value in node:
            yield from _problems(allowed, value, path)
    else:
        yield from _of_value(allowed, node, path)


def _is_function(name):
    return name == "Ref" or str(name).startswith("Fn::")


def _of_function(allowed, node, path):
    operand = node.get("Fn::If")
    if isinstance(operand, list) and len(operand) == 3:
        for branch in operand[1:]:
            yield from _problems(allowed, branch, path)
    elif node != NO_VALUE:
        yield from _of_value(allowed, COMPUTED, path)


def _of_value(allowed, value, path):
    if path not in allowed:
        yield f"sets {'.'.join(path)}, which nobody has reviewed (deploy/checks/model/{TABLE.name})"
    # 1 is not True.
    elif not any(value == one and type(value) is type(one) for one in allowed[path]):
        expected = " or ".join(str(one) for one in allowed[path])
        yield f"sets {'.'.join(path)} to {value}; reviewed is {expected} (deploy/checks/model/{TABLE.name})"
