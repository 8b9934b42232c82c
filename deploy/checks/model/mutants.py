"""Mutants of the templates: each drops or changes one thing that has an effect.

The generator knows nothing of what is checked. It walks the parsed templates and goes by what it sees:
the kind of a value (number, truth value, text, reference, function of CloudFormation), the values that
the provider's schema allows, and the little languages that stand in texts (policies, Redis' access
strings, the metrics agent's configuration, expressions of alarms).

What has no effect is left out; `NO_EFFECT` and `WITHOUT_ORDER` say what, and why.
"""

import functools
import json
import random
import re
from typing import Any, NamedTuple

DROP = object()

# Keys whose value changes nothing that runs.
NO_EFFECT = {
    "Description": "a text for people",
    "AlarmDescription": "a text for people",
    "GroupDescription": "a text for people",
    "ReplicationGroupDescription": "a text for people",
    "Metadata": "read by tools for people alone",
    "AWSTemplateFormatVersion": "there is one",
    "Tags": "names and costs; that they are there is a rule of its own",
    "HealthCheckTags": "as Tags",
    "Sid": "a name within a policy",
    "PolicyName": "a name within a role or a scaled service",
    "Label": "the legend of a graph",
    "DashboardBody": "a picture for people",
    "ConstraintDescription": "a text for people",
    "AssertDescription": "a text for people",
}
# `Version` of a policy stays: the only other one is of 2008, and cfn-lint's.
WITHOUT_ORDER = "lists are never reordered: in a policy, a group or a set the order has no effect"

# Values that mean "another of its kind" where the schema lists none.
OTHER_WORDS = {
    "Effect": ("Allow", "Deny"),
    "Stat": ("Average", "Maximum", "Minimum", "SampleCount", "Sum", "p50"),
    "ExtendedStatistic": ("p50", "p90", "p100"),
    "IpProtocol": ("tcp", "udp", "-1", "icmp"),
    "Protocol": ("tcp", "udp", "HTTP", "HTTPS"),
    "DeletionPolicy": ("Retain", "Delete", "RetainExceptOnCreate", "Snapshot"),
    "UpdateReplacePolicy": ("Retain", "Delete", "Snapshot"),
    "StreamMode": ("ON_DEMAND", "PROVISIONED"),
}
WIDENED = {"Action": "*", "Resource": "*", "Principal": "*", "CidrIp": "0.0.0.0/0"}
CATEGORIES = ("network", "iam", "resource-policy", "acl", "endpoint", "alarm", "number", "other")
NETWORK_TYPES = ("AWS::EC2::", "AWS::ElasticLoadBalancingV2::Listener",
                 "AWS::ElasticLoadBalancingV2::TargetGroup", "AWS::ElastiCache::SubnetGroup")
NETWORK_KEYS = {"NetworkConfiguration", "VpcConfig", "SecurityGroups", "SecurityGroupIds", "Subnets",
                "PortMappings", "Scheme", "IpAddressType", "NetworkMode"}
POLICY_TYPES = ("AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy")
ACL_TYPES = ("AWS::ElastiCache::User", "AWS::ElastiCache::UserGroup")
POLICY_KEYS = {"KeyPolicy", "RepositoryPolicyText"}
ALARM_TYPES = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm", "AWS::Logs::MetricFilter",
               "AWS::SNS::Topic", "AWS::SNS::Subscription")
# The metrics agent decides which metrics there are to alarm on.
ALARM_TEXT = "AOT_CONFIG_CONTENT"


class Mutant(NamedTuple):
    """One change of one template."""

    template: str
    path: tuple
    change: str
    category: str
    value: Any

    @property
    def name(self):
        """How lists and reports name it."""
        return f"{self.template}: {'.'.join(map(str, self.path))}: {self.change}"

    def apply(self, templates):
        """The templates with the change; the originals stay as they are."""
        changed = dict(templates)
        changed[self.template] = _replaced(templates[self.template], self.path, self.value)
        return changed


def _replaced(node, path, value):
    """A copy of `node` with the value at `path` replaced or dropped; what is not on the way is shared."""
    if not path:
        return value
    copy = dict(node) if isinstance(node, dict) else list(node)
    if len(path) == 1 and value is DROP:
        del copy[path[0]]
    else:
        copy[path[0]] = _replaced(copy[path[0]], path[1:], value)
    return copy


def generate(templates, seed=0):
    """All mutants, in the templates' order. The seed decides where one of several values is taken."""
    for template, body in templates.items():
        yield from _Walk(template, body, random.Random(f"{seed}:{template}")).mutants()


class _Walk:
    """The mutants of one template."""

    def __init__(self, template, body, chance):
        self.template, self.body, self.chance = template, body, chance
        self.parameters = body.get("Parameters", {})
        self.resources = body.get("Resources", {})
        self.conditions = body.get("Conditions", {})
        self.words = _words_of(body)

    def mutants(self):
        seen = set()
        for section in ("Parameters", "Rules", "Mappings", "Conditions", "Resources", "Outputs"):
            for path, change, value in self.visit(self.body.get(section, {}), (section,)):
                key = (path, json.dumps(value, default=str) if value is not DROP else "drop")
                if key not in seen:
                    seen.add(key)
                    yield Mutant(self.template, path, change, self.category(path), value)

    def category(self, path):
        """Which part of the proof a place belongs to."""
        resource = self.resources.get(path[1], {}) if path[0] == "Resources" else {}
        kind, keys = resource.get("Type", ""), set(path)
        of = {
            "endpoint": kind == "AWS::EC2::VPCEndpoint",
            "iam": kind.startswith("AWS::IAM::"),
            "resource-policy": kind in POLICY_TYPES or keys & POLICY_KEYS,
            "acl": kind in ACL_TYPES or "UserGroupIds" in keys,
            "alarm": kind in ALARM_TYPES or ALARM_TEXT in _named_item(self.body, path),
            "network": kind.startswith(NETWORK_TYPES) or keys & NETWORK_KEYS,
            "number": _number(_at(self.body, path)) is not None,
        }
        return next((category for category, is_of in of.items() if is_of), "other")

    def visit(self, node, path):
        """Every change at `path` and below, as (path, words, value)."""
        if path[-1] in NO_EFFECT:
            return
        if isinstance(node, dict):
            function = _function(node)
            yield from self.function(node, function, path) if function else self.members(node, path)
        elif isinstance(node, list):
            for index, item in enumerate(node):
                yield path + (index,), f"drop {_short(item)}", DROP
                yield from self.visit(item, path + (index,))
        else:
            yield from self.scalar(node, path)
        if path[-1] in WIDENED and not _is_wide(node):
            yield path, f"widen to {WIDENED[path[-1]]}", WIDENED[path[-1]]

    def members(self, node, path):
        for key, value in node.items():
            if key in NO_EFFECT:
                continue
            if len(path) + 1 == 3 and key == "Type":
                continue  # another type of a resource or parameter is another template
            yield path + (key,), f"drop {key}", DROP
            yield from self.visit(value, path + (key,))

    def function(self, node, function, path):
        argument = node[function]
        inside = path + (function,)
        if function in ("Ref", "Fn::GetAtt", "Condition"):
            for other in self.others(function, argument):
                yield path, f"{_short(node)} -> {_short(other)}", other
        elif function == "Fn::If":
            condition, yes, no = argument
            yield path, f"arms of {condition} swapped", {function: [condition, no, yes]}
            yield path, f"always as if {condition}", yes
            yield path, f"never as if {condition}", no
            for other in self.others("Condition", condition):
                name = other["Condition"]
                yield path, f"condition {condition} -> {name}", {function: [name, yes, no]}
            yield from self.visit(yes, inside + (1,))
            yield from self.visit(no, inside + (2,))
        elif function in ("Fn::Not", "Fn::And", "Fn::Or", "Fn::Equals"):
            positive = argument[0] if function == "Fn::Not" else {"Fn::Not": [node]}
            yield path, "negated", positive
            if function in ("Fn::And", "Fn::Or"):
                other = "Fn::Or" if function == "Fn::And" else "Fn::And"
                yield path, f"{function} -> {other}", {other: argument}
            for index, item in enumerate(argument):
                yield from self.visit(item, inside + (index,))
        elif function == "Fn::Sub":
            text = argument if isinstance(argument, str) else argument[0]
            place = inside if isinstance(argument, str) else inside + (0,)
            for words, changed in self.texts(text, path):
                yield place, words, changed
            if not isinstance(argument, str):
                yield from self.members(argument[1], inside + (1,))
        elif isinstance(argument, list):
            for index, item in enumerate(argument):
                yield from self.visit(item, inside + (index,))
        else:
            yield from self.visit(argument, inside)

    def others(self, function, argument):
        """A reference to something else of the same type."""
        if function == "Condition":
            names = [name for name in self.conditions if name != argument]
            return [{"Condition": self.chance.choice(names)}] if names else []
        name, attribute = (argument, None) if function == "Ref" else (argument[0], argument[1])
        table = self.parameters if name in self.parameters else self.resources
        kind = table.get(name, {}).get("Type")
        names = sorted(other for other in table if other != name and table[other].get("Type") == kind)
        if kind is None or not names:
            return []
        other = self.chance.choice(names)
        return [{"Ref": other} if attribute is None else {"Fn::GetAtt": [other, attribute]}]

    def scalar(self, value, path):
        number = _number(value)
        if isinstance(value, bool) or value in ("true", "false"):
            flipped = (not value) if isinstance(value, bool) else {"true": "false", "false": "true"}[value]
            yield path, f"{value} -> {flipped}", flipped
        elif number is not None:
            for other in dict.fromkeys((number * 2, number / 2, number + 1, number - 1, 0, -number)):
                other = int(other) if float(other).is_integer() else other
                if other != number and not (isinstance(number, int) and isinstance(other, float)):
                    yield path, f"{number} -> {other}", str(other) if isinstance(value, str) else other
        elif isinstance(value, str):
            for words, changed in self.texts(value, path):
                yield path, words, changed

    def texts(self, text, path):
        """Changes of a text: another word of its kind, a token taken out, a letter wrong."""
        yield from self.enumerated(text, path)
        if path[-1] == "AccessString" or "AccessString" in path:
            yield from _access_strings(text)
            return
        if "\n" in text or text.startswith("{"):
            yield from self.lines(text)
            return
        if path[0] == "Conditions" and text == "":
            yield "'' -> 'x'", "x"
        if path[-1] in ("Expression", "AlarmRule") or "AlarmRule" in path:
            yield from _expressions(text)
        if re.fullmatch(r"\w[\w-]*:\w+", text) and path[0] == "Resources":
            service = text.split(":")[0]
            yield f"{text} -> {service}:*", f"{service}:*"
        for variable in re.findall(r"\$\{[\w.:]+\}", text):
            yield f"{variable} taken out", text.replace(variable, "", 1)
            other = self.other_variable(variable[2:-1])
            if other:
                yield f"{variable} -> ${{{other}}}", text.replace(variable, f"${{{other}}}", 1)
        tokens = re.findall(r"[^\s:/,.]+", re.sub(r"\$\{[^}]*\}", " ", text))
        if len(tokens) > 1:
            token = self.chance.choice(tokens)
            yield f"{token} taken out", text.replace(token, "", 1)
        if tokens:
            token = self.chance.choice(tokens)
            yield f"{token} misspelt", text.replace(token, _misspelt(token), 1)
        if "*" in text and text != "*":
            yield "* taken out", text.replace("*", "", 1)
        elif text and text[-1] not in "*" and "arn:" in text:
            yield "* behind it", text + "*"

    def enumerated(self, text, path):
        key = next((part for part in reversed(path) if isinstance(part, str)), "")
        if path[0] == "Resources" and len(path) > 2:
            kind = self.resources[path[1]].get("Type", "")
            allowed = enums_of(kind).get(key, ()) or OTHER_WORDS.get(key, ())
            same = self.words.get(key, ()) if key in ("MetricName", "Namespace", "ServiceName") else ()
        elif path[0] == "Parameters" and key == "Default":
            allowed, same = self.parameters[path[1]].get("AllowedValues", ()), ()
        else:
            return
        for choices in (allowed, same):
            others = sorted(str(word) for word in choices if str(word) != text)
            if others and (not allowed or text in map(str, allowed) or choices is same):
                for other in self.chance.sample(others, min(2, len(others))):
                    yield f"{text} -> {other}", other

    def other_variable(self, name):
        head, dot, attribute = name.partition(".")
        found = self.others("Fn::GetAtt" if dot else "Ref", [head, attribute] if dot else head)
        if not found:
            return None
        return f"{found[0]['Fn::GetAtt'][0]}.{attribute}" if dot else found[0]["Ref"]

    def lines(self, text):
        """A text of many lines: each taken out, and each of its words misspelt or taken out."""
        lines = text.split("\n")
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            rest = lines[:number] + lines[number + 1:]
            yield f"line {line.strip()[:40]!r} taken out", "\n".join(rest)
            for token in dict.fromkeys(re.findall(r"[A-Za-z_0-9.*]{2,}", line)):
                for words, other in ((f"{token} taken out", ""), (f"{token} misspelt", _misspelt(token))):
                    changed = lines[:number] + [line.replace(token, other, 1)] + lines[number + 1:]
                    yield f"line {line.strip()[:30]!r}: {words}", "\n".join(changed)


@functools.cache
def enums_of(kind):
    """The words that the provider's schema of a resource type allows, by the property's name."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER as schemas

    found = {}

    def collect(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, dict) and isinstance(value.get("enum"), list):
                    found.setdefault(key, value["enum"])
                collect(value)
        elif isinstance(node, list):
            for item in node:
                collect(item)

    try:
        collect(schemas.get_resource_schema("us-east-1", kind).schema)
    except Exception:  # a type that cfn-lint does not know has no words
        return {}
    return found


def _words_of(body):
    """The texts that stand under a key anywhere in the template: another one is of the same kind."""
    found = {}

    def collect(node):
        if isinstance(node, dict):
            for key, value in node.items():
                if isinstance(value, str):
                    found.setdefault(key, set()).add(value)
                collect(value)
        elif isinstance(node, list):
            for item in node:
                collect(item)

    collect(body.get("Resources", {}))
    return found


def _access_strings(text):
    """Redis' access string: each word taken out, turned or widened; words that must not be there added."""
    words = text.split()
    for number, word in enumerate(words):
        others = [None]
        if word[0] in "+-":
            others += [{"+": "-", "-": "+"}[word[0]] + word[1:], word[0] + _misspelt(word[1:])]
            if "|" in word:
                others.append(word.split("|")[0])
        elif word[0] in "~&":
            others += [word[0] + "*", word[:-1] + "x"]
        elif word in ("on", "off"):
            others.append({"on": "off", "off": "on"}[word])
        for other in others:
            changed = [other if at == number else old for at, old in enumerate(words)]
            yield f"{word} -> {other or 'nothing'}", " ".join(filter(None, changed))
    for word in ("+@all", "+flushall", "+config|get", "+@write", "+@dangerous", "+keys", "~*", "&*",
                 "allkeys", "allchannels", "nopass", "+eval", "%R~other:*"):
        if word not in words:
            yield f"and {word}", f"{text} {word}"


def _expressions(text):
    """Metric math and rules of composite alarms."""
    swaps = {"+": "-", "-": "+", "*": "/", "/": "*", "MAX": "MIN", "MIN": "MAX", "SUM": "AVG",
             "AND": "OR", "OR": "AND", "ALARM": "OK", ">": "<", "<": ">"}
    for found in re.finditer(r"[-+*/<>]|\b[A-Z]{2,}\b|\b\d+(?:\.\d+)?\b", text):
        word = found[0]
        if word[0].isdigit():
            others = [str(int(word) + 1) if word.isdigit() else word + "1", "0"]
        else:
            others = [swaps[word]] if word in swaps else []
        for other in others:
            if other != word:
                yield (f"{word} -> {other} at {found.start()}",
                       text[:found.start()] + other + text[found.end():])
    for found in re.finditer(r"FILL\((\w+), [^)]*\)", text):
        yield f"{found[0]} -> {found[1]}", text.replace(found[0], found[1], 1)


def _misspelt(token):
    """A letter doubled: never another valid word of the same length."""
    return token[:1] + token[:1] + token[1:] if len(token) < 3 else token[:2] + token[3:] or token + "x"


def _function(node):
    """The name of the function that a mapping is; None if it is data."""
    if len(node) == 1:
        key = next(iter(node))
        if key == "Ref" or key.startswith("Fn::"):
            return key
        if key == "Condition" and isinstance(node[key], str):
            return key
    return None


def _number(value):
    """A number, also where it stands in a text."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{1,12}(\.\d+)?", value):
        return float(value) if "." in value else int(value)
    return None


def _at(node, path):
    for step in path:
        node = node[step]
    return node


def _named_item(body, path):
    """The `Name` of the innermost item of a list on the way."""
    node, name = body, ""
    for step in path:
        node = node[step]
        if isinstance(node, dict) and isinstance(node.get("Name"), str):
            name = node["Name"]
    return name


def _is_wide(node):
    return node in ("*", ["*"], {"AWS": "*"}, "0.0.0.0/0")


def _short(node):
    text = json.dumps(node, default=str)
    return text if len(text) <= 60 else text[:57] + "…"
