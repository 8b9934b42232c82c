"""What CloudFormation would make of the templates: resources with resolved properties.

`load(folder)` reads the templates; `system(templates, scenario)` evaluates them as the roll-out does:
template after template in its order, each parameter from the scenario, from an output of an earlier
template of the same name, or from its default. What CloudFormation would refuse becomes a `Finding`;
nothing here raises on a wrong template.
"""

import functools
import graphlib
import hashlib
import marshal
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import yaml
from adtrack_deploy import stacks, template

from . import identities
from .finding import Finding
from .intrinsics import NO_VALUE, EvaluationError, Scope, as_text, conditions, references
from .memory import Memory, remembered
from .parameters import ParameterError, checked

FOLDER = template.FOLDER
# Members of a template; what else stands there is misspelt.
SECTIONS = {"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Rules", "Mappings",
            "Conditions", "Resources", "Outputs", "Transform"}
ATTRIBUTES = {"Type", "Properties", "Condition", "DependsOn", "DeletionPolicy", "UpdateReplacePolicy",
              "CreationPolicy", "UpdatePolicy", "Metadata"}


# Stacks that were evaluated: deployments, and mutants, differ in few templates.
_STACKS = Memory(4_000)


@dataclass(frozen=True)
class Scenario:
    """A deployment: which templates, with which parameters, and where."""

    name: str
    parameters: dict = field(default_factory=dict)
    # Which templates it has.
    layout: stacks.Layout = field(default_factory=stacks.Layout)
    region: str = "eu-west-1"
    account: str = "111122223333"
    partition: str = "aws"

    @property
    def zones(self):
        """The zones that the subnets are in."""
        return tuple(filter(None, (self.parameters.get(f"Zone{number}") for number in (1, 2, 3))))


@dataclass(eq=False)
class Resource:
    """A resource that the scenario has. Systems share it: it must not change."""

    file: str
    name: str
    type: str
    properties: dict
    identity: identities.Identity
    # DeletionPolicy, UpdateReplacePolicy, …
    attributes: dict
    depends_on: tuple = ()

    @property
    def ref(self):
        return self.identity.ref

    @property
    def arn(self):
        return self.identity.arn

    def get(self, path, default=None):
        """The property at `path` (names with dots between them)."""
        node = self.properties
        for step in path.split("."):
            if isinstance(node, list) and step.isdigit() and int(step) < len(node):
                node = node[int(step)]
            elif isinstance(node, dict) and step in node:
                node = node[step]
            else:
                return default
        return node

    def finding(self, text):
        return Finding(self.file, self.name, text)


@dataclass
class System:
    """A scenario's resources, and the outputs of its templates."""

    scenario: Scenario
    # The templates as they were read, by name.
    templates: dict = field(default_factory=dict)
    resources: list = field(default_factory=list)
    outputs: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)
    # (template, condition) → whether it holds.
    conditions: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)

    def add(self, template, stack):
        """Adds a stack: its outputs are parameters of those that follow."""
        self.findings += [Finding(template, rule, f"refuses the scenario {self.scenario.name}: {text}")
                          for rule, text in stack.refusals]
        self.findings += stack.findings
        self.resources += stack.resources
        self.conditions |= {(template, name): holds for name, holds in stack.conditions.items()}
        self.outputs |= stack.outputs
        # What an operator sets is not replaced by a stack's output.
        self.parameters |= {name: value for name, value in stack.outputs.items()
                            if name not in self.scenario.parameters}

    def of_type(self, *types):
        """The resources of these types."""
        return [resource for resource in self.resources if resource.type in types]

    def named(self, name):
        """The resource with this logical id, or None."""
        return next((resource for resource in self.resources if resource.name == name), None)

    def called(self, reference):
        """The resource whose Ref or Arn `reference` is, or None."""
        return self._by_reference.get(reference) if isinstance(reference, str) else None

    @functools.cached_property
    def _by_reference(self):
        found = {}
        for resource in self.resources:
            for key in (resource.ref, resource.arn, resource.identity.attributes.get("Id")):
                found.setdefault(key, resource)
        # A bucket's policy has the bucket's name.
        for resource in self.of_type("AWS::S3::Bucket"):
            found[resource.ref] = resource
        return found


def load(folder=FOLDER):
    """The templates of a folder by name, and a finding for each that cannot be read."""
    templates, findings = {}, []
    for path in sorted(Path(folder).glob("*.yaml")):
        try:
            body = template.parse(path.read_text())
        except template.DuplicateKeyError as error:
            findings.append(Finding(path.stem, f"line {error.line}", f"key {error.key} appears twice"))
            continue
        except (yaml.YAMLError, OSError, UnicodeDecodeError, ValueError) as error:
            findings.append(Finding(path.stem, "-", f"is not YAML: {' '.join(str(error).split())}"))
            continue
        if isinstance(body, dict) and isinstance(body.get("Resources"), dict):
            templates[path.stem] = body
        else:
            findings.append(Finding(path.stem, "-", "is not a template: it has no Resources"))
    return templates, findings


def roll_out_order(layout):
    """The templates of a layout, in the order in which they are deployed."""
    return [name for stack in stacks.of(layout) for name in stack.templates]


class Templates(dict):
    """Templates by name, which do not change: a change is made in a copy. What depends on one of them alone is
    done once for each content.
    """

    @classmethod
    def of(cls, templates):
        return templates if isinstance(templates, cls) else cls(templates)

    @functools.cached_property
    def digests(self):
        """What stands for the content of each template."""
        return {name: _digest(body) for name, body in self.items()}

    def each(self, judge):
        """The findings of a judge of single templates, `judge(name, body)`."""
        for name, body in self.items():
            yield from remembered((judge, name, self.digests[name]), lambda name=name, body=body: judge(name, body))

    def system(self, scenario):
        """The resources of `scenario`."""
        made = System(scenario, self)
        made.parameters.update(scenario.parameters)
        for name in roll_out_order(scenario.layout):
            if name in self:
                made.add(name, self._stack(name, made))
            else:
                made.findings.append(Finding(name, "-", "there is no such template"))
        return made

    def _stack(self, name, made):
        body, scenario = self[name], made.scenario
        given = tuple((parameter, made.parameters.get(parameter)) for parameter, _ in _items(body, "Parameters"))
        place = _Place(made.parameters.get("Deployment", "adtrack"), scenario.account, scenario.partition,
                       scenario.region, scenario.zones)
        key = name, self.digests[name], given, place
        stack = _STACKS.get(key)
        if stack is None:
            stack = _Evaluation(name, body, dict(given), place).stack()
            _STACKS.put(key, stack)
        return stack


def system(templates, scenario):
    """The resources of `scenario`."""
    return Templates.of(templates).system(scenario)


def _digest(body):
    """A template's content. One that has more than YAML's plain values is like no other."""
    try:
        return hashlib.sha256(marshal.dumps(body, 0)).digest()
    except ValueError:
        return object()


def static_findings(templates):
    """What is wrong with templates in every scenario: unused names, references to nothing, cycles."""
    return Templates.of(templates).each(_static_findings)


def _static_findings(name, body):
    for check in (_unknown_members, _nulls, _unused, _cycles):
        yield from check(name, body)


class _Place(NamedTuple):
    """Where a stack is, and the deployment that it belongs to."""

    deployment: str
    account: str
    partition: str
    region: str
    zones: tuple


@dataclass
class _Stack:
    """One template evaluated; deployments that differ elsewhere share it."""

    resources: list = field(default_factory=list)
    outputs: dict = field(default_factory=dict)
    conditions: dict = field(default_factory=dict)
    findings: list = field(default_factory=list)
    # (rule, why it refuses the parameters).
    refusals: list = field(default_factory=list)


class _Evaluation:
    """One template on its way into a stack. It depends on nothing but its arguments."""

    def __init__(self, name, body, given, place):
        self._name = name
        self._body = body
        self._given = given
        self._made = _Stack()
        self._place = identities.Place(f"{place.deployment}-{name}", place.account, place.partition,
                                       place.region, f"adtrack-{name}")
        pseudo = {
            "AWS::AccountId": place.account,
            "AWS::Partition": place.partition,
            "AWS::Region": place.region,
            "AWS::StackName": self._place.stack,
            "AWS::StackId": f"arn:{place.partition}:cloudformation:{place.region}:"
                            f"{place.account}:stack/{self._place.stack}/0",
            "AWS::URLSuffix": "amazonaws.com",
            "AWS::NotificationARNs": [],
        }
        self._identities = {}
        self._scope = Scope(body, self._parameters(), pseudo, place.zones, self._identity)

    def stack(self):
        self._check_rules()
        for name in self._body.get("Conditions") or {}:
            self._made.conditions[name] = self._try(name, self._scope.holds, name)
        for logical_id, declared in self._body["Resources"].items():
            resource = self._resource(logical_id, declared)
            if resource:
                self._made.resources.append(resource)
        for name, output in _items(self._body, "Outputs"):
            value = self._try(name, self._output, output)
            if value is not None:
                self._made.outputs[name] = value
        return self._made

    def _report(self, resource, text):
        self._made.findings.append(Finding(self._name, resource, text))

    def _try(self, resource, function, *arguments):
        """The function's value; None, and a finding, if the template is wrong."""
        try:
            return function(*arguments)
        except EvaluationError as error:
            self._report(resource, str(error))
        except (AttributeError, TypeError, ValueError, KeyError, IndexError, RecursionError) as error:
            self._report(resource, f"is not formed as CloudFormation demands: {error}")
        return None

    def _parameters(self):
        values = {}
        for name, declared in _items(self._body, "Parameters"):
            try:
                values[name] = checked(name, declared, self._given[name])
            except ParameterError as error:
                self._report(name, str(error))
        return values

    def _check_rules(self):
        for name, rule in _items(self._body, "Rules"):
            applies = self._try(name, self._rule_applies, rule)
            for assertion in rule.get("Assertions", []) if applies else []:
                if not self._try(name, self._scope.evaluate, assertion.get("Assert")):
                    text = assertion.get("AssertDescription", "an assertion of the rule does not hold")
                    self._made.refusals.append((name, text))

    def _rule_applies(self, rule):
        return "RuleCondition" not in rule or self._scope.evaluate(rule["RuleCondition"])

    def _output(self, output):
        condition = output.get("Condition")
        if condition and not self._scope.holds(condition):
            return None
        value = self._scope.evaluate(output["Value"])
        return None if value is NO_VALUE else as_text(value)

    def _identity(self, logical_id):
        if logical_id not in self._identities:
            declared = self._body["Resources"][logical_id]
            named_by = identities.NAMED_BY.get(declared["Type"])
            property_ = (declared.get("Properties") or {}).get(named_by) if named_by else None
            # A resource that is named by its own attribute would go round in circles.
            self._identities[logical_id] = identities.identity(declared["Type"], logical_id, self._place)
            named = self._scope.evaluate(property_) if property_ else None
            if isinstance(named, str):
                self._identities[logical_id] = identities.identity(
                    declared["Type"], logical_id, self._place, named)
        return self._identities[logical_id]

    def _resource(self, logical_id, declared):
        if not isinstance(declared, dict) or not isinstance(declared.get("Type"), str):
            self._report(logical_id, "has no Type")
            return None
        if not self._try(logical_id, self._scope.has, logical_id):
            return None
        properties = {}
        for name, value in (declared.get("Properties") or {}).items():
            resolved = self._try(logical_id, lambda value=value: (self._scope.evaluate(value),))
            if resolved and resolved[0] is not NO_VALUE:
                properties[name] = resolved[0]
        identity = self._try(logical_id, self._identity, logical_id)
        if identity is None:
            return None
        attributes = {key: value for key, value in declared.items()
                      if key not in ("Type", "Properties", "DependsOn", "Condition")}
        attributes = {key: self._try(logical_id, self._scope.evaluate, value)
                      for key, value in attributes.items()}
        return Resource(self._name, logical_id, declared["Type"], properties, identity, attributes,
                        tuple(_listed(declared.get("DependsOn"))))


def _items(body, section):
    members = body.get(section)
    return [(name, value) for name, value in members.items() if isinstance(value, dict)] \
        if isinstance(members, dict) else []


def _listed(value):
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _unknown_members(file, body):
    for member in sorted(set(body) - SECTIONS):
        yield Finding(file, str(member), "is not a member of a template")
    for section in ("Parameters", "Rules", "Resources", "Outputs"):
        for name, value in (body.get(section) or {}).items():
            if not isinstance(value, dict):
                yield Finding(file, str(name), f"is not formed as one of {section}")
    for name, resource in _items(body, "Resources"):
        for attribute in sorted(set(resource) - ATTRIBUTES):
            yield Finding(file, name, f"{attribute} is not an attribute of a resource")


def _nulls(file, body):
    for path, value in template.walk(body):
        if value is None:
            name, *rest = map(str, path[1:] or path)
            yield Finding(file, name, f"{'.'.join(rest) or path[0]} has no value")


def _unused(file, body):
    parameters, resources = (set(body.get(section) or {}) for section in ("Parameters", "Resources"))
    referred = {name for section, value in body.items() if section != "Parameters"
                for name, _ in references(value)}
    # Rules read parameters by Ref as well; Fn::ValueOf and the like are not used.
    for name in sorted(parameters - referred):
        yield Finding(file, name, "is a parameter that nothing reads")
    for name in sorted(referred - parameters - resources):
        if not name.startswith("AWS::"):
            yield Finding(file, name, "is referred to, and is not there")
    declared = set(body.get("Conditions") or {})
    used = {name for name in conditions({key: body.get(key) for key in ("Conditions", "Resources", "Outputs")})
            if isinstance(name, str)}
    for name in sorted(declared - used):
        yield Finding(file, name, "is a condition that nothing reads")
    for name, resource in _items(body, "Resources"):
        for other in _listed(resource.get("DependsOn")):
            if other not in resources:
                yield Finding(file, name, f"depends on {other}, which is not there")


def _cycles(file, body):
    resources = dict(_items(body, "Resources"))
    graph = {name: ({other for other, _ in references(resource.get("Properties"))}
                    | set(filter(None, map(str, _listed(resource.get("DependsOn")))))) & set(resources)
             for name, resource in resources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield Finding(file, error.args[1][0], f"waits for itself: {' -> '.join(error.args[1])}")


def number(value):
    """A number that a template gives as one or as text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d+(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    return None


def truth(value):
    """Whether a value is true, given as a boolean or as text."""
    return value is True or value == "true"
