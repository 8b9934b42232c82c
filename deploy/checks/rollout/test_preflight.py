"""Everything that would fail later is found before anything is created, all at once."""

import subprocess
from types import SimpleNamespace

import pytest
from adtrack_deploy import artifacts, preflight, regions
from adtrack_deploy.region_checks import RegionChecks, ZoneChecks, covers
from adtrack_deploy.rollout import Options
from adtrack_deploy.stacks import Layout
from conftest import HOME
from fake_account import Account, Exceptions, refusal


class Client:
    """A client whose calls give what is written down here."""

    exceptions = Exceptions()

    def __init__(self, **calls):
        self._calls = calls

    def get_paginator(self, call):
        return SimpleNamespace(paginate=lambda **_: [self._calls[call]])

    def __getattr__(self, call):
        if call not in self._calls:
            raise AttributeError(call)
        found = self._calls[call]

        def respond(**_request):
            if isinstance(found, Exception):
                raise found
            return found
        return respond


class Services(Account):
    """An account with clients for single services."""

    def __init__(self, **clients):
        super().__init__()
        self.own = {name.replace("_", "-"): client for name, client in clients.items()}

    def client(self, service, region):
        return self.own.get(service) or super().client(service, region)

    def as_role(self, _role, service, region):
        return self.client(service, region)


CERTIFICATE = {"Status": "ISSUED", "DomainName": "example.com", "SubjectAlternativeNames": ["*.example.com"]}


def rollout(**members):
    return regions.Rollout(**({
        "deployment": "first", "home_region": HOME, "tracking_domain": "go.example.com", "hosted_zone_id": "Z1",
        "hosted_zone_role_arn": "", "service_role_arn": "", "global_table": False, "tags": {},
        "regions": ()} | members))


def region(**parameters):
    return regions.Region(HOME, {"CertificateArn": f"arn:aws:acm:{HOME}:1:certificate/1", **parameters}, Layout())


def texts(check):
    return list(check())


@pytest.mark.parametrize(("certificate", "arn", "problem"), [
    (CERTIFICATE, None, None),
    ({**CERTIFICATE, "Status": "PENDING_VALIDATION"}, None, "is PENDING_VALIDATION, not ISSUED"),
    ({**CERTIFICATE, "SubjectAlternativeNames": []}, None, "is for example.com, not for go.example.com"),
    (CERTIFICATE, "arn:aws:acm:us-east-1:1:certificate/1", "is in another region"),
])
def test_looks_at_the_certificate(certificate, arn, problem):
    account = Services(acm=Client(describe_certificate={"Certificate": certificate}))
    one = region(**({"CertificateArn": arn} if arn else {}))

    found = texts(RegionChecks(account, rollout(), one).certificates)

    assert (not found) if problem is None else problem in found[0], found


@pytest.mark.parametrize(("names", "covered"), [
    (["go.example.com"], True), (["*.example.com"], True), (["GO.example.com"], True),
    (["example.com"], False), (["*.com"], False), (["*.go.example.com"], False), ([], False)])
def test_a_wildcard_stands_for_one_label(names, covered):
    assert covers(names, "go.example.com") is covered


@pytest.mark.parametrize(("limit", "problem"), [(1000, None), (180, None), (179, "reserve 80"), (10, "0 of 10")])
def test_looks_at_lambdas_concurrency(limit, problem):
    account = Services(**{"lambda": Client(get_account_settings={"AccountLimit": {
        "ConcurrentExecutions": limit, "UnreservedConcurrentExecutions": limit}})})

    found = texts(RegionChecks(account, rollout(), region()).concurrency)

    assert (not found) if problem is None else problem in found[0] and "L-B99A9384" in found[0], found


def test_counts_what_is_reserved_already(deployment, no_preflight):
    assert deployment.deploy().status == 0
    account = deployment.account
    account._clients["lambda", HOME] = Client(get_account_settings={"AccountLimit": {
        "ConcurrentExecutions": 180, "UnreservedConcurrentExecutions": 100}})

    assert texts(RegionChecks(account, rollout(), region()).concurrency) == []


def _quota(value):
    return Client(get_service_quota={"Quota": {"Value": value}})


def test_looks_at_quotas():
    vpcs = Client(describe_vpcs={"Vpcs": [1] * 5}, describe_internet_gateways={"InternetGateways": []})
    account = Services(service_quotas=_quota(5), ec2=vpcs)
    checks = RegionChecks(account, rollout(), region(MinTasks="6"))

    assert "VPCs: 5 exist, 1 more are needed, and the quota is 5" in texts(checks.network_quotas)[0]
    assert "MinTasks x TaskCpu take 6 vCPUs, and the quota is 5" in texts(checks.fargate_quota)[0]


def test_a_larger_fleet_than_the_quota_is_a_note():
    [found] = texts(RegionChecks(Services(service_quotas=_quota(6)), rollout(), region()).fargate_quota)

    assert found.startswith("note: MaxTasks")


@pytest.mark.parametrize(("given", "limits", "problem"), [
    ({}, {"OnDemandStreamCountLimit": 50, "OnDemandStreamCount": 48}, None),
    ({}, {"OnDemandStreamCountLimit": 50, "OnDemandStreamCount": 49}, "2 on-demand streams"),
    ({"StreamMode": "PROVISIONED", "EventShards": "9"}, {"ShardLimit": 10, "OpenShardCount": 0}, None),
    ({"StreamMode": "PROVISIONED", "EventShards": "10"}, {"ShardLimit": 10, "OpenShardCount": 0}, "10 more shards"),
])
def test_looks_at_kinesis_limits(given, limits, problem):
    account = Services(kinesis=Client(describe_limits=limits))

    found = texts(RegionChecks(account, rollout(), region(**given)).streams)

    assert (not found) if problem is None else problem in found[0], found


def test_finds_names_that_are_taken():
    taken = Client(describe_users={"Users": [{}]}, describe_user_groups=refusal("UserGroupNotFound", "none"))

    found = texts(RegionChecks(Services(elasticache=taken), rollout(), region()).names)

    assert len(found) >= 3 and "ElastiCache user first-" in found[0] and "aws elasticache delete-user" in found[0]


def test_a_region_has_to_be_enabled():
    closed = Client(describe_regions={"Regions": [{"OptInStatus": "not-opted-in"}]})

    [found] = preflight.of_region(Services(ec2=closed), rollout(), region())

    assert "aws account enable-region --region-name eu-west-1" in found.text and not found.is_note


def _zone_client(zone, records=()):
    return Services(route53=Client(get_hosted_zone={"HostedZone": zone},
                                   list_resource_record_sets={"ResourceRecordSets": list(records)}))


RECORD = {"Name": "go.example.com.", "Type": "A"}


@pytest.mark.parametrize(("zone", "records", "problem"), [
    ({"Name": "example.com."}, [], None),
    ({"Name": "go.example.com."}, [{**RECORD, "SetIdentifier": "first-eu-west-1"}], None),
    ({"Name": "ample.com."}, [], "does not contain go.example.com"),
    ({"Name": "example.com.", "Config": {"PrivateZone": True}}, [], "private"),
    ({"Name": "example.com."}, [{**RECORD, "Type": "CNAME"}], "already has a record CNAME"),
])
def test_looks_at_the_hosted_zone(zone, records, problem):
    checks = ZoneChecks(_zone_client(zone, records), rollout())

    found = [text for check in checks.all() for text in check()]

    assert (not found) if problem is None else problem in found[0], found


def test_what_cannot_be_read_is_a_note():
    found = preflight.of_region(Account(), rollout(), region())

    assert found and all(one.is_note for one in found)
    assert any("Lambda's concurrency cannot be checked: not permitted" in one.text for one in found)


def test_expired_credentials_end_it():
    account = Services(acm=Client(describe_certificate=refusal("ExpiredToken", "expired")))

    with pytest.raises(Exception, match="expired"):
        preflight.of_region(account, rollout(), region())


@pytest.mark.parametrize("missing", ["cargo", "rustup", "git", "docker"])
def test_a_missing_tool_is_a_line(monkeypatch, missing):
    monkeypatch.setattr(preflight.shutil, "which", lambda tool: None if tool == missing else f"/bin/{tool}")
    monkeypatch.setattr(artifacts, "revision", lambda: "abc")
    monkeypatch.setattr(preflight, "_works", lambda _: True)

    found = [one.text for one in preflight.of_machine(Options())]

    assert [text for text in found if text.startswith(f"{missing} not found")], found


def test_an_engine_buildx_and_a_clean_tree_are_needed_to_build(monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda tool: f"/bin/{tool}")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: SimpleNamespace(free=1))
    monkeypatch.setattr(artifacts, "run", lambda _: " M tracker/src/main.rs")
    monkeypatch.setattr(preflight.subprocess, "run",
                        lambda *_, **__: (_ for _ in ()).throw(subprocess.TimeoutExpired("docker", 30)))

    found = " ".join(one.text for one in preflight.of_machine(Options()))

    for text in ("has 1 uncommitted changes (M tracker/src/main.rs", "docker version", "docker buildx version",
                 "10 GiB are free"):
        assert text in found, found


def test_nothing_is_needed_to_deploy_what_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "which", lambda _: None)
    for name in artifacts.FUNCTIONS.values():
        (tmp_path / f"{name}.zip").touch()
    options = Options(packages=str(tmp_path), tracker_image="a:1", agent_image="b:1")

    assert preflight.of_machine(options) == []
    (tmp_path / "kinesis-consumer.zip").unlink()
    assert "no kinesis-consumer.zip" in preflight.of_machine(options)[0].text


def test_a_finding_stops_it_before_anything_is_created(deployment, monkeypatch):
    monkeypatch.setattr("adtrack_deploy.region_checks.RegionChecks.zones", lambda _: iter(["one zone", "two zones"]))

    run = deployment.deploy()
    assert run.status == 64 and run.text.count("PROBLEM: eu-west-1: ") == 2 and deployment.statuses() == {}, run.text

    run = deployment.deploy("--dry-run")
    assert run.status == 0 and run.text.count("PROBLEM") == 2 and deployment.statuses() == {}, run.text

    run = deployment.deploy("--skip-preflight")
    assert run.status == 0 and run.text.count("PROBLEM") == 2, run.text
