"""The roles of deploy/organizations as IAM sees them: templates rendered with an example's parameters."""

import functools
import re

from adtrack_deploy import template
from model import policy

FOLDER = template.FOLDER.parent / "organizations"
ACCOUNT, PARTITION = "111122223333", "aws"
REGIONS = ["eu-west-1", "us-east-1"]
DEPLOYER = f"arn:aws:iam::{ACCOUNT}:role/adtrack-deployer"
# As the outputs and parameters of both stacks would be.
VALUES = {
    "AWS::AccountId": ACCOUNT, "AWS::Partition": PARTITION,
    "Deployment": "adtrack", "Regions": REGIONS, "RolePath": "/adtrack/", "Repository": "owner/adtrack",
    "HostedZoneId": "Z1", "ExistingVpcId": "vpc-0e", "DataDeletion": "true", "OidcProviderArn": "",
    "DeployEnvironment": "adtrack", "PreviewEnvironment": "adtrack-preview",
    "ServiceRoleArn": f"{DEPLOYER}/adtrack-cloudformation",
    "Boundary": f"arn:aws:iam::{ACCOUNT}:policy/adtrack-deployer/adtrack-boundary",
    "Provider": f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com",
}
NOTHING = object()


def render(node, body, values):
    """A part of a template, its functions evaluated."""
    if isinstance(node, list):
        items = [render(item, body, values) for item in node]
        return [item for item in items if item is not NOTHING]
    if not isinstance(node, dict):
        return node
    match list(node.items()):
        case [("Ref", "AWS::NoValue")]:
            return NOTHING
        case [("Ref", name)]:
            return values.get(name, f"<{name}>")
        case [("Fn::Sub", text)]:
            return re.sub(r"\$\{([^}]+)\}", lambda found: str(values[found[1]]), text)
        case [("Fn::GetAtt", [name, _])]:
            return values.get(f"{name}Arn", f"<{name}>")
        case [("Fn::Equals", [left, right])]:
            return render(left, body, values) == render(right, body, values)
        case [("Fn::Not", [condition])]:
            return not render(condition, body, values)
        case [("Fn::If", [name, then, otherwise])]:
            holds = render(body["Conditions"][name], body, values)
            return render(then if holds else otherwise, body, values)
    return {key: render(value, body, values) for key, value in node.items()}


@functools.cache
def resources(**changes):
    """Resources of both templates by logical id, rendered; `changes` go over the example's parameters."""
    values = VALUES | changes
    found = {}
    for name in ("service-role", "deployer"):
        body = template.load(name, FOLDER)
        for logical_id, resource in body["Resources"].items():
            found[logical_id] = render(resource["Properties"], body, values)
    return found


def document(logical_id, **changes):
    """The policy of a managed policy."""
    return resources(**changes)[logical_id]["PolicyDocument"]


def statements(role, **changes):
    """The statements of all policies of a role; of a managed policy its own."""
    properties = resources(**changes)[role]
    if "PolicyDocument" in properties:
        return policy.identity_statements(properties["PolicyDocument"])
    attached = [name.strip("<>") for name in properties["ManagedPolicyArns"]]
    return [one for name in attached for one in policy.identity_statements(document(name, **changes))]


def allows(statements_of_role, action, resource, context):
    """Whether a role with these statements may do something."""
    request = policy.Request(
        policy.Principal("role", f"{DEPLOYER}/x", ACCOUNT), action, resource,
        {key.lower(): value for key, value in context.items()})
    return policy.decide(statements_of_role, None, request)


def granted(statements_of_role):
    """The actions that are allowed on anything at all."""
    return {action for one in statements_of_role if one["Effect"] == "Allow"
            for action in policy.listed(one["Action"])}
