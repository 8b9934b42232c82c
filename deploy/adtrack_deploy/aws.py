"""Clients for AWS, or for an emulator on this machine."""

import os
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

RETRIES = Config(retries={"max_attempts": 10, "mode": "standard"}, connect_timeout=10, read_timeout=60)


class AwsError(Exception):
    """AWS cannot be used as it is configured."""


class Aws:
    """Clients for each region."""

    def __init__(self, emulator=None):
        redirected = sorted(name for name in os.environ if name.startswith("AWS_ENDPOINT_URL"))
        if redirected:
            raise AwsError(
                f"{', '.join(redirected)} is set: part of this would go elsewhere. "
                "Unset it (a terminal of the local stack has it), or use --emulator URL.")
        if emulator and urlsplit(emulator).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise AwsError(f"--emulator {emulator}: expected a URL of this machine")
        self.emulator = emulator
        # An emulator is never shown credentials.
        dummy = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
        self._clients = {}
        self._session = boto3.Session(**(dummy if emulator else {}))

    def client(self, service, region):
        """A client of `service` in `region`: one, for to make it takes a tenth of a second."""
        if (service, region) not in self._clients:
            self._clients[service, region] = self._session.client(
                service, region_name=region, endpoint_url=self.emulator, config=RETRIES)
        return self._clients[service, region]

    def account(self, region):
        """Whose account this is, and who we are in it."""
        identity = self.client("sts", region).get_caller_identity()
        return identity["Account"], identity["Arn"]
