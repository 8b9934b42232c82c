"""Parameters from three sources, Rules, zones."""

import pytest
from adtrack_deploy import parameters, regions, rollout, zones
from conftest import HOME
from fake_account import Fault


def values(deployment, stack):
    return deployment.stack(stack).parameters


def test_adds_a_cdns_ranges_to_those_of_the_network(deployment, no_preflight):
    run = deployment.deploy(parameters={"TrustedProxies": "192.0.2.0/24,198.51.100.0/24"})

    assert run.status == 0, run.text
    # Those of the network are a parameter of the same name, or of their own.
    given = ",".join(values(deployment, "compute").values())
    assert "192.0.2.0/24,198.51.100.0/24" in given and "10.20.0.0/16" in given


def test_tags_every_stack(deployment, no_preflight):
    run = deployment.deploy(tags={"cost-centre": 42, "application": "other"})

    assert run.status == 0, run.text
    for stack in deployment.account.stacks[HOME]:
        assert stack.tags == [{"Key": "application", "Value": "adtrack"}, {"Key": "cost-centre", "Value": "42"},
                              {"Key": "deployment", "Value": "first"}]


def test_protects_only_after_the_smoke_test(deployment, no_preflight, smoke):
    [balancer] = _balancers_after(deployment, smoke, fails=True)
    assert not balancer.protected

    # What stopped in between is made up for.
    [balancer] = _balancers_after(deployment, smoke, fails=False)
    assert balancer.protected

    # And never taken back, even when a later smoke test fails.
    [balancer] = _balancers_after(deployment, smoke, fails=True, LogLevel="debug")
    assert balancer.protected


def _balancers_after(deployment, smoke, fails, **given):
    smoke.fails = fails
    run = deployment.deploy(parameters=given)
    assert run.status == (69 if fails else 0), run.text
    return deployment.account.of("AWS::ElasticLoadBalancingV2::LoadBalancer")


def test_does_not_protect_what_the_operator_leaves_open(deployment, no_preflight):
    assert deployment.deploy(parameters={"DeletionProtection": False}).status == 0

    [balancer] = deployment.account.of("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert not balancer.protected


def test_repeats_when_turning_protection_on_fails(deployment, no_preflight):
    deployment.account.faults = [Fault("update", "first-compute", "LoadBalancer")]
    assert deployment.deploy().status == 69

    assert deployment.deploy().status == 0

    [balancer] = deployment.account.of("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert balancer.protected


RULE = {"Parameters": {"Cpu": {"Type": "String", "Default": "512"}, "Memory": {"Type": "String"},
                       "Zone": {"Type": "String"}},
        "Rules": {
            "Small": {"RuleCondition": {"Fn::Equals": [{"Ref": "Cpu"}, "512"]},
                      "Assertions": [{"Assert": {"Fn::Contains": [["1024", "2048"], {"Ref": "Memory"}]},
                                      "AssertDescription": "512 goes with 1024 or 2048"}]},
            "Zones": {"Assertions": [{"Assert": {"Fn::Not": [{"Fn::Equals": [{"Ref": "Zone"}, "a"]}]}}]}}}


@pytest.mark.parametrize(("given", "broken"), [
    ({"Memory": "1024"}, []),
    ({"Memory": "8192"}, ["512 goes with 1024 or 2048"]),
    ({"Memory": "8192", "Cpu": "4096"}, []),
    ({"Zone": "a"}, ["Zones"]),
    ({}, []),
])
def test_evaluates_rules_as_far_as_they_can_be_known(given, broken):
    assert parameters.broken_rules(RULE, given) == broken


def _zone(number, letter, **members):
    return {"ZoneName": f"us-west-1{letter}", "ZoneId": f"usw1-az{number}", **members}


def test_chooses_zones_that_fargate_and_endpoints_have():
    there = [_zone(3, "a"), _zone(2, "b"), _zone(1, "c"), _zone(4, "d", State="impaired"),
             _zone(5, "e", ZoneType="local-zone")]

    assert zones.choose("us-west-1", there, {}) == ["us-west-1c", "us-west-1a"]
    assert zones.choose("us-west-1", there, {"kinesis": ["us-west-1a", "us-west-1b"]}) == ["us-west-1a"]
    assert zones.choose("us-west-1", there[::-1], {}) == zones.choose("us-west-1", there, {})


DECLARED = {"Zone1": {}, "Zone2": {}, "Zone3": {"Default": ""}}


@pytest.mark.parametrize(("operator", "running", "usable", "chosen"), [
    ({}, {}, ["a", "b", "c", "d"], ["a", "b", "c"]),
    ({}, {}, ["a", "b"], ["a", "b"]),
    ({"Zone1": "c"}, {}, ["a", "b", "c"], ["c", "a", "b"]),
    ({"Zone1": "c"}, {"Zone1": "a", "Zone2": "b", "Zone3": ""}, None, ["a", "b", ""]),
    ({}, {"Zone1": "d", "Zone2": "b", "Zone3": "a"}, None, ["d", "b", "a"]),
])
def test_keeps_the_zones_that_run(operator, running, usable, chosen):
    assert list(zones.assign(DECLARED, operator, running, lambda: usable).values()) == chosen


def test_finds_the_zones_of_a_network_that_was_deployed_without_parameters_for_them(deployment, no_preflight):
    assert deployment.deploy("--stack", "artifacts", "--stack", "network").status == 0
    region = regions.Region(HOME, {})
    file = regions.Rollout(deployment="first", home_region=HOME, tracking_domain="", hosted_zone_id="",
                           hosted_zone_role_arn="", service_role_arn="", global_table=False, tags={},
                           regions=(region,))
    for name in zones.NAMES:
        deployment.stack("network").parameters.pop(name, None)
        deployment.stack("network").template["Parameters"].pop(name, None)

    one = rollout.RegionRollout(deployment.account, file, region, rollout.Options(), print)
    found = one._running_zones(deployment.account.client("ec2", HOME))

    assert found["Zone1"] == "zone of privatesubnet1" and found["Zone2"] == "zone of privatesubnet2"


@pytest.mark.parametrize("usable", [[], ["a"]])
def test_refuses_a_region_with_too_few_zones(usable):
    with pytest.raises(zones.ZoneError, match="set Zone1"):
        zones.assign(DECLARED, {}, {}, lambda: usable)
