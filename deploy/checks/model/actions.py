"""AWS's list of actions: the service authorization reference, which cfn-lint brings along."""

import functools
import importlib.util
import json
from pathlib import Path

from .policy import PolicyError, matches

FILE = "data/AdditionalSpecs/Policies.json"


@functools.cache
def reference():
    """Service prefix → its actions, in lower case."""
    # Without importing cfnlint, which takes seconds.
    package = Path(importlib.util.find_spec("cfnlint").origin).parent
    services = json.loads((package / FILE).read_text())
    return {prefix: frozenset(service["Actions"]) for prefix, service in services.items()}


@functools.cache
def expand(pattern):
    """The actions that a pattern such as `s3:Get*` stands for; raises if it stands for none."""
    if pattern == "*":
        return frozenset(f"{service}:{action}" for service in ("iam", "ec2", "s3", "kms", "sts", "dynamodb")
                         for action in reference()[service])
    prefix, _, name = pattern.lower().partition(":")
    found = frozenset(f"{prefix}:{action}" for action in reference().get(prefix, ()) if matches(name, action))
    if not found:
        raise PolicyError(f"{pattern} is not an action of AWS")
    return found
