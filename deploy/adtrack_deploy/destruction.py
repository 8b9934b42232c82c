"""Deletes a region: what serves traffic first, data last and only with --delete-data."""

from dataclasses import replace

from . import stacks
from .cloudformation import ChangeError, Stacks
from .records import Records
from .recovery import Recovery
from .retained import RetainedResources


def delete_region(aws, rollout, region, arguments, out):
    """Deletes the region's own stacks, and with --delete-data the resources that outlive them."""
    _delete(aws, rollout, region, arguments, out, lambda stack: not stack.shared)


def delete_shared(aws, rollout, arguments, out):
    """Deletes the stacks in the home region that all regions share."""
    _delete(aws, rollout, rollout.home, arguments, out, lambda stack: stack.shared)


def drain(aws, rollout, region, arguments, out):
    """Removes the region from DNS."""
    _delete(aws, rollout, region, arguments, out, lambda stack: stack.after_smoke_test)


def _delete(aws, rollout, region, arguments, out, is_chosen):
    """Deletes the chosen stacks, last first. A stack that cannot be deleted does not stop the others: the
    failures are reported together at the end.
    """
    api = Stacks(aws.client("cloudformation", region.name), out, region.name, arguments.poll_seconds,
                 arguments.wait_minutes * 60)
    recovery = Recovery(api, RetainedResources(aws, region.name))
    everything = stacks.of(replace(region.layout, global_table=True, routed=True))
    problems = []
    for stack in reversed(everything):
        name = f"{rollout.deployment}-{stack.name}"
        if not is_chosen(stack) or api.find(name) is None:
            continue
        if stack.after_smoke_test and rollout.hosted_zone_role_arn and Records(aws, rollout, region).remove():
            out(f"  {rollout.tracking_domain}: removed the records of {region.name}")
        if stack.holds_data and not arguments.delete_data and not recovery.never_worked(name):
            out(f"  {name}: kept, it holds data")
            continue
        try:
            _remove(recovery, name, arguments, out)
        except ChangeError as error:
            out(f"  {name}: could not be deleted")
            problems.append(str(error))
    if problems:
        raise ChangeError("\n".join(problems))


def _remove(recovery, name, arguments, out):
    retained = recovery.retained
    for one in recovery.remove(name, arguments.delete_data, arguments.retain):
        known = retained.of([one])
        what = retained.describe(one) if known else f"{one['ResourceType']} {one['PhysicalResourceId']}"
        command = f"; to delete it: {retained.command(one)}" if known and retained.command(one) else ""
        out(f"    kept: {what}{command}")
