"""Deployments against a CloudFormation in memory."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[2])]

from adtrack_deploy import cli, cloudformation, parameters, preflight, rollout, stacks
from fake_account import Account
from fake_cloudformation import CloudFormation

HOME, OTHER = "eu-west-1", "us-east-1"


@dataclass
class Run:
    """How a command ended, and what it printed."""

    status: int
    text: str


class Deployment:
    """A deployment named `first`, in an account of its own."""

    def __init__(self, folder, account=None, **members):
        self.account = account or Account()
        self.folder = folder
        self.members = members
        for function in ("kinesis-consumer", "redis-updater"):
            (folder / f"{function}.zip").write_bytes(function.encode())

    def run(self, command, *arguments, **members):
        path = self.folder / "regions.json"
        certificate = "arn:aws:acm:{}:111122223333:certificate/1"
        regions = [{"name": region, "parameters": {
            "VpcCidr": f"10.{20 + number}.0.0/16", "CertificateArn": certificate.format(region)}}
            for number, region in enumerate((HOME, OTHER))]
        path.write_text(json.dumps({"deployment": "first", "home_region": HOME, "regions": regions,
                                    **self.members, **members}))
        lines = []
        known = ["--yes", "--poll-seconds", "0", "--regions", str(path)]
        if command is cli.deploy:
            known += ["--packages", str(self.folder), "--tracker-image", "registry/tracker:1",
                      "--agent-image", "registry/agent:1"]
        with contextlib.redirect_stderr(io.StringIO()) as errors, pytest.MonkeyPatch.context() as patch:
            patch.setattr(cli, "Aws", lambda _: self.account)
            status = command([*known, *arguments], out=lines.append)
        return Run(status, "\n".join([*map(str, lines), errors.getvalue()]))

    def deploy(self, *arguments, **members):
        return self.run(cli.deploy, "--region", HOME, *arguments, **members)

    def destroy(self, *arguments, **members):
        return self.run(cli.destroy, "--region", HOME, *arguments, **members)

    def stack(self, name, region=HOME):
        """The stack, whatever state it is in."""
        return CloudFormation(self.account, region)._find(f"first-{name}")

    def statuses(self, region=HOME):
        return {one.name: one.status for one in self.account.stacks.get(region, []) if not one.is_gone}

    def owned(self):
        """Names of all resources that a stack that is there lists as its own."""
        return {part.name for some in self.account.stacks.values() for one in some if not one.is_gone
                for part in one.parts.values() if part.status not in ("DELETE_COMPLETE", "DELETE_SKIPPED")}

    def orphans(self):
        """What exists and belongs to no stack."""
        return sorted(set(self.account.resources) - self.owned())


@pytest.fixture(scope="session", autouse=True)
def templates_are_read_once():
    patch = pytest.MonkeyPatch()
    patch.setattr(stacks, "body", _read_once(stacks.body))
    patch.setattr(cloudformation.time, "sleep", lambda _: None)
    yield
    patch.undo()


def _read_once(read):
    known = {}

    def body(stack, *folder):
        key = (stack, *folder)
        if key not in known:
            known[key] = read(stack, *folder)
        return known[key]
    return body


class Smoke:
    """The smoke test, which succeeds unless it is told otherwise."""

    fails = False

    def __init__(self, *_):
        pass

    def run(self):
        if Smoke.fails:
            raise rollout.ChangeError("the smoke test failed")


@pytest.fixture(autouse=True)
def smoke(monkeypatch):
    monkeypatch.setattr(rollout, "Smoke", Smoke)
    monkeypatch.setattr(Smoke, "fails", False)
    return Smoke


@pytest.fixture
def deployment(tmp_path):
    return Deployment(tmp_path)


@pytest.fixture
def no_preflight(monkeypatch):
    monkeypatch.setattr(preflight, "run", lambda *_: False)


__all__ = ["HOME", "OTHER", "Deployment", "parameters"]
