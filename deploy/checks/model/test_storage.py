"""Faults in what is kept, in secrets, in containers and in outputs, one by one."""

import copy
import json

import pytest

from model import containers, outputs, scenarios, storage, synth

JUDGES = (storage.judge, containers.judge, outputs.judge)
LAYOUTS = (scenarios.PRODUCTION, scenarios.TRIAL, scenarios.EVERY_OPTION, scenarios.GLOBAL_TABLE,
           scenarios.EXISTING_ALL)


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def found(templates, scenario, *judges):
    system = synth.system(templates, scenario)
    return [str(finding) for judge in judges or JUDGES for finding in judge(system)]


def changed(templates, template, path, value):
    """The templates with the value at `path`; without it if `value` is None."""
    copied = copy.deepcopy(templates)
    node = copied[template]
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    for step in way:
        node = node[step]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return copied


@pytest.mark.parametrize("scenario", LAYOUTS, ids=lambda scenario: scenario.name)
def test_our_own_have_no_finding(templates, scenario):
    assert found(templates, scenario) == []
    assert list(outputs.static_findings(templates)) == []


RECORDS = "Resources/RecordsBucket/Properties"
REPOSITORY = "Resources/AgentRepository/Properties/LifecyclePolicy/LifecyclePolicyText"
REPLICAS = "Resources/GlobalTable/Properties/Replicas"
PASSWORD = "Resources/OperatorPassword/Properties/GenerateSecretString"
ANY_IMAGE = json.dumps({"rules": [{"selection": {"tagStatus": "any", "countType": "sinceImagePushed",
                                                 "countUnit": "days", "countNumber": 30}}]})


@pytest.mark.parametrize(("template", "path", "value", "text"), [
    ("data", f"{RECORDS}/VersioningConfiguration/Status", "Suspended", "is Suspended, expected Enabled"),
    ("data", f"{RECORDS}/LifecycleConfiguration/Rules/0/Status", "Disabled", "no enabled lifecycle rule"),
    ("data", f"{RECORDS}/LifecycleConfiguration/Rules/0/Prefix", "failed", "objects below spill/ expire after no day"),
    ("data", f"{RECORDS}/LifecycleConfiguration/Rules/0/TagFilters", [], "objects below aws/lambda/"),
    ("data", f"{RECORDS}/LifecycleConfiguration/Rules/0/ExpirationInDays", 1, "after 1; expected RecordsDays, 90"),
    ("data", f"{RECORDS}/LifecycleConfiguration/Rules/0/NoncurrentVersionExpiration", None, "old versions"),
    ("artifacts", "Resources/ArtifactBucket/Properties/LifecycleConfiguration/Rules/0/ExpirationInDays", 90,
     "expected never"),
    ("load-balancer", "Resources/AccessLogBucket/Properties/LifecycleConfiguration/Rules/0/Status", "Disabled",
     "full client addresses"),
    ("artifacts", REPOSITORY, ANY_IMAGE, "tagStatus any, expected untagged"),
    ("artifacts", REPOSITORY, ANY_IMAGE.replace("30", "1"), "by sinceImagePushed 1"),
    ("artifacts", REPOSITORY, "{", "that can be read"),
    ("global-table", f"{REPLICAS}/3/Fn::If/1/PointInTimeRecoverySpecification", None, "ap-southeast-2 has no point"),
    ("global-table", f"{REPLICAS}/1/DeletionProtectionEnabled", False, "us-east-1 DeletionProtectionEnabled is False"),
    ("global-table", f"{REPLICAS}/2/Fn::If/1/Region", {"Ref": "SecondRegion"}, "its replicas are in"),
    ("data-redis", f"{PASSWORD}/ExcludePunctuation", None, "stands in a URL"),
    ("data-redis", f"{PASSWORD}/GenerateStringKey", "passwd", "is passwd, expected password"),
    ("compute", "Resources/Task/Properties/ContainerDefinitions/1/Image", "docker.io/alpine", "expected AgentImage"),
    ("compute", "Resources/Task/Properties/ContainerDefinitions/1/Name", "helper", "runs the container helper"),
    ("network", "Outputs/NetworkCidr/Value", "0.0.0.0/0", "expected CidrBlock of Vpc: 10.20.0.0/16"),
    ("artifacts", "Outputs/TrackerRepositoryUri/Value", {"Fn::GetAtt": ["AgentRepository", "RepositoryUri"]},
     "expected RepositoryUri of TrackerRepository"),
    ("network", "Outputs/PublicSubnetIds/Value", {"Ref": "PublicSubnet1"}, "expected every PublicSubnet"),
])
def test_finds(templates, template, path, value, text):
    broken = changed(templates, template, path, value)
    assert any(text in finding for scenario in LAYOUTS for finding in found(broken, scenario))


def test_finds_output_that_nobody_knows_and_one_that_is_gone(templates):
    broken = changed(templates, "data", "Outputs/Other", templates["data"]["Outputs"].get("KeyArn"))
    del broken["data"]["Outputs"]["KeyArn"]
    assert sorted(finding.resource for finding in outputs.static_findings(broken)) == ["KeyArn", "Other"]
