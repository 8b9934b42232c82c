"""moto as the emulator, and deployments in it."""

import contextlib
import io
import json
import sys
import urllib.request
import zipfile
from pathlib import Path

import boto3
import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import shim
from adtrack_deploy import cli
from moto.server import ThreadedMotoServer

REGIONS = ("eu-west-1", "us-east-1")


class Emulator:
    """moto, and what a test asks of it."""

    def __init__(self, url, folder):
        self.url = url
        self.folder = folder
        self.packages = folder / "packages"
        self.packages.mkdir()
        for name in ("kinesis-consumer", "redis-updater"):
            with zipfile.ZipFile(self.packages / f"{name}.zip", "w") as package:
                package.writestr("bootstrap", name)

    def client(self, service, region):
        return boto3.client(service, region_name=region, endpoint_url=self.url,
                            aws_access_key_id="emulator", aws_secret_access_key="emulator")

    def regions_file(self, deployment, **members):
        """A file of regions, with a certificate in each."""
        regions = [
            {"name": region, "parameters": {
                "VpcCidr": f"10.{20 + number}.0.0/16",
                "Zone1": f"{region}a", "Zone2": f"{region}b", "Zone3": f"{region}c",
                "CertificateArn": self.client("acm", region).request_certificate(
                    DomainName="t.example")["CertificateArn"],
            }} for number, region in enumerate(REGIONS)
        ]
        path = self.folder / f"{deployment}.json"
        path.write_text(json.dumps({"deployment": deployment, "home_region": REGIONS[0],
                                    "regions": regions, **members}))
        return path

    def run(self, command, deployment, *arguments, **members):
        """Runs deploy or destroy. Returns the exit status and what it printed."""
        lines = []
        known = ["--emulator", self.url, "--poll-seconds", "0.05", "--yes",
                 "--regions", str(self.regions_file(deployment, **members))]
        if command is cli.deploy:
            known += ["--packages", str(self.packages), "--tracker-image", "registry/tracker:1",
                      "--agent-image", "registry/agent:1"]
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            status = command([*known, *arguments], out=lines.append)
        return status, "\n".join([*map(str, lines), errors.getvalue()])

    def resources(self, deployment, region):
        """Every resource of a deployment's stacks: (type, physical id)."""
        api = self.client("cloudformation", region)
        found = set()
        for stack in api.describe_stacks()["Stacks"]:
            if stack["StackName"].startswith(f"{deployment}-"):
                pages = api.get_paginator("list_stack_resources").paginate(StackName=stack["StackName"])
                found |= {(one["ResourceType"], one["PhysicalResourceId"])
                          for page in pages for one in page["StackResourceSummaries"]
                          if one["ResourceType"]}
        return found

    def outputs(self, deployment, region):
        """All outputs of a deployment's stacks."""
        stacks = self.client("cloudformation", region).describe_stacks()["Stacks"]
        return {
            output["OutputKey"]: output["OutputValue"]
            for stack in stacks if stack["StackName"].startswith(f"{deployment}-")
            for output in stack.get("Outputs", [])
        }


@pytest.fixture(scope="session", autouse=True)
def patched():
    shim.install()


@pytest.fixture
def emulator(tmp_path):
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    here = Emulator(f"http://{host}:{port}", tmp_path)
    yield here
    reset = urllib.request.Request(f"{here.url}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).read()
    server.stop()
