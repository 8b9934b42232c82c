"""What CloudFormation makes of a template: conditions, intrinsic functions, the order of resources."""

import graphlib
import json
import re

REFERENCE = re.compile(r"\$\{([A-Za-z0-9:]+)(?:\.([A-Za-z0-9.]+))?\}")
NO_VALUE = object()


class Resolver:
    """Values of a template's expressions for given parameters; resources are known by `physical`."""

    def __init__(self, template, parameters, pseudo, physical=None):
        self._template = template
        self._pseudo = pseudo
        self._physical = physical or {}
        self._parameters = {
            name: str(one["Default"]) for name, one in template.get("Parameters", {}).items()
            if "Default" in one} | parameters

    def there(self):
        """The resources whose condition holds."""
        return {name: one for name, one in self._template["Resources"].items()
                if "Condition" not in one or self.condition(one["Condition"])}

    def resources(self):
        """Those, in an order in which they can be created."""
        there = self.there()
        graph = {name: _referenced(self.value(one.get("Properties", {}), keep=True)) & set(there)
                 | set(_listed(one.get("DependsOn", []))) & set(there) for name, one in there.items()}
        return {name: there[name] for name in graphlib.TopologicalSorter(graph).static_order()}

    def outputs(self):
        return {name: str(self.value(one["Value"])) for name, one in self._template.get("Outputs", {}).items()
                if "Condition" not in one or self.condition(one["Condition"])}

    def condition(self, name):
        return self.truth(self._template["Conditions"][name])

    def truth(self, node):
        [(function, argument)] = node.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            return str(self.value(argument[0])) == str(self.value(argument[1]))
        if function == "Fn::Not":
            return not self.truth(argument[0])
        return {"Fn::And": all, "Fn::Or": any}[function](self.truth(item) for item in argument)

    def value(self, node, keep=False):
        """An expression's value. With `keep`, references to resources stay as they are."""
        if isinstance(node, list):
            found = [self.value(item, keep) for item in node]
            return [item for item in found if item is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            [(function, argument)] = node.items()
            if function in _ALWAYS:
                return _ALWAYS[function](self, argument, keep)
            if function in _SIMPLE and not keep:
                return _SIMPLE[function](self, argument)
        found = {key: self.value(item, keep) for key, item in node.items()}
        return {key: item for key, item in found.items() if item is not NO_VALUE}

    def attribute(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        physical = self._physical.get(name, name)
        if attribute == "RepositoryUri":
            return f"registry/{physical}"
        return physical if attribute == "Arn" and "/" in physical else f"{physical}.{attribute}"

    def _ref(self, name, keep):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in self._parameters:
            return self._parameters[name]
        if name in self._pseudo:
            return self._pseudo[name]
        return {"Ref": name} if keep else self._physical.get(name, name)

    def _sub(self, argument, keep):
        text, variables = (argument, {}) if isinstance(argument, str) else argument
        if keep:
            return {"Fn::Sub": [text, self.value(variables, keep)]}
        own = {name: str(self.value(item)) for name, item in variables.items()}

        def replace(found):
            name, attribute = found[1], found[2]
            if name in own and not attribute:
                return own[name]
            return str(self.attribute([name, attribute]) if attribute else self._ref(name, False))
        return REFERENCE.sub(replace, text)


def _if(resolver, argument, keep):
    return resolver.value(argument[1 if resolver.condition(argument[0]) else 2], keep)


def _select(resolver, argument):
    items = resolver.value(argument[1])
    return items[int(argument[0])] if isinstance(items, list) and int(argument[0]) < len(items) else str(items)


_ALWAYS = {"Ref": Resolver._ref, "Fn::Sub": Resolver._sub, "Fn::If": _if}
_SIMPLE = {
    "Fn::GetAtt": Resolver.attribute,
    "Fn::Join": lambda resolver, argument: argument[0].join(map(str, resolver.value(argument[1]))),
    "Fn::Split": lambda resolver, argument: str(resolver.value(argument[1])).split(argument[0]),
    "Fn::Select": _select,
}


def _referenced(node):
    """Names of resources that properties refer to."""
    text = json.dumps(node)
    return (set(re.findall(r'"Ref": "(\w+)"', text))
            | set(re.findall(r'"Fn::GetAtt": \["(\w+)"', text))
            | set(re.findall(r"\$\{(\w+)[.}]", text)))


def _listed(value):
    return value if isinstance(value, list) else [value]
