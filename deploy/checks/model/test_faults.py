"""Faults of the network and of permissions, each found by the model alone; and every fault of the list."""

import copy
import itertools

import faults
import pytest
from adtrack_deploy import template

from model import iam, invariants, judge, network, resource_policies, scenarios, synth, wiring

TEMPLATES = template.load_all()
MODEL = (network.judge, wiring.judge, iam.judge, resource_policies.judge)


def model_findings(templates):
    """What the model of network and permissions finds, without the list of settings."""
    for scenario in scenarios.ALL:
        system = synth.system(templates, scenario)
        yield from system.findings
        for one in MODEL:
            yield from one(system)


def properties(templates, file, name):
    return templates[file]["Resources"][name]["Properties"]


def statements(templates, file, role):
    return properties(templates, file, role)["Policies"][0]["PolicyDocument"]["Statement"]


def statement(templates, file, role, sid):
    return next(one for one in statements(templates, file, role) if one["Sid"] == sid)


def policy(templates, file, name, key="PolicyDocument"):
    return properties(templates, file, name)[key]["Statement"]


def drop(file, name):
    return lambda templates: templates[file]["Resources"].pop(name)


def put(file, name, key, value):
    return lambda templates: properties(templates, file, name).update({key: value})


def rule(file, name, key, place, **change):
    return lambda templates: properties(templates, file, name)[key][place].update(change)


def of(file, role, sid, **change):
    return lambda templates: statement(templates, file, role, sid).update(change)


def remove(file, role, sid):
    return lambda templates: statements(templates, file, role).remove(statement(templates, file, role, sid))


ANYWHERE = {"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}
ELSEWHERE = {"StringEquals": {"kms:ViaService": "dynamodb.eu-west-1.amazonaws.com"}}
FAULTS = {
    # Network.
    "Redis is reached from the load balancer": put(
        "network-groups", "RedisFromTasks", "SourceSecurityGroupId", {"Fn::GetAtt": ["NobodyGroup", "GroupId"]}),
    "a range of ports is open": put("network-groups", "RedisFromUpdater", "ToPort", 6400),
    "trackers may connect anywhere": rule("network-groups", "TasksGroup", "SecurityGroupEgress", 0, **ANYWHERE),
    "the default outbound rule": lambda t: properties(t, "network-groups", "RedisGroup").pop("SecurityGroupEgress"),
    "a rule for UDP": put("network-groups", "EndpointsFromTasks", "IpProtocol", "udp"),
    "no way to Redis": drop("network-groups", "RedisFromTasks"),
    "private subnets lead to the internet": put(
        "network", "PublicDefaultRoute", "RouteTableId", {"Ref": "PrivateRoutes"}),
    "a subnet has the wrong routes": put("network", "PrivateSubnet2Routes", "RouteTableId", {"Ref": "PublicRoutes"}),
    "a subnet has no routes": drop("network", "PublicSubnet3Routes"),
    "two subnets in one zone": put("network", "PrivateSubnet2", "AvailabilityZone", {"Ref": "Zone1"}),
    "overlapping subnets": put("network", "PrivateSubnet2", "CidrBlock",
                               {"Fn::Select": [3, {"Fn::Cidr": [{"Ref": "VpcCidr"}, 8, 10]}]}),
    "names do not resolve": put("network", "Vpc", "EnableDnsSupport", False),
    "no endpoint of Kinesis": drop("network-endpoints", "KinesisEndpoint"),
    "the endpoint of another service": put("network-endpoints", "LogsEndpoint", "ServiceName",
                                           {"Fn::Sub": "com.amazonaws.${AWS::Region}.monitoring"}),
    "an endpoint that nothing needs": lambda t: t["network-endpoints"]["Resources"].update(
        Sqs=t["network-endpoints"]["Resources"]["LogsEndpoint"] | {"Properties": properties(
            t, "network-endpoints", "LogsEndpoint") | {"ServiceName": "com.amazonaws.eu-west-1.sqs"}}),
    "an endpoint without its name": put("network-endpoints", "EcrApiEndpoint", "PrivateDnsEnabled", False),
    "tasks in public subnets": lambda t: properties(t, "compute", "Service")["NetworkConfiguration"][
        "AwsvpcConfiguration"].update(Subnets=[{"Ref": "TasksGroupId"}]),
    "the target group's port": put("target-group", "TargetGroup", "Port", 80),
    "plain HTTP is forwarded": put("load-balancer", "HttpListener", "DefaultActions",
                                   [{"Type": "forward", "TargetGroupArn": {"Ref": "TargetGroupArn"}}]),
    "an internal load balancer": put("load-balancer", "LoadBalancer", "Scheme", "internal"),
    # Permissions.
    "any action of Kinesis": of("compute", "TaskRole", "PutEvents", Action="kinesis:*"),
    "one action more": of("compute", "TaskRole", "PutEvents", Action=["kinesis:PutRecords", "kinesis:PutRecord"]),
    "an action is gone": of("lambdas", "ConsumerRole", "WriteRows", Action="dynamodb:PutItem"),
    "a statement is gone": remove("lambdas", "UpdaterRole", "KeepFailedRecords"),
    "the other stream": of("lambdas", "ConsumerRole", "ReadEvents", Resource={"Ref": "CoreDataStreamArn"}),
    "any object of the bucket": of("compute", "TaskRole", "Spill", Resource={"Fn::Sub": "${RecordsBucketArn}/*"}),
    "any task": of("compute", "TaskRole", "ProtectTask", Resource="*"),
    "the key without a condition": lambda t: statement(t, "compute", "TaskRole", "EncryptBoth").pop("Condition"),
    "the key by another service": of("compute", "ExecutionRole", "DecryptSecrets", Condition=ELSEWHERE),
    "the code may make interfaces": remove("lambdas", "UpdaterRole", "NotFromTheCode"),
    "a deny of what is needed": lambda t: statements(t, "lambdas", "ConsumerRole").append(
        {"Effect": "Deny", "Action": "s3:*", "Resource": "*"}),
    "everything but one": lambda t: statements(t, "compute", "TaskRole").append(
        {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"}),
    "a managed policy": put(
        "compute", "TaskRole", "ManagedPolicyArns", ["arn:aws:iam::aws:policy/AdministratorAccess"]),
    "anybody takes the role": lambda t: policy(t, "compute", "TaskRole", "AssumeRolePolicyDocument")[0].update(
        Principal={"AWS": "*"}),
    "another account's tasks take the role": lambda t: policy(
        t, "compute", "TaskRole", "AssumeRolePolicyDocument")[0].pop("Condition"),
    "no boundary": lambda t: properties(t, "operator", "OperatorRole").pop("PermissionsBoundary"),
    # Resources' policies.
    "alarms of any account": lambda t: policy(t, "observability-events", "AlarmTopicPolicy")[0].pop("Condition"),
    "alarms cannot encrypt": lambda t: policy(t, "data", "Key", "KeyPolicy")[1].update(Action="kms:Decrypt"),
    "the account loses its key": lambda t: policy(t, "data", "Key", "KeyPolicy")[0].update(Action="kms:Decrypt"),
    "anybody uses the key": lambda t: policy(t, "data", "Key", "KeyPolicy")[0].update(Principal="*"),
    "plain HTTP to the bucket": drop("data", "RecordsBucketPolicy"),
    "plain HTTP for reading": lambda t: policy(t, "data", "RecordsBucketPolicy")[0].update(Action="s3:PutObject"),
    "packages for the world": lambda t: policy(t, "artifacts", "ArtifactBucketPolicy").append(
        {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
         "Resource": {"Fn::Sub": "${ArtifactBucket.Arn}/*"}}),
    "access logs in any folder": lambda t: policy(t, "load-balancer", "AccessLogBucketPolicy")[0].update(
        Resource={"Fn::Sub": "${AccessLogBucket.Arn}/*"}),
    # Wiring.
    "the consumer reads core data": put("lambdas", "ConsumerMapping", "EventSourceArn", {"Ref": "CoreDataStreamArn"}),
    "the updater's records are lost": lambda t: properties(t, "lambdas", "UpdaterMapping").pop("DestinationConfig"),
    "an output leads elsewhere": lambda t: t["data"]["Outputs"]["EventStreamName"].update(
        Value={"Ref": "CoreDataStream"}),
}


def test_the_templates_themselves_have_no_fault():
    assert not list(model_findings(TEMPLATES))


@pytest.mark.parametrize("change", FAULTS.values(), ids=FAULTS)
def test_the_model_finds(change):
    broken = copy.deepcopy(TEMPLATES)
    change(broken)
    assert broken != TEMPLATES

    assert next(model_findings(broken), None)


@pytest.mark.parametrize("change", [change for _, change in faults.FAULTS], ids=[text for text, _ in faults.FAULTS])
def test_the_checks_find(change):
    broken = copy.deepcopy(TEMPLATES)
    change(broken)
    assert broken != TEMPLATES

    assert next(itertools.chain(judge.findings(broken), invariants.slow_findings(broken)), None)
