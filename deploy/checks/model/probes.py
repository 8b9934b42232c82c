"""Requests around a policy: what it names, its neighbours, and contexts with one key changed.

A finite set of requests stands for all of them. It holds an instance of every pattern that is named, and
what a pattern with one more wildcard, one step less or another account would reach in addition.
"""

import functools
import re

from . import actions
from .policy import listed

STRANGER_ACCOUNT = "999999999999"
SECURE = "aws:securetransport"
# Actions of a wildcard that are asked for: this many of those that begin alike.
ALIKE = 2


def expanded(statement):
    """The actions of a statement, in lower case."""
    found = set()
    for pattern in listed(statement.get("Action")):
        found |= actions.expand(pattern)
    if "NotAction" in statement:
        found |= actions.expand("*")
    return found


def sample(names):
    """Some of many actions: of those that begin alike (GetObject, GetBucketAcl) a few."""
    names = sorted(names)
    if len(names) < 12:
        return set(names)
    groups = {}
    for name in names:
        service, _, action = name.partition(":")
        groups.setdefault((service, action[:3]), []).append(name)
    return {name for group in groups.values() for name in group[:ALIKE]}


@functools.cache
def examples(pattern):
    """Resources that a pattern stands for."""
    if pattern == "*" or "*" not in pattern:
        return (pattern,)
    return (pattern.replace("*", "0123abc"), pattern.replace("*", "a/b c.json"))


@functools.cache
def neighbours(pattern):
    """A resource of the pattern, and others that a wider or another pattern would reach."""
    pieces = pattern.split(":", 5)
    if len(pieces) < 6:
        return ()
    partition, service, region, account, rest = pieces[1:]
    region, account = region.replace("*", "eu-west-1"), account.replace("*", "111122223333")

    def arn(what, where=region, whose=account):
        return f"arn:{partition}:{service}:{where}:{whose}:{what}"
    if service == "logs":
        name = rest.split(":")[1] if ":" in rest else rest
        name = name.replace("*", "x")
        whats = [f"log-group:{one}:log-stream:0123abc" for one in (name, f"{name}x", name[:-1], "other")]
    else:
        plain = rest.replace("*", "0123abc").replace("?", "x")
        whats = [plain, f"{plain}x", plain[:-1], *_changed_steps(plain)]
    found = {arn(what) for what in whats if what}
    if account:
        found.add(arn(whats[0], whose=STRANGER_ACCOUNT))
    if region:
        found.add(arn(whats[0], where="us-gov-west-1"))
    return tuple(sorted(found))


def _changed_steps(path):
    """The path with each step replaced or left out: stream/name → stream/other, stream."""
    steps = re.split(r"([/:])", path)
    for place in range(0, len(steps), 2):
        yield "".join([*steps[:place], "other", *steps[place + 1:]])
        if place:
            yield "".join(steps[:place - 1])
            yield "".join([*steps[:place], "other"])


def contexts(starts, spoken, values):
    """Each start, and each start with one key left out or given another value.

    The values are those given (key → values), and those that the statements `spoken` compare with.
    """
    found = {key: set(some) for key, some in values.items()}
    for statement in spoken:
        for keys in (statement.get("Condition") or {}).values():
            for key, wanted in keys.items() if isinstance(keys, dict) else ():
                found.setdefault(key.lower(), {"another"}).update(
                    str(value).replace("*", "x") for value in listed(wanted))
    unique = {}
    for start in starts:
        changed = [start, *({k: v for k, v in start.items() if k != key} for key in start if key != SECURE),
                   *(start | {key: value} for key, some in found.items() for value in sorted(some))]
        for context in changed:
            unique.setdefault(tuple(sorted(context.items())), context)
    return list(unique.values())
