"""Finds and reads the stacks of a region, and waits for them.

A wait prints a line every 15 seconds and survives network failures. It ends after a limit or on Ctrl-C,
with a message that says how to resume.
"""

import time

from botocore.exceptions import ClientError

from . import states
from .aws import THROTTLED, UNREACHABLE

POLL_SECONDS = 5
PROGRESS_SECONDS = 15
# An ElastiCache replication group takes 20 minutes, a service that never becomes healthy longer.
WAIT_LIMIT_SECONDS = 3_600


class ChangeError(Exception):
    """An operation on a stack failed."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a wait. The message says what CloudFormation continues with."""


class Stacks:
    """Reads the stacks of a region, and waits for them."""

    def __init__(self, api, out, region, poll_seconds=POLL_SECONDS, wait_limit_seconds=WAIT_LIMIT_SECONDS):
        self.api = api
        self.out = out
        self.region = region
        self._poll_seconds = poll_seconds
        self._wait_limit_seconds = wait_limit_seconds

    def find(self, name):
        """The stack, in any state; None if it does not exist or is deleted."""
        try:
            stack = self.api.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack

    def outputs(self, name):
        """Output names and values; empty if there is no such stack, or its creation failed."""
        stack = self.find(name) or {}
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def parameters(self, name):
        """Parameter names and values; empty unless the stack was created successfully once."""
        stack = self.find(name)
        if states.step_of(stack) in (states.Step.CREATE, states.Step.DISCARD):
            return {}
        return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}

    def resources(self, stack_id):
        """The resources, in any state of the stack. (A failed stack has no outputs.)"""
        pages = self.api.get_paginator("list_stack_resources").paginate(StackName=stack_id)
        return [one for page in pages for one in page["StackResourceSummaries"]]

    def events(self, stack_id):
        """All events, newest first."""
        pages = self.api.get_paginator("describe_stack_events").paginate(StackName=stack_id)
        return [event for page in pages for event in page["StackEvents"]]

    def failures(self, stack_id):
        """What failed in the last operation, and why: one line per resource."""
        failed = states.failures(stack_id, self.events(stack_id))
        return "\n".join(
            f"    {event['LogicalResourceId']} ({event.get('ResourceType', '?')}) {event['ResourceStatus']}: "
            f"{event.get('ResourceStatusReason', 'no reason given')}"
            for event in failed) or "    no event says why"

    def wait(self, stack):
        """Waits until CloudFormation is done with a stack. Returns its status, None if it is deleted."""
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
                if now - started > self._wait_limit_seconds:
                    raise ChangeError(
                        f"{name} is still {status} after {self._wait_limit_seconds / 60:.0f} minutes; "
                        f"CloudFormation continues. Run the same command again to keep waiting, or see "
                        f"`aws cloudformation describe-stack-events --region {self.region} --stack-name {name}`")
                if now - reported >= PROGRESS_SECONDS:
                    reported = now
                    self.out(f"  {name}: {status} for {now - started:.0f} s{self._latest(stack_id)}")
                time.sleep(self._poll_seconds)
        except KeyboardInterrupt:
            raise Interrupted(
                f"{name} in {self.region} is {status}, and CloudFormation continues. "
                "Run the same command again to wait for it and resume") from None

    def _status(self, stack_id, before):
        """The current status; the previous one if AWS is unreachable or throttles."""
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
        """The latest event, for the progress line."""
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
        """Turns the stack's termination protection on or off."""
        self.api.update_termination_protection(StackName=name, EnableTerminationProtection=protected)
