"""The pages of deploy name things that are there."""

import re
from pathlib import Path

import pytest
from adtrack_deploy import stacks

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["DEPLOY.md", "RUNBOOK.md", "COST.md", "SECURITY.md"]


def anchors(path):
    return {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in path.read_text().splitlines() if line.startswith("#")
    }


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / "docs" / page).read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / "docs" / path).resolve() if path else ROOT / "docs" / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


def test_the_runbook_names_parameters_outputs_and_stacks_that_are_there():
    text = (ROOT / "docs/RUNBOOK.md").read_text()
    bodies = [stacks.body(stack) for stack in stacks.STACKS]
    outputs = set().union(*(body.get("Outputs", {}) for body in bodies))
    parameters = set().union(*(body["Parameters"] for body in bodies))
    resources = set().union(*(body["Resources"] for body in bodies))
    for name in re.findall(r"\$([A-Z][a-z]\w+)", text):
        assert name in outputs, f"no output {name}"
    for name in re.findall(r"`([A-Z][a-z]+(?:[A-Z]\w+))`", text):
        known = parameters | outputs | resources | {"VersionId"}
        assert name in known or name.endswith("Exception") or name in ("InternalFailure",), f"no {name}"
    for name in re.findall(r"--stack (\w+)", text):
        assert name in stacks.BY_NAME
