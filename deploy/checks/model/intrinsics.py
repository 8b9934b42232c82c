"""CloudFormation's intrinsic functions, evaluated as the service does.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/intrinsic-function-reference.html
A `Scope` is one template with its parameters' values. What cannot be evaluated raises `EvaluationError`
with a text for a person.
"""

import base64
import ipaddress
import re

NO_VALUE = object()
VARIABLE = re.compile(r"\$\{([^!}][^}]*)\}")
# CloudFormation's pseudo parameters that a scenario gives.
PSEUDO = ("AWS::AccountId", "AWS::Partition", "AWS::Region", "AWS::StackId", "AWS::StackName", "AWS::URLSuffix")


class EvaluationError(Exception):
    """A template that CloudFormation would refuse."""


def as_text(value):
    """A scalar as CloudFormation passes it on in text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return value
    raise EvaluationError(f"{value!r} is not text")


class Scope:
    """One template with the values of its parameters; `references` resolves resources and pseudo parameters."""

    def __init__(self, body, parameters, pseudo, zones, identity):
        self._body = body
        self._parameters = parameters
        self._pseudo = pseudo
        self._zones = zones
        self._identity = identity
        self._conditions = {}
        self._evaluating = []

    def holds(self, name):
        """Whether the condition `name` holds."""
        if name not in self._conditions:
            declared = _mapping(self._body.get("Conditions"), "Conditions")
            if name not in declared:
                raise EvaluationError(f"there is no condition {name}")
            if name in self._evaluating:
                raise EvaluationError(f"the condition {name} depends on itself")
            self._evaluating.append(name)
            try:
                self._conditions[name] = self._truth(declared[name])
            finally:
                self._evaluating.pop()
        return self._conditions[name]

    def has(self, logical_id):
        """Whether the template has this resource in this scenario."""
        resource = _mapping(self._body.get("Resources"), "Resources").get(logical_id)
        if not isinstance(resource, dict):
            return False
        condition = resource.get("Condition")
        return condition is None or self.holds(condition)

    def evaluate(self, node):
        """The value of `node`; `NO_VALUE` if it is AWS::NoValue."""
        if isinstance(node, list):
            items = [self.evaluate(item) for item in node]
            return [item for item in items if item is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, argument)] = node.items()
            if function == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if function == "Ref" or str(function).startswith("Fn::"):
                return self._call(function, argument)
        values = {key: self.evaluate(value) for key, value in node.items()}
        return {key: value for key, value in values.items() if value is not NO_VALUE}

    def _call(self, function, argument):
        handler = _FUNCTIONS.get(function)
        if handler is None:
            raise EvaluationError(f"{function} is not a function")
        try:
            return handler(self, argument)
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise EvaluationError(f"{function} has invalid arguments: {error}") from error

    def _truth(self, node):
        value = self.evaluate(node)
        if value in (True, "true"):
            return True
        if value in (False, "false"):
            return False
        raise EvaluationError(f"{value!r} is not a condition")

    def ref(self, name):
        """The value of `Ref: name`."""
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._pseudo:
            return self._pseudo[name]
        if name in self._parameters:
            return self._parameters[name]
        if self.has(name):
            return self._identity(name).ref
        raise EvaluationError(f"there is no {name} to refer to")

    def get_att(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        if not self.has(name):
            raise EvaluationError(f"there is no resource {name} whose {attribute} could be read")
        return self._identity(name).get_att(self.evaluate(attribute))

    def sub(self, argument):
        text, given = (argument, {}) if isinstance(argument, str) else argument
        given = {name: self.evaluate(value) for name, value in given.items()}
        unused = sorted(set(given) - set(VARIABLE.findall(text)))
        if unused:
            raise EvaluationError(f"Fn::Sub is given {', '.join(unused)}, which its text does not use")

        def replace(match):
            name = match[1].strip()
            if name in given:
                return as_text(given[name])
            value = self.get_att(name) if "." in name else self.ref(name)
            return as_text(value)
        return VARIABLE.sub(replace, text).replace("${!", "${")

    def choose(self, argument):
        condition, if_true, if_false = argument
        return self.evaluate(if_true if self.holds(condition) else if_false)

    def select(self, argument):
        index, items = argument
        items = self.evaluate(items)
        index = int(as_text(self.evaluate(index)))
        if not isinstance(items, list) or not 0 <= index < len(items):
            raise EvaluationError(f"Fn::Select {index} is outside its list")
        return items[index]

    def join(self, argument):
        separator, items = argument
        items = self.evaluate(items)
        if not isinstance(items, list):
            raise EvaluationError("Fn::Join needs a list")
        return separator.join(map(as_text, items))

    def split(self, argument):
        separator, text = argument
        return as_text(self.evaluate(text)).split(separator)

    def zones(self, argument):
        region = self.evaluate(argument) or self._pseudo["AWS::Region"]
        if region != self._pseudo["AWS::Region"]:
            raise EvaluationError(f"the zones of {region} are not those of the stack")
        return list(self._zones)

    def cidr(self, argument):
        block, count, *bits = (self.evaluate(item) for item in argument)
        network = ipaddress.ip_network(block)
        width = int(bits[0]) if bits else 8
        try:
            subnets = network.subnets(new_prefix=network.max_prefixlen - width)
            return [str(next(subnets)) for _ in range(int(count))]
        except (ValueError, StopIteration, RuntimeError) as error:
            raise EvaluationError(f"{block} does not have {count} blocks of {width} bits") from error

    def find_in_map(self, argument):
        name, first, second = (self.evaluate(item) for item in argument[:3])
        found = self._body.get("Mappings", {}).get(name, {}).get(first, {})
        if second not in found:
            raise EvaluationError(f"the mapping {name} has no {first}, {second}")
        return found[second]

    def equals(self, argument):
        left, right = (self.evaluate(item) for item in argument)
        if isinstance(left, list | dict) or isinstance(right, list | dict):
            return left == right
        return as_text(left) == as_text(right)

    def negate(self, argument):
        [item] = argument
        return not self._truth(item)

    def all_hold(self, argument):
        return all([self._truth(item) for item in argument])

    def any_holds(self, argument):
        return any([self._truth(item) for item in argument])

    def contains(self, argument):
        items, wanted = (self.evaluate(item) for item in argument)
        return as_text(wanted) in list(map(as_text, items))

    def each_member_in(self, argument):
        items, allowed = (self.evaluate(item) for item in argument)
        return set(map(as_text, items)) <= set(map(as_text, allowed))

    def each_member_equals(self, argument):
        items, wanted = (self.evaluate(item) for item in argument)
        return all(as_text(item) == as_text(wanted) for item in items)

    def encode(self, argument):
        return base64.b64encode(as_text(self.evaluate(argument)).encode()).decode()

    def to_json(self, argument):
        import json
        return json.dumps(self.evaluate(argument), separators=(",", ":"))

    def length(self, argument):
        return len(self.evaluate(argument))


def _refuse_import(scope, argument):
    raise EvaluationError("Fn::ImportValue ties stacks together: outputs are handed on by name")


_FUNCTIONS = {
    "Ref": Scope.ref,
    "Fn::GetAtt": Scope.get_att,
    "Fn::Sub": Scope.sub,
    "Fn::If": Scope.choose,
    "Fn::Select": Scope.select,
    "Fn::Join": Scope.join,
    "Fn::Split": Scope.split,
    "Fn::GetAZs": Scope.zones,
    "Fn::Cidr": Scope.cidr,
    "Fn::FindInMap": Scope.find_in_map,
    "Fn::Equals": Scope.equals,
    "Fn::Not": Scope.negate,
    "Fn::And": Scope.all_hold,
    "Fn::Or": Scope.any_holds,
    "Fn::Contains": Scope.contains,
    "Fn::EachMemberIn": Scope.each_member_in,
    "Fn::EachMemberEquals": Scope.each_member_equals,
    "Fn::Base64": Scope.encode,
    "Fn::ToJsonString": Scope.to_json,
    "Fn::Length": Scope.length,
    "Fn::ImportValue": _refuse_import,
}


def _mapping(node, name):
    if node is None:
        return {}
    if not isinstance(node, dict):
        raise EvaluationError(f"{name} is not a mapping")
    return node


def references(node):
    """Every name that `node` refers to, with the attribute that it reads or None."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref" and isinstance(value, str):
                yield value, None
            elif key == "Fn::GetAtt" and value:
                name, attribute = value[:2] if isinstance(value, list) else str(value).partition(".")[::2]
                yield name, attribute
                continue
            elif key == "Fn::Sub" and value:
                text, given = (value, {}) if isinstance(value, str) else (*value, {})[:2]
                for name in VARIABLE.findall(str(text)):
                    if name not in (given or {}):
                        yield name.partition(".")[0], name.partition(".")[2] or None
            yield from references(value)


def conditions(node):
    """Every condition that `node` names."""
    if isinstance(node, list):
        for item in node:
            yield from conditions(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Condition" and isinstance(value, str):
                yield value
            if key == "Fn::If" and isinstance(value, list) and value:
                yield value[0]
            yield from conditions(value)
