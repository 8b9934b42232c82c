"""Clients for AWS, or for an emulator on this machine, and error messages that say what to do."""

import os
from urllib.parse import urlsplit

import boto3
from botocore import exceptions
from botocore.config import Config

RETRIES = Config(retries={"max_attempts": 10, "mode": "standard"}, connect_timeout=10, read_timeout=60)
# For emulators: what fails once fails again.
ONCE = Config(retries={"total_max_attempts": 1, "mode": "standard"})
LOG_IN = ("log in (`aws sso login`, with AWS_PROFILE if it is not the default profile), or set "
          "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN")
RESUME = "CloudFormation continues with what it was doing; run the same command again to resume"
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
INVALID = {"InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure", "InvalidAccessKeyId",
           "SignatureDoesNotMatch", "IncompleteSignature"}
DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Forbidden", "403"}
THROTTLED = {"Throttling", "ThrottlingException", "RequestLimitExceeded", "TooManyRequestsException",
             "ProvisionedThroughputExceededException", "SlowDown"}

NO_SESSION = (exceptions.SSOError, exceptions.TokenRetrievalError, exceptions.CredentialRetrievalError)
UNREACHABLE = (exceptions.ConnectionError, exceptions.HTTPClientError)


class AwsError(Exception):
    """AWS access is misconfigured."""


class Aws:
    """Creates the clients of each service and region, once."""

    def __init__(self, emulator=None):
        redirected = sorted(name for name in os.environ if name.startswith("AWS_ENDPOINT_URL"))
        if redirected:
            raise AwsError(
                f"{', '.join(redirected)} is set: some calls would go to another endpoint. "
                "Unset it (a terminal of the local stack has it), or use --emulator URL.")
        if emulator and urlsplit(emulator).hostname not in ("127.0.0.1", "localhost", "::1"):
            raise AwsError(f"--emulator {emulator}: expected a URL of this machine")
        self.emulator = emulator
        # An emulator never gets real credentials.
        dummy = {"aws_access_key_id": "emulator", "aws_secret_access_key": "emulator"}
        self._clients = {}
        self._session = boto3.Session(**(dummy if emulator else {}))

    def client(self, service, region):
        """A client of `service` in `region`. Cached, because creating one takes a tenth of a second."""
        if (service, region) not in self._clients:
            self._clients[service, region] = self._session.client(
                service, region_name=region, endpoint_url=self.emulator,
                config=ONCE if self.emulator else RETRIES)
        return self._clients[service, region]

    def as_role(self, role_arn, service, region):
        """A client of `service` with the permissions of a role, which may be in another account."""
        got = self.client("sts", region).assume_role(RoleArn=role_arn, RoleSessionName="adtrack-deploy")
        keys = got["Credentials"]
        return boto3.Session(
            aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"],
            aws_session_token=keys["SessionToken"],
        ).client(service, region_name=region, endpoint_url=self.emulator, config=RETRIES)

    def account(self, region):
        """The account's id, and the ARN of the caller."""
        identity = self.client("sts", region).get_caller_identity()
        return identity["Account"], identity["Arn"]


def code_of(error):
    """The error code of the response; empty if there was none."""
    return (getattr(error, "response", None) or {}).get("Error", {}).get("Code", "")


def explain(error):
    """Describes an error of boto3 in a sentence, with what to do about it."""
    code = code_of(error)
    text = str(error)
    if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
        text = f"no AWS credentials: {LOG_IN}"
    elif isinstance(error, exceptions.ProfileNotFound):
        text = f"{error}: unset AWS_PROFILE, or name one that `aws configure list-profiles` shows"
    elif code in EXPIRED or isinstance(error, NO_SESSION):
        text = f"the AWS credentials have expired ({error}): {LOG_IN}. {RESUME}"
    elif code in INVALID:
        text = f"AWS does not accept the credentials ({error}): {LOG_IN}. Check this machine's clock, too"
    elif code == "OptInRequired":
        text = (f"{error}: this region is not enabled for the account. "
                "`aws account enable-region --region-name REGION` enables it, within minutes to hours")
    elif code in DENIED:
        text = f"not permitted: {error}. docs/DEPLOY.md says which permissions deploy needs"
    elif code in THROTTLED:
        text = f"AWS still throttles the calls after 10 attempts: {error}. {RESUME}"
    elif isinstance(error, UNREACHABLE):
        text = f"AWS cannot be reached: {error}. Check network, proxy and DNS. {RESUME}"
    return text
