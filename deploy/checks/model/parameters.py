"""A parameter's value, checked as CloudFormation checks it."""

import re

# Types whose values have to look so: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
# cloudformation-supplied-parameter-types.html
SHAPES = {
    "AWS::EC2::AvailabilityZone::Name": r"[a-z]{2,4}(-[a-z]+)+-\d[a-z]",
    "AWS::EC2::SecurityGroup::Id": r"sg-[0-9a-f]+",
    "AWS::EC2::Subnet::Id": r"subnet-[0-9a-f]+",
    "AWS::EC2::VPC::Id": r"vpc-[0-9a-f]+",
    "AWS::Route53::HostedZone::Id": r"Z[0-9A-Z]+",
    "Number": r"-?\d+(\.\d+)?",
    "String": r"(?s).*",
    "CommaDelimitedList": r"(?s).*",
}


class ParameterError(Exception):
    """A value that CloudFormation would refuse, or none."""


def checked(name, declared, given):
    """The value of a parameter, from what is given or its default: text, or a list of texts."""
    value = declared.get("Default") if given is None else given
    if value is None:
        raise ParameterError("is a parameter without a value: nothing before it has an output of this name")
    if isinstance(value, bool):
        value = "true" if value else "false"
    text = str(value)
    type_ = str(declared.get("Type"))
    items = text.split(",") if type_ == "CommaDelimitedList" or type_.startswith("List<") else [text]
    items = [item.strip() for item in items] if len(items) > 1 else items
    element = type_[5:-1] if type_.startswith("List<") else type_
    if element not in SHAPES:
        raise ParameterError(f"is a parameter of the unknown type {type_}")
    for item in items:
        if not re.fullmatch(SHAPES[element], item):
            raise ParameterError(f"{item!r} is not of the type {element}")
        _check_constraints(item, declared)
    return items if element != type_ or type_ == "CommaDelimitedList" else text


def _check_constraints(item, declared):
    allowed = declared.get("AllowedValues")
    if allowed is not None and item not in [_text(value) for value in allowed]:
        raise ParameterError(f"{item!r} is none of the allowed values {allowed}")
    pattern = declared.get("AllowedPattern")
    if pattern is not None and not re.fullmatch(pattern, item):
        raise ParameterError(f"{item!r} does not match {pattern}")
    for key, measure, sign in (("MinLength", len, 1), ("MaxLength", len, -1),
                               ("MinValue", float, 1), ("MaxValue", float, -1)):
        if key in declared and sign * (measure(item) - float(declared[key])) < 0:
            raise ParameterError(f"{item!r} is outside {key} {declared[key]}")


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)
