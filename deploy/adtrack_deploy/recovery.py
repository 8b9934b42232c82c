"""Out of every state that a stack can be in: to one that can be changed, or gone.

What holds data is looked at before anything is deleted. A stack that ever worked is never deleted
from here on behalf of deploy. Every step can be interrupted and repeated: what is found is what the
stack's resources say, and those of a stack stay listed until the stack itself is gone.
"""

from . import states
from .cloudformation import ChangeError
from .holdings import DATA
from .states import Step

# The longest way is UPDATE_FAILED, wait, UPDATE_ROLLBACK_FAILED, wait, UPDATE_ROLLBACK_COMPLETE.
MOST_STEPS = 10
# Network interfaces of functions outlive the functions, and keep subnets and groups, for a while.
DELETION_ATTEMPTS = 3


class Recovery:
    """The stacks of a region, got out of whatever state they are in."""

    def __init__(self, stacks, holdings):
        self._stacks = stacks
        self._api = stacks.api
        self.holdings = holdings
        self._out = stacks.out

    def settle(self, name, skip=()):
        """Brings a stack into a state in which it can be created or updated. Returns it, or none.

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
                self._out(f"  {name}: an earlier run, or somebody else, is at work; waiting")
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
                    f"{name} is {stack['StackStatus']}, from which CloudFormation offers no way on:\n"
                    f"{self._stacks.failures(stack['StackId'])}\n"
                    "    Fix the cause and ask AWS Support to bring the stack back, or delete it with "
                    "deploy/destroy")
        raise ChangeError(f"{name} does not settle; see its events")

    def remove(self, name, delete_data=False, retain=()):
        """Deletes a stack, from whatever state. Returns the resources that stay.

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
            self._refuse_if_it_holds(stack)
        self._delete(stack, delete_data or never_worked, retain)
        left = self._stacks.resources(stack["StackId"])
        if never_worked:
            self._delete_snapshots(left)
        return [one for one in left if one["ResourceStatus"] == "DELETE_SKIPPED" and not (
            one["ResourceType"] in DATA and (delete_data or never_worked))]

    def never_worked(self, name):
        """Whether there is a stack of which nothing but a failed first creation is known."""
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
                f"{name} is {stack['StackStatus']}: it worked once, and its deletion was begun and failed:\n"
                f"{self._stacks.failures(stack['StackId'])}\n"
                f"    Finish that with deploy/destroy --region {self._stacks.region}, then deploy again")
        self._out(f"  {name}: its first creation failed:")
        self._out(self._stacks.failures(stack["StackId"]))
        self._refuse_if_it_holds(stack)
        self._out(f"  {name}: deleting what it left; none of it holds data")
        self._delete(stack, delete_data=True)
        self._delete_snapshots(self._stacks.resources(stack["StackId"]))

    def _refuse_if_it_holds(self, stack):
        full = [one for one in self.holdings.of(self._stacks.resources(stack["StackId"]))
                if not self.holdings.is_empty(one)]
        if full:
            lines = "\n".join(f"    {one['LogicalResourceId']}: {self.holdings.describe(one)}. To delete it: "
                              f"{self.holdings.command(one)}" for one in full)
            raise ChangeError(
                f"{stack['StackName']}: its first creation failed, and what it made is not empty:\n{lines}\n"
                "    Save what is needed, delete these, and run the same command again")

    def _delete(self, stack, delete_data, retain=()):
        name, stack_id = stack["StackName"], stack["StackId"]
        if stack.get("EnableTerminationProtection"):
            self._stacks.protect(name, False)
        retained = []
        for attempt in range(DELETION_ATTEMPTS):
            for one in self.holdings.of(self._stacks.resources(stack_id)):
                if not delete_data:
                    self._unprotect_unless_data(one)
                elif one["ResourceType"] in DATA:
                    # Before the stack, whose resources say what it is: so this can be repeated.
                    self.holdings.delete(one)
                    self._out(f"  {self.holdings.describe(one)}: deleted")
                else:
                    self.holdings.unprotect(one)
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
        """What deletion policies have kept, and what could not be emptied while it was written to."""
        for one in self.holdings.of(self._stacks.resources(stack_id)):
            if one["ResourceType"] in DATA:
                self.holdings.delete(one)

    def _unprotect_unless_data(self, resource):
        if resource["ResourceType"] not in DATA:
            self.holdings.unprotect(resource)

    def _delete_snapshots(self, resources):
        """CloudFormation takes a snapshot of a Redis that it deletes, also of one that was never used."""
        for snapshot in self.holdings.snapshots(resources):
            self.holdings.delete_snapshot(snapshot)
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
        return (f"{stack['StackName']} is {stack['StackStatus']}, also after its rollback was continued:\n"
                f"{self._stacks.failures(stack['StackId'])}\n"
                "    Fix the cause and run the same command again. If a resource cannot be brought back to "
                "what it was, leave it as it is: "
                + " ".join(f"--skip-in-rollback {one}" for one in failed))
