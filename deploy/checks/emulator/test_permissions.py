"""Every call that a roll-out, a dry run and a removal really make, against an emulator: each is allowed."""

import sys
from pathlib import Path

import pytest
from adtrack_deploy import aws, cli
from conftest import REGIONS

CHECKS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(CHECKS / "deployer"), str(CHECKS)]

import needs
import probes
import roles

DEPLOY, PREVIEW = roles.statements("DeployRole"), roles.statements("PreviewRole")
SERVICE_ROLE = roles.VALUES["ServiceRoleArn"]


# A call's parameter → the resource that it names.
NAMED_BY = {
    "StackName": "arn:aws:cloudformation:{at}:stack/{}/1",
    "StreamName": "arn:aws:kinesis:{at}:stream/{}",
    "TableName": "arn:aws:dynamodb:{at}:table/{}",
    "repositoryName": "arn:aws:ecr:{at}:repository/{}",
    "KeyId": "arn:aws:kms:{at}:key/{}",
    "LoadBalancerArn": "{}",
    "Bucket": "arn:aws:s3:::{}",
}
MOTO_ACCOUNT = "123456789012"


def resource_of(operation, parameters, region):
    """The resource that a call is checked on."""
    name = next((name for name in NAMED_BY if name in parameters), None)
    if name is None:
        return "*"
    value = parameters[name].replace(MOTO_ACCOUNT, roles.ACCOUNT)
    if value.startswith("arn:"):
        return value
    resource = NAMED_BY[name].format(value, at=f"{region}:{roles.ACCOUNT}")
    key = parameters.get("Key") if name == "Bucket" else None
    return f"{resource}/{key or 'x'}" if key or operation == "DeleteObjects" else resource


@pytest.fixture
def calls(monkeypatch):
    """What the tools call from here on: (operation, resource, region)."""
    found = []
    make = aws.Aws.client

    def client(self, service, region):
        made = make(self, service, region)
        prefix = needs.iam_prefix(made.meta.service_model)

        def record(params, model, **_):
            found.append((f"{prefix}:{model.name}", resource_of(model.name, params, region), region))
        made.meta.events.register_first("provide-client-params", record, unique_id="recorded")
        return made

    monkeypatch.setattr(aws.Aws, "client", client)
    return found


def denied(statements, calls):
    """Calls that the role may not make."""
    found = []
    for operation, resource, region in calls:
        keys = {"cloudformation:RoleArn": SERVICE_ROLE} if operation.endswith("CreateChangeSet") else {}
        for action in needs.actions_of(operation):
            if not roles.allows(statements, action, resource, probes.context(region=region, **keys)):
                found.append((action, resource))
    return found


def test_a_roll_out_and_a_removal_are_allowed(emulator, calls):
    here = ("--region", REGIONS[0])
    assert emulator.run(cli.deploy, "adtrack", *here, "--no-smoke-test")[0] == 0
    assert emulator.run(cli.deploy, "adtrack", "status", *here)[0] == 0
    assert emulator.run(cli.destroy, "adtrack", *here, "--delete-data")[0] == 0
    assert {"cloudformation:ExecuteChangeSet", "kinesis:DeleteStream"} <= {call[0] for call in calls}
    assert denied(DEPLOY, calls) == []


def test_a_dry_run_is_allowed_to_who_only_looks(emulator, calls):
    here = ("--region", REGIONS[0])
    assert emulator.run(cli.deploy, "adtrack", *here, "--no-smoke-test")[0] == 0
    assert denied(PREVIEW, calls)
    calls.clear()
    assert emulator.run(cli.deploy, "adtrack", "--dry-run", *here, parameters={"MaxTasks": 31})[0] == 0
    assert "cloudformation:CreateChangeSet" in {call[0] for call in calls}
    assert denied(PREVIEW, calls) == []


def test_another_deployment_is_out_of_reach(emulator, calls):
    assert emulator.run(cli.deploy, "payroll", "--region", REGIONS[0], "--no-smoke-test")[0] == 0
    refused = {action for action, _ in denied(DEPLOY, calls)}
    assert {"cloudformation:CreateChangeSet", "cloudformation:ExecuteChangeSet", "s3:PutObject"} <= refused
