"""The states of CloudFormation stacks, and what deploy does in each.

A stack can be updated in a state that ends in _COMPLETE (except ROLLBACK_COMPLETE). ROLLBACK_* and CREATE_FAILED
occur only after a failed first creation: such a stack never worked, and can only be deleted. A failed update ends
in UPDATE_ROLLBACK_*, with the stack as it was before.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html#cfn-console-view-stack-data-resources-status-codes
"""

from enum import Enum


class Step(Enum):
    """The next step towards creating or updating a stack, as the end of "deploy would …"."""

    CREATE = "create it"
    UPDATE = "update it"
    WAIT = "wait until CloudFormation is done"
    DISCARD = "delete what the failed first creation left, then create it"
    ROLL_BACK = "roll the failed update back, then update it"
    CONTINUE_ROLLBACK = "continue the rollback, then update it"
    FINISH_DELETION = "finish its deletion, then create it"
    STUCK = "stop: the stack needs manual recovery"


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
# The stable states of a stack that was created successfully.
STABLE = {status for status, step in STEPS.items() if step is Step.UPDATE}
# The events with which an operation on a stack starts.
BEGINNINGS = {"CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "DELETE_IN_PROGRESS", "IMPORT_IN_PROGRESS"}


def step_of(stack):
    """The next step for a stack, as CloudFormation describes it; None is a stack that does not exist."""
    if stack is None:
        return Step.CREATE
    return STEPS.get(stack["StackStatus"], Step.STUCK)


def in_progress(status):
    """Whether an operation is in progress."""
    return STEPS.get(status) is Step.WAIT


def was_ever_complete(stack_id, events):
    """Whether the events show that a stack was ever created successfully.

    CloudFormation keeps events for 90 days. If the creation is no longer among them, the result is true, so that
    nothing is deleted on a guess.
    """
    own = [event for event in events if event["PhysicalResourceId"] == stack_id]
    if any(event["ResourceStatus"] in STABLE for event in own):
        return True
    return not any(event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS") for event in own)


def failures(stack_id, events):
    """The failed events of the last operation, oldest first. `events` are newest first.

    Leaves out what was cancelled because something else failed, unless there is nothing else.
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
