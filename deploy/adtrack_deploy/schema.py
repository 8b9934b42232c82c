"""The schema of regions.json.

Editors read regions.schema.json, which has every parameter of the templates with its description. Its frame is
written by hand; `deploy/deploy schema` adds the parameters.
"""

import json
from functools import cache
from itertools import product
from pathlib import Path

from . import parameters
from .stacks import Layout, LayoutError

FILE = Path(__file__).resolve().parent.parent / "regions.schema.json"
VALUE = {"type": ["string", "number", "boolean", "array"], "items": {"type": ["string", "number"]}}


def form():
    """The schema without the names of parameters, which the loader checks against the templates."""
    frame = json.loads(FILE.read_text())
    frame["$defs"]["parameters"] = {"type": "object", "additionalProperties": VALUE}
    return frame


def document():
    """The schema with every parameter that an operator can set."""
    frame = json.loads(FILE.read_text())
    frame["$defs"]["parameters"] = {
        "description": "Parameters of the templates.",
        "type": "object",
        "additionalProperties": False,
        "properties": {name: _property(one) for name, one in sorted(_of_all_layouts().items())
                       if name not in parameters.SUPPLIED},
    }
    return json.dumps(frame, indent=2, ensure_ascii=False) + "\n"


def _property(parameter):
    described = {"description": parameter.get("Description", "")} | VALUE
    if "Default" in parameter:
        described["default"] = parameter["Default"]
    if "AllowedValues" in parameter:
        texts = [parameters.text(value) for value in parameter["AllowedValues"]]
        natives = [value == "true" for value in texts if value in ("true", "false")]
        natives += [int(value) for value in texts if value.isdecimal()]
        del described["type"], described["items"]
        described["enum"] = texts + natives
    return described


@cache
def _of_all_layouts():
    """The parameters that can be set in at least one layout: a template declares them, and no stack outputs
    them.
    """
    found = {}
    for network, groups, balancer in product(("own", "existing"), repeat=3):
        try:
            layout = Layout(network=network, security_groups=groups, load_balancer=balancer, routed=True)
        except LayoutError:
            continue
        made = parameters.outputs(layout)
        for name, parameter in parameters.declarations(layout).items():
            if name not in made:
                found.setdefault(name, parameter)
    return found
