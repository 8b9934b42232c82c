"""The stacks of every region: cfn-lint without a finding, and parameters that all come from somewhere."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adtrack_deploy import regions, stacks, template
from layouts import layouts
from model import lint

ROLLOUT = regions.load()
STACK_SETS = template.FOLDER.parent / "organizations"
BODIES = {stack.name: stacks.body(stack) for stack in stacks.STACKS}
# What the command deploy itself finds out or makes.
FROM_DEPLOY = {
    "Deployment", "S3PrefixListId", "ConsumerPackage", "UpdaterPackage", "TrackerImage", "AgentImage",
    "TrackingDomain", "HostedZoneId", "SecondRegion", "ThirdRegion", "FourthRegion", "GlobalTableName",
    "Zone1", "Zone2",
}


def every_body():
    """Every template that any layout leads to, by a name; equal ones once."""
    found = {}
    for layout in layouts():
        name = f"{layout.network}-{layout.security_groups}-{layout.load_balancer}"
        for stack in stacks.of(layout):
            found.setdefault(template.to_text(stacks.body(stack)), f"{name}-{stack.name}")
        found[template.to_text(stacks.region_body(layout))] = f"{name}-region"
    return {name: json.loads(text) for text, name in found.items()}


def test_cfn_lint_finds_nothing(tmp_path):
    """Warnings are errors: a wrong IAM action is only a warning.

    What a region has by default is held against all regions of the file, the other layouts against one of
    them. The templates by themselves are not here: check-templates holds them against all regions.
    """
    templates = {template.to_text(body) for body in template.load_all().values()}
    own, others = [], []
    bodies = {**every_body(), "stack-set": template.load("stack-set", STACK_SETS)}
    for name, body in bodies.items():
        text = template.to_text(body)
        if text not in templates:
            path = tmp_path / f"{name}.json"
            path.write_text(text)
            (own if name.startswith(("own-", "stack-set")) else others).append(str(path))
    names = [region.name for region in ROLLOUT.regions]

    runs = [start_lint(names, own), start_lint(names[:1], others)]

    for run in runs:
        output, _ = run.communicate()
        assert run.returncode == 0, output


def test_check_templates_holds_them_against_all_regions():
    assert set(lint.REGIONS) == {region.name for region in ROLLOUT.regions}


def start_lint(names, files):
    """Starts cfn-lint over the files, for these regions."""
    lint = shutil.which("cfn-lint", path=Path(sys.executable).parent)
    command = [lint, "--non-zero-exit-code", "informational", "-r", *names, "-t", *files]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.parametrize("region", ROLLOUT.regions, ids=lambda region: region.name)
def test_every_parameter_comes_from_somewhere(region):
    given = set(region.parameters) | FROM_DEPLOY
    for stack in stacks.STACKS:
        for name, parameter in BODIES[stack.name].get("Parameters", {}).items():
            assert "Default" in parameter or name in given, f"{stack.name}: nothing gives {name}"
        given |= set(BODIES[stack.name].get("Outputs", {}))


# What an operator gives for what exists.
OF_AN_OPERATOR = {
    "network": {"VpcId", "PrivateSubnetIds", "PrivateRouteTableIds", "NetworkCidr"},
    "security_groups": {"TasksGroupId", "UpdaterGroupId", "RedisGroupId", "EndpointsGroupId",
                        "LoadBalancerGroupId"},
    "load_balancer": {"HttpsListenerArn", "HostNames", "LoadBalancerGroupId", "LoadBalancerFullName",
                      "LoadBalancerDnsName", "LoadBalancerZoneId"},
}


@pytest.mark.parametrize("layout", list(layouts()), ids=str)
def test_an_operator_gives_what_exists_and_nothing_else(layout):
    existing = {part for part in OF_AN_OPERATOR if getattr(layout, part) == stacks.EXISTING}
    expected = set().union(*(OF_AN_OPERATOR[part] for part in existing))
    if layout.network == stacks.EXISTING and layout.load_balancer == stacks.OWN:
        expected |= {"PublicSubnetIds"}
    if {"security_groups", "load_balancer"} == existing - {"network"}:
        # Its group is in nobody's rules: those of the trackers' group are the operator's.
        expected -= {"LoadBalancerGroupId"}

    assert not_given(layout) == expected


def not_given(layout):
    """Parameters without a default that neither deploy nor a stack before gives."""
    given, missing = set(FROM_DEPLOY), set()
    for stack in stacks.of(layout):
        body = stacks.body(stack)
        missing |= {name for name, parameter in body.get("Parameters", {}).items()
                    if "Default" not in parameter and name not in given}
        given |= set(body.get("Outputs", {}))
    return missing


def test_the_manual_names_what_an_operator_gives():
    manual = (template.FOLDER.parent.parent / "docs/DEPLOY.md").read_text()

    for part, names in OF_AN_OPERATOR.items():
        rows = [line for line in manual.splitlines() if line.startswith(f"| `{part}` |")]
        assert any(names <= set(re.findall(r"`(\w+)`", row)) for row in rows), part


def test_every_parameter_of_regions_json_is_used():
    known = set().union(*(body.get("Parameters", {}) for body in BODIES.values()))
    for region in ROLLOUT.regions:
        assert set(region.parameters) <= known


def test_templates_are_within_cloudformations_limits():
    for name, body in every_body().items():
        assert len(template.to_text(body)) < 1_000_000, name
        assert len(body["Resources"]) <= 500, name
        assert len(body.get("Parameters", {})) <= 200, name
        assert len(body.get("Outputs", {})) <= 200, name
    # Before the bucket is there it goes with the call.
    assert len(template.to_text(BODIES["artifacts"])) < 51_200


def test_address_ranges_do_not_meet():
    ranges = [region.parameters.get("VpcCidr") for region in ROLLOUT.regions]
    assert len(set(ranges)) == len(ranges), json.dumps(ranges)
