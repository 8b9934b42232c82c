"""What each option of an operator does, and that it does nothing else.

`options.yaml` says for every parameter that an operator may set what appears and vanishes if it is set
alone. Here each option is compared with the deployment without it, so that a condition that is inverted,
or asks for another parameter than its own, shows as an effect that is missing or that nobody asked for.
"""

import argparse
import dataclasses
import functools
import json
import re
import sys
from pathlib import Path

import yaml

from . import scenarios, synth
from .finding import Finding

FILE = Path(__file__).with_name("options.yaml")
BASES = {
    "production": scenarios.PRODUCTION,
    "existing network": scenarios.EXISTING_NETWORK,
    "existing load balancer": scenarios.EXISTING_BALANCER,
    "global table": dataclasses.replace(
        scenarios.GLOBAL_TABLE, parameters=scenarios.PRODUCTION.parameters | {"SecondRegion": "us-east-1"}),
}
# Tried by `elsewhere`: everything is called by it.
ELSEWHERE = ("Deployment",)
# What tells the items of a list apart.
NAMES = ("Name", "Key", "Sid", "Id", "AttributeName", "IndexName", "Region", "DeviceName", "PolicyName")
# Texts for people.
LEFT_OUT = ("Description", "Metadata")


class _Deployments:
    """Deployments that are compared, each synthesized once."""

    def __init__(self, templates):
        self._templates = synth.Templates.of(templates)
        self._known = {}

    def of(self, base, given):
        """The system of a base with more parameters, and its settings."""
        key = base, json.dumps(given, sort_keys=True)
        if key not in self._known:
            scenario = BASES[base]
            parameters = scenario.parameters | {name: str(value) for name, value in given.items()}
            system = self._templates.system(dataclasses.replace(
                scenario, name=f"{base} with {_shown(given)}", parameters=parameters))
            self._known[key] = system, _settings(system)
        return self._known[key]

    def pair(self, option):
        """The deployment without an option, and that with it."""
        return (self.of(option["base"], option["with"]),
                self.of(option["base"], option["with"] | option["set"]))


def static_findings(templates):
    """Options that do something else than is written, and conditions and parameters that no option tries."""
    tried = set()
    deployments = _Deployments(templates)
    for option in _options():
        (base, before), (chosen, after) = deployments.pair(option)
        tried |= {key for key, holds in base.conditions.items() if chosen.conditions.get(key, holds) != holds}
        yield from chosen.findings
        yield from _differences(option, _effects(base, before, chosen, after))
    for file, body in templates.items():
        for name in body.get("Conditions") or {}:
            if (file, name) not in tried:
                yield Finding(file, name, f"is a condition that no option of {FILE.name} changes")
    known = {name for option in _options() for name in option["set"]} | set(ELSEWHERE)
    for file, name in _operators(templates):
        if name not in known:
            yield Finding(file, name, f"is a parameter that no option of {FILE.name} sets")


def _effects(base, before, chosen, after):
    """What one deployment has and the other has not, a line each."""
    lines = []
    for sign, mine, theirs, system in (("-", before, after, base), ("+", after, before, chosen)):
        names = _names(system)
        for key in sorted(mine):
            if key not in theirs:
                lines.append(f"{sign} {key}")
            elif mine[key] is not theirs[key]:
                lines += [f"{sign} {key} {_readable(line, names)}" for line in mine[key] if line not in theirs[key]]
    return lines


@functools.cache
def _options():
    return [{"base": "production", "with": {}, "effects": ""} | option for option in yaml.safe_load(FILE.read_text())]


def _differences(option, found):
    expected = option["effects"].splitlines()
    said = f"{_shown(option['set'])} ({', '.join(filter(None, (option['base'], _shown(option['with']))))})"
    for lines, others, verb in ((expected, found, "does not do"), (found, expected, "does what it should not")):
        for line in lines:
            if line not in others:
                file, resource = line.split()[1:3]
                yield Finding(file, resource, f"the option {said} {verb}: {line}")


def _operators(templates):
    """Parameters that an operator sets: they have a default, and are no output."""
    outputs = {name for body in templates.values() for name in body.get("Outputs") or {}}
    for file, body in templates.items():
        for name, declared in (body.get("Parameters") or {}).items():
            if isinstance(declared, dict) and "Default" in declared and name not in outputs:
                yield file, name


def _settings(system):
    """Resource or output → its settings, a line each."""
    found = {}
    for resource in system.resources:
        found[f"{resource.file} {resource.name}"] = _settings_of(resource)
    for name, value in system.outputs.items():
        found[f"output {name}"] = {f"= {value}": None}
    return found


@functools.lru_cache(20_000)
def _settings_of(resource):
    waits = {"DependsOn": list(resource.depends_on)} if resource.depends_on else {}
    return dict.fromkeys(_lines("", resource.attributes | waits | resource.properties))


def _lines(place, node):
    """A line per value; items of a list go by their name, if they have one, and texts in a list by nothing."""
    if isinstance(node, dict):
        return [line for key, value in node.items() if key not in LEFT_OUT
                for line in _lines(f"{place}.{key}".lstrip("."), value)] or [f"{place} = {{}}"]
    if isinstance(node, list):
        name = next((one for one in NAMES if all(isinstance(item, dict) and isinstance(item.get(one), str)
                                                 for item in node)), None)
        lines = []
        for index, item in enumerate(node):
            label = item[name] if name else index if isinstance(item, dict | list) else ""
            rest = {key: value for key, value in item.items() if key != name} if name else item
            only = rest["Value"] if name and set(rest) == {"Value"} else rest
            lines += _lines(f"{place}[{label}]", only)
        return lines or [f"{place} = []"]
    if isinstance(node, str) and "\n" in node:
        return [f"{place} | {line.strip()}" for line in node.splitlines()]
    return [f"{place} = {node if isinstance(node, str) and node else json.dumps(node, default=str)}".rstrip()]


def _names(system):
    """What resources of the system are called → <Resource>, the longest first."""
    # A bucket's policy is called as the bucket is.
    names = {text: resource.name for resource in system.resources if resource.type != "AWS::S3::BucketPolicy"
             for text in (resource.arn, resource.ref) if re.search("[0-9a-f]{8}", str(text))}
    return {text: f"<{names[text]}>" for text in sorted(names, key=len, reverse=True)}


def _readable(line, names):
    """The line with a resource's name for what it is called."""
    for text, name in names.items():
        line = line.replace(text, name)
    return line


def _shown(given):
    return ", ".join(f"{name} {value if value != '' else 'empty'}" for name, value in given.items())


def main():
    """Prints options.yaml with the effects that the templates have: for a person to compare and take over."""
    argparse.ArgumentParser(prog="deploy/checks/options", description=main.__doc__).parse_args()
    templates, _ = synth.load()
    deployments = _Deployments(templates)
    for option in yaml.safe_load(FILE.read_text()):
        (base, before), (chosen, after) = deployments.pair({"base": "production", "with": {}} | option)
        head = "".join(f"{'-' if first else ' '} {key}: {json.dumps(option[key]) if key != 'base' else option[key]}\n"
                       for first, key in ((key == next(iter(option)), key) for key in option if key != "effects"))
        lines = "".join(f"    {line}\n" for line in _effects(base, before, chosen, after))
        sys.stdout.write(head + (f"  effects: |\n{lines}" if lines else ""))


if __name__ == "__main__":
    main()
