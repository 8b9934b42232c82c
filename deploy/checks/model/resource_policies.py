"""Policies of keys, buckets, topics and repositories against the grants of those who have no role here:
the account's own people, other accounts of the organization, AWS services, and strangers.
"""

from . import grants, iam, probes
from .finding import Finding
from .memory import remembered
from .parts import of as parts_of
from .policy import PolicyError, Principal, listed, principal_matches

STRANGER = "a stranger"
# Type of a resource with a policy → the actions that its service has.
SERVICES = {"s3": "s3:*", "kms": "kms:*", "sns": "sns:*", "ecr": "ecr:*", "secretsmanager": "secretsmanager:*",
            "dynamodb": "dynamodb:*", "kinesis": "kinesis:*"}


def judge(system):
    """Findings of the policies of a system's resources."""
    parts = parts_of(system)
    if parts.missing:
        return []
    return list(_ResourcePolicies(parts).findings())


class _ResourcePolicies(iam.Access):
    def findings(self):
        # A bucket or topic whose policy is gone has nobody who says so.
        for grant in self.grants:
            if grant.who not in grants.ROLES and grant.who != grants.ADMINISTRATOR \
                    and iam.owner(grant.resource) not in self.policies:
                yield self._finding(grant.resource, f"has no policy: {grant.who} may not {grant.action}")
        for bucket in self.system.of_type("AWS::S3::Bucket"):
            if bucket.arn not in self.policies:
                yield bucket.finding("has no policy, which allows plain HTTP")
        for arn, (holder, spoken) in self.policies.items():
            for who in (grants.ADMINISTRATOR, grants.ORGANIZATION, STRANGER, *self._services(spoken)):
                mine = [grant for grant in self.by_principal.get(who, []) if iam.owner(grant.resource) == arn]
                key = repr((arn, holder.file, holder.name, spoken, who, mine, self._base(who)))
                yield from remembered(key, lambda held=(arn, holder, spoken, who, mine): self._judge(*held))

    def _judge(self, arn, holder, spoken, who, mine):
        try:
            yield from self._asked(arn, holder, spoken, who, mine)
        except PolicyError as error:
            yield holder.finding(str(error))

    def _asked(self, arn, holder, spoken, who, mine):
        principal, base = self._principal(who), self._base(who)
        identity = [] if principal.kind == "service" else iam.EVERYTHING
        for grant in mine:
            for action in sorted(probes.sample(probes.expanded({"Action": grant.action}))):
                for resource in probes.examples(grant.resource):
                    for context in self.needs(grant, base):
                        if not self.allows(principal, identity, action, resource, context):
                            yield holder.finding(f"denies {who} {action} on {iam.short(resource)}"
                                                 f"{iam.said(context)}: {grant.why}")
                            return
        if principal.kind == "service" or who != grants.ADMINISTRATOR:
            # Nobody else is allowed anything but by a statement that names them.
            named = [one for one in spoken if one["Effect"] == "Allow" and principal_matches(one, principal)]
            if not named:
                return
        for action, resource, context in self._probes(arn, spoken, mine, base):
            if not any(iam.covers(grant, action, resource, context) for grant in mine) \
                    and self.allows(principal, identity, action, resource, context):
                yield holder.finding(f"allows {who} {action} on {iam.short(resource)}{iam.said(context)}, "
                                     "which no flow needs")
                return

    def _probes(self, arn, spoken, mine, base):
        service = arn.split(":")[2]
        wanted = probes.sample(probes.expanded({"Action": SERVICES[service]}))
        for statement in spoken:
            wanted |= probes.sample(probes.expanded(statement))
        wanted |= {grant.action.lower() for grant in mine if "*" not in grant.action}
        resources = {arn, *((f"{arn}/other", f"{arn}/other/thing") if service == "s3" else ())}
        patterns = {one for statement in spoken for one in listed(statement.get("Resource"))}
        for pattern in patterns | {grant.resource for grant in mine}:
            if isinstance(pattern, str):
                resources |= {one for one in probes.neighbours(pattern) if iam.owner(one) == arn}
        values = {probes.SECURE: {"false"} if service == "s3" else set(),
                  "aws:sourceaccount": {self.parts.account, probes.STRANGER_ACCOUNT},
                  "aws:principalorgid": {"o-somebodyelse"}}
        starts = [base, *(context for grant in mine for context in self.needs(grant, base))]
        contexts = probes.contexts(starts, spoken, values)
        for action in sorted(wanted):
            for resource in sorted(resources):
                for context in contexts:
                    # Who asks belongs to one organization.
                    if context.get("aws:principalorgid") == base.get("aws:principalorgid"):
                        yield action, resource, context

    def _principal(self, who):
        if who.endswith(".amazonaws.com"):
            return Principal("service", who)
        account = self.parts.account if who == grants.ADMINISTRATOR else probes.STRANGER_ACCOUNT
        return Principal("role", f"arn:aws:iam::{account}:role/somebody", account)

    def _base(self, who):
        base = {probes.SECURE: "true"}
        organization = self.parts.parameter("OrganizationId")
        if who == grants.ORGANIZATION and organization:
            base["aws:principalorgid"] = organization
        return base

    def _services(self, spoken):
        named = {name for statement in spoken if isinstance(statement["Principal"], dict)
                 for name in listed(statement["Principal"].get("Service"))}
        return sorted({str(name) for name in named} | set(iam.OTHER_SERVICES))

    def _finding(self, arn, text):
        resource = self.system.called(iam.owner(arn))
        return resource.finding(text) if resource else Finding("-", iam.short(arn), text)
