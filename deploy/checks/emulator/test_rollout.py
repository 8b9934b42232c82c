"""The roll-out against moto: side by side, again, by halves, refused, down."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import shim
from adtrack_deploy import cli, stacks
from conftest import REGIONS

HOME, OTHER = REGIONS
# Identical wherever they are: they have no name of their own.
NAMELESS = {"AWS::EC2::Route", "AWS::EC2::SubnetRouteTableAssociation"}


def test_two_deployments_in_a_region_and_one_in_another_do_not_meet(emulator):
    for deployment, region in (("first", HOME), ("second", HOME), ("first", OTHER)):
        status, text = emulator.run(cli.deploy, deployment, "--region", region, "--no-smoke-test")
        assert status == 0, text
    resources = [emulator.resources("first", HOME), emulator.resources("second", HOME),
                 emulator.resources("first", OTHER)]
    assert len(resources[0]) >= 55
    assert ("AWS::Lambda::EventSourceMapping" in {kind for kind, _ in resources[0]}
            and "AWS::ECS::Service" in {kind for kind, _ in resources[0]})
    kinds = [{kind for kind, _ in one} for one in resources]
    assert kinds[0] == kinds[1] == kinds[2]
    named = [{one for one in some if one[0] not in NAMELESS and one[1]} for some in resources]
    assert named[0] & named[1] == set()
    # Names of buckets are the world's, of roles the account's.
    worldwide = [{one for one in some if one[0] in ("AWS::S3::Bucket", "AWS::IAM::Role")}
                 for some in resources]
    assert worldwide[0] & worldwide[2] == set()
    streams = {emulator.outputs(*where)["EventStreamName"]
               for where in (("first", HOME), ("second", HOME))}
    assert len(streams) == 2


def test_a_second_run_changes_nothing_but_what_changed(emulator):
    arguments = ("--region", HOME, "--no-smoke-test")
    assert emulator.run(cli.deploy, "first", *arguments)[0] == 0
    before = emulator.resources("first", HOME)
    status, text = emulator.run(cli.deploy, "first", *arguments, parameters={"MaxTasks": 31})
    assert status == 0, text
    assert emulator.resources("first", HOME) == before
    assert "first-data: no change" in text and "first-compute: UPDATE_COMPLETE" in text


def test_a_dry_run_changes_nothing(emulator):
    status, text = emulator.run(cli.deploy, "first", "--dry-run")
    assert status == 0 and "first-data: new" in text and "nothing was changed" in text, text
    assert emulator.client("cloudformation", HOME).describe_stacks()["Stacks"] == []
    assert emulator.run(cli.deploy, "first", "--region", HOME, "--no-smoke-test")[0] == 0
    status, text = emulator.run(cli.deploy, "first", "--dry-run", "--region", HOME,
                                parameters={"EventTtlDays": 7})
    assert status == 0 and re.search(r"first-lambdas: \d+ changes", text), text
    parameters = emulator.client("cloudformation", HOME).describe_stacks(
        StackName="first-lambdas")["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "EventTtlDays", "ParameterValue": "7"} not in parameters


def test_it_stops_at_the_first_region_that_fails(emulator):
    # Port 1 of this machine: nothing answers.
    status, text = emulator.run(cli.deploy, "first", "--smoke-url", "http://127.0.0.1:1")
    assert status == 69 and "no tracker responds" in text, text
    assert emulator.resources("first", OTHER) == set()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("adtrack_deploy.smoke.WAIT_LIMIT_SECONDS", 2)
    monkeypatch.setattr("adtrack_deploy.smoke.Smoke.__init__.__defaults__", (2,))


def test_a_region_takes_traffic_after_its_smoke_test_alone(emulator):
    zone = emulator.client("route53", HOME).create_hosted_zone(
        Name="t.example", CallerReference="1")["HostedZone"]["Id"].rsplit("/", 1)[-1]
    domain = {"tracking_domain": "go.t.example", "hosted_zone_id": zone}
    # The certificate of the test is not one that moto has.
    arguments = ("--region", HOME, "--skip-preflight")
    status, text = emulator.run(cli.deploy, "first", *arguments, "--smoke-url", "http://127.0.0.1:1", **domain)
    assert status == 69, text
    assert not [kind for kind, _ in emulator.resources("first", HOME) if "Route53" in kind]
    status, text = emulator.run(cli.deploy, "first", *arguments, "--no-smoke-test", **domain)
    assert status == 0 and "first-routing: CREATE_COMPLETE" in text, text
    status, text = emulator.run(cli.deploy, "first", "drain", HOME, **domain)
    assert status == 0 and "first-routing: deleted" in text, text


def test_destroy_keeps_the_data_unless_it_is_told(emulator):
    assert emulator.run(cli.deploy, "first", "--region", HOME, "--no-smoke-test")[0] == 0
    outputs = emulator.outputs("first", HOME)
    assert shim.protected["first-artifacts"] and shim.protected["first-data"]
    status, text = emulator.run(cli.destroy, "first", "--region", HOME)
    assert status == 0 and "first-data: kept" in text, text
    tables = emulator.client("dynamodb", HOME)
    assert tables.list_tables()["TableNames"] == [outputs["TableName"]]
    left = {kind for kind, _ in emulator.resources("first", HOME)}
    assert "AWS::Lambda::Function" not in left and "AWS::ECS::Service" not in left
    status, text = emulator.run(cli.destroy, "first", "--region", HOME, "--delete-data")
    assert status == 0, text
    assert tables.list_tables()["TableNames"] == []
    assert emulator.client("kinesis", HOME).list_streams()["StreamNames"] == []
    assert emulator.client("s3", HOME).list_buckets()["Buckets"] == []


@pytest.mark.parametrize("command", [cli.deploy, cli.destroy])
def test_it_refuses_while_endpoints_are_redirected(command, monkeypatch, capsys):
    monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS", "http://127.0.0.1:4567")
    assert command(["--region", "eu-west-1", "--yes"]) == 64
    assert "AWS_ENDPOINT_URL_KINESIS is set" in capsys.readouterr().err


def test_an_emulator_is_on_this_machine(capsys):
    assert cli.deploy(["--emulator", "http://example.com", "--yes"]) == 64
    assert "expected a URL of this machine" in capsys.readouterr().err


def test_the_example_of_regions_is_not_deployed(emulator, capsys):
    assert cli.deploy(["--emulator", emulator.url, "--yes"], out=lambda _: None) == 64
    assert "CertificateArn still has the example's value" in capsys.readouterr().err
    assert emulator.client("cloudformation", HOME).describe_stacks()["Stacks"] == []


def test_it_says_where_it_is_before_it_asks(emulator, capsys):
    lines = []
    path = emulator.regions_file("first")
    status = cli.deploy(["--emulator", emulator.url, "--regions", str(path), "--skip-preflight"], out=lines.append)
    assert status == 64 and "pass --yes to continue" in capsys.readouterr().err
    assert "first" in lines[0] and "regions: eu-west-1, us-east-1" in lines[1]


def test_a_stack_set_names_every_region_with_its_parameters(emulator):
    status, text = emulator.run(cli.deploy, "first", "stack-set")
    assert status == 0, text
    body = json.loads(text.splitlines()[0])
    stack_set = body["Resources"]["Regions"]["Properties"]
    assert stack_set["OperationPreferences"]["RegionOrder"] == list(REGIONS)
    assert stack_set["OperationPreferences"]["RegionConcurrencyType"] == "SEQUENTIAL"
    assert stack_set["OperationPreferences"]["FailureToleranceCount"] == 0
    given = [{one["ParameterKey"]: one["ParameterValue"] for one in group["ParameterOverrides"]}
             for group in stack_set["StackInstancesGroup"]]
    assert given[0]["ArtifactBucketName"] != given[1]["ArtifactBucketName"]
    region = stacks.region_body()
    for one in given:
        needed = {name for name, declared in region["Parameters"].items()
                  if "Default" not in declared}
        assert needed <= set(one) | {"Deployment"}
    path = emulator.folder / "stack-set.json"
    path.write_text(json.dumps(body))
    lint = shutil.which("cfn-lint", path=Path(sys.executable).parent)
    found = subprocess.run([lint, "-r", HOME, "-t", str(path)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


def test_one_table_for_all_regions(emulator):
    status, text = emulator.run(cli.deploy, "first", "--no-smoke-test", global_table=True)
    assert status == 0, text
    given = emulator.client("cloudformation", HOME).describe_stacks(
        StackName="first-global-table")["Stacks"][0]["Parameters"]
    assert {"ParameterKey": "SecondRegion", "ParameterValue": OTHER} in given
    for region in REGIONS:
        assert "AWS::DynamoDB::Table" not in {kind for kind, _ in emulator.resources("first", region)}
        assert emulator.outputs("first", region)["TableName"] == "first-global-table-globaltable"
