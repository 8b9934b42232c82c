"""CloudFormation's stack states, and what deploy does about each.

A stack can be changed only in a state that ends in _COMPLETE, other than ROLLBACK_COMPLETE, or in
CREATE_FAILED and UPDATE_FAILED. ROLLBACK_* and CREATE_FAILED follow a failed first creation alone:
such a stack never worked, and CloudFormation only deletes it. A failed update ends in
UPDATE_ROLLBACK_*, and the stack goes on from what it was before.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html#cfn-console-view-stack-data-resources-status-codes
"""

from enum import Enum


class Step(Enum):
    """What comes next for a stack that is to be created or updated."""

    CREATE = "create it"
    UPDATE = "update it"
    WAIT = "wait until CloudFormation is done"
    DISCARD = "delete what the failed first creation left, then create it"
    ROLL_BACK = "roll the failed update back, then update it"
    CONTINUE_ROLLBACK = "continue the rollback, then update it"
    FINISH_DELETION = "finish its deletion, then create it"
    STUCK = "nothing; a person has to look at it"


STEPS = {
    # A change set was proposed and never executed: there are no resources.
    "REVIEW_IN_PROGRESS": Step.CREATE,
    "CREATE_IN_PROGRESS": Step.WAIT,
    "CREATE_FAILED": Step.DISCARD,
    "CREATE_COMPLETE": Step.UPDATE,
    "ROLLBACK_IN_PROGRESS": Step.WAIT,
    "ROLLBACK_FAILED": Step.DISCARD,
    "ROLLBACK_COMPLETE": Step.DISCARD,
    "DELETE_IN_PROGRESS": Step.WAIT,
    "DELETE_FAILED": Step.FINISH_DELETION,
    "DELETE_COMPLETE": Step.CREATE,
    "UPDATE_IN_PROGRESS": Step.WAIT,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Step.WAIT,
    "UPDATE_COMPLETE": Step.UPDATE,
    "UPDATE_FAILED": Step.ROLL_BACK,
    "UPDATE_ROLLBACK_IN_PROGRESS": Step.WAIT,
    "UPDATE_ROLLBACK_FAILED": Step.CONTINUE_ROLLBACK,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Step.WAIT,
    "UPDATE_ROLLBACK_COMPLETE": Step.UPDATE,
    "IMPORT_IN_PROGRESS": Step.WAIT,
    "IMPORT_COMPLETE": Step.UPDATE,
    "IMPORT_ROLLBACK_IN_PROGRESS": Step.WAIT,
    "IMPORT_ROLLBACK_FAILED": Step.STUCK,
    "IMPORT_ROLLBACK_COMPLETE": Step.UPDATE,
}
# Stable states of a stack that works, or worked once.
STABLE = {status for status, step in STEPS.items() if step is Step.UPDATE}
# Events of a stack that begin an operation; a failure is looked for from there on.
BEGINNINGS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}


def step_of(stack):
    """The next step of a stack as CloudFormation describes it, or of none."""
    if stack is None:
        return Step.CREATE
    return STEPS.get(stack["StackStatus"], Step.STUCK)


def in_progress(status):
    """Whether CloudFormation is at work."""
    return STEPS.get(status) is Step.WAIT


def was_ever_complete(stack_id, events):
    """Whether a stack ever worked, by its events.

    CloudFormation keeps events for 90 days. A stack whose creation is no longer among them counts as
    one that worked: nothing is deleted on a guess.
    """
    own = [event for event in events if event["PhysicalResourceId"] == stack_id]
    if any(event["ResourceStatus"] in STABLE for event in own):
        return True
    return not any(event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS") for event in own)


def failures(stack_id, events):
    """The failed events of the last operation, oldest first; `events` are newest first.

    What was only cancelled because something else failed is left out, unless nothing else is there.
    """
    latest = []
    for event in events:
        latest.append(event)
        if event["PhysicalResourceId"] == stack_id and event["ResourceStatus"] in BEGINNINGS:
            break
    failed = [event for event in reversed(latest)
              if event["ResourceStatus"].endswith("_FAILED") and event["PhysicalResourceId"] != stack_id]
    causes = [event for event in failed if "cancelled" not in event.get("ResourceStatusReason", "")]
    return causes or failed
