"""What the Rules of the templates refuse, and what they let through."""

import itertools

import pytest
from adtrack_deploy import regions, stacks
from layouts import layouts
from resolved import refusals
from test_trial import PRODUCTION, TRIAL

OWN = stacks.region_body(stacks.Layout(routed=True))
IN_A_NETWORK = stacks.region_body(stacks.Layout(network=stacks.EXISTING))
ZONES = {"Zone1": "eu-west-1a", "Zone2": "eu-west-1b", "Zone3": "eu-west-1c"}
# Fargate's MB per CPU units, of AWS's page:
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
FARGATE = {
    256: {512, 1024, 2048},
    512: set(range(1024, 4096 + 1, 1024)),
    1024: set(range(2048, 8192 + 1, 1024)),
    2048: set(range(4096, 16384 + 1, 1024)),
    4096: set(range(8192, 30720 + 1, 1024)),
}
REFUSED = [
    ("no certificate", {"CertificateArn": ""}, "exactly one"),
    ("plain HTTP and a certificate", {"InsecurePlainHttp": "true"}, "exactly one"),
    ("two certificates", {"CreateCertificate": "true"}, "exactly one"),
    ("a certificate that nothing validates", {"CertificateArn": "", "CreateCertificate": "true"},
     "hosted_zone_id"),
    ("customers' certificates without TLS", {
        "CertificateArn": "", "InsecurePlainHttp": "true", "CustomerCertificateArns": "arn:aws:acm:y"},
     "CustomerCertificateArns"),
    ("failover of a single node", {"RedisNodes": 1}, "RedisFailover"),
    ("shards of an on-demand stream", {"EventShards": 8}, "StreamMode"),
    ("no way to AWS services", {"VpcEndpoints": "none", "AwsServicesCidr": "0.0.0.0/0"}, "VpcEndpoints"),
    ("two ways to AWS services", {"AwsServicesCidr": "0.0.0.0/0"}, "AwsServicesCidr"),
    ("a zone twice", {"Zone2": "eu-west-1a"}, "zones"),
    ("exempt from no limit", {"RateLimitExempt": "192.0.2.0/24"}, "RateLimit"),
]


@pytest.mark.parametrize(("given", "reason"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refuses(given, reason):
    found = refusals(OWN, {**ZONES, **PRODUCTION, **given})

    assert any(reason in description for description in found), found


@pytest.mark.parametrize("given", [
    {**PRODUCTION}, {**TRIAL}, {**PRODUCTION, "Zone3": ""}, {**PRODUCTION, "StreamMode": "PROVISIONED",
                                                           "EventShards": 8},
    {**PRODUCTION, "CertificateArn": "", "CreateCertificate": "true", "HostedZoneId": "Z1",
     "TrackingDomain": "t.example"},
], ids=["production", "trial", "two zones", "shards", "own certificate"])
def test_lets_through(given):
    assert refusals(OWN, {**ZONES, **given}) == []


def test_a_network_that_exists_may_have_a_nat_gateway():
    given = {**PRODUCTION, "VpcEndpoints": "none"}

    assert refusals(IN_A_NETWORK, {**given, "AwsServicesCidr": "0.0.0.0/0"}) == []
    assert refusals(IN_A_NETWORK, given)


@pytest.mark.parametrize(("cpu", "memory"), itertools.product(
    OWN["Parameters"]["TaskCpu"]["AllowedValues"], OWN["Parameters"]["TaskMemory"]["AllowedValues"]))
def test_takes_the_pairs_that_fargate_has(cpu, memory):
    found = refusals(OWN, {**ZONES, **PRODUCTION, "TaskCpu": cpu, "TaskMemory": memory})

    assert (found == []) == (int(memory) in FARGATE[int(cpu)]), found


@pytest.mark.parametrize("layout", list(layouts()), ids=str)
def test_no_layout_refuses_its_own_defaults(layout):
    given = {**ZONES, **PRODUCTION, "TrackingDomain": "t.example"}

    assert all(refusals(stacks.body(stack), given) == [] for stack in stacks.of(layout))


def test_the_file_of_regions_is_let_through():
    for region in regions.load().regions:
        assert refusals(OWN, {**ZONES, **region.parameters}) == []
