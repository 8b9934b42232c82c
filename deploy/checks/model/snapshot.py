"""A snapshot of what CloudFormation would make: no change of any setting passes unnoticed.

`snapshots/` holds a line per value: the declarations of the templates (parameters, rules, conditions,
mappings), every resource and output of the deployment `production`, and, of each other deployment, the lines
in which it differs from that. `deploy/checks/snapshot` compares, `--write` renews; the diff of a commit then
shows what the change comes to.
"""

import argparse
import difflib
import json
import re
import sys
from pathlib import Path

from . import scenarios, synth

FOLDER = Path(__file__).with_name("snapshots")
DECLARATIONS = ("Parameters", "Mappings", "Rules", "Conditions")
# Texts for people.
LEFT_OUT = ("Description", "AlarmDescription", "AssertDescription", "Metadata")


def snapshots(templates):
    """The text of each snapshot by its file's name."""
    found = {"declarations.txt": _text(_declarations(templates))}
    usual = _deployment(templates, scenarios.PRODUCTION)
    found["production.txt"] = _text(usual)
    for scenario in scenarios.ALL:
        if scenario is not scenarios.PRODUCTION:
            lines = _deployment(templates, scenario)
            mine, theirs = set(lines), set(usual)
            differing = ([f"- {line}" for line in usual if line not in mine]
                         + [f"+ {line}" for line in lines if line not in theirs])
            found[f"{re.sub('[^a-z]+', '-', scenario.name)}.txt"] = _text(differing)
    return found


def _declarations(templates):
    lines = []
    for name, body in sorted(templates.items()):
        for section in DECLARATIONS:
            lines += _lines(f"{name} {section}", body.get(section) or {})
    return lines


def _deployment(templates, scenario):
    system = synth.system(templates, scenario)
    lines = []
    for resource in sorted(system.resources, key=lambda resource: (resource.file, resource.name)):
        place = f"{resource.file} {resource.name}"
        lines.append(f"{place}: {resource.type}")
        waits = {"DependsOn": sorted(resource.depends_on)} if resource.depends_on else {}
        lines += _lines(place, resource.attributes | waits)
        lines += _lines(place, resource.properties)
    lines += _lines("outputs", dict(sorted(system.outputs.items())))
    return lines


def _lines(place, node):
    """A line per value, with the way to it."""
    if isinstance(node, dict):
        return [line for key, value in node.items() if key not in LEFT_OUT
                for line in _lines(f"{place}.{key}", value)] or [f"{place}: {{}}"]
    if isinstance(node, list):
        return [line for index, value in enumerate(node)
                for line in _lines(f"{place}.{index}", value)] or [f"{place}: []"]
    if isinstance(node, str) and "\n" in node:
        return [f"{place}: | {line}" for line in node.splitlines()]
    return [f"{place}: {json.dumps(node, ensure_ascii=False, default=str)}"]


def _text(lines):
    return "".join(f"{line}\n" for line in lines)


def main():
    parser = argparse.ArgumentParser(prog="deploy/checks/snapshot", description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="renew the snapshots")
    arguments = parser.parse_args()
    templates, problems = synth.load()
    if problems:
        sys.exit("\n".join(map(str, problems)))
    now = snapshots(templates)
    if arguments.write:
        _write(now)
        return
    before = {path.name: path.read_text() for path in sorted(FOLDER.glob("*.txt"))}
    changed = [name for name in sorted(now.keys() | before.keys()) if now.get(name) != before.get(name)]
    for name in changed:
        sys.stdout.writelines(difflib.unified_diff(
            before.get(name, "").splitlines(True), now.get(name, "").splitlines(True),
            f"{name} as committed", f"{name} now", n=0))
    if changed:
        sys.exit("deploy/checks/snapshot: the deployments have changed; if they were to, run it with --write")


def _write(now):
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.txt"):
        if path.name not in now:
            path.unlink()
    for name, text in now.items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
