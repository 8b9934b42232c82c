"""Who is named by a policy: each principal of every role, key, bucket, topic and repository is there for a
flow. One that no grant mentions is a finding, whatever the statement would let it do.
"""

from adtrack_deploy.template import walk

from . import grants, iam
from .parts import of as parts_of
from .policy import listed

EVERYBODY = "*"


def judge(system):
    """Findings of the principals that a system's policies name."""
    parts = parts_of(system)
    if parts.missing:
        return
    expected = _expected(parts)
    trusted = {user.get(property_): {f"Service {grants.trusts(parts)[who][0]}"}
               for who, (user, property_) in grants.roles(parts).items()}
    for resource in system.resources:
        wanted = set(trusted.get(resource.arn, ()))
        for owner in _owners(system, resource):
            wanted |= expected.get(owner.arn, set())
        for statement in _statements(resource):
            named = _named(statement["Principal"], parts)
            if statement.get("Effect") == "Deny":
                if named != {EVERYBODY}:
                    yield resource.finding(f"denies {', '.join(sorted(named))} alone, and nobody else")
            elif named - wanted:
                yield resource.finding(f"names {', '.join(sorted(named - wanted))} in a policy, which no flow needs")


def _expected(parts):
    """ARN of a resource → the principals that its policy names because of a grant."""
    found = {}
    for grant in grants.of(parts):
        named = found.setdefault(iam.owner(grant.resource), set())
        if grant.who.endswith(".amazonaws.com"):
            named.add(f"Service {grant.who}")
        elif grant.who == grants.ORGANIZATION:
            # The condition says which organization; `resource_policies` asks as a stranger.
            named.add(EVERYBODY)
        elif grant.who == grants.ADMINISTRATOR and ":kms:" in grant.resource:
            named.add(_root(parts, parts.account))
    return found


def _owners(system, resource):
    """The resources that a policy in this resource is about."""
    target, _ = iam.WITH_POLICIES.get(resource.type, (None, None))
    return [resource] if target is None else filter(None, map(system.called, listed(resource.get(target))))


def _statements(resource):
    """Every statement of a resource that names a principal, wherever it stands."""
    for _, node in walk(resource.properties):
        if isinstance(node, dict) and "Effect" in node and "Principal" in node:
            yield node


def _named(principal, parts):
    """The principals of a statement, each as its kind and name; everybody is *."""
    if not isinstance(principal, dict):
        return {str(principal)}
    found = set()
    for kind, values in principal.items():
        for value in map(str, listed(values)):
            if kind == "AWS":
                found.add(_root(parts, value) if value.isdigit() else f"AWS {value}" if value != "*" else EVERYBODY)
            else:
                found.add(f"{kind} {value}")
    return found


def _root(parts, account):
    """An account as a principal: it leaves the decision to the policies of its own roles."""
    return f"AWS arn:{parts.system.scenario.partition}:iam::{account}:root"
