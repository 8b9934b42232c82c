"""From any state that faults, interruptions and people can bring about: deploy gets to a region that works, and
destroy to one that is gone, or both say what to do. Nothing is orphaned, and nothing that holds data is lost.
"""

import tempfile
from pathlib import Path

import pytest
from adtrack_deploy import changes, parameters, stacks
from adtrack_deploy.stacks import Layout
from conftest import HOME, Deployment
from fake_account import TABLES, Fault
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

STACKS = [stack.name for stack in stacks.of(Layout())]
KINDS = sorted({resource["Type"] for stack in stacks.of(Layout())
                for resource in parameters.body(stack)["Resources"].values()})
ACTIONS = ["create", "update", "rollback", "delete"]


class RollOut(RuleBasedStateMachine):
    @initialize()
    def begin(self):
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("adtrack_deploy.preflight.run", lambda *_: False)
        self.folder = tempfile.TemporaryDirectory()
        self.one = Deployment(Path(self.folder.name))
        self.account = self.one.account
        self.rows = set()
        self.level = 0

    @rule(action=st.sampled_from(ACTIONS), stack=st.sampled_from(STACKS), kind=st.sampled_from(KINDS),
          times=st.integers(1, 4), leaves_it=st.booleans())
    def something_will_fail(self, action, stack, kind, times, leaves_it):
        self.account.faults.append(Fault(action, f"first-{stack}", kind=kind, times=times, leaves_it=leaves_it))

    @rule(sleeps=st.integers(1, 60))
    def deploy_is_interrupted(self, sleeps):
        left = iter(range(sleeps))

        def sleep(_):
            if next(left, None) is None:
                raise KeyboardInterrupt
        self.account.pace = 2
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("adtrack_deploy.cloudformation.time.sleep", sleep)
            self._says_how_to_go_on(self.one.deploy())
        self.account.pace = 10_000

    @rule(without_rollback=st.booleans())
    def deploy(self, without_rollback):
        self.level += 1
        with pytest.MonkeyPatch.context() as patch:
            if without_rollback:
                patch.setattr(changes, "Changes", _WithoutRollback)
                patch.setattr("adtrack_deploy.rollout.Changes", _WithoutRollback)
            self._says_how_to_go_on(self.one.deploy(parameters={"LogLevel": f"level{self.level}"}))

    @rule()
    def destroy(self):
        self._says_how_to_go_on(self.one.destroy())

    @rule()
    def somebody_writes_rows(self):
        for table in self.account.of("AWS::DynamoDB::Table"):
            table.contents = ["row"]
            self.rows.add(table.name)

    @rule(stack=st.sampled_from(STACKS))
    def somebody_proposes_a_stack(self, stack):
        if self.one.stack(stack) is None:
            self.account.client("cloudformation", HOME)._new(f"first-{stack}")

    @invariant()
    def no_rows_are_lost(self):
        assert self.rows <= set(self.account.resources)

    def teardown(self):
        """The faults are over: every stack gets there, and then away."""
        self.account.faults = []
        self.account.pace = 10_000
        run = self.one.deploy()
        if run.status:
            # Only for what a person has to decide: rows in a table whose stack never worked, or a stack that
            # is half deleted.
            assert ("are not empty" in run.text and self.rows) or "it worked once" in run.text, run.text
        else:
            assert set(self.one.statuses().values()) <= {"CREATE_COMPLETE", "UPDATE_COMPLETE",
                                                         "UPDATE_ROLLBACK_COMPLETE"}, run.text
            assert all(one.protected for kind in ("AWS::ElasticLoadBalancingV2::LoadBalancer", *TABLES)
                       for one in self.account.of(kind))
        run = self.one.destroy("--delete-data")
        assert run.status == 0, run.text
        assert self.one.statuses() == {} and set(self.account.resources) == set(), run.text
        self.patch.undo()
        self.folder.cleanup()

    @staticmethod
    def _says_how_to_go_on(run):
        assert run.status in (0, 69, 130) and "Traceback" not in run.text, run.text
        if run.status == 69:
            assert any(text in run.text for text in (
                "run the same command again", "Run the same command again", "deploy/destroy")), run.text


class _WithoutRollback(changes.Changes):
    """As somebody does by hand, to look at what failed."""

    def __init__(self, found, *rest):
        super().__init__(found, *rest)
        self._api = _DisableRollback(found.api)


class _DisableRollback:
    def __init__(self, api):
        self._all = api

    def __getattr__(self, call):
        return getattr(self._all, call)

    def execute_change_set(self, **request):
        return self._all.execute_change_set(**request, DisableRollback=True)


TestRollOut = RollOut.TestCase
TestRollOut.settings = settings(
    max_examples=25, stateful_step_count=6, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck))
