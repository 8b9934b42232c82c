"""IAM's decision on a request, from the policies that apply to it.

The logic is that of the IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements":
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
An explicit deny wins. Within an account either the identity's policies (within their boundary) or the
resource's policy have to allow; across accounts both. A KMS key is the exception: its policy has to
name the principal, or its account, which leaves the decision to the identity's policies.
"""

import functools
import ipaddress
import re
from dataclasses import dataclass, field


class PolicyError(Exception):
    """A policy that IAM would refuse, or that uses what this evaluator does not know."""


@dataclass(frozen=True)
class Principal:
    """Who asks: a role, an AWS service, or anybody without credentials."""

    kind: str
    # ARN of a role, name of a service.
    name: str
    account: str = ""


@dataclass(frozen=True)
class Request:
    """What is asked for. Keys of the context are in lower case."""

    principal: Principal
    action: str
    resource: str
    context: dict = field(default_factory=dict, hash=False)


def listed(value):
    """A value that may stand alone or in a list."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def statements(document):
    """The statements of a policy document; raises if it has none."""
    if not isinstance(document, dict) or "Statement" not in document:
        raise PolicyError("a policy document without Statement")
    if document.get("Version") != "2012-10-17":
        raise PolicyError(f"a policy document of version {document.get('Version')!r}, not 2012-10-17")
    unknown = set(document) - {"Version", "Id", "Statement"}
    if unknown:
        raise PolicyError(f"a policy document with {', '.join(sorted(map(str, unknown)))}")
    found = listed(document["Statement"])
    for statement in found:
        _check_statement(statement)
    return found


def _check_statement(statement):
    known = {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
             "Condition"}
    if not isinstance(statement, dict) or set(statement) - known:
        raise PolicyError(f"{statement!r} is not a statement")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"a statement with the effect {statement.get('Effect')!r}")
    if ("Action" in statement) == ("NotAction" in statement):
        raise PolicyError("a statement needs Action or NotAction")
    if not listed(statement.get("Action", statement.get("NotAction"))):
        raise PolicyError("a statement without an action")
    condition = statement.get("Condition") or {}
    for keys in condition.values() if isinstance(condition, dict) else ():
        if isinstance(keys, dict) and "" in [one for values in keys.values() for one in listed(values)]:
            raise PolicyError("a condition that compares with nothing")
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        if any("**" in str(pattern) for pattern in listed(statement.get(name))):
            raise PolicyError(f"{name} with ** in place of *")


def identity_statements(document):
    """The statements of a policy of a role: each names resources and no principal."""
    found = statements(document)
    for statement in found:
        if ("Resource" in statement) == ("NotResource" in statement):
            raise PolicyError("a statement of a role needs Resource or NotResource")
        if not listed(statement.get("Resource", statement.get("NotResource"))):
            raise PolicyError("a statement without a resource")
        for resource in listed(statement.get("Resource", statement.get("NotResource"))):
            if resource != "*" and not str(resource).startswith("arn:"):
                raise PolicyError(f"{resource!r} is not an ARN")
        if "Principal" in statement or "NotPrincipal" in statement:
            raise PolicyError("a statement of a role names a principal")
    return found


def resource_statements(document):
    """The statements of a resource's policy: each names a principal."""
    found = statements(document)
    for statement in found:
        if "NotPrincipal" in statement or "Principal" not in statement:
            raise PolicyError("a statement of a resource's policy needs Principal")
        principal = statement["Principal"]
        if principal != "*" and (not isinstance(principal, dict) or not any(principal.values())):
            raise PolicyError(f"{principal!r} is not a principal")
    return found


@functools.cache
def _pattern(text, ignore_case):
    expression = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(expression, re.IGNORECASE | re.DOTALL if ignore_case else re.DOTALL)


def matches(pattern, value, ignore_case=False):
    """Whether `value` matches a pattern with * and ?."""
    if not isinstance(pattern, str):
        raise PolicyError(f"{pattern!r} is not text")
    return bool(_pattern(pattern, ignore_case).fullmatch(value))


def applies(statement, request):
    """Whether a statement speaks about the request, its principal aside."""
    if "Action" in statement:
        named = any(matches(one, request.action, True) for one in listed(statement["Action"]))
    else:
        named = not any(matches(one, request.action, True) for one in listed(statement["NotAction"]))
    if not named:
        return False
    if "Resource" in statement:
        if not any(matches(one, request.resource) for one in listed(statement["Resource"])):
            return False
    elif "NotResource" in statement:
        if any(matches(one, request.resource) for one in listed(statement["NotResource"])):
            return False
    return conditions_hold(statement.get("Condition") or {}, request.context)


def principal_matches(statement, principal):
    """How a statement names a principal: "direct", "account" (it leaves the decision to it) or None."""
    named = statement["Principal"]
    if named == "*":
        return "direct"
    for kind, values in named.items():
        for value in listed(values):
            if kind == "AWS" and value == "*":
                return "direct"
            if kind == "Service" and principal.kind == "service" and value == principal.name:
                return "direct"
            if kind == "AWS" and principal.kind == "role":
                if value == principal.name:
                    return "direct"
                if value == principal.account or re.fullmatch(rf"arn:[a-z-]+:iam::{principal.account}:root", value):
                    return "account"
    return None


def decide(identity, resource, request, is_key=False, resource_account=None, boundary=None):
    """Whether the request is allowed. `identity`, `boundary` and `resource` are lists of statements; no
    boundary is None, and so is a resource that has no policy.
    """
    applying = [statement for statement in identity if applies(statement, request)]
    within = None if boundary is None else [one for one in boundary if applies(one, request)]
    at_resource = [(statement, principal_matches(statement, request.principal))
                   for statement in resource or [] if applies(statement, request)]
    at_resource = [(statement, how) for statement, how in at_resource if how]
    everything = applying + (within or []) + [statement for statement, _ in at_resource]
    if any(statement["Effect"] == "Deny" for statement in everything):
        return False
    by_identity = bool(applying) and (within is None or bool(within))
    named = {how for _, how in at_resource}
    if request.principal.kind != "role":
        return "direct" in named
    same_account = resource_account is None or request.principal.account == resource_account
    if is_key:
        return ("direct" in named and same_account) or (by_identity and bool(named))
    if same_account:
        return by_identity or "direct" in named
    return by_identity and bool(named)


def conditions_hold(conditions, context):
    """Whether all operators of a statement's Condition hold in a request's context."""
    if not isinstance(conditions, dict):
        raise PolicyError(f"{conditions!r} is not a condition")
    return all(_holds(operator, key, listed(values), context)
               for operator, keys in conditions.items()
               for key, values in _keys(operator, keys))


def _keys(operator, keys):
    if not isinstance(keys, dict) or not keys:
        raise PolicyError(f"{operator} without keys")
    return keys.items()


def _holds(operator, key, values, context):
    quantifier, _, base = operator.rpartition(":")
    if_exists = base.endswith("IfExists")
    base = base.removesuffix("IfExists")
    given = listed(context.get(key.lower()))
    values = [_text(value) for value in values]
    if base == "Null":
        return any((value == "true") == (not given) for value in values)
    if base not in _OPERATORS:
        raise PolicyError(f"the condition operator {operator} is not known")
    negated, test = _OPERATORS[base]
    if any("${" in value for value in values):
        raise PolicyError(f"the policy variable in {values} is not known")
    if not given:
        return if_exists or negated or quantifier == "ForAllValues"
    hits = [any(test(value, one) for value in values) != negated for one in given]
    return all(hits) if quantifier == "ForAllValues" or (negated and not quantifier) else any(hits)


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise PolicyError(f"{value!r} is not a value of a condition")


def _arn_like(pattern, arn):
    left, right = pattern.split(":", 5), arn.split(":", 5)
    return len(left) == len(right) and all(matches(one, other) for one, other in zip(left, right, strict=True))


def _address(pattern, value):
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(pattern)
    except ValueError as error:
        raise PolicyError(str(error)) from error


def _numbers(compare):
    def test(wanted, given):
        try:
            return compare(float(given), float(wanted))
        except ValueError as error:
            raise PolicyError(str(error)) from error
    return test


def _fold(wanted, given):
    return wanted.lower() == given.lower()


def _equal(wanted, given):
    return wanted == given


# Operator → whether it is a negation, and the test of a value of the policy against one of the request.
_OPERATORS = {
    "StringEquals": (False, _equal),
    "StringNotEquals": (True, _equal),
    "StringEqualsIgnoreCase": (False, _fold),
    "StringNotEqualsIgnoreCase": (True, _fold),
    "StringLike": (False, matches),
    "StringNotLike": (True, matches),
    "ArnEquals": (False, _arn_like),
    "ArnLike": (False, _arn_like),
    "ArnNotEquals": (True, _arn_like),
    "ArnNotLike": (True, _arn_like),
    "Bool": (False, _fold),
    "IpAddress": (False, _address),
    "NotIpAddress": (True, _address),
    "NumericEquals": (False, _numbers(lambda given, wanted: given == wanted)),
    "NumericNotEquals": (True, _numbers(lambda given, wanted: given == wanted)),
    "NumericLessThan": (False, _numbers(lambda given, wanted: given < wanted)),
    "NumericLessThanEquals": (False, _numbers(lambda given, wanted: given <= wanted)),
    "NumericGreaterThan": (False, _numbers(lambda given, wanted: given > wanted)),
    "NumericGreaterThanEquals": (False, _numbers(lambda given, wanted: given >= wanted)),
}
