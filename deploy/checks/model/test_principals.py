"""Principals of every kind in every policy: none is there without a flow."""

import copy

import pytest
from adtrack_deploy import template

from model import principals, scenarios, synth

TEMPLATES = template.load_all()
FOREIGN = "666666666666"
STRANGERS = [
    "*", {"AWS": "*"}, {"AWS": FOREIGN}, {"AWS": f"arn:aws:iam::{FOREIGN}:root"},
    {"AWS": f"arn:aws:iam::{FOREIGN}:role/ci"}, {"AWS": f"arn:aws:iam::{FOREIGN}:user/somebody"},
    {"AWS": f"arn:aws:sts::{FOREIGN}:assumed-role/ci/session"}, {"AWS": {"Fn::Sub": "${AWS::AccountId}"}},
    {"AWS": {"Fn::Sub": "arn:aws:iam::${AWS::AccountId}:user/somebody"}}, {"Service": "events.amazonaws.com"},
    {"Service": ["ecs-tasks.amazonaws.com", "lambda.amazonaws.com", "cloudwatch.amazonaws.com"]},
    {"Federated": "cognito-identity.amazonaws.com"}, {"CanonicalUser": "0123456789abcdef"},
]
POLICIES = [
    ("compute", "TaskRole", "AssumeRolePolicyDocument"), ("lambdas", "UpdaterRole", "AssumeRolePolicyDocument"),
    ("operator", "OperatorRole", "AssumeRolePolicyDocument"), ("data", "RecordsBucketPolicy", "PolicyDocument"),
    ("data", "Key", "KeyPolicy"), ("observability-events", "AlarmTopicPolicy", "PolicyDocument"),
]


def found(templates, scenario=scenarios.PRODUCTION):
    return list(principals.judge(synth.system(templates, scenario)))


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=lambda scenario: scenario.name)
def test_every_principal_of_the_templates_is_needed(scenario):
    assert found(TEMPLATES, scenario) == []


@pytest.mark.parametrize(("file", "name", "key"), POLICIES)
@pytest.mark.parametrize("principal", STRANGERS, ids=str)
def test_a_stranger_in_a_policy_is_a_finding(file, name, key, principal):
    if (name, principal) == ("Key", {"AWS": {"Fn::Sub": "${AWS::AccountId}"}}):
        pytest.skip("the account keeps its key")
    broken = copy.deepcopy(TEMPLATES)
    broken[file]["Resources"][name]["Properties"][key]["Statement"].append(
        {"Effect": "Allow", "Principal": principal, "Action": "s3:GetObject", "Resource": "*"})

    assert any(finding.resource == name for finding in found(broken))


def test_a_stranger_next_to_the_one_who_is_needed_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    statement = broken["lambdas"]["Resources"]["ConsumerRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]
    statement["Principal"]["AWS"] = f"arn:aws:iam::{FOREIGN}:root"

    assert [finding.resource for finding in found(broken)] == ["ConsumerRole"]


def test_a_deny_of_some_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    statement = broken["data"]["Resources"]["RecordsBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"][0]
    statement["Principal"] = {"AWS": FOREIGN}

    assert [finding.resource for finding in found(broken)] == ["RecordsBucketPolicy"]
