"""A stack by a change set: shown, then made, then waited for."""

import time

from botocore.exceptions import ClientError

from . import template

POLL_SECONDS = 5
# An ElastiCache replication group takes 20 minutes.
PATIENCE_SECONDS = 3_600
# What cannot be made again as it was.
IRREPLACEABLE = {
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::S3::Bucket",
}
# How CloudFormation says that there is nothing to do.
NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


class ChangeError(Exception):
    """A stack that does not come to be as it should."""


class Stacks:
    """The stacks of a region."""

    def __init__(self, cloudformation, s3, out, poll_seconds=POLL_SECONDS):
        self._api = cloudformation
        self._s3 = s3
        self._out = out
        self._poll_seconds = poll_seconds

    def describe(self, name):
        """The stack, or none where there is none (yet)."""
        try:
            stack = self._api.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
        gone = ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE")
        return None if stack["StackStatus"] in gone else stack

    def outputs(self, name):
        """Output names and values; none where there is no such stack."""
        stack = self.describe(name) or {}
        return {item["OutputKey"]: item["OutputValue"] for item in stack.get("Outputs", [])}

    def parameters(self, name):
        """Parameter names and values; none where there is no such stack."""
        stack = self.describe(name) or {}
        return {item["ParameterKey"]: item["ParameterValue"] for item in stack.get("Parameters", [])}

    def preview(self, name, body, parameters, tags, bucket):
        """Shows what would change."""
        if self.describe(name) is None:
            self._out(f"  {name}: new, {len(body['Resources'])} resources")
            return
        change_set = self._propose(name, body, parameters, tags, bucket, "UPDATE")
        if change_set:
            self._show(name, change_set["Changes"])
            self._api.delete_change_set(StackName=name, ChangeSetName=change_set["ChangeSetId"])

    def apply(self, name, body, parameters, tags, bucket=None, allow_replacement=False):
        """Makes the stack so, and waits until it is. Returns its outputs."""
        stack = self.describe(name)
        if stack and stack["StackStatus"] == "ROLLBACK_COMPLETE":
            raise ChangeError(
                f"{name}: its first creation failed. See its events, then delete it and try again")
        if stack and stack["StackStatus"].endswith("_IN_PROGRESS"):
            raise ChangeError(f"{name} is {stack['StackStatus']}: somebody else is at work")
        kind = "UPDATE" if stack else "CREATE"
        change_set = self._propose(name, body, parameters, tags, bucket, kind)
        if change_set is None:
            return self.outputs(name)
        self._show(name, change_set["Changes"])
        lost = [] if allow_replacement else _replaced(change_set["Changes"])
        if lost:
            self._api.delete_change_set(StackName=name, ChangeSetName=change_set["ChangeSetId"])
            raise ChangeError(
                f"{name}: {', '.join(lost)} would be made anew, empty. --allow-replacement does that")
        started = time.time()
        self._api.execute_change_set(StackName=name, ChangeSetName=change_set["ChangeSetId"])
        status = self._wait(name)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise ChangeError(f"{name} is {status}:\n{self._failures(name, started)}")
        self._out(f"  {name}: {status}")
        return self.outputs(name)

    def protect(self, name, protected):
        """Has CloudFormation refuse to delete the stack, or not any more."""
        self._api.update_termination_protection(StackName=name, EnableTerminationProtection=protected)

    def delete(self, name):
        """Deletes the stack and waits until it is gone."""
        if self.describe(name) is None:
            return
        started = time.time()
        stack_id = self.describe(name)["StackId"]
        self._api.delete_stack(StackName=name)
        status = self._wait(stack_id)
        if status not in (None, "DELETE_COMPLETE"):
            raise ChangeError(f"{name} is {status}:\n{self._failures(name, started)}")
        self._out(f"  {name}: deleted")

    def _propose(self, name, body, parameters, tags, bucket, kind):
        text = template.to_text(body)
        request = {
            "StackName": name,
            "ChangeSetName": f"deploy-{int(time.time() * 1000)}",
            "ChangeSetType": kind,
            "Capabilities": ["CAPABILITY_IAM"],
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value}
                for key, value in sorted(parameters.items())
            ],
            "Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())],
        }
        if bucket:
            request["TemplateURL"] = self.upload(bucket, name, text)
        else:
            request["TemplateBody"] = text
        try:
            self._api.create_change_set(**request)
        except ClientError as error:
            if NO_CHANGE[1] in str(error):
                self._out(f"  {name}: no change")
                return None
            raise
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            found = self._api.describe_change_set(
                StackName=name, ChangeSetName=request["ChangeSetName"])
            if found["Status"] in ("CREATE_COMPLETE", "FAILED"):
                break
            time.sleep(self._poll_seconds)
        if found["Status"] == "CREATE_COMPLETE":
            found["Changes"] = self._all_changes(name, request["ChangeSetName"], found)
            return found
        self._api.delete_change_set(StackName=name, ChangeSetName=request["ChangeSetName"])
        reason = found.get("StatusReason", "no answer in time")
        if any(text in reason for text in NO_CHANGE):
            self._out(f"  {name}: no change")
            return None
        raise ChangeError(f"{name}: {reason}")

    def _all_changes(self, name, change_set, page):
        changes = list(page.get("Changes", []))
        while page.get("NextToken"):
            page = self._api.describe_change_set(
                StackName=name, ChangeSetName=change_set, NextToken=page["NextToken"])
            changes += page.get("Changes", [])
        return changes

    def upload(self, bucket, name, text):
        """Puts a template into the bucket. Returns its URL."""
        key = f"templates/{name}-{int(time.time())}.json"
        self._s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
        region = self._s3.meta.region_name
        return f"https://{bucket}.s3.{region}.amazonaws.com/{key}"

    def _show(self, name, changes):
        self._out(f"  {name}: {len(changes)} changes")
        for change in changes:
            resource = change["ResourceChange"]
            replaced = " (made anew)" if resource.get("Replacement") == "True" else ""
            self._out(f"    {resource['Action']:<7}{resource['LogicalResourceId']} "
                      f"{resource['ResourceType']}{replaced}")

    def _wait(self, name):
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            try:
                status = self._api.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
            except ClientError as error:
                if "does not exist" in str(error):
                    return None
                raise
            if not status.endswith("_IN_PROGRESS"):
                return status
            time.sleep(self._poll_seconds)
        raise ChangeError(f"{name} is still {status} after {PATIENCE_SECONDS} s")

    def _failures(self, name, since):
        pages = self._api.get_paginator("describe_stack_events").paginate(StackName=name)
        events = [
            event for page in pages for event in page["StackEvents"]
            if event["ResourceStatus"].endswith("_FAILED") and event["Timestamp"].timestamp() >= since
        ]
        return "\n".join(
            f"    {event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
            for event in reversed(events)
        ) or "    no event says why"


def _replaced(changes):
    return [
        change["ResourceChange"]["LogicalResourceId"]
        for change in changes
        if change["ResourceChange"].get("ResourceType") in IRREPLACEABLE
        and (change["ResourceChange"]["Action"] == "Remove"
             or change["ResourceChange"].get("Replacement") == "True")
    ]
