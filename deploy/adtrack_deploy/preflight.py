"""Checks before a deployment. Reports all problems at once.

A problem would make the deployment fail, perhaps only after half an hour. A check that cannot run, because of
a missing permission or because an emulator lacks the call, is a note. Notes do not stop a deployment.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from botocore.exceptions import BotoCoreError, ClientError

from . import artifacts, parameters, stacks
from .aws import EXPIRED, INVALID, code_of, explain
from .region_checks import RegionChecks, ZoneChecks

# cargo's target folder of both functions, zig, and the layers of an image.
BUILD_BYTES = 10 * 1024**3
# Errors can contain whole HTML pages.
MOST_CHARACTERS = 300


class PreflightError(Exception):
    """The preflight found problems; nothing was changed."""


@dataclass(frozen=True)
class Finding:
    """A line that says what is wrong and what to do. A note does not stop the deployment."""

    place: str
    text: str
    is_note: bool = False


def run(aws, rollout, chosen, options, out):
    """Prints all problems and notes. Returns whether there are problems."""
    findings = [*of_machine(options, chosen), *of_zone(aws, rollout)]
    for region in chosen:
        findings += of_parameters(region)
        findings += of_region(aws, rollout, region)
    for one in findings:
        out(f"  {'note' if one.is_note else 'PROBLEM'}: {one.place}: {one.text}")
    return any(not one.is_note for one in findings)


def of_machine(options, chosen=()):
    """Checks tools, packages, source and disk space, as far as this deployment builds something."""
    place = "this machine"
    needs = set(options.stacks) or {"lambdas", "compute"}
    found = []
    if "lambdas" in needs:
        found += _packages(options.packages)
    if "compute" in needs and not (options.tracker_image and options.agent_image):
        found += _image_tools()
        if bool(options.tracker_image) != bool(options.agent_image):
            found.append("--tracker-image and --agent-image go together: give both, or neither")
    built = {"lambdas": not options.packages, "compute": not options.tracker_image}
    if any(built.get(stack) for stack in needs) and shutil.disk_usage(artifacts.ROOT).free < BUILD_BYTES:
        found.append(f"less than {BUILD_BYTES // 1024**3} GiB are free on the disk of {artifacts.ROOT}, which the "
                     "build needs: free some, or use --packages, --tracker-image and --agent-image")
    return [Finding(place, text) for text in found]


def _packages(folder):
    if folder is None:
        return [f"{tool} not found, and building the functions needs it: install it (https://rustup.rs), "
                "or pass built packages with --packages"
                for tool in ("cargo", "rustup") if shutil.which(tool) is None]
    return [f"--packages: no {function}.zip in {folder}" for function in artifacts.FUNCTIONS.values()
            if not (Path(folder) / f"{function}.zip").is_file()]


def _image_tools():
    instead = "or pass images that are already pushed with --tracker-image and --agent-image"
    found = []
    if shutil.which("git") is None:
        found.append(f"git not found, and images are tagged by commit: install it, {instead}")
    else:
        try:
            artifacts.revision()
        except artifacts.ArtifactError as error:
            found.append(f"{error}: commit or stash them, {instead}")
    if shutil.which("docker") is None:
        return [*found, f"docker not found, and building the image needs it: install it, {instead}"]
    if not _works(["docker", "version", "--format", "{{.Server.Version}}"]):
        found.append(f"no Docker engine is running (`docker version`): start it, {instead}")
    if not _works(["docker", "buildx", "version"]):
        found.append(f"docker has no buildx (`docker buildx version`): install the plugin, {instead}")
    return found


def _works(command):
    try:
        return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def of_parameters(region):
    """Checks for parameters that nothing sets, and for combinations that a template's Rules refuse."""
    found = [f"the stack {stack} needs {name}: set it in regions.json"
             for stack, name in parameters.find_missing(region.layout, region.parameters)]
    for stack in stacks.of(region.layout):
        found += [f"the stack {stack.name} refuses its parameters: {text}"
                  for text in parameters.broken_rules(parameters.body(stack), region.parameters)]
    return [Finding(region.name, text) for text in dict.fromkeys(found)]


def of_zone(aws, rollout):
    """Checks the hosted zone, which all regions share."""
    if not rollout.tracking_domain:
        return []
    return _each(f"zone {rollout.hosted_zone_id}", ZoneChecks(aws, rollout).all())


def of_region(aws, rollout, region):
    """Checks a region."""
    checks = RegionChecks(aws, rollout, region)
    enabled = _each(region.name, [checks.is_enabled])
    if any(not one.is_note for one in enabled):
        return enabled
    return enabled + _each(region.name, checks.all())


def _each(place, checks):
    """Runs the checks. A check yields a text per finding; one that begins with `note:` is a note."""
    found = []
    for check in checks:
        try:
            texts = list(check())
        except (ClientError, BotoCoreError) as error:
            if code_of(error) in EXPIRED | INVALID:
                raise
            reason = " ".join(explain(error).split())[:MOST_CHARACTERS]
            texts = [f"note: {check.title} cannot be checked: {reason}"]
        found += [Finding(place, text.removeprefix("note: "), text.startswith("note: ")) for text in texts]
    return found
