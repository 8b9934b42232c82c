"""The stacks of a region: found, read, waited for.

A wait prints a line every 15 seconds, survives a network that is away for a while, and ends with a
sentence that says how to go on: after a limit, and on ctrl-C.
"""

import time

from botocore.exceptions import ClientError

from . import states
from .aws import THROTTLED, UNREACHABLE

POLL_SECONDS = 5
PROGRESS_SECONDS = 15
# An ElastiCache replication group takes 20 minutes, a service that never gets healthy longer.
PATIENCE_SECONDS = 3_600


class ChangeError(Exception):
    """A stack that does not come to be as it should."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a wait, with what goes on without us."""


class Stacks:
    """The stacks of a region."""

    def __init__(self, api, out, region, poll_seconds=POLL_SECONDS, patience_seconds=PATIENCE_SECONDS):
        self.api = api
        self.out = out
        self.region = region
        self._poll_seconds = poll_seconds
        self._patience_seconds = patience_seconds

    def find(self, name):
        """The stack in whatever state it is; none if it does not exist or is deleted."""
        try:
            stack = self.api.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def outputs(self, name):
        """Output names and values; none if there is no such stack, or it has failed."""
        stack = self.find(name) or {}
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def parameters(self, name):
        """Parameter names and values of a stack that works or worked; none of any other."""
        stack = self.find(name)
        if states.step_of(stack) in (states.Step.CREATE, states.Step.DISCARD):
            return {}
        return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}

    def resources(self, stack_id):
        """The resources, whatever state the stack is in: a failed stack has no outputs."""
        pages = self.api.get_paginator("list_stack_resources").paginate(StackName=stack_id)
        return [one for page in pages for one in page["StackResourceSummaries"]]

    def events(self, stack_id):
        """All events, newest first."""
        pages = self.api.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        return [event for page in pages for event in page["StackEvents"]]

    def failures(self, stack_id):
        """What failed in the last operation, and why: one line each."""
        failed = states.failures(stack_id, self.events(stack_id))
        return "\n".join(
            f"    {event['LogicalResourceId']} ({event.get('ResourceType', '?')}) {event['ResourceStatus']}: "
            f"{event.get('ResourceStatusReason', 'no reason given')}"
            for event in failed) or "    no event says why"

    def wait(self, stack):
        """Waits until CloudFormation is done with a stack. Returns its state, none if it is gone."""
        name, stack_id = stack["StackName"], stack["StackId"]
        started = reported = time.monotonic()
        status = stack["StackStatus"]
        try:
            while True:
                status = self._status(stack_id, status)
                if status in (None, "DELETE_COMPLETE"):
                    return None
                if not states.in_progress(status):
                    return status
                now = time.monotonic()
                if now - started > self._patience_seconds:
                    raise ChangeError(
                        f"{name} is still {status} after {self._patience_seconds / 60:.0f} minutes; "
                        f"CloudFormation goes on with it. Run the same command again to wait further, or see "
                        f"`aws cloudformation describe-stack-events --region {self.region} --stack-name {name}`")
                if now - reported >= PROGRESS_SECONDS:
                    reported = now
                    self.out(f"  {name}: {status} for {now - started:.0f} s{self._latest(stack_id)}")
                time.sleep(self._poll_seconds)
        except KeyboardInterrupt:
            raise Interrupted(
                f"{name} in {self.region} is {status}, and CloudFormation goes on with it. "
                "The same command again waits for it and goes on from there") from None

    def _status(self, stack_id, before):
        """The state, or that of before while AWS cannot be asked."""
        try:
            stack = self.find(stack_id)
        except UNREACHABLE as error:
            self.out(f"  AWS cannot be reached, trying again: {error}")
            return before
        except ClientError as error:
            if error.response["Error"]["Code"] not in THROTTLED:
                raise
            return before
        return stack and stack["StackStatus"]

    def _latest(self, stack_id):
        """What happened last, for a line of progress."""
        try:
            events = self.api.describe_stack_events(StackName=stack_id)["StackEvents"]
        except (ClientError, *UNREACHABLE):
            return ""
        if not events:
            return ""
        reason = events[0].get("ResourceStatusReason")
        return (f"; {events[0]['LogicalResourceId']} {events[0]['ResourceStatus']}"
                + (f" ({reason})" if reason else ""))

    def protect(self, name, protected):
        """Has CloudFormation refuse to delete the stack, or no longer."""
        self.api.update_termination_protection(StackName=name, EnableTerminationProtection=protected)
