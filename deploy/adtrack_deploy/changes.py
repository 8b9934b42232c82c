"""Changes stacks through change sets: shows a change set, executes it, waits for it."""

import hashlib
import time

from botocore.exceptions import ClientError

from . import states, template
from .cloudformation import ChangeError

# Types of resources whose data would be lost if they were replaced or removed.
IRREPLACEABLE = {
    "AWS::DynamoDB::GlobalTable",
    "AWS::DynamoDB::Table",
    "AWS::ECR::Repository",
    "AWS::ElastiCache::ReplicationGroup",
    "AWS::KMS::Key",
    "AWS::Kinesis::Stream",
    "AWS::S3::Bucket",
}
# CloudFormation's messages for a change set without changes.
NO_CHANGE = ("didn't contain changes", "No updates are to be performed")


class Changes:
    """Creates and updates stacks. They must be in a state that allows it; recovery.py brings them there."""

    def __init__(self, stacks, s3, poll_seconds, role_arn=""):
        self._stacks = stacks
        self._api = stacks.api
        self._s3 = s3
        self._out = stacks.out
        self._poll_seconds = poll_seconds
        # CloudFormation uses this role for all later operations on the stack, too, its deletion included.
        self._role = {"RoleARN": role_arn} if role_arn else {}

    def preview(self, name, body, parameters, tags, bucket):
        """Shows what a deployment would change."""
        stack = self._stacks.find(name)
        step = states.step_of(stack)
        if step is states.Step.CREATE:
            self._out(f"  {name}: new, {len(body['Resources'])} resources")
            return
        if step is not states.Step.UPDATE:
            self._out(f"  {name}: {stack['StackStatus']}; deploy would {step.value}")
            return
        change_set = self._propose(name, body, parameters, tags, bucket, "UPDATE")
        if change_set:
            self._show(name, change_set["Changes"])
            for line in losses(change_set["Changes"]):
                self._out(f"    refused unless allowed: {line}")
            self._api.delete_change_set(StackName=name, ChangeSetName=change_set["ChangeSetId"])

    def apply(self, name, body, parameters, tags, bucket=None, allowed=()):
        """Creates or updates the stack, and waits until that is done. Returns its outputs.

        `allowed` are logical names of irreplaceable resources that may be replaced or removed.
        """
        new = states.step_of(self._stacks.find(name)) is states.Step.CREATE
        change_set = self._propose(name, body, parameters, tags, bucket, "CREATE" if new else "UPDATE")
        if change_set is None:
            return self._stacks.outputs(name)
        self._show(name, change_set["Changes"])
        lost = losses(change_set["Changes"], allowed)
        if lost:
            self._api.delete_change_set(StackName=name, ChangeSetName=change_set["ChangeSetId"])
            raise ChangeError(
                f"{name} would lose data:\n" + "\n".join(f"    {line}" for line in lost)
                + "\n    To allow it, pass --allow-replacement NAME for each")
        # The token makes a repeated call, after a lost response, harmless. RetainExceptOnCreate deletes
        # what a failed creation made, whatever the deletion policies say.
        self._api.execute_change_set(
            StackName=name, ChangeSetName=change_set["ChangeSetId"], RetainExceptOnCreate=True,
            ClientRequestToken=change_set["ChangeSetName"])
        stack = self._stacks.find(name)
        status = self._stacks.wait(stack)
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise ChangeError(
                f"{name} is {status}:\n{self._stacks.failures(stack['StackId'])}\n"
                "    Fix the first of these and run the same command again to resume")
        self._out(f"  {name}: {status}")
        return self._stacks.outputs(name)

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
            **self._role,
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
        found = self._wait_for_change_set(name, request["ChangeSetName"])
        if found["Status"] == "CREATE_COMPLETE":
            found["Changes"] = self._all_changes(name, request["ChangeSetName"], found)
            return found
        self._api.delete_change_set(StackName=name, ChangeSetName=request["ChangeSetName"])
        reason = found.get("StatusReason", "CloudFormation gives no reason")
        if any(text in reason for text in NO_CHANGE):
            self._out(f"  {name}: no change")
            return None
        if kind == "CREATE":
            # Creating the change set has created an empty stack.
            self._api.delete_stack(StackName=name)
        raise ChangeError(f"{name}: CloudFormation refuses the change: {reason}")

    def _wait_for_change_set(self, name, change_set):
        """Returns the change set once it has been computed."""
        for _ in range(max(60, int(600 / max(self._poll_seconds, 0.01)))):
            found = self._api.describe_change_set(StackName=name, ChangeSetName=change_set)
            if found["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return found
            time.sleep(self._poll_seconds)
        return {"Status": "FAILED", "StatusReason": "its change set was not worked out within 10 minutes"}

    def _all_changes(self, name, change_set, page):
        changes = list(page.get("Changes", []))
        while page.get("NextToken"):
            page = self._api.describe_change_set(
                StackName=name, ChangeSetName=change_set, NextToken=page["NextToken"])
            changes += page.get("Changes", [])
        return changes

    def upload(self, bucket, name, text):
        """Puts a template into the bucket, under its hash. Returns its URL."""
        key = f"templates/{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
        self._s3.put_object(Bucket=bucket, Key=key, Body=text.encode())
        region = self._s3.meta.region_name
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://{bucket}.s3.{region}.{suffix}/{key}"

    def _show(self, name, changes):
        self._out(f"  {name}: {len(changes)} changes")
        for change in changes:
            resource = change["ResourceChange"]
            replaced = {"True": " (replaced)", "Conditional": " (may be replaced)"}
            self._out(f"    {resource['Action']:<7}{resource['LogicalResourceId']} "
                      f"{resource['ResourceType']}{replaced.get(resource.get('Replacement'), '')}")


def losses(changes, allowed=()):
    """Irreplaceable resources that a change set replaces, may replace, or removes: one line each, with the
    reason. `Conditional` counts: CloudFormation decides during the update, when it is too late to refuse.
    """
    lines = []
    for change in changes:
        resource = change["ResourceChange"]
        reason = _loss(resource)
        if reason and resource["LogicalResourceId"] not in allowed:
            lines.append(f"{resource['LogicalResourceId']} ({resource['ResourceType']}) {reason}")
    return lines


def _loss(resource):
    if resource.get("ResourceType") not in IRREPLACEABLE:
        return None
    if resource["Action"] == "Remove":
        return "would be removed from the stack"
    recreated = {"Always": [], "Conditionally": []}
    for detail in resource.get("Details", []):
        target = detail.get("Target", {})
        where = target.get("Name") or target.get("Attribute") or "a property"
        recreated.get(target.get("RequiresRecreation"), []).append(where)
    because = ", ".join(dict.fromkeys(recreated["Always"] + recreated["Conditionally"]))
    because = f", because of {because}" if because else ""
    if resource.get("Replacement") == "True" or recreated["Always"]:
        return f"would be replaced by an empty one{because}"
    if resource.get("Replacement") == "Conditional" or recreated["Conditionally"]:
        return f"may be replaced by an empty one{because}"
    if resource["Action"] == "Dynamic" or "Replace" in resource.get("PolicyAction", ""):
        return f"may be replaced by an empty one{because}"
    return None
