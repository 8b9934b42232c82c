"""Brings a stack from any state into one that can be updated, or deletes it.

For deploy, it never deletes a stack that was created successfully, and it deletes a failed creation only after
checking that nothing in it holds data. Every step can be interrupted and repeated, because each starts from the
stack's list of resources, which CloudFormation keeps until the stack itself is deleted.
"""

from . import states
from .cloudformation import ChangeError
from .retained import DATA
from .states import Step

# The longest path is UPDATE_FAILED, wait, UPDATE_ROLLBACK_FAILED, wait, UPDATE_ROLLBACK_COMPLETE.
MOST_STEPS = 10
# The functions' network interfaces outlive the functions for a while, and block the deletion of subnets and
# security groups.
DELETION_ATTEMPTS = 3


class Recovery:
    """Recovers and deletes the stacks of a region."""

    def __init__(self, stacks, retained):
        self._stacks = stacks
        self._api = stacks.api
        self.retained = retained
        self._out = stacks.out

    def settle(self, name, skip=()):
        """Brings a stack into a state in which it can be created or updated. Returns it, None if it is to be
        created.

        `skip` are logical names of resources that a continued rollback leaves as they are.
        """
        rolled_back = False
        for _ in range(MOST_STEPS):
            stack = self._stacks.find(name)
            step = states.step_of(stack)
            if step is Step.UPDATE:
                return stack
            if step is Step.CREATE:
                return None
            self._out(f"  {name}: {stack['StackStatus']}")
            if step is Step.WAIT:
                self._out(f"  {name}: another operation is in progress; waiting")
                self._stacks.wait(stack)
            elif step is Step.ROLL_BACK:
                self._out(self._stacks.failures(stack["StackId"]))
                self._api.rollback_stack(StackName=name, RetainExceptOnCreate=True)
                self._stacks.wait(stack)
            elif step is Step.CONTINUE_ROLLBACK:
                if rolled_back:
                    raise ChangeError(self._how_to_continue(stack))
                rolled_back = True
                self._out(self._stacks.failures(stack["StackId"]))
                self._continue_rollback(stack, skip)
            elif step in (Step.DISCARD, Step.FINISH_DELETION):
                self._discard(stack)
            else:
                raise ChangeError(
                    f"{name} is {stack['StackStatus']}, from which CloudFormation cannot recover:\n"
                    f"{self._stacks.failures(stack['StackId'])}\n"
                    "    Fix the cause and ask AWS Support to recover the stack, or delete it with "
                    "deploy/destroy")
        raise ChangeError(f"{name} did not reach a stable state; see its events")

    def remove(self, name, delete_data=False, retain=()):
        """Deletes a stack, from any state. Returns the resources that are kept.

        `retain` are logical names of resources to leave behind if they cannot be deleted.
        """
        stack = self._stacks.find(name)
        while stack and states.in_progress(stack["StackStatus"]):
            self._out(f"  {name}: {stack['StackStatus']}; waiting")
            self._stacks.wait(stack)
            stack = self._stacks.find(name)
        if stack is None:
            return []
        never_worked = self._never_worked(stack)
        if never_worked and not delete_data:
            self._refuse_if_not_empty(stack)
        self._delete(stack, delete_data or never_worked, retain)
        left = self._stacks.resources(stack["StackId"])
        if never_worked:
            self._delete_snapshots(left)
        return [one for one in left if one["ResourceStatus"] == "DELETE_SKIPPED" and not (
            one["ResourceType"] in DATA and (delete_data or never_worked))]

    def never_worked(self, name):
        """Whether the stack exists and was never created successfully."""
        stack = self._stacks.find(name)
        return stack is not None and self._never_worked(stack)

    def _never_worked(self, stack):
        step = states.step_of(stack)
        if step in (Step.CREATE, Step.DISCARD):
            return True
        return step is Step.FINISH_DELETION and not states.was_ever_complete(
            stack["StackId"], self._stacks.events(stack["StackId"]))

    def _discard(self, stack):
        """Deletes what a failed first creation left."""
        name = stack["StackName"]
        if not self._never_worked(stack):
            raise ChangeError(
                f"{name} is {stack['StackStatus']}: it worked once, and a deletion was started and failed:\n"
                f"{self._stacks.failures(stack['StackId'])}\n"
                f"    Finish the deletion with deploy/destroy --region {self._stacks.region}, then deploy again")
        self._out(f"  {name}: its first creation failed:")
        self._out(self._stacks.failures(stack["StackId"]))
        self._refuse_if_not_empty(stack)
        self._out(f"  {name}: deleting what it left; none of it holds data")
        self._delete(stack, delete_data=True)
        self._delete_snapshots(self._stacks.resources(stack["StackId"]))

    def _refuse_if_not_empty(self, stack):
        full = [one for one in self.retained.of(self._stacks.resources(stack["StackId"]))
                if not self.retained.is_empty(one)]
        if full:
            lines = "\n".join(f"    {one['LogicalResourceId']}: {self.retained.describe(one)}. To delete it: "
                              f"{self.retained.command(one)}" for one in full)
            raise ChangeError(
                f"{stack['StackName']}: its first creation failed, and these resources are not empty:\n{lines}\n"
                "    Save what you need, delete them, and run the same command again")

    def _delete(self, stack, delete_data, retain=()):
        name, stack_id = stack["StackName"], stack["StackId"]
        if stack.get("EnableTerminationProtection"):
            self._stacks.protect(name, False)
        retained = []
        for attempt in range(DELETION_ATTEMPTS):
            for one in self.retained.of(self._stacks.resources(stack_id)):
                if not delete_data:
                    self._unprotect_unless_data(one)
                elif one["ResourceType"] in DATA:
                    # Before the stack, whose list of resources identifies it: so this can be repeated.
                    self.retained.delete(one)
                    self._out(f"  {self.retained.describe(one)}: {self.retained.describe_deletion(one)}")
                else:
                    self.retained.unprotect(one)
            request = {"RetainResources": retained} if retained else {}
            self._api.delete_stack(StackName=stack_id, **request)
            if self._stacks.wait(stack) is None:
                self._out(f"  {name}: deleted")
                if delete_data:
                    self._delete_what_was_kept(stack_id)
                return
            stuck = [one["LogicalResourceId"] for one in self._stacks.resources(stack_id)
                     if one["ResourceStatus"] == "DELETE_FAILED"]
            retained = sorted(set(stuck) & set(retain))
            if attempt + 1 < DELETION_ATTEMPTS:
                self._out(f"  {name}: {', '.join(stuck)} could not be deleted; trying again")
                self._out(self._stacks.failures(stack_id))
        raise ChangeError(
            f"{name} could not be deleted:\n{self._stacks.failures(stack_id)}\n"
            "    Fix the cause and run the same command again, or leave a resource behind: "
            + " ".join(f"deploy/destroy --retain {one}" for one in stuck[:1]))

    def _delete_what_was_kept(self, stack_id):
        """Deletes what deletion policies kept, and buckets that something still wrote to before."""
        for one in self.retained.of(self._stacks.resources(stack_id)):
            if one["ResourceType"] in DATA:
                self.retained.delete(one)

    def _unprotect_unless_data(self, resource):
        if resource["ResourceType"] not in DATA:
            self.retained.unprotect(resource)

    def _delete_snapshots(self, resources):
        """Deletes the snapshots that CloudFormation takes of every Redis that it deletes, even an unused one."""
        for snapshot in self.retained.snapshots(resources):
            self.retained.delete_snapshot(snapshot)
            self._out(f"  snapshot {snapshot}: deleted")

    def _continue_rollback(self, stack, skip):
        failed = {one["LogicalResourceId"] for one in self._stacks.resources(stack["StackId"])
                  if one["ResourceStatus"] == "UPDATE_FAILED"}
        request = {"ResourcesToSkip": sorted(failed & set(skip))} if failed & set(skip) else {}
        self._api.continue_update_rollback(StackName=stack["StackName"], **request)
        self._stacks.wait(stack)

    def _how_to_continue(self, stack):
        failed = [one["LogicalResourceId"] for one in self._stacks.resources(stack["StackId"])
                  if one["ResourceStatus"] == "UPDATE_FAILED"]
        return (f"{stack['StackName']} is still {stack['StackStatus']} after its rollback was continued:\n"
                f"{self._stacks.failures(stack['StackId'])}\n"
                "    Fix the cause and run the same command again. If a resource cannot be restored, leave it as "
                "it is: "
                + " ".join(f"--skip-in-rollback {one}" for one in failed))
