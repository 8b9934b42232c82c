"""Roles against the grants: everything that a flow needs is allowed, nothing else is.

Both directions are asked as requests (`probes`), decided by identity policies, boundary and the
resource's policy together. `resource_policies` does the same for everybody who has no role here.
"""

import functools
import itertools
import json

from . import grants, probes
from .memory import remembered
from .parts import of as parts_of
from .policy import PolicyError, Principal, Request, decide, identity_statements, listed, matches, resource_statements

EVERYTHING = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
# Services that might be confused with those that are meant.
OTHER_SERVICES = ("events.amazonaws.com", "lambda.amazonaws.com", "ecs-tasks.amazonaws.com", "s3.amazonaws.com",
                  "ec2.amazonaws.com", "cloudwatch.amazonaws.com",
                  "logdelivery.elasticloadbalancing.amazonaws.com")
# Types with a policy of their own: the property that names what it is for, and that of the policy.
WITH_POLICIES = {
    "AWS::S3::BucketPolicy": ("Bucket", "PolicyDocument"),
    "AWS::SNS::TopicPolicy": ("Topics", "PolicyDocument"),
    "AWS::KMS::Key": (None, "KeyPolicy"),
    "AWS::ECR::Repository": (None, "RepositoryPolicyText"),
    "AWS::SecretsManager::ResourcePolicy": ("SecretId", "ResourcePolicy"),
    "AWS::DynamoDB::Table": (None, "ResourcePolicy.PolicyDocument"),
    "AWS::Kinesis::ResourcePolicy": ("ResourceArn", "ResourcePolicy"),
}
# Without it, a resource of this type is not what its users count on.
MUST_HAVE = {"AWS::KMS::Key", "AWS::S3::BucketPolicy", "AWS::SNS::TopicPolicy"}
# What an operator sets for every role: the property, its parameter, and what it is without.
OPERATORS = {"PermissionsBoundary": ("PermissionsBoundaryArn", None), "Path": ("RolePath", "/")}
# Types that hand out permissions by other means, which no flow needs.
OTHER_MEANS = ("AWS::IAM::User", "AWS::IAM::Group", "AWS::IAM::AccessKey", "AWS::IAM::UserPolicy",
               "AWS::IAM::GroupPolicy", "AWS::IAM::InstanceProfile", "AWS::Lambda::Permission",
               "AWS::Lambda::Url", "AWS::S3::AccessPoint", "AWS::Logs::ResourcePolicy",
               "AWS::ECR::RegistryPolicy", "AWS::KMS::ReplicaKey", "AWS::KMS::Alias")


def judge(system):
    """Findings of the permissions of a system's roles."""
    parts = parts_of(system)
    if parts.missing:
        return parts.missing
    return list(_Roles(parts).findings())


class Access:
    """Decides requests with all policies of a system; also knows its grants."""

    def __init__(self, parts):
        self.parts = parts
        self.system = parts.system
        self.grants = grants.of(parts)
        self.errors = []
        self.by_principal = {}
        for grant in self.grants:
            self.by_principal.setdefault(grant.who, []).append(grant)
        self.policies = self._policies()

    def _policies(self):
        """ARN of a resource → the resource that holds its policy, and the statements."""
        found = {}
        for kind, (target, path) in WITH_POLICIES.items():
            for resource in self.system.of_type(kind):
                document = resource.get(path)
                if document is None:
                    if kind in MUST_HAVE:
                        self.errors.append(resource.finding("has no policy"))
                    continue
                owners = [resource] if target is None else [
                    self.system.called(one) for one in listed(resource.get(target))]
                if not owners or None in owners:
                    self.errors.append(resource.finding("is the policy of nothing in these templates"))
                for owner in filter(None, owners):
                    try:
                        held = found.setdefault(owner.arn, (resource, []))
                        spoken = resource_statements(document)
                        _check_resources(spoken, owner)
                        held[1].extend(spoken)
                    except PolicyError as error:
                        self.errors.append(resource.finding(str(error)))
        return found

    def policy_of(self, resource):
        """The statements of a resource's own policy; None if it has none."""
        held = self.policies.get(owner(resource))
        return held[1] if held else None

    def allows(self, principal, identity, action, resource, context):
        """Whether a request is allowed."""
        return decide(identity, self.policy_of(resource), Request(principal, action, resource, context),
                      is_key=":kms:" in resource, resource_account=_account(resource) or self.parts.account)

    def needs(self, grant, base):
        """The contexts in which a grant has to be allowed."""
        keys = [key.lower() for key, _ in grant.context]
        for values in itertools.product(*(values for _, values in grant.context)):
            context = base | {key: value for key, value in zip(keys, values, strict=True) if value is not None}
            yield context
            for also in grant.also:
                yield context | {key.lower(): value for key, value in also}


class _Role:
    """A role with its policies."""

    def __init__(self, resource, system):
        self.resource = resource
        documents = [policy.get("PolicyDocument") for policy in listed(resource.get("Policies"))
                     if isinstance(policy, dict)]
        for policy in system.of_type("AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"):
            attached = listed(policy.get("Roles")) + listed(policy.get("RoleName"))
            if resource.ref in attached or policy.ref in listed(resource.get("ManagedPolicyArns")):
                documents.append(policy.get("PolicyDocument"))
        self.unread = [arn for arn in listed(resource.get("ManagedPolicyArns")) if not system.called(arn)]
        self.statements = [one for document in documents for one in identity_statements(document)]
        self.trust = resource_statements(resource.get("AssumeRolePolicyDocument"))


class _Roles(Access):
    def findings(self):
        roles = dict(self._roles())
        yield from self.errors
        for resource in self.system.of_type(*OTHER_MEANS):
            yield resource.finding(f"hands out permissions as {resource.type}, which no flow needs")
        targets = self._targets(roles)
        for who, role in roles.items():
            key = repr((who, role.resource, role.statements, self.by_principal.get(who), targets,
                        [(arn, spoken) for arn, (_, spoken) in self.policies.items()],
                        [self.parts.parameter(name) for name, _ in OPERATORS.values()]))
            yield from remembered(key, lambda who=who, role=role: self._role(who, role, targets))
        yield from self._encryption()

    def _role(self, who, role, targets):
        for check in (self._attached(role), self._needed(who, role), self._unneeded(who, role, targets),
                      self._trusted(who, role)):
            try:
                yield from check
            except PolicyError as error:
                yield role.resource.finding(str(error))

    def _roles(self):
        used = set()
        for who, (user, property_) in grants.roles(self.parts).items():
            resource = self.system.called(user.get(property_))
            if not resource or resource.type != "AWS::IAM::Role":
                self.errors.append(user.finding(f"{property_} is no role of these templates"))
                continue
            if resource.name in used:
                self.errors.append(resource.finding("is the role of two programs"))
            used.add(resource.name)
            try:
                yield who, _Role(resource, self.system)
            except PolicyError as error:
                self.errors.append(resource.finding(str(error)))
        self.errors += [resource.finding("is a role that nothing uses")
                        for resource in self.system.of_type("AWS::IAM::Role") if resource.name not in used]

    def _attached(self, role):
        for arn in role.unread:
            yield role.resource.finding(f"has the managed policy {arn}, which may allow anything")
        for property_, (parameter, default) in OPERATORS.items():
            if role.resource.get(property_, default) != (self.parts.parameter(parameter) or default):
                yield role.resource.finding(f"{property_} is not the one that an operator sets by {parameter}")

    def _needed(self, who, role):
        principal = Principal("role", role.resource.arn, self.parts.account)
        for grant in self.by_principal.get(who, []):
            denied = next((
                (resource, context) for resource in probes.examples(grant.resource)
                for context in self.needs(grant, {probes.SECURE: "true"})
                if not self.allows(principal, role.statements, grant.action, resource, context)), None)
            if denied:
                yield role.resource.finding(f"denies {who} {grant.action} on {short(denied[0])}"
                                            f"{said(denied[1])}: {grant.why}")

    def _unneeded(self, who, role, targets):
        principal = Principal("role", role.resource.arn, self.parts.account)
        mine = self.by_principal.get(who, [])
        allowed = {action for one in role.statements if one["Effect"] == "Allow" for action in probes.expanded(one)}
        starts = [{probes.SECURE: "true"}, *(context for grant in mine if grant.context
                                             for context in self.needs(grant, {probes.SECURE: "true"}))]
        contexts = probes.contexts(starts, role.statements, self._values(mine))
        for action in sorted(allowed):
            granted = [grant for grant in mine if matches(grant.action, action, True)]
            if not granted:
                yield role.resource.finding(f"allows {who} {action}, which no flow needs")
                continue
            found = self._excess(principal, role, granted, action, targets, contexts)
            if found:
                yield role.resource.finding(f"allows {who} {action} on {short(found[0])}{said(found[1])}, "
                                            "which no flow needs")

    def _excess(self, principal, role, granted, action, targets, contexts):
        applying = [one for one in role.statements if one["Effect"] == "Allow" and action in probes.expanded(one)]
        for resource in targets.get(action.partition(":")[0], ("*",)):
            # Most of them no statement allows in any context.
            if not any(_may_name(statement, resource) for statement in applying):
                continue
            for context in contexts:
                if not any(covers(grant, action, resource, context) for grant in granted) \
                        and self.allows(principal, role.statements, action, resource, context):
                    return resource, context
        return None

    def _values(self, mine):
        """Keys of the context that AWS sets on its own, with values to ask with."""
        services = ("s3", "kinesis", "secretsmanager", "dynamodb", "lambda")
        values = {
            probes.SECURE: {"false"},
            "lambda:sourcefunctionarn": {self.parts.updater.arn, self.parts.consumer.arn},
            "kms:viaservice": {"s3.us-gov-west-1.amazonaws.com",
                               *(f"{service}.{self.parts.region}.amazonaws.com" for service in services)},
        }
        for key, allowed in (pair for grant in mine for pair in grant.context):
            values.setdefault(key.lower(), set()).update(value for value in allowed if value)
        return values

    def _targets(self, roles):
        """Service → resources to ask about: the system's, neighbours, and what statements name."""
        named = {grant.resource for grant in self.grants}
        named |= {resource.arn for resource in self.system.resources}
        for role in roles.values():
            for statement in role.statements:
                named |= {one for one in listed(statement.get("Resource")) if isinstance(one, str)}
        found = {"ec2": {f"arn:aws:ec2:{self.parts.region}:{self.parts.account}:network-interface/eni-0"}}
        for pattern in sorted(named):
            for resource in probes.neighbours(pattern):
                found.setdefault(pattern.split(":")[2], set()).add(resource)
        return {service: ("*", *sorted(resources)) for service, resources in found.items()}

    def _trusted(self, who, role):
        """Who may take the role, in which context: the service that runs the program, for this account."""
        service, context = grants.trusts(self.parts)[who]
        grant = grants.Grant(service, "sts:AssumeRole", role.resource.arn, "", context)
        named = {name for statement in role.trust if isinstance(statement["Principal"], dict)
                 for name in listed(statement["Principal"].get("Service"))}
        principals = [Principal("service", name) for name in sorted({service, *OTHER_SERVICES, *named})]
        principals += [Principal("role", f"arn:aws:iam::{account}:role/another", account)
                       for account in (self.parts.account, probes.STRANGER_ACCOUNT)]
        wanted = {"sts:assumerole"} | {action for one in role.trust for action in probes.expanded(one)}
        values = {"aws:sourceaccount": {self.parts.account, probes.STRANGER_ACCOUNT}}
        asked = probes.contexts([{}, *self.needs(grant, {})], role.trust, values)
        for principal, action, context in itertools.product(principals, sorted(wanted), asked):
            # A trust policy has to name who takes the role, as a key's has to.
            allowed = decide(EVERYTHING if principal.kind == "role" else [], role.trust,
                             Request(principal, action, role.resource.arn, context),
                             is_key=True, resource_account=self.parts.account)
            due = principal.name == service and covers(grant, action, grant.resource, context)
            if allowed != due:
                verb = "may be taken by" if allowed else "cannot be taken by"
                yield role.resource.finding(f"{verb} {principal.name} ({action}){said(context)}")
                return

    def _encryption(self):
        """Whatever the grants use the key for is encrypted with it."""
        bucket = "BucketEncryption.ServerSideEncryptionConfiguration.0.ServerSideEncryptionByDefault"
        for part, path in (("event_stream", "StreamEncryption.KeyId"), ("core_data_stream", "StreamEncryption.KeyId"),
                           ("records_bucket", f"{bucket}.KMSMasterKeyID"), ("redis", "KmsKeyId"),
                           ("redis_url", "KmsKeyId"), ("updater_password", "KmsKeyId"),
                           ("consumer", "KmsKeyArn"), ("updater", "KmsKeyArn"), ("topic", "KmsMasterKeyId")):
            resource = getattr(self.parts, part)
            if self.system.called(resource.get(path)) is not self.parts.key:
                yield resource.finding(f"{path} is not the key that its users may use")


def _check_resources(spoken, holder):
    """S3 and SNS refuse a policy that is not about the bucket or topic itself; ECR's names none."""
    for statement in spoken:
        named = listed(statement.get("Resource")) + listed(statement.get("NotResource"))
        if holder.type == "AWS::ECR::Repository":
            if named:
                raise PolicyError("a repository's policy names resources")
        elif not named:
            raise PolicyError("a statement without a resource")
        elif holder.type in ("AWS::S3::Bucket", "AWS::SNS::Topic"):
            about = {one for one in named if isinstance(one, str)
                     and (one == holder.arn or one.startswith(f"{holder.arn}/"))}
            if len(about) != len(named):
                raise PolicyError(f"a statement about something else than {holder.name}, or about one thing twice")


@functools.cache
def owner(arn):
    """The resource whose policy speaks about `arn`: an object's is its bucket's."""
    return arn.split("/", 1)[0] if ":s3:::" in arn else arn


def _account(arn):
    pieces = arn.split(":", 5)
    return pieces[4] if len(pieces) == 6 else ""


def _may_name(statement, resource):
    return "NotResource" in statement or any(matches(one, resource) for one in listed(statement.get("Resource")))


def covers(grant, action, resource, context):
    """Whether a grant is the reason for which a request is allowed."""
    return (matches(grant.action, action, True) and matches(grant.resource, resource)
            and all(context.get(key.lower()) in values for key, values in grant.context))


def short(arn):
    """An ARN without what is the same in all of them."""
    pieces = arn.split(":", 5)
    if len(pieces) < 6:
        return arn
    foreign = pieces[4] == probes.STRANGER_ACCOUNT or pieces[3] == "us-gov-west-1"
    return f"{pieces[3]}:{pieces[4]}:{pieces[5]}" if foreign else pieces[5]


def said(context):
    """A context as part of a finding."""
    keys = {key: value for key, value in context.items() if (key, value) != (probes.SECURE, "true")}
    return f" with {json.dumps(keys)}" if keys else ""
