"""The service role: all that the templates need, nothing more, and nothing of anybody else's."""

import json

import needs
import probes
import pytest
import roles
from model import policy

NEEDED = needs.service_role(needs.all_templates())
ROLE = roles.statements("ServiceRole")
# Checked without a resource, or on resources without names and tags. What each can do to others is small.
UNSCOPED = {
    "ecs:DeregisterTaskDefinition": "a task definition that is in use goes on running",
    "elasticloadbalancing:SetWebAcl": "nothing without wafv2:AssociateWebACL, which is scoped",
    "ec2:CreateInternetGateway": "makes",
    "ec2:CreateVpc": "makes",
    "elasticache:CreateCacheCluster": "makes",
    "elasticache:CreateReplicationGroup": "makes",
    "elasticache:CreateSnapshot": "makes",
    "kms:CreateKey": "makes",
    "route53:CreateHealthCheck": "makes",
    "route53:ChangeTagsForResource": "a health check has no name, and no tags in a policy",
    "route53:DeleteHealthCheck": "a health check has no name, and no tags in a policy",
    "route53:GetHealthCheck": "a health check has no name, and no tags in a policy",
    "route53:UpdateHealthCheck": "a health check has no name, and no tags in a policy",
    "route53:ListTagsForResource": "a health check has no name, and no tags in a policy",
    "secretsmanager:GetRandomPassword": "reads nothing",
}
# With what has no tags at all, these go through: a resource has none in the moment in which it is made,
# and these services do not say which moment it is. Tags alone give nobody access to it, but
# to a key or a Redis made outside of CloudFormation without a tag `deployment`.
UNTAGGED = {
    "application-autoscaling:RegisterScalableTarget", "application-autoscaling:TagResource",
    "elasticache:AddTagsToResource", "kms:TagResource", "secretsmanager:TagResource", "wafv2:TagResource",
    "cloudwatch:DeleteDashboards", "cloudwatch:GetDashboard", "cloudwatch:PutDashboard",
    "cloudwatch:TagResource", "cloudwatch:UntagResource", "cloudwatch:ListTagsForResource",
    "lambda:TagResource", "lambda:UntagResource",
}
# Reading these is reading data.
DATA = {"dynamodb:GetItem", "dynamodb:Query", "dynamodb:Scan", "s3:GetObject", "secretsmanager:GetSecretValue",
        "kms:Decrypt", "kinesis:GetRecords"}
LOOKS = {action for one in ROLE if one.get("Sid") == "Look" for action in policy.listed(one["Action"])}
CHANGES = sorted(set(NEEDED) - LOOKS)


def test_every_action_that_the_templates_need_is_granted():
    missing = {action: sorted(kinds) for action, kinds in NEEDED.items() if action not in roles.granted(ROLE)}
    assert not missing, f"service-role.yaml lacks {json.dumps(missing, indent=1)}"


def test_no_action_is_granted_that_no_template_needs():
    unneeded = sorted(roles.granted(ROLE) - set(NEEDED))
    assert not unneeded, f"service-role.yaml grants {unneeded}: no resource type of the templates needs them"


def test_exceptions_are_all_in_effect():
    assert needs.idle_exceptions(needs.all_templates()) == []


def own_requests(action):
    """(resource, context) on which the action has to be allowed."""
    more = {"kms:GrantIsForAWSResource": "true", "iam:PermissionsBoundary": roles.VALUES["Boundary"],
            "iam:PassedToService": "lambda.amazonaws.com", "iam:AWSServiceName": "ecs.amazonaws.com",
            "application-autoscaling:service-namespace": "ecs"}
    if action == "iam:CreateServiceLinkedRole":
        yield f"arn:aws:iam::{roles.ACCOUNT}:role/aws-service-role/ecs.amazonaws.com/x", probes.context(**more)
        return
    kinds = probes.types_of(action)
    for kind in kinds:
        made = probes.is_made_by(action, kind)
        yield probes.arn(kind), probes.context(tagged=not made, **more)
    if not kinds:
        yield "*", probes.context(tagged=False, **more)


@pytest.mark.parametrize("action", sorted(NEEDED))
def test_it_is_allowed_on_what_the_deployment_has(action):
    denied = [resource for resource, context in own_requests(action)
              if not roles.allows(ROLE, action, resource, context)]
    assert not denied


@pytest.mark.parametrize(("action", "keys"), [
    ("ec2:CreateTags", {"ec2:CreateAction": "CreateVpc"}),
    ("elasticloadbalancing:AddTags", {"elasticloadbalancing:CreateAction": "CreateLoadBalancer"}),
    ("elasticache:AddTagsToResource", {}), ("kms:TagResource", {}), ("secretsmanager:TagResource", {}),
    ("wafv2:TagResource", {}), ("application-autoscaling:TagResource", {}),
])
def test_what_is_being_made_can_be_tagged(action, keys):
    for kind in probes.types_of(action):
        assert roles.allows(ROLE, action, probes.arn(kind), probes.context(tagged=False, **keys)), kind


def foreign_requests(action, tagged):
    """(resource, context) of which one has to be denied: somebody else's."""
    kinds = [kind for kind in probes.types_of(action) if not probes.is_made_by(action, kind)
             or kind in probes.BY_NAME]
    for kind in kinds:
        yield probes.arn(kind, foreign=True), probes.context("payroll", tagged=tagged)
    if not kinds:
        yield "*", probes.context("payroll", tagged=tagged)


@pytest.mark.parametrize("action", CHANGES)
def test_it_is_denied_on_what_is_tagged_as_somebody_elses(action):
    allowed = all(roles.allows(ROLE, action, resource, context)
                  for resource, context in foreign_requests(action, tagged=True))
    assert allowed == (action in UNSCOPED)


@pytest.mark.parametrize("action", CHANGES)
def test_it_is_denied_on_what_is_untagged(action):
    allowed = all(roles.allows(ROLE, action, resource, context)
                  for resource, context in foreign_requests(action, tagged=False))
    assert allowed == (action in UNSCOPED or action in UNTAGGED)


def test_it_looks_at_everything_but_at_no_data():
    assert {probes.level(action) for action in LOOKS} <= {"List", "Read"}
    assert not LOOKS & DATA


@pytest.mark.parametrize("action", sorted(NEEDED))
def test_it_is_denied_in_other_regions(action):
    in_all_regions = action.startswith(("iam:", "route53:"))
    for resource, context in own_requests(action):
        elsewhere = context | {"aws:RequestedRegion": "ap-southeast-2"}
        assert roles.allows(ROLE, action, resource, elsewhere) == in_all_regions


def test_conditions_and_resources_are_those_that_the_action_knows():
    """A statement whose resource or condition key an action does not know never allows it."""
    unknown = []
    for one in ROLE:
        for action in policy.listed(one["Action"]) if one["Effect"] == "Allow" else []:
            service, name = action.split(":", 1)
            details = needs.REFERENCE.actions.get_action_details(service, name)
            keys = set(details["conditionKeys"])
            for kind in details["resourceTypes"]:
                keys |= set(kind["conditionKeys"])
                keys |= set(needs.REFERENCE.resources.get_resource_type_details(
                    service, kind["name"]).get("conditionKeys", []))
            for condition in one.get("Condition", {}).values():
                for key in condition:
                    general = key.split("/")[0] + ("/${TagKey}" if "/" in key else "")
                    if general not in keys and key not in ("aws:ResourceAccount",):
                        unknown.append((one["Sid"], action, key))
            if not details["resourceTypes"] and one["Resource"] != "*":
                unknown.append((one["Sid"], action, "has no resource"))
    assert unknown == []
