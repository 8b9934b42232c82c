"""The stacks of a region: their templates and their order."""

from dataclasses import dataclass

from . import template

OWN, EXISTING = "own", "existing"


class LayoutError(Exception):
    """The parts of a layout conflict."""


@dataclass(frozen=True)
class Layout:
    """Which parts of a region adtrack creates, and which the account already has."""

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
                    f"{name} is {EXISTING!r} and network is {OWN!r}: an existing one is in an existing VPC, "
                    f"so set network to {EXISTING!r}, too")


@dataclass(frozen=True)
class Stack:
    """A stack of a region, called `{deployment}-{name}`. Its templates are merged."""

    name: str
    templates: tuple
    description: str
    # Deleted only with --delete-data.
    holds_data: bool = False
    # There is one for all regions. It is in the home region, and deployed before all others.
    shared: bool = False
    # Deployed after the smoke test. From then on the region gets traffic.
    after_smoke_test: bool = False


def of(layout):
    """The stacks of a layout, in the order in which they are deployed.

    Data stores come first, then the functions, then the trackers: the readers of a new event format must be
    deployed before its writers.
    """
    table = Stack(
        "global-table", ("global-table",), "adtrack, the table of all regions", holds_data=True, shared=True)
    routing = Stack(
        "routing", ("global-routing",), "adtrack, the region's record", after_smoke_test=True)
    return (
        *([table] if layout.global_table else []),
        Stack("artifacts", ("artifacts",), "adtrack, packages and images", holds_data=True),
        Stack("network", _network(layout), "adtrack, the network"),
        Stack("data", ("data",), "adtrack, streams, table, records", holds_data=True),
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


# Every stack that a deployment may have, in the default layout.
STACKS = of(Layout(global_table=True, routed=True))
BY_NAME = {stack.name: stack for stack in STACKS}


def body(stack, folder=template.FOLDER):
    """The stack's template."""
    parts = [template.load(name, folder) for name in stack.templates]
    return parts[0] if len(parts) == 1 else template.merge(parts, stack.description)


def region_body(layout=Layout(), folder=template.FOLDER):
    """A region as one template, for StackSets: without the artifacts, shared stacks and DNS."""
    parts = [
        template.load(name, folder)
        for stack in of(layout)
        if stack.name != "artifacts" and not stack.shared and not stack.after_smoke_test
        for name in stack.templates
    ]
    return template.merge(parts, "adtrack, a region in one stack")
