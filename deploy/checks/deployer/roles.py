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
    "HostedZoneId": "Z1", "HostedZoneRoleArn": "arn:aws:iam::444455556666:role/zone",
    "ExistingListenerArn": "arn:aws:elasticloadbalancing:eu-west-1:111122223333:listener/app/x/1/2",
    "ExistingVpcId": "vpc-0e", "DataDeletion": "true", "OidcProviderArn": "",
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
    if len(node) == 1:
        [(name, argument)] = node.items()
        if name in FUNCTIONS:
            return FUNCTIONS[name](argument, body, values)
    return {key: render(value, body, values) for key, value in node.items()}


def _if(argument, body, values):
    name, then, otherwise = argument
    return render(then if render(body["Conditions"][name], body, values) else otherwise, body, values)


def _equals(argument, body, values):
    left, right = render(argument, body, values)
    return left == right


FUNCTIONS = {
    "Ref": lambda name, _, values: NOTHING if name == "AWS::NoValue" else values.get(name, f"<{name}>"),
    "Fn::Sub": lambda text, _, values: re.sub(r"\$\{([^}]+)\}", lambda found: str(values[found[1]]), text),
    "Fn::GetAtt": lambda path, _, values: values.get(f"{path[0]}Arn", f"<{path[0]}>"),
    "Fn::Equals": _equals,
    "Fn::Not": lambda argument, body, values: not render(argument[0], body, values),
    "Fn::If": _if,
}


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
