"""The same deployment in another place: what is written out in place of a reference is a finding."""

import copy

import pytest
from adtrack_deploy import template

from model import elsewhere

TEMPLATES = template.load_all()


def test_nothing_but_the_place_changes():
    assert list(elsewhere.static_findings(TEMPLATES)) == []


@pytest.mark.parametrize(("file", "name", "property_", "value"), [
    ("global-routing", "Record", "Region", "eu-west-1"),
    ("global-routing", "Record", "Region", "us-east-1"),
    ("lambdas", "Consumer", "Layers", ["arn:aws:lambda:eu-west-1:666666666666:layer:x:1"]),
    ("lambdas", "Consumer", "Layers", [{"Fn::Sub": "arn:aws:lambda:${AWS::Region}:${AWS::AccountId}:layer:x:1"}]),
    ("lambdas", "Consumer", "Handler", "function:123456789012:x"),
    ("compute", "Spilled", "FilterName", "deployed in eu-west-1a"),
    ("compute", "Cluster", "ClusterName", "adtrack"),
    ("compute", "Cluster", "ClusterName", {"Fn::Sub": "adtrack/adtrack/${Deployment}"}),
    ("lambdas", "Consumer", "Timeout", {"Fn::If": ["InIreland", 60, 90]}),
])
def test_a_place_that_is_written_out_is_a_finding(file, name, property_, value):
    broken = copy.deepcopy(TEMPLATES)
    broken[file].setdefault("Conditions", {})["InIreland"] = {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-1"]}
    broken[file]["Resources"][name]["Properties"][property_] = value

    assert any(finding.resource == name for finding in elsewhere.static_findings(broken))


def test_a_resource_in_one_region_alone_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    broken["compute"]["Conditions"]["InIreland"] = {"Fn::Equals": [{"Ref": "AWS::Region"}, "eu-west-1"]}
    broken["compute"]["Resources"]["Spilled"]["Condition"] = "InIreland"

    assert any(finding.resource == "Spilled" for finding in elsewhere.static_findings(broken))


def test_an_output_that_is_written_out_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    broken["data"]["Outputs"]["KeyArn"]["Value"] = "arn:aws:kms:eu-west-1:111122223333:key/0"

    assert any(finding.resource == "KeyArn" for finding in elsewhere.static_findings(broken))
