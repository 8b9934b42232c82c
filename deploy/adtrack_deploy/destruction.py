"""Taking a region down: what it served first, its data last and only when told."""

from dataclasses import replace

from . import stacks
from .cloudformation import ChangeError, Stacks
from .holdings import Holdings
from .records import Records
from .recovery import Recovery


def take_down(aws, rollout, region, arguments, out, once=False, only=None):
    """Deletes the stacks of a region, and what outlives them if --delete-data says so; with `once` those
    that there is one of for all regions, with `only` the one of this name.

    A stack that cannot be deleted does not keep the rest: all are tried, and those that remain are
    reported together.
    """
    api = Stacks(aws.client("cloudformation", region.name), out, region.name, arguments.poll_seconds,
                 arguments.wait_minutes * 60)
    recovery = Recovery(api, Holdings(aws, region.name))
    everything = stacks.of(replace(region.layout, global_table=True, routed=True))
    problems = []
    for stack in reversed(everything):
        name = f"{rollout.deployment}-{stack.name}"
        if stack.once != once or only not in (None, stack.name) or api.find(name) is None:
            continue
        if stack.after_smoke_test and rollout.hosted_zone_role_arn and Records(aws, rollout, region).remove():
            out(f"  {rollout.tracking_domain}: the records of {region.name} are removed")
        if stack.holds_data and not arguments.delete_data and not recovery.never_worked(name):
            out(f"  {name}: stays, it holds data")
            continue
        try:
            _remove(recovery, name, arguments, out)
        except ChangeError as error:
            out(f"  {name}: could not be deleted")
            problems.append(str(error))
    if problems:
        raise ChangeError("\n".join(problems))


def _remove(recovery, name, arguments, out):
    holdings = recovery.holdings
    for one in recovery.remove(name, arguments.delete_data, arguments.retain):
        known = holdings.of([one])
        what = holdings.describe(one) if known else f"{one['ResourceType']} {one['PhysicalResourceId']}"
        command = f"; to delete it: {holdings.command(one)}" if known and holdings.command(one) else ""
        out(f"    stays: {what}{command}")
