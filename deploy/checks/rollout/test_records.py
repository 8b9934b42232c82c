"""Records in a zone of another account, and the role that CloudFormation acts with."""

from types import SimpleNamespace

import pytest
from adtrack_deploy import regions
from adtrack_deploy.records import Records
from conftest import HOME, OTHER
from fake_account import Checked

ROLE = "arn:aws:iam::444455556666:role/zone"
OUTPUTS = {"HealthCheckId": "h-1", "LoadBalancerZoneId": "Z35SX", "LoadBalancerDnsName": "lb.elb.amazonaws.com"}


class Zone:
    """A hosted zone: what Route 53 does with a batch of changes, all of it or nothing."""

    def __init__(self):
        self.records = [{"Name": "example.com.", "Type": "NS"}, {"Name": "zz.example.com.", "Type": "A"}]

    def list_resource_record_sets(self, HostedZoneId, StartRecordName, StartRecordType):
        assert HostedZoneId == "Z1" and StartRecordType == "A"
        found = [one for one in self.records if one["Name"] >= f"{StartRecordName}."]
        return {"ResourceRecordSets": found}

    def change_resource_record_sets(self, HostedZoneId, ChangeBatch):
        def key(record):
            return record["Name"], record["Type"], record.get("SetIdentifier")

        assert HostedZoneId == "Z1" and ChangeBatch["Changes"]
        for change in ChangeBatch["Changes"]:
            record = change["ResourceRecordSet"]
            there = [one for one in self.records if key(one) == key(record)]
            if change["Action"] == "DELETE":
                assert there == [record], "a deletion names the record exactly"
            self.records = [one for one in self.records if key(one) != key(record)]
            if change["Action"] == "UPSERT":
                self.records.append(record)
        self.records.sort(key=key)


@pytest.fixture
def zone():
    return Zone()


def records(zone, name=HOME, **parameters):
    def as_role(role, service, _region):
        assert (role, service) == (ROLE, "route53")
        return Checked("route53", zone)

    rollout = SimpleNamespace(deployment="first", home_region=HOME, tracking_domain="go.example.com",
                              hosted_zone_id="Z1", hosted_zone_role_arn=ROLE)
    return Records(SimpleNamespace(as_role=as_role), rollout, regions.Region(name, parameters))


def ours(zone):
    return {(one["Type"], one["SetIdentifier"]): one for one in zone.records if one["Name"] == "go.example.com."}


def test_makes_a_latency_alias_record(zone):
    records(zone).put(OUTPUTS)
    assert ours(zone) == {("A", f"first-{HOME}"): {
        "Name": "go.example.com.", "Type": "A", "SetIdentifier": f"first-{HOME}", "Region": HOME,
        "HealthCheckId": "h-1", "AliasTarget": {
            "HostedZoneId": "Z35SX", "DNSName": "lb.elb.amazonaws.com", "EvaluateTargetHealth": True}}}


def test_follows_a_load_balancer_that_was_replaced(zone):
    records(zone).put(OUTPUTS)
    records(zone).put(OUTPUTS | {"LoadBalancerDnsName": "new.elb.amazonaws.com"})
    [record] = ours(zone).values()
    assert record["AliasTarget"]["DNSName"] == "new.elb.amazonaws.com"


def test_has_an_ipv6_record_while_the_load_balancer_is_dualstack(zone):
    records(zone, IpAddressType="dualstack").put(OUTPUTS)
    assert {kind for kind, _ in ours(zone)} == {"A", "AAAA"}
    records(zone).put(OUTPUTS)
    assert {kind for kind, _ in ours(zone)} == {"A"}


def test_removes_the_records_of_its_region_alone(zone):
    before = list(zone.records)
    records(zone).put(OUTPUTS)
    records(zone, OTHER, IpAddressType="dualstack").put(OUTPUTS)
    assert records(zone, OTHER).remove()
    assert {name for _, name in ours(zone)} == {f"first-{HOME}"}
    assert records(zone).remove()
    assert zone.records == before
    assert not records(zone).remove()


def test_has_cloudformation_act_with_the_service_role(deployment, no_preflight):
    role = "arn:aws:iam::111122223333:role/adtrack/adtrack-cloudformation"
    assert deployment.deploy("--stack", "artifacts", service_role_arn=role).status == 0
    assert deployment.stack("artifacts").role == role
