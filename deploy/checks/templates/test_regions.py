"""The stacks of every region: cfn-lint without a finding, and parameters that all come from somewhere."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from adtrack_deploy import regions, stacks, template
from layouts import layouts

ROLLOUT = regions.load()
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
    """Warnings are errors: a wrong IAM action is only a warning."""
    files = [str(path) for path in sorted(template.FOLDER.glob("*.yaml"))]
    merged = dict(every_body())
    merged["stack-set"] = template.load("stack-set", template.FOLDER.parent / "organizations")
    for name, body in merged.items():
        path = tmp_path / f"{name}.json"
        path.write_text(template.to_text(body))
        files.append(str(path))
    names = [region.name for region in ROLLOUT.regions]
    lint = shutil.which("cfn-lint", path=Path(sys.executable).parent)
    command = [lint, "--non-zero-exit-code", "informational", "-r", *names, "-t", *files]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("region", ROLLOUT.regions, ids=lambda region: region.name)
def test_every_parameter_comes_from_somewhere(region):
    given = set(region.parameters) | FROM_DEPLOY
    for stack in stacks.STACKS:
        for name, parameter in BODIES[stack.name].get("Parameters", {}).items():
            assert "Default" in parameter or name in given, f"{stack.name}: nothing gives {name}"
        given |= set(BODIES[stack.name].get("Outputs", {}))


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
