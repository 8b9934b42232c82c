"""Templates: read as data, and several merged into one.

Split templates are joined by name: a parameter is given the output of the same name of an earlier
template. Where two of them go into one stack, the parameter becomes what the output says.
"""

import json
from pathlib import Path

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "templates"


class TemplateError(Exception):
    """Templates that are not valid, or do not fit together."""


class DuplicateKeyError(TemplateError):
    """A mapping with a key twice: YAML's loaders keep the last, CloudFormation refuses it."""

    def __init__(self, key, line):
        super().__init__(f"line {line}: key {key} appears twice")
        self.key, self.line = key, line


# libyaml's, ten times as fast, where PyYAML was built with it.
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
    """A template's text as data."""
    return yaml.load(text, Loader=_Loader)


def load(name, folder=FOLDER):
    """The template `name`, without its ending."""
    return parse((folder / f"{name}.yaml").read_text())


def load_all(folder=FOLDER):
    """All templates, by name."""
    return {path.stem: parse(path.read_text()) for path in sorted(folder.glob("*.yaml"))}


def to_text(template):
    """A template as CloudFormation takes it, as small as it gets."""
    return json.dumps(template, separators=(",", ":"), ensure_ascii=False)


def walk(node, path=()):
    """Every value of a template, with its path."""
    yield path, node
    if isinstance(node, dict):
        for key, value in node.items():
            yield from walk(value, path + (key,))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from walk(value, path + (index,))


def merge(templates, description):
    """One template of several, in the order in which they would be deployed."""
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
            elif _undescribed(parts["Parameters"].setdefault(name, parameter)) != _undescribed(parameter):
                raise TemplateError(f"the parameter {name} is declared in two ways")
        for key in sections:
            for name, value in template.get(key, {}).items():
                value = _substitute(value, known, lists, key in ("Conditions", "Rules"))
                if name in parts[key] and (
                    key in ("Resources", "Outputs") or parts[key][name] != value
                ):
                    raise TemplateError(f"{key} {name} is there twice")
                parts[key][name] = value
    _order(parts["Resources"])
    merged.update({key: value for key, value in parts.items() if value})
    return merged


def _order(resources):
    """Turns `Metadata: {DependsOnWhenMerged: [names]}` into DependsOn on those that are there.

    Stacks of their own are made one after the other; in one stack CloudFormation makes everything at
    once, and does not know that a load balancer needs its network's way to the internet.
    """
    for resource in resources.values():
        names = resource.get("Metadata", {}).get("DependsOnWhenMerged", [])
        before = resource.get("DependsOn", [])
        before = [before] if isinstance(before, str) else before
        before = [*before, *(name for name in names if name in resources)]
        if before:
            resource["DependsOn"] = before


def _undescribed(parameter):
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
