"""CloudFormation in memory, as its documentation describes it: change sets, rollbacks, deletion policies.

An operation is a generator that yields after each step. Each look at a stack lets it get on by some steps
(`Account.pace`), so that a test can interrupt the roll-out in the middle of anything.

Kept to: a change set of type CREATE makes a stack in REVIEW_IN_PROGRESS; only a stack that is stable can be
updated; ROLLBACK_COMPLETE and ROLLBACK_FAILED can only be deleted; outputs are there when the stack is stable;
a rollback of a creation honours Retain (unless RetainExceptOnCreate is asked for at execution) and not
RetainExceptOnCreate; RetainResources is for DELETE_FAILED alone; what is protected or not empty refuses to go.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from adtrack_deploy import states
from fake_account import LOAD_BALANCER, REDIS, TABLES, Service, refusal, template_of
from fake_templates import Resolver

DELETABLE_NEVER = {"UPDATE_IN_PROGRESS", "UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
                   "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_IN_PROGRESS", "IMPORT_ROLLBACK_IN_PROGRESS"}


@dataclass
class Part:
    """A resource of a stack."""

    logical: str
    kind: str
    policy: str
    properties: dict
    name: str = ""
    status: str = ""
    reason: str = ""


@dataclass
class Stack:
    name: str
    id: str
    region: str
    status: str = "REVIEW_IN_PROGRESS"
    template: dict = None
    parameters: dict = field(default_factory=dict)
    tags: list = field(default_factory=list)
    parts: dict = field(default_factory=dict)
    change_sets: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    protected: bool = False
    operation: object = None
    # What CloudFormation acts with, from the last change set that named one.
    role: str = None
    # What an update goes back to.
    before: tuple = None
    changed: list = field(default_factory=list)

    @property
    def is_gone(self):
        return self.status == "DELETE_COMPLETE"


class CloudFormation(Service):
    """The client of a region."""

    def __init__(self, account, region):
        super().__init__(account, region)
        self.stacks = account.stacks.setdefault(region, [])

    # --- reading

    def describe_stacks(self, StackName):
        stack = self.stack(StackName)
        self._get_on(stack)
        if stack.is_gone and StackName == stack.name:
            raise refusal("ValidationError", f"Stack with id {StackName} does not exist")
        described = {
            "StackName": stack.name, "StackId": stack.id, "StackStatus": stack.status, "Tags": stack.tags,
            "EnableTerminationProtection": stack.protected,
            "Parameters": [{"ParameterKey": key, "ParameterValue": value}
                           for key, value in self._all_parameters(stack).items()],
        }
        if stack.status in states.STABLE:
            outputs = self._resolver(stack).outputs()
            described["Outputs"] = [{"OutputKey": key, "OutputValue": value} for key, value in outputs.items()]
        return {"Stacks": [described]}

    def list_stack_resources(self, StackName):
        return {"StackResourceSummaries": [
            {"LogicalResourceId": part.logical, "ResourceType": part.kind, "ResourceStatus": part.status,
             **({"PhysicalResourceId": part.name} if part.name else {})}
            for part in self.stack(StackName).parts.values() if part.status]}

    def describe_stack_events(self, StackName):
        return {"StackEvents": self.stack(StackName).events[::-1]}

    # --- changing

    def create_change_set(self, StackName, ChangeSetName, ChangeSetType, Parameters, Tags, Capabilities,
                          TemplateBody=None, TemplateURL=None, RoleARN=None):
        stack = self._find(StackName)
        if ChangeSetType == "CREATE":
            if stack and stack.status != "REVIEW_IN_PROGRESS":
                raise refusal("ValidationError", f"Stack [{StackName}] already exists and cannot be created again")
            stack = stack or self._new(StackName)
        elif stack is None:
            raise refusal("ValidationError", f"Stack [{StackName}] does not exist")
        elif stack.status not in states.STABLE | {"CREATE_FAILED", "UPDATE_FAILED"}:
            raise refusal("ValidationError",
                          f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        template = json.loads(TemplateBody) if TemplateBody else template_of(self.there, TemplateURL)
        values = {one["ParameterKey"]: one["ParameterValue"] for one in Parameters}
        self._refuse_wrong_parameters(template, values)
        stack.role = RoleARN or stack.role
        stack.change_sets[ChangeSetName] = (template, values, Tags, self._diff(stack, template, values))

    def describe_change_set(self, StackName, ChangeSetName):
        changes = self.stack(StackName).change_sets[ChangeSetName][3]
        if not changes:
            return {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}
        return {"Status": "CREATE_COMPLETE", "ChangeSetId": ChangeSetName, "ChangeSetName": ChangeSetName,
                "Changes": [{"ResourceChange": {"Action": action, "LogicalResourceId": name, "ResourceType": kind,
                                                "Replacement": "False"}} for action, name, kind in changes]}

    def delete_change_set(self, StackName, ChangeSetName):
        self.stack(StackName).change_sets.pop(ChangeSetName, None)

    def execute_change_set(self, StackName, ChangeSetName, RetainExceptOnCreate=False, DisableRollback=False,
                           ClientRequestToken=None):
        stack = self.stack(StackName)
        template, values, tags, changes = stack.change_sets[ChangeSetName]
        stack.change_sets = {}
        new = stack.status == "REVIEW_IN_PROGRESS"
        stack.before = None if new else (stack.template, stack.parameters)
        stack.template, stack.parameters, stack.tags = template, values, tags
        work = self._create(stack, RetainExceptOnCreate, DisableRollback) if new else self._update(
            stack, changes, RetainExceptOnCreate, DisableRollback)
        self._begin(stack, "CREATE_IN_PROGRESS" if new else "UPDATE_IN_PROGRESS", work)

    def delete_stack(self, StackName, RetainResources=()):
        stack = self._find(StackName)
        if stack is None or stack.is_gone:
            return
        if stack.protected:
            raise refusal("ValidationError", f"Stack [{stack.name}] cannot be deleted while TerminationProtection "
                                             "is enabled")
        if stack.status in DELETABLE_NEVER:
            raise refusal("ValidationError", f"Stack [{stack.name}] cannot be deleted while in {stack.status}")
        if RetainResources and stack.status != "DELETE_FAILED":
            raise refusal("ValidationError", "RetainResources is for stacks in DELETE_FAILED alone")
        for name in RetainResources:
            if stack.parts[name].status != "DELETE_FAILED":
                raise refusal("ValidationError", f"{name} is not in DELETE_FAILED")
        self._begin(stack, "DELETE_IN_PROGRESS", self._delete(stack, RetainResources))

    def continue_update_rollback(self, StackName, ResourcesToSkip=()):
        stack = self.stack(StackName)
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise refusal("ValidationError", f"Stack:{stack.id} is in {stack.status} state")
        for name in ResourcesToSkip:
            stack.parts[name].status = "UPDATE_COMPLETE"
        self._begin(stack, "UPDATE_ROLLBACK_IN_PROGRESS", self._roll_update_back(stack, True, ResourcesToSkip))

    def rollback_stack(self, StackName, RetainExceptOnCreate=False):
        stack = self.stack(StackName)
        if stack.status not in ("CREATE_FAILED", "UPDATE_FAILED"):
            raise refusal("ValidationError", f"Stack:{stack.id} is in {stack.status} state")
        if stack.status == "CREATE_FAILED":
            self._begin(stack, "ROLLBACK_IN_PROGRESS", self._roll_creation_back(stack, RetainExceptOnCreate))
        else:
            self._begin(stack, "UPDATE_ROLLBACK_IN_PROGRESS", self._roll_update_back(stack, RetainExceptOnCreate))

    def update_termination_protection(self, StackName, EnableTerminationProtection):
        self.stack(StackName).protected = EnableTerminationProtection

    # --- operations

    def _create(self, stack, keeps_nothing, disable_rollback):
        resolver = self._resolver(stack)
        for name, one in resolver.resources().items():
            stack.parts[name] = self._part(name, one)
            yield
            if not self._make(stack, stack.parts[name]):
                if disable_rollback:
                    self._now(stack, "CREATE_FAILED")
                    return
                self._now(stack, "ROLLBACK_IN_PROGRESS")
                yield from self._roll_creation_back(stack, keeps_nothing)
                return
        self._now(stack, "CREATE_COMPLETE")

    def _roll_creation_back(self, stack, keeps_nothing):
        for part in list(stack.parts.values())[::-1]:
            yield
            if part.policy == "Retain" and not keeps_nothing and part.name:
                self._mark(stack, part, "DELETE_SKIPPED")
            else:
                self._unmake(stack, part)
        failed = any(part.status == "DELETE_FAILED" for part in stack.parts.values())
        self._now(stack, "ROLLBACK_FAILED" if failed else "ROLLBACK_COMPLETE")

    def _update(self, stack, changes, keeps_nothing, disable_rollback):
        resolver = self._resolver(stack)
        resources = resolver.resources()
        stack.changed = []
        for action, name, _ in sorted(changes, key=lambda one: list(resources).index(one[1])
                                      if one[1] in resources else 0):
            if action == "Remove":
                continue
            yield
            if action == "Add":
                stack.parts[name] = self._part(name, resources[name])
                done = self._make(stack, stack.parts[name])
            else:
                stack.changed.append(name)
                done = self._change(stack, stack.parts[name], resources[name], "update")
            if not done:
                if disable_rollback:
                    self._now(stack, "UPDATE_FAILED")
                    return
                self._now(stack, "UPDATE_ROLLBACK_IN_PROGRESS")
                yield from self._roll_update_back(stack, keeps_nothing)
                return
        self._now(stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        yield
        for action, name, _ in changes:
            if action == "Remove":
                self._drop(stack, stack.parts[name])
        self._now(stack, "UPDATE_COMPLETE")

    def _roll_update_back(self, stack, keeps_nothing, skipped=()):
        template, parameters = stack.before
        old = Resolver(template, parameters, self._pseudo(stack)).there()
        for part in list(stack.parts.values()):
            yield
            if part.logical in stack.changed and part.logical not in skipped:
                if not self._change(stack, part, old[part.logical], "rollback", (template, parameters)):
                    self._now(stack, "UPDATE_ROLLBACK_FAILED")
                    return
        self._now(stack, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        yield
        for part in list(stack.parts.values()):
            if part.logical not in old:
                if part.policy == "Retain" and not keeps_nothing and part.name:
                    self._mark(stack, part, "DELETE_SKIPPED")
                else:
                    self._unmake(stack, part)
                del stack.parts[part.logical]
        stack.template, stack.parameters = template, parameters
        self._now(stack, "UPDATE_ROLLBACK_COMPLETE")

    def _delete(self, stack, retained):
        for part in list(stack.parts.values())[::-1]:
            if part.status in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                continue
            yield
            if part.logical in retained:
                self._mark(stack, part, "DELETE_SKIPPED")
            else:
                self._drop(stack, part)
        failed = any(part.status == "DELETE_FAILED" for part in stack.parts.values())
        self._now(stack, "DELETE_FAILED" if failed else "DELETE_COMPLETE")

    # --- resources

    def _part(self, name, resource):
        return Part(name, resource["Type"], resource.get("DeletionPolicy", "Delete"), resource.get("Properties", {}))

    def _make(self, stack, part):
        self._mark(stack, part, "CREATE_IN_PROGRESS")
        fault = self.there.fails("create", stack.name, part.logical, part.kind)
        if fault is None or fault.leaves_it:
            part.name = self.there.create(part.kind, stack.name, part.logical, stack.region)
            self._set_protection(stack, part, stack.parameters)
        self._mark(stack, part, "CREATE_FAILED" if fault else "CREATE_COMPLETE",
                   "the service says no" if fault else "")
        return fault is None

    def _change(self, stack, part, resource, action, as_of=None):
        fault = self.there.fails(action, stack.name, part.logical, part.kind)
        if fault:
            self._mark(stack, part, "UPDATE_FAILED", "the service says no")
            return False
        part.properties, part.policy = resource.get("Properties", {}), resource.get("DeletionPolicy", "Delete")
        self._set_protection(stack, part, as_of[1] if as_of else stack.parameters, as_of and as_of[0])
        self._mark(stack, part, "UPDATE_COMPLETE")
        return True

    def _unmake(self, stack, part):
        self._mark(stack, part, "DELETE_IN_PROGRESS")
        if self.there.fails("delete", stack.name, part.logical, part.kind):
            self._mark(stack, part, "DELETE_FAILED", "the service says no")
            return
        if part.policy == "Snapshot" and part.name in self.there.resources and part.kind == REDIS:
            self.there.snapshots[f"snapshot-{self.there.number()}"] = part.name
        reason = self.there.delete(part.name)
        self._mark(stack, part, "DELETE_FAILED" if reason else "DELETE_COMPLETE", reason or "")

    def _drop(self, stack, part):
        """Deletes as the policy says."""
        if part.policy in ("Retain", "RetainExceptOnCreate") and part.name:
            self._mark(stack, part, "DELETE_SKIPPED")
        else:
            self._unmake(stack, part)

    def _set_protection(self, stack, part, parameters, template=None):
        there = self.there.resources.get(part.name)
        if there is None or part.kind not in (LOAD_BALANCER, *TABLES):
            return
        resolver = Resolver(template or stack.template, parameters, self._pseudo(stack))
        if part.kind == LOAD_BALANCER:
            attributes = resolver.value(part.properties)["LoadBalancerAttributes"]
            there.protected = {"Key": "deletion_protection.enabled", "Value": "true"} in attributes
        if part.kind in TABLES:
            properties = resolver.value(part.properties)
            own = properties.get("Replicas", [properties])[0].get("DeletionProtectionEnabled", False)
            there.protected = str(own).lower() == "true"

    # --- the rest

    def stack(self, name):
        found = self._find(name) or next((one for one in self.stacks if one.id == name), None)
        if found is None:
            raise refusal("ValidationError", f"Stack with id {name} does not exist")
        return found

    def _find(self, name):
        return next((one for one in self.stacks if name in (one.name, one.id) and not one.is_gone), None)

    def _new(self, name):
        stack = Stack(name, f"arn:aws:cloudformation:{self.region}:111122223333:stack/{name}/{self.there.number()}",
                      self.region)
        self.stacks.append(stack)
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.id, "REVIEW_IN_PROGRESS", "")
        return stack

    def _begin(self, stack, status, work):
        self._now(stack, status)
        stack.operation = work

    def _get_on(self, stack):
        for _ in range(self.there.pace):
            if stack.operation is None:
                return
            try:
                next(stack.operation)
            except StopIteration:
                stack.operation = None

    def _now(self, stack, status):
        stack.status = status
        self._event(stack, stack.name, "AWS::CloudFormation::Stack", stack.id, status, "")

    def _mark(self, stack, part, status, reason=""):
        part.status, part.reason = status, reason
        self._event(stack, part.logical, part.kind, part.name, status, reason)

    def _event(self, stack, logical, kind, name, status, reason):
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.there.number())
        stack.events.append({
            "LogicalResourceId": logical, "ResourceType": kind, "PhysicalResourceId": name,
            "ResourceStatus": status, "Timestamp": moment, **({"ResourceStatusReason": reason} if reason else {})})

    def _pseudo(self, stack):
        return {"AWS::Region": stack.region, "AWS::AccountId": "111122223333", "AWS::Partition": "aws",
                "AWS::StackName": stack.name, "AWS::StackId": stack.id, "AWS::URLSuffix": "amazonaws.com"}

    def _resolver(self, stack):
        physical = {part.logical: part.name for part in stack.parts.values() if part.name}
        return Resolver(stack.template, stack.parameters, self._pseudo(stack), physical)

    def _all_parameters(self, stack):
        declared = (stack.template or {}).get("Parameters", {})
        return {name: str(one.get("Default", "")) for name, one in declared.items()} | stack.parameters

    def _refuse_wrong_parameters(self, template, values):
        declared = template.get("Parameters", {})
        missing = [name for name, one in declared.items() if "Default" not in one and name not in values]
        unknown = sorted(set(values) - set(declared))
        if missing or unknown:
            raise refusal("ValidationError", f"Parameters: {missing} must have values, {unknown} do not exist")

    def _diff(self, stack, template, values):
        """Changes as (action, logical name, type)."""
        new_resolver = Resolver(template, values, self._pseudo(stack))
        new = new_resolver.there()
        if stack.template is None:
            return [("Add", name, one["Type"]) for name, one in new.items()]
        old_resolver = Resolver(stack.template, stack.parameters, self._pseudo(stack))
        old = old_resolver.there()
        there = {name for name, part in stack.parts.items() if part.status not in ("DELETE_COMPLETE", "")}
        changes = [("Add", name, new[name]["Type"]) for name in new if name not in there]
        for name in there & set(new):
            before = old_resolver.value(old.get(name, {}).get("Properties", {}))
            after = new_resolver.value(new[name].get("Properties", {}))
            if before != after:
                changes.append(("Modify", name, new[name]["Type"]))
        return changes + [("Remove", name, stack.parts[name].kind) for name in sorted(there - set(new))]
