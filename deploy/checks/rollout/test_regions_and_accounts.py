"""What spans regions and accounts: the global table, StackSets, what is pruned, errors of AWS in the middle."""

import io
import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from adtrack_deploy import aws, prune, stack_set
from adtrack_deploy.regions import Region
from adtrack_deploy.stacks import Layout
from botocore import exceptions
from conftest import HOME, OTHER
from fake_account import Fault, refusal


@pytest.fixture(autouse=True)
def _only_stacks(no_preflight):
    pass


def test_a_dry_run_shows_the_global_table(deployment):
    run = deployment.deploy("--dry-run", global_table=True)

    assert run.status == 0 and "first-global-table: new" in run.text and "first-data: new" in run.text, run.text
    assert deployment.statuses() == {}


def test_a_dry_run_compares_with_the_global_table_that_is_there(deployment):
    assert deployment.deploy(global_table=True).status == 0

    run = deployment.deploy("--dry-run", global_table=True, parameters={"LogLevel": "debug"})

    assert run.status == 0 and "first-global-table: no change" in run.text, run.text
    assert "first-data: no change" in run.text and "refused unless allowed" not in run.text, run.text


def test_a_dry_run_shows_what_a_global_table_that_is_not_there_yet_would_change(deployment):
    assert deployment.deploy().status == 0

    run = deployment.deploy("--dry-run", global_table=True)

    assert run.status == 0 and "refused unless allowed: EventTable (AWS::DynamoDB::Table)" in run.text, run.text


def test_one_stack_does_not_touch_the_global_table(deployment):
    assert deployment.deploy(global_table=True).status == 0
    deployment.stack("global-table").status = "UPDATE_ROLLBACK_FAILED"

    run = deployment.deploy("--stack", "compute", global_table=True)

    assert run.status == 0 and deployment.stack("global-table").status == "UPDATE_ROLLBACK_FAILED", run.text


def test_the_global_table_goes_last_and_with_all_regions_only(deployment):
    assert deployment.deploy("--region", OTHER, global_table=True).status == 0

    run = deployment.destroy("--delete-data", global_table=True)
    assert run.status == 0 and "global-table: kept" in run.text and deployment.stack("global-table"), run.text

    run = deployment.destroy("--region", OTHER, "--delete-data", global_table=True)
    assert run.status == 0 and deployment.account.resources == {}, run.text


def test_repeats_after_the_global_table_failed(deployment):
    deployment.account.faults = [Fault("create", "first-global-table", leaves_it=True)]
    assert deployment.deploy(global_table=True).status == 69

    run = deployment.deploy(global_table=True)

    assert run.status == 0 and deployment.orphans() == [], run.text


def test_stops_at_the_first_region_and_goes_on_with_the_next(deployment):
    deployment.account.faults = [Fault("create", "first-redis", kind="AWS::ElastiCache::ReplicationGroup")]
    run = deployment.deploy("--region", OTHER)
    assert run.status == 69 and deployment.statuses(OTHER) == {}, run.text

    run = deployment.deploy("--region", OTHER)

    assert run.status == 0 and len(deployment.statuses(OTHER)) == len(deployment.statuses(HOME)), run.text


class Overrides:
    """What a region needs in a StackSet."""

    def __init__(self, region):
        self._region = region

    def for_stack_set(self):
        return {"CertificateArn": f"of {self._region.name}", "ArtifactBucketName": "bucket"}

    def upload_region_template(self):
        return "https://bucket/region.json"


def test_a_stack_set_has_a_certificate_for_each_account():
    chosen = [
        Region(HOME, {}, Layout(), {"1" * 12: {"CertificateArn": "one"}, "2" * 12: {"CertificateArn": "two"}}),
        Region(OTHER, {}, Layout(), {"1" * 12: {"CertificateArn": "three"}, "2" * 12: {}}),
    ]

    body = stack_set.compose(chosen, Overrides)

    groups = body["Resources"]["Regions"]["Properties"]["StackInstancesGroup"]
    found = {(one["Regions"][0], one["DeploymentTargets"]["Accounts"][0][0]): {
        item["ParameterKey"]: item["ParameterValue"] for item in one["ParameterOverrides"]}["CertificateArn"]
        for one in groups}
    assert found == {(HOME, "1"): "one", (HOME, "2"): "two", (OTHER, "1"): "three", (OTHER, "2"): f"of {OTHER}"}
    assert "AccountIds" not in body["Parameters"] and "AccountIds" not in json.dumps(body)


def test_a_stack_set_without_accounts_takes_them_as_a_parameter():
    body = stack_set.compose([Region(HOME, {}, Layout())], Overrides)

    [group] = body["Resources"]["Regions"]["Properties"]["StackInstancesGroup"]
    assert group["DeploymentTargets"]["Accounts"] == {"Ref": "AccountIds"}


NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_prune_keeps_what_is_used_and_the_newest_of_each_kind():
    items = [(f"packages/a-{number}.zip", NOW + timedelta(days=number), "a") for number in range(5)]
    items += [("packages/b-0.zip", NOW, "b")]

    assert prune.find_unused(items, used={"packages/a-1.zip"}, newest=2) == ["packages/a-0.zip", "packages/a-2.zip"]


def test_prune_keeps_what_runs(deployment):
    assert deployment.deploy().status == 0
    [bucket] = [one for one in deployment.account.of("AWS::S3::Bucket") if "artifact" in one.name]
    used = [key for key in bucket.contents if key.startswith("packages/")]
    old = [f"packages/kinesis-consumer-{number:016}.zip" for number in range(12)]
    bucket.contents += old
    [images, _] = sorted(deployment.account.of("AWS::ECR::Repository"), key=lambda one: "agent" in one.name)
    images.contents = [{"imageTags": [f"v{number}"], "imagePushedAt": number} for number in range(12)]
    deployment.account.client("ecs", HOME)._client.running = f"registry/{images.name}:v0"

    run = deployment.deploy("prune", "--dry-run")
    assert run.status == 0 and f"would delete s3://{bucket.name}/{old[1]}" in run.text, run.text
    assert len(images.contents) == 12 and set(old) <= set(bucket.contents)

    run = deployment.deploy("prune")
    assert run.status == 0, run.text
    assert set(used) <= set(bucket.contents) and set(old) - set(bucket.contents) == set(old[:2])
    assert [one["imageTags"][0] for one in images.contents] == ["v0", *(f"v{number}" for number in range(2, 12))]


def test_prune_refuses_where_other_accounts_read():
    region = Region(HOME, {"OrganizationId": "o-1"}, Layout())

    with pytest.raises(prune.ChangeError, match="other accounts may use"):
        prune.prune(None, None, region, False, print)


@pytest.mark.parametrize(("error", "advice"), [
    (exceptions.NoCredentialsError(), "aws sso login"),
    (exceptions.ProfileNotFound(profile="x"), "aws configure list-profiles"),
    (exceptions.UnauthorizedSSOTokenError(), "have expired"),
    (exceptions.TokenRetrievalError(provider="sso", error_msg="expired"), "have expired"),
    (refusal("ExpiredToken", "expired"), "to resume"),
    (refusal("RequestExpired", "expired"), "have expired"),
    (refusal("InvalidClientTokenId", "no"), "clock"),
    (refusal("OptInRequired", "no"), "aws account enable-region"),
    (refusal("AccessDenied", "no"), "not permitted"),
    (refusal("Throttling", "rate"), "throttles"),
    (exceptions.EndpointConnectionError(endpoint_url="https://x"), "network, proxy and DNS"),
    (exceptions.ReadTimeoutError(endpoint_url="https://x"), "network, proxy and DNS"),
])
def test_says_what_an_error_of_aws_asks_for(error, advice):
    assert advice in aws.explain(error)


@pytest.mark.parametrize(("error", "status"), [
    (exceptions.EndpointConnectionError(endpoint_url="https://x"), 0),
    (refusal("Throttling", "Rate exceeded"), 0),
    (refusal("ExpiredToken", "The security token included in the request is expired"), 69),
])
def test_a_wait_outlives_what_passes(deployment, monkeypatch, error, status):
    deployment.account.pace = 1
    client = deployment.account.client("cloudformation", HOME)._client
    describe, calls = client.describe_stacks, iter(range(10_000))

    def fails_now_and_then(StackName):
        if StackName.startswith("arn:") and next(calls) % 7 == 3:
            raise error
        return describe(StackName=StackName)
    monkeypatch.setattr(client, "describe_stacks", fails_now_and_then)

    run = deployment.deploy()
    assert run.status == status, run.text
    if status:
        assert "credentials have expired" in run.text and "to resume" in run.text

    monkeypatch.setattr(client, "describe_stacks", describe)
    assert deployment.deploy().status == 0


def test_sigterm_is_an_interruption(deployment, monkeypatch):
    deployment.account.pace = 1
    monkeypatch.setattr("adtrack_deploy.cloudformation.time.sleep", lambda _: os.kill(os.getpid(), signal.SIGTERM))

    run = deployment.deploy()

    assert run.status == 130 and "first-artifacts in eu-west-1 is CREATE_IN_PROGRESS" in run.text, run.text


def test_a_full_disk_is_a_line(deployment, monkeypatch):
    monkeypatch.setattr("adtrack_deploy.artifacts.build_packages",
                        lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    run = deployment.deploy()

    assert run.status == 69 and "deploy: [Errno 28] No space left on device" in run.text, run.text


def test_asks_before_it_changes_anything(deployment, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    from adtrack_deploy import cli

    run = deployment.run(lambda arguments, out: cli.deploy([one for one in arguments if one != "--yes"], out),
                         "--region", HOME)

    assert run.status == 64 and "pass --yes" in run.text and deployment.statuses() == {}
