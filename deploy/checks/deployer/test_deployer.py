"""The deployer's roles: every call of the tools, nothing more; and the limits of IAM."""

import json

import needs
import probes
import pytest
import roles
from model import policy

PREVIEW, DEPLOY = roles.statements("PreviewRole"), roles.statements("DeployRole")
CAREFUL = roles.statements("DeployRole", DataDeletion="false")
SERVICE_ROLE = roles.VALUES["ServiceRoleArn"]
POLICIES = sorted(name for name, properties in roles.resources().items() if "PolicyDocument" in properties)
GITHUB = "token.actions.githubusercontent.com"


def test_every_call_of_the_tools_is_granted_and_nothing_else():
    needed = needs.deploy_tools()
    assert sorted(needed - roles.granted(DEPLOY)) == [], "deployer.yaml lacks these"
    assert sorted(roles.granted(DEPLOY) - needed) == [], "deployer.yaml grants these, which no tool calls"


def test_namesakes_are_all_in_effect():
    assert set(needs.exceptions()["namesakes"]) <= needs.called_operations()


def test_preview_applies_nothing():
    changes = {action for action in roles.granted(PREVIEW) if probes.level(action) not in ("List", "Read")}
    assert changes == {"cloudformation:CreateChangeSet", "cloudformation:DeleteChangeSet", "iam:PassRole",
                       "s3:PutObject", "sts:AssumeRole"}


def test_data_is_deleted_only_with_the_switch():
    gone = roles.granted(DEPLOY) - roles.granted(CAREFUL)
    assert gone == {"dynamodb:DeleteTable", "dynamodb:DescribeTable", "dynamodb:UpdateTable", "ecr:DeleteRepository",
                    "kinesis:DeleteStream", "kms:ScheduleKeyDeletion", "s3:DeleteBucket", "elasticache:DeleteSnapshot",
                    "s3:DeleteObjectVersion", "s3:ListBucketVersions"}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_fit_into_iam(name):
    # White space does not count (IAM and STS quotas).
    size = len(json.dumps(roles.document(name), separators=(",", ":")))
    assert size <= 6_144, f"{name} has {size} characters"


@pytest.mark.parametrize("name", ["PreviewRole", "DeployRole", "ServiceRole"])
def test_roles_have_no_more_policies_than_iam_attaches(name):
    assert len(roles.resources()[name]["ManagedPolicyArns"]) <= 10


@pytest.mark.parametrize(("name", "environment"), [("PreviewRole", "adtrack-preview"), ("DeployRole", "adtrack")])
def test_trust_is_in_one_environment_of_one_repository(name, environment):
    [statement] = roles.resources()[name]["AssumeRolePolicyDocument"]["Statement"]
    assert statement == {
        "Effect": "Allow", "Principal": {"Federated": roles.VALUES["Provider"]},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": {"StringEquals": {f"{GITHUB}:aud": "sts.amazonaws.com",
                                       f"{GITHUB}:sub": f"repo:owner/adtrack:environment:{environment}"}}}


def test_a_change_set_without_the_service_role_is_denied():
    stack = f"arn:aws:cloudformation:eu-west-1:{roles.ACCOUNT}:stack/adtrack-data/*"

    def propose(**keys):
        return roles.allows(DEPLOY, "cloudformation:CreateChangeSet", stack, probes.context(**keys))

    assert propose(**{"cloudformation:RoleArn": SERVICE_ROLE})
    assert not propose()
    assert not propose(**{"cloudformation:RoleArn": f"arn:aws:iam::{roles.ACCOUNT}:role/Administrator"})
    assert not propose(**{"cloudformation:RoleArn": SERVICE_ROLE,
                          "cloudformation:ImportResourceTypes": "AWS::IAM::Role"})
    assert not propose(**{"cloudformation:RoleArn": SERVICE_ROLE, "aws:RequestedRegion": "ap-southeast-2"})


def test_boundary_allows_what_the_templates_give_their_roles():
    boundary = roles.statements("Boundary")
    missing = set()
    for body in needs.all_templates():
        for resource in body["Resources"].values():
            if resource["Type"] == "AWS::IAM::Role":
                for one in resource["Properties"]["Policies"]:
                    missing |= {action for statement in one["PolicyDocument"]["Statement"]
                                if statement["Effect"] == "Allow" for action in policy.listed(statement["Action"])}
    assert missing == roles.granted(boundary)
    for action in missing:
        for kind in probes.types_of(action) or ["*"]:
            if kind in probes.BY_NAME or kind in ("kms:key", "secretsmanager:Secret"):
                assert roles.allows(boundary, action, probes.arn(kind), probes.context()), (action, kind)
                assert not roles.allows(boundary, action, probes.arn(kind, foreign=True),
                                        probes.context("payroll")), (action, kind)
