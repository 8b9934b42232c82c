"""Reads templates, and merges several into one.

Templates are joined by name: a parameter takes the value of the output of the same name of an earlier template.
If two templates are merged into one stack, the output's value replaces the parameter.
"""

import json
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "templates"


class TemplateError(Exception):
    """Templates are invalid or do not fit together."""


class DuplicateKeyError(TemplateError):
    """A mapping has a key twice: YAML's loaders would keep the last one, CloudFormation refuses it."""

    def __init__(self, key, line):
        super().__init__(f"line {line}: key {key} appears twice")
        self.key, self.line = key, line


# If PyYAML was built with libyaml, its loader, which is ten times as fast.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """YAML with CloudFormation's short forms (!Ref, !Sub, …), and no key twice."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise DuplicateKeyError(key.value, key.start_mark.line + 1)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix in ("Ref", "Condition"):
        return {suffix: value}
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)
# CloudFormation reads 2012-10-17 as text, and has neither yes nor on.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(text):
    """Parses a template's text."""
    return yaml.load(text, Loader=_Loader)


def load(name, folder=FOLDER):
    """Reads the template `name` (without its extension)."""
    return parse((folder / f"{name}.yaml").read_text())


def load_all(folder=FOLDER):
    """Reads all templates, by name."""
    return {path.stem: parse(path.read_text()) for path in sorted(folder.glob("*.yaml"))}


def to_text(template):
    """A template as JSON for CloudFormation, without white space."""
    return json.dumps(template, separators=(",", ":"), ensure_ascii=False)


def walk(node, path=()):
    """Yields every value of a template, with its path."""
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, path + (key,))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, path + (index,))


def merge(templates, description):
    """Merges templates, in the order in which they would be deployed."""
    merged = {"AWSTemplateFormatVersion": "2010-09-09", "Description": description}
    sections = ("Mappings", "Conditions", "Rules", "Resources", "Outputs")
    parts = {key: {} for key in ("Parameters", *sections)}
    for template in templates:
        known = {name: output["Value"] for name, output in parts["Outputs"].items()}
        lists = set()
        for name, parameter in template.get("Parameters", {}).items():
            if name in known:
                if parameter["Type"] == "CommaDelimitedList" or parameter["Type"].startswith("List<"):
                    lists.add(name)
            elif (_without_description(parts["Parameters"].setdefault(name, parameter))
                  != _without_description(parameter)):
                raise TemplateError(f"the parameter {name} is declared in two ways")
        for key in sections:
            for name, value in template.get(key, {}).items():
                value = _substitute(value, known, lists, key in ("Conditions", "Rules"))
                if name in parts[key] and (
                    key in ("Resources", "Outputs") or parts[key][name] != value
                ):
                    raise TemplateError(f"{key} {name} is defined twice")
                parts[key][name] = value
    _order(parts["Resources"])
    merged.update({key: value for key, value in parts.items() if value})
    return merged


def _order(resources):
    """Turns `Metadata: {DependsOnWhenMerged: [names]}` into DependsOn, for those resources that exist.

    Separate stacks are deployed one after the other. In one stack, CloudFormation creates everything at once, and
    does not know that a load balancer needs its network's route to the internet.
    """
    for resource in resources.values():
        names = resource.get("Metadata", {}).get("DependsOnWhenMerged", [])
        before = resource.get("DependsOn", [])
        before = [before] if isinstance(before, str) else before
        before = [*before, *(name for name in names if name in resources)]
        if before:
            resource["DependsOn"] = before


def _without_description(parameter):
    return {key: value for key, value in parameter.items() if key != "Description"}


def _substitute(node, known, lists, in_condition):
    if isinstance(node, list):
        return [_substitute(item, known, lists, in_condition) for item in node]
    if not isinstance(node, dict):
        return node
    if set(node) == {"Ref"} and node["Ref"] in known:
        if in_condition:
            raise TemplateError(f"a condition or rule needs {node['Ref']} before it is known")
        value = known[node["Ref"]]
        return {"Fn::Split": [",", value]} if node["Ref"] in lists else value
    if set(node) == {"Fn::Sub"}:
        return _substitute_in_text(node["Fn::Sub"], known, lists, in_condition)
    return {key: _substitute(value, known, lists, in_condition) for key, value in node.items()}


def _substitute_in_text(sub, known, lists, in_condition):
    text, variables = (sub, {}) if isinstance(sub, str) else sub
    variables = {
        name: _substitute(value, known, lists, in_condition) for name, value in variables.items()
    }
    for name, value in known.items():
        if f"${{{name}}}" in text and name not in variables:
            if in_condition:
                raise TemplateError(f"a condition or rule needs {name} before it is known")
            variables[name] = value
    return {"Fn::Sub": [text, variables] if variables else text}
