"""Resources that hold something or refuse to be deleted, each found by its id in the stack.

A stack that failed has no outputs, and its deletion policies keep tables, streams, buckets, keys and
repositories. So this goes by type and physical id: whether it is empty, how it is opened for deletion,
how it is deleted, and the command with which a person does that.
"""

import time

from botocore.exceptions import ClientError

# Until then a key, and with it whatever it encrypted, can be had back.
KEY_DAYS = 30
GONE = {"ResourceNotFoundException", "NoSuchBucket", "RepositoryNotFoundException", "NotFoundException",
        "LoadBalancerNotFound", "LoadBalancerNotFoundException",
        "ReplicationGroupNotFoundFault", "SnapshotNotFoundFault", "CacheClusterNotFound"}
# A load balancer writes it to see whether it may.
TEST_FILE = "ELBAccessLogTestFile"
PATIENCE_SECONDS = 900


class Holding:
    """A type of resources. What it cannot do is nothing to be done."""

    service = None
    what = "resource"

    def __init__(self, client, region, client_of=None):
        self._client = client
        self._region = region
        # Clients of the same service in another region.
        self._client_of = client_of

    def is_empty(self, name):
        return True

    def unprotect(self, name):
        """Has it no longer refuse to be deleted."""

    def delete(self, name):
        """Deletes it, with what it holds."""

    def command(self, name):
        """What a person types to delete it."""
        return ""


class Table(Holding):
    service, what = "dynamodb", "table"

    def is_empty(self, name):
        return not self._client.scan(TableName=name, Limit=1)["Items"]

    def unprotect(self, name):
        if self._client.describe_table(TableName=name)["Table"].get("DeletionProtectionEnabled"):
            self._client.update_table(TableName=name, DeletionProtectionEnabled=False)
            self._until_active(name)

    def delete(self, name):
        if self._client.describe_table(TableName=name)["Table"]["TableStatus"] != "DELETING":
            self.unprotect(name)
            self._client.delete_table(TableName=name)

    def command(self, name):
        return (f"aws dynamodb update-table --region {self._region} --table-name {name} "
                f"--no-deletion-protection-enabled; aws dynamodb delete-table --region {self._region} "
                f"--table-name {name}")

    def _until_active(self, name):
        give_up = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < give_up:
            table = self._client.describe_table(TableName=name)["Table"]
            replicas = [one.get("ReplicaStatus", "ACTIVE") for one in table.get("Replicas", [])]
            if {table["TableStatus"], *replicas} == {"ACTIVE"}:
                return
            time.sleep(2)


class GlobalTable(Table):
    what = "global table"

    def unprotect(self, name):
        super().unprotect(name)
        for region in self._replicas(name):
            self._client_of(region).update_table(TableName=name, DeletionProtectionEnabled=False)
        self._until_active(name)

    def delete(self, name):
        self.unprotect(name)
        # DynamoDB takes one replica at a time, and a table with replicas cannot be deleted.
        for region in self._replicas(name):
            self._client.update_table(
                TableName=name, ReplicaUpdates=[{"Delete": {"RegionName": region}}])
            self._until_active(name)
        self._client.delete_table(TableName=name)

    def _replicas(self, name):
        table = self._client.describe_table(TableName=name)["Table"]
        return [one["RegionName"] for one in table.get("Replicas", []) if one["RegionName"] != self._region]


class Stream(Holding):
    service, what = "kinesis", "stream"

    def is_empty(self, name):
        if self._is_going(name):
            return True
        pages = self._client.get_paginator("list_shards").paginate(StreamName=name)
        return not any(self._holds(name, shard["ShardId"]) for page in pages for shard in page["Shards"])

    def delete(self, name):
        if not self._is_going(name):
            self._client.delete_stream(StreamName=name, EnforceConsumerDeletion=True)

    def command(self, name):
        return (f"aws kinesis delete-stream --region {self._region} --stream-name {name} "
                "--enforce-consumer-deletion")

    def _is_going(self, name):
        summary = self._client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return summary["StreamStatus"] == "DELETING"

    def _holds(self, name, shard):
        iterator = self._client.get_shard_iterator(
            StreamName=name, ShardId=shard, ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        while iterator:
            page = self._client.get_records(ShardIterator=iterator, Limit=1)
            if page["Records"]:
                return True
            # A shard's first pages may be empty although records follow.
            if not page.get("MillisBehindLatest"):
                return False
            iterator = page.get("NextShardIterator")
        return False


class Bucket(Holding):
    service, what = "s3", "bucket"

    def is_empty(self, name):
        page = self._client.list_object_versions(Bucket=name, MaxKeys=2)
        return all(item["Key"].endswith(TEST_FILE)
                   for item in page.get("Versions", []) + page.get("DeleteMarkers", []))

    def delete(self, name):
        for page in self._client.get_paginator("list_object_versions").paginate(Bucket=name):
            objects = [
                {"Key": item["Key"], "VersionId": item["VersionId"]}
                for item in page.get("Versions", []) + page.get("DeleteMarkers", [])
            ]
            if objects:
                refused = self._client.delete_objects(
                    Bucket=name, Delete={"Objects": objects, "Quiet": True}).get("Errors", [])
                if refused:
                    raise HoldingError(f"bucket {name}: {refused[0].get('Key')}: {refused[0].get('Message')}")
        try:
            self._client.delete_bucket(Bucket=name)
        except ClientError as error:
            # Somebody still writes to it, such as a load balancer; its stack goes first then.
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise

    def command(self, name):
        return f"aws s3 rb s3://{name} --force --region {self._region}"


class Repository(Holding):
    service, what = "ecr", "images"

    def is_empty(self, name):
        return not self._client.describe_images(repositoryName=name, maxResults=1)["imageDetails"]

    def delete(self, name):
        self._client.delete_repository(repositoryName=name, force=True)

    def command(self, name):
        return f"aws ecr delete-repository --region {self._region} --repository-name {name} --force"


class Key(Holding):
    service, what = "kms", f"key, in {KEY_DAYS} days,"

    def delete(self, name):
        try:
            self._client.schedule_key_deletion(
                KeyId=name.rsplit("/", 1)[-1], PendingWindowInDays=KEY_DAYS)
        except ClientError as error:
            # It is scheduled already.
            if error.response["Error"]["Code"] != "KMSInvalidStateException":
                raise

    def command(self, name):
        return f"aws kms schedule-key-deletion --region {self._region} --key-id {name.rsplit('/', 1)[-1]}"


class LoadBalancer(Holding):
    service, what = "elbv2", "load balancer"

    def unprotect(self, name):
        self._client.modify_load_balancer_attributes(
            LoadBalancerArn=name, Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])


class HoldingError(Exception):
    """Something that is not deleted although it should be."""


# The key last: whatever it encrypts has to go before it.
TYPES = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": LoadBalancer,
    "AWS::DynamoDB::Table": Table,
    "AWS::DynamoDB::GlobalTable": GlobalTable,
    "AWS::Kinesis::Stream": Stream,
    "AWS::S3::Bucket": Bucket,
    "AWS::ECR::Repository": Repository,
    "AWS::KMS::Key": Key,
}
# What deletion policies keep, and a person may want to keep.
DATA = {name for name in TYPES if name != "AWS::ElasticLoadBalancingV2::LoadBalancer"}


class Holdings:
    """Those of a region. What is gone already is not an error."""

    def __init__(self, aws, region):
        self._aws = aws
        self._region = region

    def of(self, resources):
        """The resources of a stack that hold something or are protected, in the order of TYPES."""
        order = list(TYPES)
        there = [one for one in resources
                 if one["ResourceType"] in TYPES and one.get("PhysicalResourceId")
                 and one["ResourceStatus"] != "DELETE_COMPLETE"]
        return sorted(there, key=lambda one: order.index(one["ResourceType"]))

    def is_empty(self, resource):
        return self._unless_gone(resource, "is_empty", True)

    def unprotect(self, resource):
        self._unless_gone(resource, "unprotect", None)

    def delete(self, resource):
        self._unless_gone(resource, "delete", None)

    def describe(self, resource):
        """Its kind and name, for a person."""
        return f"{self._holding(resource).what} {resource['PhysicalResourceId']}"

    def command(self, resource):
        return self._holding(resource).command(resource["PhysicalResourceId"])

    def snapshots(self, resources):
        """Names of the snapshots that the deletion of Redis has left."""
        groups = [one["PhysicalResourceId"] for one in resources
                  if one["ResourceType"] == "AWS::ElastiCache::ReplicationGroup" and one.get("PhysicalResourceId")]
        return [name for group in groups for name in self._snapshots_of(group)]

    def delete_snapshot(self, name):
        self._aws.client("elasticache", self._region).delete_snapshot(SnapshotName=name)

    def _snapshots_of(self, group):
        redis = self._aws.client("elasticache", self._region)
        try:
            pages = redis.get_paginator("describe_snapshots").paginate(
                ReplicationGroupId=group, SnapshotSource="user")
            return [snapshot["SnapshotName"] for page in pages for snapshot in page["Snapshots"]]
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return []
            raise

    def _holding(self, resource):
        kind = TYPES[resource["ResourceType"]]
        return kind(self._aws.client(kind.service, self._region), self._region,
                    lambda region: self._aws.client(kind.service, region))

    def _unless_gone(self, resource, action, otherwise):
        try:
            return getattr(self._holding(resource), action)(resource["PhysicalResourceId"])
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return otherwise
            raise
