"""From every state that CloudFormation has: deploy gets to a stack that works, or says what to do."""

import itertools

import botocore.session
import pytest
from adtrack_deploy import changes, retained, rollout, states
from conftest import HOME
from fake_account import Fault

STATUSES = botocore.session.get_session().get_service_model("cloudformation").shape_for("StackStatus").enum
BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
TABLE = "AWS::DynamoDB::Table"


@pytest.fixture(autouse=True)
def _only_stacks(no_preflight):
    pass


def test_every_state_of_cloudformation_has_a_next_step():
    assert set(states.STEPS) == set(STATUSES)


def test_goes_on_from_a_proposed_stack(deployment):
    deployment.account.client("cloudformation", HOME)._new("first-artifacts")

    run = deployment.deploy()

    assert run.status == 0, run.text


@pytest.mark.parametrize("stack", ["first-data", "first-compute"])
def test_waits_for_a_creation_that_an_interrupted_run_began(deployment, stack):
    deployment.account.pace = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adtrack_deploy.cloudformation.time.sleep", _interrupt_during(deployment, stack))
        run = deployment.deploy()
    assert run.status == 130 and f"{stack} in eu-west-1 is CREATE_IN_PROGRESS" in run.text, run.text
    assert "Run the same command again" in run.text

    run = deployment.deploy()

    assert run.status == 0 and f"{stack}: another operation is in progress" in run.text, run.text
    assert deployment.orphans() == []


def test_gives_up_waiting_after_its_limit(deployment, monkeypatch):
    seconds = itertools.count(step=60)
    monkeypatch.setattr("adtrack_deploy.cloudformation.time.monotonic", lambda: next(seconds))
    deployment.account.pace = 1

    run = deployment.deploy("--wait-minutes", "10")

    assert run.status == 69 and "after 10 minutes" in run.text and "Run the same command again" in run.text
    assert "CREATE_IN_PROGRESS for 60 s; " in run.text


def test_deletes_a_protected_load_balancer_of_a_failed_creation(deployment):
    """As a creation by an earlier version left it."""
    _fail_with_a_protected_balancer(deployment)

    run = deployment.deploy()

    assert run.status == 0 and "deletion protection is enabled" in run.text, run.text
    assert deployment.orphans() == []


def test_destroys_what_a_failed_creation_left(deployment):
    _fail_with_a_protected_balancer(deployment)

    run = deployment.destroy("--delete-data")

    assert run.status == 0 and deployment.statuses() == {} and deployment.orphans() == [], run.text


@pytest.mark.parametrize("disable_rollback", [False, True])
@pytest.mark.parametrize("kind", [TABLE, "AWS::Kinesis::Stream", "AWS::S3::Bucket"])
def test_deletes_nothing_that_holds_data(deployment, kind, disable_rollback, monkeypatch):
    if disable_rollback:
        _create_without_rollback(monkeypatch)
    else:
        _break_in_rollback(deployment, kind)
    deployment.account.faults.append(Fault("create", "first-data", kind="AWS::S3::BucketPolicy"))
    assert deployment.deploy().status == 69
    [*_, full] = deployment.account.of(kind)
    full.contents = ["row"]
    there = set(deployment.account.resources)

    for run in (deployment.deploy(), deployment.destroy()):
        assert run.status == 69 and f"{full.name}. To delete it: aws " in run.text, run.text
    assert set(deployment.account.resources) >= {full.name} and len(there - set(deployment.account.resources)) < 40

    assert deployment.destroy("--delete-data").status == 0
    assert deployment.account.resources == {}


def test_creates_again_after_a_creation_without_rollback(deployment, monkeypatch):
    _create_without_rollback(monkeypatch)
    deployment.account.faults = [Fault("create", "first-data", kind="AWS::S3::BucketPolicy")]
    assert deployment.deploy().status == 69
    assert deployment.stack("data").status == "CREATE_FAILED"

    run = deployment.deploy()

    assert run.status == 0 and deployment.orphans() == [], run.text


def test_a_failed_creation_itself_leaves_no_streams_behind(deployment):
    deployment.account.faults = [Fault("create", "first-data", kind="AWS::S3::BucketPolicy")]

    assert deployment.deploy().status == 69

    assert deployment.account.of("AWS::Kinesis::Stream") == []


def test_deletes_the_snapshot_of_a_redis_that_was_never_used(deployment):
    deployment.account.faults = [Fault("create", "first-redis", "TrackerRedisUrl")]
    assert deployment.deploy().status == 69
    assert len(deployment.account.snapshots) == 1

    assert deployment.deploy().status == 0

    assert deployment.account.snapshots == {}


def test_deletes_a_bucket_that_is_written_to_until_its_stack_is_gone(deployment, monkeypatch):
    assert deployment.deploy().status == 0
    delete, calls = retained.Bucket.delete, itertools.count()
    monkeypatch.setattr(retained.Bucket, "delete",
                        lambda self, name: delete(self, name) if next(calls) else None)

    run = deployment.destroy("--delete-data")

    assert run.status == 0 and deployment.account.resources == {}, run.text


def test_rolls_a_failed_update_back_and_updates(deployment, monkeypatch):
    assert deployment.deploy().status == 0
    _create_without_rollback(monkeypatch)
    deployment.account.faults = [Fault("update", "first-lambdas", kind="AWS::Lambda::Function")]
    assert deployment.deploy(parameters={"LogLevel": "debug"}).status == 69
    assert deployment.stack("lambdas").status == "UPDATE_FAILED"

    run = deployment.deploy(parameters={"LogLevel": "debug"})

    assert run.status == 0 and deployment.stack("lambdas").status == "UPDATE_COMPLETE", run.text


def test_continues_a_rollback_that_failed(deployment):
    assert deployment.deploy().status == 0
    _fail_update_and_rollback(deployment, times=1)

    run = deployment.deploy(parameters={"LogLevel": "debug"})

    assert run.status == 0 and deployment.stack("lambdas").status == "UPDATE_COMPLETE", run.text


def test_skips_in_a_rollback_only_what_it_is_told(deployment):
    assert deployment.deploy().status == 0
    _fail_update_and_rollback(deployment, times=100)

    run = deployment.deploy(parameters={"LogLevel": "debug"})
    assert run.status == 69 and "--skip-in-rollback Consumer" in run.text, run.text

    run = deployment.deploy("--skip-in-rollback", "Consumer", parameters={"LogLevel": "debug"})
    assert run.status == 0, run.text


def test_never_deletes_a_stack_that_worked(deployment):
    assert deployment.deploy().status == 0
    deployment.account.faults = [Fault("delete", "first-compute", times=1_000)]
    run = deployment.destroy()
    assert run.status == 69 and "deploy/destroy --retain " in run.text, run.text
    there = set(deployment.account.resources)

    run = deployment.deploy()

    assert run.status == 69 and "it worked once" in run.text and "deploy/destroy" in run.text, run.text
    assert there <= set(deployment.account.resources)


def test_destroy_leaves_behind_only_what_it_is_told(deployment):
    assert deployment.deploy().status == 0
    deployment.account.faults = [Fault("delete", "first-compute", "TargetGroup", times=100)]
    assert deployment.destroy().status == 69

    run = deployment.destroy("--retain", "TargetGroup")

    assert run.status == 0 and "kept: AWS::ElasticLoadBalancingV2::TargetGroup first-compute" in run.text, run.text
    assert deployment.stack("compute") is None


def test_destroy_goes_on_past_a_stack_that_stays(deployment):
    assert deployment.deploy().status == 0
    deployment.account.faults = [Fault("delete", "first-observability", times=1_000)]

    run = deployment.destroy()

    assert run.status == 69 and "first-observability could not be deleted" in run.text
    assert deployment.stack("lambdas") is None


def test_stops_at_a_failed_import(deployment):
    assert deployment.deploy().status == 0
    deployment.stack("network").status = "IMPORT_ROLLBACK_FAILED"

    run = deployment.deploy()

    assert run.status == 69 and "AWS Support" in run.text, run.text


@pytest.mark.parametrize("status", sorted(states.STABLE))
def test_updates_from_every_stable_state(deployment, status):
    assert deployment.deploy().status == 0
    deployment.stack("lambdas").status = status

    run = deployment.deploy(parameters={"LogLevel": "debug"})

    assert run.status == 0 and "first-lambdas: UPDATE_COMPLETE" in run.text, run.text


def test_keeps_snapshots_and_data_unless_told(deployment):
    assert deployment.deploy().status == 0

    run = deployment.destroy()

    assert run.status == 0 and "first-data: kept, it holds data" in run.text, run.text
    assert set(deployment.statuses()) == {"first-artifacts", "first-data"}
    assert len(deployment.account.snapshots) == 1


def _interrupt_during(deployment, stack):
    """For time.sleep: ctrl-C, once this stack is being created."""
    def sleep(_):
        if stack in deployment.statuses() and deployment.statuses()[stack] == "CREATE_IN_PROGRESS":
            raise KeyboardInterrupt
    return sleep


def _fail_with_a_protected_balancer(deployment):
    deployment.account.faults = [Fault("create", "first-compute", kind="AWS::ECS::Service")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout.RegionRollout, "_protection", lambda *_: "true")
        assert deployment.deploy().status == 69
    assert deployment.stack("compute").status == "ROLLBACK_FAILED"


def _break_in_rollback(deployment, kind):
    """The rollback cannot delete it, once."""
    create = deployment.account.create

    def protected(made, *rest):
        name = create(made, *rest)
        if made == kind:
            deployment.account.faults.append(Fault("delete", kind=kind))
        return name
    deployment.account.create = protected


def _create_without_rollback(monkeypatch):
    """As somebody does by hand, to look at what failed."""
    execute = changes.Changes.apply

    def apply(self, *arguments, **rest):
        api = self._api
        if "executes" not in vars(api):
            api.executes = api.execute_change_set
            api.execute_change_set = lambda **request: api.executes(**request, DisableRollback=True)
        return execute(self, *arguments, **rest)
    monkeypatch.setattr(changes.Changes, "apply", apply)


def _fail_update_and_rollback(deployment, times):
    deployment.account.faults = [Fault("update", "first-lambdas", "UpdaterMapping"),
                                 Fault("update", "first-lambdas", "Updater"),
                                 Fault("rollback", "first-lambdas", "Consumer", times=times)]
    assert deployment.deploy(parameters={"LogLevel": "debug"}).status == 69
    assert deployment.stack("lambdas").status == "UPDATE_ROLLBACK_FAILED"
