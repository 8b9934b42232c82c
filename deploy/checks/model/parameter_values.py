"""Constraints of parameters: each takes what its reader takes, and refuses what its reader refuses.

parameter-values.yaml says which values those are, from the programs' value parsers and AWS's own forms. A
parameter is judged in every template that has it, so that of two that differ the wrong one is named.
"""

import functools
from pathlib import Path

import yaml

from .finding import Finding
from .parameters import ParameterError, checked
from .synth import Templates

TABLE = Path(__file__).with_name("parameter-values.yaml")
# Numbers have ranges in numbers.yaml.
NUMERIC = "Number"


@functools.cache
def table():
    """Parameter → the values that it has to take, and those that it has to refuse."""
    return {name: (tuple(entry["take"]), tuple(entry["refuse"]))
            for name, entry in yaml.safe_load(TABLE.read_text()).items()}


def static_findings(templates):
    """Parameters that take, or refuse, what they should not; and constraints that nobody tries."""
    yield from Templates.of(templates).each(_static_findings)
    there = {name for body in templates.values() for name in body.get("Parameters") or {}}
    for name in table():
        if name not in there:
            yield Finding("-", name, f"is a parameter of {TABLE.name} that no template has")


def _static_findings(file, body):
    for name, declared in (body.get("Parameters") or {}).items():
        if not isinstance(declared, dict):
            continue
        if name in table():
            yield from _tried(file, name, declared)
        elif _is_constrained(declared):
            yield Finding(file, name, f"has a constraint that no value of {TABLE.name} tries")


def _is_constrained(declared):
    type_ = declared.get("Type")
    words = "AllowedValues" in declared and type_ != NUMERIC
    return words or "AllowedPattern" in declared or str(type_).startswith(("AWS::", "List<AWS::"))


def _tried(file, name, declared):
    takes, refuses = table()[name]
    for value, has_to in [*((value, True) for value in takes), *((value, False) for value in refuses)]:
        problem = _refusal(name, declared, value)
        if has_to and problem:
            yield Finding(file, name, f"refuses {value!r}, which is valid ({TABLE.name}): {problem}")
        elif not has_to and not problem:
            yield Finding(file, name, f"takes {value!r}, which is not valid ({TABLE.name}): {_constraint(declared)}")


def _refusal(name, declared, value):
    """Why CloudFormation refuses the value; None if it takes it."""
    try:
        checked(name, declared, value)
    except ParameterError as error:
        return str(error)
    return None


def _constraint(declared):
    shown = [f"{key} {declared[key]}" for key in ("AllowedPattern", "AllowedValues", "MinLength", "MaxLength")
             if key in declared]
    return ", ".join([f"Type {declared.get('Type')}", *shown])
