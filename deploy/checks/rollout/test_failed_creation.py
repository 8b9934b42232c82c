"""A first roll-out that fails anywhere, then is repeated, then destroyed: each ends clean."""

import pytest
from adtrack_deploy import parameters, stacks
from adtrack_deploy.stacks import Layout
from conftest import Deployment
from fake_account import Account, Fault

LAYOUT = Layout()
CASES = sorted({
    (stack.name, resource["Type"])
    for stack in stacks.of(LAYOUT)
    for resource in parameters.body(stack)["Resources"].values()
    if "Condition" not in resource
})


@pytest.fixture(scope="module")
def before(tmp_path_factory, no_preflight_for_module):
    """Accounts in which all stacks before a stack are there, by the name of that stack."""
    known, account = {}, Account()
    for stack in stacks.of(LAYOUT):
        known[stack.name] = account.copy()
        one = Deployment(tmp_path_factory.mktemp(stack.name), account)
        assert one.deploy("--stack", stack.name).status == 0
    return known


@pytest.fixture(scope="module")
def no_preflight_for_module():
    patch = pytest.MonkeyPatch()
    patch.setattr("adtrack_deploy.preflight.run", lambda *_: False)
    yield
    patch.undo()


@pytest.mark.parametrize(("stack", "kind"), CASES)
def test_repeats_after_a_failure_of_each_resource(before, tmp_path, stack, kind):
    account = before[stack].copy()
    one = Deployment(tmp_path, account)
    account.faults = [Fault("create", f"first-{stack}", kind=kind, leaves_it=kind == "AWS::ECS::Service")]

    failed = one.deploy()
    repeated = one.deploy()

    assert failed.status == 69 and kind in failed.text and "the service says no" in failed.text, failed.text
    assert repeated.status == 0, repeated.text
    assert set(one.statuses().values()) <= {"CREATE_COMPLETE", "UPDATE_COMPLETE"}
    assert one.orphans() == [] and account.snapshots == {}

    destroyed = one.destroy("--delete-data")

    assert destroyed.status == 0, destroyed.text
    assert one.statuses() == {} and list(account.resources) == [], destroyed.text
