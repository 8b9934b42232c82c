"""Reads regions.json, which says where adtrack runs and with which parameters.

regions.schema.json defines the file's form, and the templates the names and values of parameters. All errors
in a file are reported at once, each with its location.
"""

import json
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import botocore.session
import jsonschema

from . import parameters, schema
from .stacks import Layout, LayoutError

FILE = Path(__file__).resolve().parent.parent / "regions.json"
LAYOUT = ("network", "security_groups", "load_balancer")
MOST_REPLICAS = 4


class RegionsError(Exception):
    """A file of regions is invalid."""


@dataclass(frozen=True)
class Region:
    """A region, with its parameters: its own override those of all regions."""

    name: str
    parameters: dict
    layout: Layout = field(default_factory=Layout)
    # For a StackSet: parameters of each account, which override those of the region.
    accounts: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """All regions, in the order in which they are deployed."""

    deployment: str
    home_region: str
    tracking_domain: str
    hosted_zone_id: str
    hosted_zone_role_arn: str
    # The role that CloudFormation acts with; empty: it acts with the permissions of the user who deploys.
    service_role_arn: str
    global_table: bool
    tags: dict
    regions: tuple

    def refuse_examples(self):
        """Raises if a value of the example is still there."""
        for region in self.regions:
            for name, value in region.parameters.items():
                if "replace-me" in value:
                    raise RegionsError(f"{region.name}: {name} still has the example's value")

    def only(self, names):
        """The regions with these names, in the file's order; all regions if there are no names."""
        known = {region.name for region in self.regions}
        unknown = sorted(set(names) - known)
        if unknown:
            raise RegionsError(f"{', '.join(unknown)}: not in the file of regions")
        return [region for region in self.regions if not names or region.name in names]

    @property
    def home(self):
        """The region of shared resources."""
        return next(region for region in self.regions if region.name == self.home_region)


def load(path=FILE):
    """Reads the file. A `RegionsError` lists everything that is wrong with it."""
    try:
        content = Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RegionsError(f"{path}: {error}") from error
    try:
        data = json.loads(content, object_pairs_hook=_unique)
    except ValueError as error:
        raise RegionsError(f"{path}: not JSON: {error}") from error
    problems = _form_problems(data)
    try:
        rollout = _rollout(data)
        problems += _content_problems(data, rollout)
    except LayoutError as error:
        problems.append(str(error))
    except (AttributeError, KeyError, TypeError):
        # If the form is wrong, errors of the content are still reported as far as it can be read.
        if not problems:
            raise
    if problems:
        raise RegionsError("\n".join([f"{path}:", *(f"  {problem}" for problem in problems)]))
    return rollout


def _unique(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{', '.join(twice)}: appears twice in one object")
    return dict(pairs)


def _form_problems(data):
    validator = jsonschema.Draft202012Validator(schema.form())
    errors = sorted(validator.iter_errors(data), key=lambda error: list(map(str, error.absolute_path)))
    return [problem for error in errors for problem in _readable(error)]


def _readable(error):
    place = _place(error.absolute_path)
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        return [f"{_join(place, name)}: no such member{parameters.suggestion(name, known)}"
                for name in error.instance if name not in known]
    if error.validator == "required":
        return [f"{place or 'the file'}: {name} is missing"
                for name in error.validator_value if name not in error.instance
                and f"'{name}'" in error.message]
    if error.validator == "type":
        wanted = error.validator_value
        wanted = " or ".join(wanted) if isinstance(wanted, list) else wanted
        return [f"{place or 'the file'}: expected {wanted}, found {_json_type(error.instance)}"]
    if error.validator == "pattern":
        return [f'{place}: "{error.instance}": expected the form {error.validator_value}']
    return [f"{place}: {error.message}"]


def _json_type(value):
    names = {bool: "boolean", dict: "object", list: "array", str: "string", int: "number", float: "number"}
    return names.get(type(value), "null")


def _place(path):
    place = ""
    for part in path:
        place = f"{place}[{part}]" if isinstance(part, int) else _join(place, part)
    return place


def _join(place, name):
    return f"{place}.{name}" if place else name


def _texts(values):
    return {name: parameters.text(value) for name, value in values.items()}


def _rollout(data):
    common = _texts(data.get("parameters", {}))
    base = Layout(global_table=data.get("global_table", False), routed=bool(data.get("tracking_domain")),
                  **{name: data[name] for name in LAYOUT if name in data})
    regions = tuple(
        Region(
            region["name"],
            {**common, **_texts(region.get("parameters", {}))},
            replace(base, **{name: region[name] for name in LAYOUT if name in region}),
            {account: _texts(one.get("parameters", {}))
             for account, one in region.get("accounts", {}).items()},
        )
        for region in data["regions"]
    )
    return Rollout(
        deployment=data["deployment"],
        home_region=data["home_region"],
        tracking_domain=data.get("tracking_domain", ""),
        hosted_zone_id=data.get("hosted_zone_id", ""),
        hosted_zone_role_arn=data.get("hosted_zone_role_arn", ""),
        service_role_arn=data.get("service_role_arn", ""),
        global_table=data.get("global_table", False),
        tags=_texts(data.get("tags", {})),
        regions=regions,
    )


def _content_problems(data, rollout):
    names = [region.name for region in rollout.regions]
    found = []
    for number, name in enumerate(names):
        if name in names[:number]:
            found.append(f"regions[{number}].name: {name} appears twice")
        elif name not in _known_regions():
            found.append(f"regions[{number}].name: {name} is not a region that boto3 knows"
                         f"{parameters.suggestion(name, _known_regions())}")
    if rollout.home_region not in names:
        found.append(f"home_region: {rollout.home_region} is not among the regions")
    if bool(rollout.tracking_domain) != bool(rollout.hosted_zone_id):
        found.append("tracking_domain and hosted_zone_id: both, or neither")
    if rollout.hosted_zone_role_arn and not rollout.hosted_zone_id:
        found.append("hosted_zone_role_arn: needs hosted_zone_id")
    if rollout.global_table and not 2 <= len(names) <= MOST_REPLICAS:
        found.append(f"global_table: it has replicas in two to four regions, not in {len(names)}")
    return found + _parameter_problems(data, rollout)


def _parameter_problems(data, rollout):
    layouts = {region.layout for region in rollout.regions}
    # A parameter for all regions is a problem only if it is one in every layout.
    found = [parameters.problems(_texts(data.get("parameters", {})), layout, "parameters")
             for layout in layouts]
    problems = [problem for problem in (found[0] if found else [])
                if all(problem in others for others in found[1:])]
    for number, region in enumerate(data["regions"]):
        layout = rollout.regions[number].layout
        problems += parameters.problems(
            _texts(region.get("parameters", {})), layout, f"regions[{number}].parameters")
        for account, one in region.get("accounts", {}).items():
            problems += parameters.problems(
                _texts(one.get("parameters", {})), layout, f"regions[{number}].accounts.{account}.parameters")
    return problems


@cache
def _known_regions():
    session = botocore.session.get_session()
    return {region for partition in session.get_available_partitions()
            for region in session.get_available_regions("cloudformation", partition)}
