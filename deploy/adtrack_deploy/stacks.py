"""Which stacks a region has, from which templates, in which order."""

from dataclasses import dataclass

from . import template


class LayoutError(Exception):
    """Parts of a layout that exclude each other."""


@dataclass(frozen=True)
class Layout:
    """What a region brings itself (`own`), what is there already (`existing`), and what is optional."""

    network: str = "own"
    security_groups: str = "own"
    load_balancer: str = "own"
    global_table: bool = False
    routed: bool = False

    def __post_init__(self):
        if self.network == "own" and "existing" in (self.security_groups, self.load_balancer):
            raise LayoutError("security_groups or load_balancer is existing and network is own: what exists "
                              "is in a VPC that exists, so network has to be existing too")


@dataclass(frozen=True)
class Stack:
    """A stack of a region: its templates are merged. `{deployment}-{name}` is its name."""

    name: str
    templates: tuple
    description: str
    # It holds what cannot be made again: it is deleted only when that is asked for.
    holds_data: bool = False
    # Made once, in the home region, before all regions; only where it is asked for.
    once: bool = False
    # Made after the smoke test: from then on the region takes traffic.
    after_smoke_test: bool = False


# Data stores first, then the functions, then the trackers: what reads a new form of an event has to
# be there before what writes it.
STACKS = (
    Stack("global-table", ("global-table",), "adtrack, the table of all regions", True, once=True),
    Stack("artifacts", ("artifacts",), "adtrack, packages and images", True),
    Stack("network", ("network", "network-endpoints"), "adtrack, the network"),
    Stack("data", ("data",), "adtrack, streams, table, records", True),
    Stack("redis", ("data-redis",), "adtrack, core data in memory"),
    Stack("lambdas", ("lambdas",), "adtrack, the functions"),
    Stack("compute", ("load-balancer", "compute", "compute-scaling"), "adtrack, load balancer and trackers"),
    Stack(
        "observability",
        (
            "observability-events",
            "observability-core-data",
            "observability-objectives",
            "observability-dashboard",
        ),
        "adtrack, alarms and dashboard",
    ),
    Stack("routing", ("global-routing",), "adtrack, the region's record", after_smoke_test=True),
)
BY_NAME = {stack.name: stack for stack in STACKS}


def of(layout):
    """The stacks of a region with this layout, in the order in which they are deployed."""
    return [stack for stack in STACKS
            if (layout.global_table or not stack.once) and (layout.routed or not stack.after_smoke_test)]


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
