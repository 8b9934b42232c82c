"""Builds and uploads the functions' packages, and the images of tracker and metrics agent."""

import base64
import hashlib
import subprocess
from pathlib import Path

from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parents[2]
AGENT_SOURCE = "public.ecr.aws/aws-observability/aws-otel-collector"
AGENT_VERSION = "v0.48.0"
FUNCTIONS = {"ConsumerPackage": "kinesis-consumer", "UpdaterPackage": "redis-updater"}
PLATFORMS = {"ARM64": "linux/arm64", "X86_64": "linux/amd64"}


class ArtifactError(Exception):
    """A build or an upload failed."""


def run(command, text=None):
    """Runs a command, with its standard error passed through. Returns its standard output."""
    try:
        done = subprocess.run(command, input=text, cwd=ROOT, text=True, stdout=subprocess.PIPE, check=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{command[0]} not found: install it") from error
    if done.returncode:
        raise ArtifactError(f"`{' '.join(command)}` exited with status {done.returncode}")
    return done.stdout.strip()


def revision():
    """The commit, used as the image's tag. Fails if the working tree has uncommitted changes."""
    changed = run(["git", "status", "--porcelain", "--", ".", ":!deploy/regions*.json"])
    if changed:
        raise ArtifactError(
            f"the working tree has {len(changed.splitlines())} uncommitted changes "
            f"({changed.splitlines()[0].strip()}, …), and images are tagged by commit")
    return run(["git", "rev-parse", "--short=12", "HEAD"])


def build_packages(architecture, folder):
    """Builds both packages, unless `folder` has them. Returns parameter names and files."""
    if folder is None:
        folder = ROOT / "target" / "package" / architecture
        run(["deploy/package", "--architecture", architecture, "--output", str(folder)])
    files = {name: Path(folder) / f"{function}.zip" for name, function in FUNCTIONS.items()}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise ArtifactError(f"no package at {', '.join(missing)}")
    return files


def upload_packages(s3, bucket, files):
    """Uploads the packages that the bucket does not have yet, under names with their hash. Returns the
    parameters.
    """
    parameters = {}
    for name, path in files.items():
        content = path.read_bytes()
        key = f"packages/{path.stem}-{hashlib.sha256(content).hexdigest()[:16]}.zip"
        try:
            s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                raise
            s3.put_object(Bucket=bucket, Key=key, Body=content)
        parameters[name] = key
    return parameters


def push_images(ecr, outputs, architecture):
    """Builds and pushes the tracker's image and copies the agent's, unless the repositories have them.
    Returns the parameters.
    """
    tag = f"{revision()}-{architecture.lower()}"
    tracker = f"{outputs['TrackerRepositoryUri']}:{tag}"
    agent = f"{outputs['AgentRepositoryUri']}:{AGENT_VERSION}"
    wanted = [image for image in (tracker, agent) if not _is_there(ecr, image)]
    if wanted:
        _log_in(ecr, outputs["TrackerRepositoryUri"].split("/")[0])
    if tracker in wanted:
        run(["docker", "buildx", "build", "--platform", PLATFORMS[architecture], "--provenance=false",
             "--file", "deploy/Dockerfile", "--tag", tracker, "--push", "."])
    if agent in wanted:
        run(["docker", "buildx", "imagetools", "create", "--tag", agent,
             f"{AGENT_SOURCE}:{AGENT_VERSION}"])
    return {"TrackerImage": tracker, "AgentImage": agent}


def _is_there(ecr, image):
    repository, tag = image.split("/", 1)[1].rsplit(":", 1)
    try:
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": tag}])
    except ecr.exceptions.ImageNotFoundException:
        return False
    return True


def _log_in(ecr, registry):
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    run(["docker", "login", "--username", user, "--password-stdin", registry], password)
