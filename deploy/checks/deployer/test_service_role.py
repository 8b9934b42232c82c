"""The service role: all that the templates need, nothing more, and nothing of anybody else's."""

import json

import needs
import probes
import pytest
import roles
from model import policy

NEEDED = needs.service_role(needs.all_templates())
ROLE = roles.statements("ServiceRole")
# Pairs of action and type that are allowed on what is somebody else's: an action on several resources
# needs all of them, the others have no resource, or one that has neither a name nor tags.
VPC = "only in the endpoint's VPC, which is the deployment's"
MAKES = "makes what is new"
HEALTH_CHECK = "a health check has no name and no tags in a policy"
OPEN = {
    **{(f"ec2:{action}VpcEndpoint", f"ec2:{kind}"): VPC for action in ("Create", "Modify")
       for kind in ("route-table", "security-group", "subnet")},
    **{(f"elasticache:{action}", f"elasticache:{kind}"): "reads settings; what is made is new"
       for action in ("CreateCacheCluster", "CreateReplicationGroup") for kind in ("parametergroup", "subnetgroup")},
    **{(f"route53:{action}", "route53:healthcheck"): HEALTH_CHECK
       for action in ("ChangeTagsForResource", "DeleteHealthCheck", "GetHealthCheck", "ListTagsForResource",
                      "UpdateHealthCheck")},
    **{(f"wafv2:{action}", "wafv2:loadbalancer/app/"): "with elasticloadbalancing's own permission on it, by tag"
       for action in ("AssociateWebACL", "DisassociateWebACL", "GetWebACLForResource")},
    ("ecs:DeregisterTaskDefinition", "*"): "has no resource; what runs goes on running",
    ("elasticloadbalancing:SetWebAcl", "*"): "has no resource; nothing without the pair above",
    ("kinesis:StartStreamEncryption", "kms:key"): "with the stream, by name",
    ("kinesis:StopStreamEncryption", "kms:key"): "with the stream, by name",
    ("kms:CreateKey", "*"): MAKES,
    ("acm:RequestCertificate", "*"): MAKES,
    ("route53:CreateHealthCheck", "*"): MAKES,
}
# And on what has no tags at all: a resource has none in the moment in which it is made, and these services
# do not say which moment it is. Such a tag alone gives access only to a key or a Redis; a template can
# set tags only on what its stack makes.
OPEN_UNTAGGED = {
    **{("elasticache:AddTagsToResource", f"elasticache:{kind}"): "tags"
       for kind in ("cluster", "parametergroup", "replicationgroup", "subnetgroup", "user", "usergroup")},
    **{(f"cloudwatch:{action}", "cloudwatch:dashboard"): "a dashboard made by hand could be drawn over"
       for action in ("GetDashboard", "ListTagsForResource", "PutDashboard", "TagResource")},
    ("application-autoscaling:TagResource", "application-autoscaling:ScalableTarget"): "tags",
    ("kms:TagResource", "kms:key"): "tags",
    ("acm:AddTagsToCertificate", "acm:certificate"): "tags",
    ("lambda:TagResource", "lambda:eventSourceMapping"): "tags",
    ("secretsmanager:TagResource", "secretsmanager:Secret"): "tags",
    ("wafv2:TagResource", "wafv2:webacl"): "tags",
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


def open_to_others(tagged):
    """(action, type): what is allowed on somebody else's resource, whether that is tagged or not.

    An action on several resources is denied if one of them is; each is asked separately, so the pairs
    have to be judged by hand: OPEN says why each may be.
    """
    for action in CHANGES:
        for kind in probes.types_of(action) or ["*"]:
            if kind not in {"*", *probes.BY_NAME} and probes.is_made_by(action, kind):
                continue
            resource = "*" if kind == "*" else probes.arn(kind, foreign=True)
            if roles.allows(ROLE, action, resource, probes.context("payroll", tagged=tagged)):
                yield action, kind


def test_it_is_denied_on_what_is_tagged_as_somebody_elses():
    assert set(open_to_others(tagged=True)) == set(OPEN)


def test_it_is_denied_on_what_has_no_tags():
    assert set(open_to_others(tagged=False)) == set(OPEN) | set(OPEN_UNTAGGED)


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
            if not details["resourceTypes"] and one["Resource"] != "*" and action not in probes.CHECKED_ON:
                unknown.append((one["Sid"], action, "has no resource"))
    assert unknown == []
