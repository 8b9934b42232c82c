"""What a change set would lose is refused, by name and with the reason."""

import pytest
from adtrack_deploy.changes import losses
from adtrack_deploy.states import STABLE


def change(action, kind, replacement="False", name="X", details=(), policy=None):
    return {"ResourceChange": {
        "Action": action, "LogicalResourceId": name, "ResourceType": kind, "Replacement": replacement,
        "Details": [{"Target": {"Attribute": "Properties", "Name": where, "RequiresRecreation": recreation}}
                    for where, recreation in details],
        **({"PolicyAction": policy} if policy else {})}}


@pytest.mark.parametrize(("one", "reason"), [
    (change("Modify", "AWS::Kinesis::Stream", "True", details=[("Name", "Always")]),
     "would be replaced by an empty one, because of Name"),
    (change("Modify", "AWS::DynamoDB::Table", "Conditional", details=[("KeySchema", "Conditionally")]),
     "may be replaced by an empty one, because of KeySchema"),
    (change("Modify", "AWS::DynamoDB::Table", "Conditional"), "may be replaced by an empty one"),
    (change("Modify", "AWS::S3::Bucket", "False", details=[("Tags", "Never"), ("BucketName", "Always")]),
     "would be replaced by an empty one, because of BucketName"),
    (change("Modify", "AWS::KMS::Key", "False", details=[("KeySpec", "Conditionally")]),
     "may be replaced by an empty one, because of KeySpec"),
    (change("Modify", "AWS::ElastiCache::ReplicationGroup", "False", policy="ReplaceAndSnapshot"),
     "may be replaced by an empty one"),
    (change("Dynamic", "AWS::DynamoDB::GlobalTable"), "may be replaced by an empty one"),
    (change("Remove", "AWS::ECR::Repository", policy="Retain"), "would be removed from the stack"),
])
def test_names_what_would_be_lost_and_why(one, reason):
    assert losses([one]) == [f"X ({one['ResourceChange']['ResourceType']}) {reason}"]


@pytest.mark.parametrize("one", [
    change("Add", "AWS::Kinesis::Stream"),
    change("Modify", "AWS::DynamoDB::Table", details=[("Tags", "Never")]),
    change("Modify", "AWS::ECS::TaskDefinition", "True", details=[("Cpu", "Always")]),
    change("Remove", "AWS::CloudWatch::Alarm"),
])
def test_leaves_alone_what_loses_nothing(one):
    assert losses([one]) == []


def test_allows_only_what_is_named():
    both = [change("Remove", "AWS::S3::Bucket", name="Logs"), change("Remove", "AWS::KMS::Key", name="Key")]

    assert losses(both, allowed=["Logs"]) == ["Key (AWS::KMS::Key) would be removed from the stack"]


def test_a_refused_change_leaves_the_stack_as_it_is(deployment, no_preflight, monkeypatch):
    assert deployment.deploy().status == 0
    monkeypatch.setattr("fake_cloudformation.CloudFormation._diff", lambda *_: [
        ("Remove", "EventStream", "AWS::Kinesis::Stream")])

    run = deployment.deploy("--stack", "data")

    assert run.status == 69 and "--allow-replacement NAME" in run.text, run.text
    assert "EventStream (AWS::Kinesis::Stream) would be removed" in run.text
    assert deployment.stack("data").status in STABLE and not deployment.stack("data").change_sets
