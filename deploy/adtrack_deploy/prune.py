"""Deletes old packages, templates and images on request. Age alone does not make them obsolete: a running
version may be years old.

Keeps what a stack of the deployment refers to, the images of running tasks, and the newest of each kind, so
that you can roll back to recent deployments.
"""

from collections import defaultdict

from . import stacks
from .cloudformation import ChangeError, Stacks

NEWEST = 10
PREFIXES = ("packages/", "templates/")


def prune(aws, rollout, region, dry_run, out):
    """Deletes what the region no longer uses; with `dry_run`, lists it."""
    if region.accounts or region.parameters.get("OrganizationId"):
        raise ChangeError(f"{region.name}: other accounts may use its packages and images, and deploy cannot see "
                          "which: nothing is deleted")
    api = Stacks(aws.client("cloudformation", region.name), out, region.name)
    names = [f"{rollout.deployment}-{stack.name}" for stack in stacks.of(region.layout)]
    outputs = {key: value for name in names for key, value in api.outputs(name).items()}
    used = {value for name in names for value in api.parameters(name).values()}
    used |= _images_of_tasks(aws.client("ecs", region.name), outputs)
    verb = "would delete" if dry_run else "deleted"
    if "ArtifactBucketName" in outputs:
        _prune_bucket(aws.client("s3", region.name), outputs["ArtifactBucketName"], used, dry_run,
                      lambda what: out(f"  {verb} {what}"))
    for output in ("TrackerRepositoryUri", "AgentRepositoryUri"):
        if output in outputs:
            _prune_repository(aws.client("ecr", region.name), outputs[output], used, dry_run,
                              lambda what: out(f"  {verb} {what}"))


def find_unused(items, used, newest=NEWEST):
    """The names among `items`, (name, time, kind), that are neither used nor among the newest of their kind."""
    kinds = defaultdict(list)
    for name, time, kind in items:
        kinds[kind].append((time, name))
    return sorted(name for some in kinds.values()
                  for _, name in sorted(some, reverse=True)[newest:] if name not in used)


def _images_of_tasks(ecs, outputs):
    if "ClusterName" not in outputs:
        return set()
    cluster, found = outputs["ClusterName"], set()
    for page in ecs.get_paginator("list_tasks").paginate(cluster=cluster, PaginationConfig={"PageSize": 100}):
        if page["taskArns"]:
            tasks = ecs.describe_tasks(cluster=cluster, tasks=page["taskArns"])["tasks"]
            found |= {container["image"] for task in tasks for container in task["containers"]
                      if "image" in container}
    return found


def _prune_bucket(s3, bucket, used, dry_run, say):
    items = []
    for prefix in PREFIXES:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            # packages/kinesis-consumer-HASH.zip: the kind is what stands before the hash.
            items += [(item["Key"], item["LastModified"], item["Key"].rsplit("-", 1)[0])
                      for item in page.get("Contents", [])]
    for key in find_unused(items, used):
        if not dry_run:
            # The bucket keeps its version for 30 days.
            s3.delete_object(Bucket=bucket, Key=key)
        say(f"s3://{bucket}/{key}")


def _prune_repository(ecr, uri, used, dry_run, say):
    repository = uri.split("/", 1)[1]
    items = []
    for page in ecr.get_paginator("describe_images").paginate(repositoryName=repository):
        items += [(f"{uri}:{tag}", image["imagePushedAt"], uri)
                  for image in page["imageDetails"] for tag in image.get("imageTags", [])]
    for image in find_unused(items, used):
        if not dry_run:
            ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageTag": image.rsplit(":", 1)[1]}])
        say(image)
