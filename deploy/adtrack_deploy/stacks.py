"""Which stacks a region has, from which templates, in which order."""

from dataclasses import dataclass

from . import template

OWN, EXISTING = "own", "existing"


class LayoutError(Exception):
    """Parts of a layout that exclude each other."""


@dataclass(frozen=True)
class Layout:
    """Which parts of a region adtrack makes, and which the account already has."""

    network: str = OWN
    security_groups: str = OWN
    load_balancer: str = OWN
    # One table for all regions, replicated by DynamoDB.
    global_table: bool = False
    # The region has a record of the tracking domain.
    routed: bool = False

    def __post_init__(self):
        for name in ("network", "security_groups", "load_balancer"):
            value = getattr(self, name)
            if value not in (OWN, EXISTING):
                raise LayoutError(f"{name} is {value!r}: expected {OWN!r} or {EXISTING!r}")
        for name in ("security_groups", "load_balancer"):
            if getattr(self, name) == EXISTING and self.network == OWN:
                raise LayoutError(
                    f"{name} is {EXISTING!r} and network is {OWN!r}: what exists is in a VPC that "
                    f"exists, so network has to be {EXISTING!r} too")


@dataclass(frozen=True)
class Stack:
    """A stack of a region: its templates are merged. `{deployment}-{name}` is its name."""

    name: str
    templates: tuple
    description: str
    # It holds what cannot be made again: it is deleted only when that is asked for.
    holds_data: bool = False
    # Made once, in the home region, before all regions.
    once: bool = False
    # Made after the smoke test: from then on the region takes traffic.
    after_smoke_test: bool = False


def of(layout):
    """The stacks of a layout, in the order in which they are made.

    Data stores come first, then the functions, then the trackers: what reads a new form of an event
    has to be there before what writes it.
    """
    table = Stack(
        "global-table", ("global-table",), "adtrack, the table of all regions", True, once=True)
    routing = Stack(
        "routing", ("global-routing",), "adtrack, the region's record", after_smoke_test=True)
    return (
        *([table] if layout.global_table else []),
        Stack("artifacts", ("artifacts",), "adtrack, packages and images", True),
        Stack("network", _network(layout), "adtrack, the network"),
        Stack("data", ("data",), "adtrack, streams, table, records", True),
        Stack("redis", ("data-redis",), "adtrack, core data in memory"),
        Stack("lambdas", ("lambdas",), "adtrack, the functions"),
        Stack("compute", ("target-group", _entry(layout), "compute", "compute-scaling", "operator"),
              "adtrack, load balancer and trackers"),
        Stack(
            "observability",
            (
                "observability-events",
                "observability-core-data",
                "observability-objectives",
                "observability-dashboard",
                "ssm-outputs",
            ),
            "adtrack, alarms, dashboard and names for other tools",
        ),
        *([routing] if layout.routed else []),
    )


def _network(layout):
    groups = ()
    if layout.security_groups == OWN:
        from_balancer = ("load-balancer-group" if layout.load_balancer == OWN
                         else "load-balancer-ingress")
        groups = ("network-groups", from_balancer)
    own = ("network",) if layout.network == OWN else ()
    return (*own, *groups, "network-endpoints")


def _entry(layout):
    return "load-balancer" if layout.load_balancer == OWN else "listener-rule"


# Every stack that a deployment may have, with what it makes by default.
STACKS = of(Layout(global_table=True, routed=True))
BY_NAME = {stack.name: stack for stack in STACKS}


def body(stack, folder=template.FOLDER):
    """The stack's template."""
    parts = [template.load(name, folder) for name in stack.templates]
    return parts[0] if len(parts) == 1 else template.merge(parts, stack.description)


def region_body(layout=Layout(), folder=template.FOLDER):
    """All of a region as one template, for StackSets: all but what must be there before, and DNS."""
    parts = [
        template.load(name, folder)
        for stack in of(layout)
        if stack.name != "artifacts" and not stack.once and not stack.after_smoke_test
        for name in stack.templates
    ]
    return template.merge(parts, "adtrack, a region in one stack")
