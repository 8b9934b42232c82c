"""Values of parameters: converts them to text for CloudFormation, and checks them against the templates.

CloudFormation checks a value only when it deploys the stack, perhaps after half an hour. Here all values are
checked at once: type, allowed values, pattern, bounds, and the assertions of `Rules`.
"""

import difflib
import re
from functools import cache

from . import stacks

# Parameters that the file's other members or deploy itself set, and what sets each.
SUPPLIED = {
    "Deployment": 'the member "deployment"',
    "TrackingDomain": 'the member "tracking_domain"',
    "HostedZoneId": 'the member "hosted_zone_id"',
    "GlobalTableName": 'the member "global_table"',
    "SecondRegion": 'the member "regions"',
    "ThirdRegion": 'the member "regions"',
    "FourthRegion": 'the member "regions"',
    "ConsumerPackage": "deploy, from the packages that it builds (--packages)",
    "UpdaterPackage": "deploy, from the packages that it builds (--packages)",
    "TrackerImage": "deploy, from the image that it builds (--tracker-image)",
    "AgentImage": "deploy, from the image that it copies (--agent-image)",
}
# Deploy looks these up; a value in the file takes precedence.
FOUND = {"S3PrefixListId", "Zone1", "Zone2", "Zone3"}
# Patterns for AWS-specific parameter types, whose values CloudFormation would look up.
FORMS = {
    "AWS::EC2::VPC::Id": r"vpc-[0-9a-f]+",
    "AWS::EC2::Subnet::Id": r"subnet-[0-9a-f]+",
    "AWS::EC2::SecurityGroup::Id": r"sg-[0-9a-f]+",
    "AWS::Route53::HostedZone::Id": r"Z[0-9A-Z]+",
}


def text(value):
    """A JSON value as the text that CloudFormation expects."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text(item) for item in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


@cache
def body(stack):
    """The stack's template. Cached, so callers must not change it."""
    return stacks.body(stack)


def declarations(layout):
    """All parameters of a region's templates, by name."""
    found = {}
    for stack in stacks.of(layout):
        for name, parameter in body(stack).get("Parameters", {}).items():
            found.setdefault(name, parameter)
    return found


def outputs(layout):
    """The name of the stack of each output."""
    return {name: stack.name for stack in stacks.of(layout) for name in body(stack).get("Outputs", {})}


def problems(values, layout, place):
    """The problems of the file's parameters, each with its location in the file."""
    known, made = declarations(layout), outputs(layout)
    anywhere = set(known) | set(made) | set(SUPPLIED)
    found = []
    for name, value in values.items():
        where = f"{place}.{name}"
        if name in SUPPLIED:
            found.append(f"{where}: set by {SUPPLIED[name]}; remove it here")
        elif name in made:
            found.append(f"{where}: in this layout, this is an output of the stack {made[name]}; remove it, or "
                         'set "network", "security_groups" or "load_balancer" to "existing"')
        elif name not in known and name not in made:
            found.append(f"{where}: no template has this parameter{suggestion(name, anywhere)}")
        elif name in known:
            found += [f"{where}: {problem}" for problem in _misfits(known[name], value)]
    return found


def suggestion(name, known):
    """The name that was probably meant, as the end of a message; empty if none is similar."""
    lowered = {one.lower(): one for one in known}
    close = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return f"; did you mean {lowered[close[0]]}?" if close else ""


def _misfits(parameter, value):
    kind = parameter["Type"]
    items = value.split(",") if kind.startswith("List<") or kind == "CommaDelimitedList" else [value]
    for item in items:
        problem = _misfit(parameter, kind.removeprefix("List<").removesuffix(">"), item.strip())
        if problem:
            return [f'"{item}": {problem}']
    return []


def _misfit(parameter, kind, item):
    allowed = [text(one) for one in parameter.get("AllowedValues", [])]
    if allowed and item not in allowed:
        return f"expected one of {', '.join(one or '(empty)' for one in allowed)}"
    bounds = ("Value", "") if kind == "Number" else ("Length", " characters")
    try:
        size = float(item) if kind == "Number" else len(item)
    except ValueError:
        return "expected a number"
    if size < float(parameter.get(f"Min{bounds[0]}", "-inf")):
        return f"expected at least {parameter[f'Min{bounds[0]}']}{bounds[1]}"
    if size > float(parameter.get(f"Max{bounds[0]}", "inf")):
        return f"expected at most {parameter[f'Max{bounds[0]}']}{bounds[1]}"
    pattern = parameter.get("AllowedPattern") or FORMS.get(kind)
    if pattern and not re.fullmatch(pattern, item):
        hint = parameter.get("ConstraintDescription")
        return f"expected {hint}" if hint else f"expected the form {pattern}"
    return None


def broken_rules(template, values):
    """The assertions of a template's Rules that these values violate. Unknown values count as fulfilled."""
    known = {name: text(parameter["Default"]) for name, parameter in template.get("Parameters", {}).items()
             if "Default" in parameter} | values
    return [
        assertion.get("AssertDescription", name)
        for name, rule in template.get("Rules", {}).items()
        if "RuleCondition" not in rule or _value(rule["RuleCondition"], known) is True
        for assertion in rule["Assertions"]
        if _value(assertion["Assert"], known) is False
    ]


def _value(node, known):
    """The value of a rule's expression: text, list or truth value; None if it is unknown."""
    if isinstance(node, list):
        return [_value(item, known) for item in node]
    if not isinstance(node, dict):
        return text(node)
    [(function, argument)] = node.items()
    if function == "Ref":
        return known.get(argument)
    if function not in _FUNCTIONS:
        return None
    arguments = [_value(item, known) for item in argument]
    return _FUNCTIONS[function](arguments)


def _equals(arguments):
    return None if None in arguments else arguments[0] == arguments[1]


def _contains(arguments):
    return None if arguments[1] is None or None in arguments[0] else arguments[1] in arguments[0]


def _each_in(arguments):
    return None if None in arguments else all(item in arguments[1] for item in arguments[0])


def _not(arguments):
    return None if arguments[0] is None else not arguments[0]


def _and(arguments):
    return False if False in arguments else None if None in arguments else True


def _or(arguments):
    return True if True in arguments else None if None in arguments else False


_FUNCTIONS = {"Fn::Equals": _equals, "Fn::Contains": _contains, "Fn::EachMemberIn": _each_in,
              "Fn::Not": _not, "Fn::And": _and, "Fn::Or": _or}


def find_missing(layout, given):
    """The parameters that nothing sets, with the stack that needs each."""
    given = set(given) | set(SUPPLIED) | FOUND
    found = []
    for stack in stacks.of(layout):
        found += [(stack.name, name) for name, parameter in body(stack).get("Parameters", {}).items()
                  if "Default" not in parameter and name not in given]
        given |= set(body(stack).get("Outputs", {}))
    return found
