"""What CloudFormation would replace in a running deployment: resources that others use, under a new identity.

A change of a logical id, or of a property that can only be set at creation (such as a security group's
description), makes a new resource and deletes, or leaves behind, the one in use. The new one starts empty, and
what runs still has the old one until its own stack is deployed. replacements.yaml has the identity of each such
resource; a change that is meant is a change of that file, which `deploy/checks/replacements` prints.
"""

import argparse
import functools
import json
import sys
from pathlib import Path

import yaml

from . import synth
from .finding import Finding
from .intrinsics import references
from .synth import Templates

TABLE = Path(__file__).with_name("replacements.yaml")
# These are replaced by each change, and meant to be.
REVISIONS = ("AWS::ECS::TaskDefinition", "AWS::CloudFormation::WaitConditionHandle")
KEEPS = ("DeletionPolicy", "UpdateReplacePolicy")
HOW = "; if that is meant, deploy/checks/replacements prints the new table"


@functools.cache
def table():
    """`create-only`: type → properties. `identities`: template → resource → what must not change."""
    return yaml.safe_load(TABLE.read_text())


def static_findings(templates):
    """Resources in use that a template would replace, or no longer has."""
    return Templates.of(templates).each(_static_findings)


def _static_findings(file, body):
    known = table()["identities"].get(file, {})
    resources = body["Resources"]
    for name, identity in known.items():
        kind = identity["Type"]
        resource = resources.get(name)
        if not isinstance(resource, dict):
            yield Finding(file, name, f"is not there: this ends the {kind} {name} of a running deployment, or leaves "
                                      f"it behind, and one of another name starts empty{HOW}")
            continue
        now = _identity(body, resource, table()["create-only"])
        for key in [*identity, *(key for key in now if key not in identity)]:
            if identity.get(key) != now.get(key):
                yield Finding(file, name, f"{key} is {_shown(now.get(key))}, it was {_shown(identity.get(key))}: this "
                                          f"replaces the {kind} {name} in a running deployment{HOW}")
    for name in _in_use(body):
        if name not in known:
            yield Finding(file, name, f"is used by others, and {TABLE.name} does not have it: if it is new, "
                                      "deploy/checks/replacements prints the new table")


def _identity(body, resource, create_only):
    """A resource's type, its properties that are only set at creation, and defaults of parameters in them."""
    kind = resource.get("Type")
    properties = resource.get("Properties")
    properties = properties if isinstance(properties, dict) else {}
    found = {"Type": kind}
    for path in create_only.get(kind, ()):
        value = functools.reduce(lambda node, step: node.get(step) if isinstance(node, dict) else None,
                                 path.split("."), properties)
        if value is not None:
            found[path] = json.dumps(value, sort_keys=True, default=str)
            for name, _ in references(value):
                declared = (body.get("Parameters") or {}).get(name)
                if isinstance(declared, dict) and "Default" in declared:
                    found[f"default of {name}"] = str(declared["Default"])
    return found


def _in_use(body):
    """Resources that others refer to, or that keep something."""
    resources = {name: resource for name, resource in body["Resources"].items() if isinstance(resource, dict)}
    used = {name for name, _ in references(body.get("Outputs") or {})}
    for name, resource in resources.items():
        used |= {other for other, _ in references(resource.get("Properties")) if other != name}
        if any(resource.get(key, "Delete") != "Delete" for key in KEEPS):
            used.add(name)
    return [name for name, resource in resources.items() if name in used and resource.get("Type") not in REVISIONS]


def _shown(text):
    return "not there" if text is None else text if len(text) < 100 else f"{text[:97]}..."


def of_schemas(types):
    """Type → the properties that can only be set at creation, as CloudFormation's schemas say."""
    from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

    found = {}
    for kind in sorted(types):
        schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
        paths = [*schema.get("createOnlyProperties", ()), *schema.get("conditionalCreateOnlyProperties", ())]
        names = sorted(path.removeprefix("/properties/").replace("/", ".") for path in paths)
        # What lies below another is a part of it.
        found[kind] = [name for name in names if not any(name.startswith(f"{other}.") for other in names)]
    return {kind: names for kind, names in found.items() if names}


def made(templates):
    """The table as it is with these templates."""
    in_use = {file: _in_use(body) for file, body in templates.items()}
    types = {templates[file]["Resources"][name]["Type"] for file, names in in_use.items() for name in names}
    create_only = of_schemas(types)
    identities = {file: {name: _identity(templates[file], templates[file]["Resources"][name], create_only)
                         for name in names} for file, names in in_use.items() if names}
    return {"create-only": create_only, "identities": identities}


def main():
    """Prints replacements.yaml as the templates are: for a person to compare and take over."""
    argparse.ArgumentParser(prog="deploy/checks/replacements", description=main.__doc__).parse_args()
    templates, _ = synth.load()
    sys.stdout.write("".join(line for line in TABLE.read_text().splitlines(keepends=True) if line.startswith("#")))
    sys.stdout.write(yaml.safe_dump(made(templates), sort_keys=False, width=110, default_flow_style=None))


if __name__ == "__main__":
    main()
