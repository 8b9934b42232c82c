"""Taking a region down: what it served first, its data last and only when told."""

from botocore.exceptions import ClientError

from . import stacks
from .changes import Stacks

# Until then a key, and with it whatever it encrypted, can be had back.
KEY_DAYS = 30
GONE = ("ResourceNotFoundException", "NoSuchBucket", "RepositoryNotFoundException",
        "KMSInvalidStateException")


def take_down(aws, rollout, region, arguments, out):
    """Deletes the stacks of a region, and what outlives them where --delete-data says so."""
    api = Stacks(aws.client("cloudformation", region.name), None, out, arguments.poll_seconds)
    all_regions = {one.name for one in rollout.regions} == set(arguments.region)
    for stack in reversed(stacks.STACKS):
        name = f"{rollout.deployment}-{stack.name}"
        # What there is once belongs to all regions.
        if api.describe(name) is None or (stack.once and not all_regions):
            continue
        if stack.name == "compute":
            _unprotect(aws, region, api.outputs(name))
        if stack.holds_data and not arguments.delete_data:
            out(f"  {name}: stays, it holds data")
            continue
        if stack.holds_data:
            # Before the stack, whose outputs say what it is: so this can be repeated.
            _delete_data(aws, region, api.outputs(name), out)
            api.protect(name, False)
        api.delete(name)


def _unprotect(aws, region, outputs):
    """The load balancer refuses to be deleted."""
    balancers = aws.client("elbv2", region.name)
    for balancer in balancers.describe_load_balancers()["LoadBalancers"]:
        if balancer["DNSName"] == outputs.get("LoadBalancerDnsName"):
            balancers.modify_load_balancer_attributes(
                LoadBalancerArn=balancer["LoadBalancerArn"],
                Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])


def _delete_data(aws, region, outputs, out):
    def delete(what, call):
        try:
            call()
        except ClientError as error:
            if error.response["Error"]["Code"] not in GONE:
                raise
        out(f"  {what}: deleted")

    kinesis, tables = aws.client("kinesis", region.name), aws.client("dynamodb", region.name)
    s3, ecr = aws.client("s3", region.name), aws.client("ecr", region.name)
    for output in ("EventStreamName", "CoreDataStreamName"):
        if output in outputs:
            delete(f"stream {outputs[output]}", lambda: kinesis.delete_stream(
                StreamName=outputs[output], EnforceConsumerDeletion=True))
    for output in ("TableName", "GlobalTableName"):
        if output in outputs:
            delete(f"table {outputs[output]}", lambda: _delete_table(tables, outputs[output]))
    for output in ("RecordsBucketName", "ArtifactBucketName"):
        if output in outputs:
            delete(f"bucket {outputs[output]}", lambda: _delete_bucket(s3, outputs[output]))
    for output in ("TrackerRepositoryUri", "AgentRepositoryUri"):
        if output in outputs:
            repository = outputs[output].split("/", 1)[1]
            delete(f"images {repository}",
                   lambda: ecr.delete_repository(repositoryName=repository, force=True))
    if "KeyArn" in outputs:
        kms = aws.client("kms", region.name)
        delete(f"key, in {KEY_DAYS} days, {outputs['KeyArn']}", lambda: kms.schedule_key_deletion(
            KeyId=outputs["KeyArn"].rsplit("/", 1)[-1], PendingWindowInDays=KEY_DAYS))


def _delete_table(tables, name):
    tables.update_table(TableName=name, DeletionProtectionEnabled=False)
    tables.get_waiter("table_exists").wait(TableName=name)
    tables.delete_table(TableName=name)


def _delete_bucket(s3, bucket):
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        objects = [
            {"Key": item["Key"], "VersionId": item["VersionId"]}
            for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
        ]
        if objects:
            s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    s3.delete_bucket(Bucket=bucket)
