"""Resources that outlive their stack or are protected from deletion.

A stack whose creation failed has no outputs, and deletion policies keep tables, streams, buckets, keys and
repositories. So these resources are identified by type and physical id. For each type: whether a resource is
empty, how its protection is removed, how it is deleted, and the command that an operator can run to delete it.
"""

import time

from botocore.exceptions import ClientError

# The waiting period of a key's deletion, during which the deletion can be cancelled.
KEY_DAYS = 30
GONE = {"ResourceNotFoundException", "NoSuchBucket", "RepositoryNotFoundException", "NotFoundException",
        "LoadBalancerNotFound", "LoadBalancerNotFoundException",
        "ReplicationGroupNotFoundFault", "SnapshotNotFoundFault", "CacheClusterNotFound"}
# A load balancer writes it to test its permission.
TEST_FILE = "ELBAccessLogTestFile"
WAIT_LIMIT_SECONDS = 900


class RetainedResource:
    """A resource type. The methods that a type does not override do nothing."""

    service = None
    kind = "resource"
    deletion = "deleted"

    def __init__(self, client, region, client_of=None):
        self._client = client
        self._region = region
        # Clients of the same service in another region.
        self._client_of = client_of

    def is_empty(self, name):
        return True

    def unprotect(self, name):
        """Removes deletion protection."""

    def delete(self, name):
        """Deletes the resource with everything in it."""

    def command(self, name):
        """The command with which an operator deletes it."""
        return ""


class Table(RetainedResource):
    service, kind = "dynamodb", "table"

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
        give_up = time.monotonic() + WAIT_LIMIT_SECONDS
        while time.monotonic() < give_up:
            table = self._client.describe_table(TableName=name)["Table"]
            replicas = [one.get("ReplicaStatus", "ACTIVE") for one in table.get("Replicas", [])]
            if {table["TableStatus"], *replicas} == {"ACTIVE"}:
                return
            time.sleep(2)


class GlobalTable(Table):
    kind = "global table"

    def unprotect(self, name):
        super().unprotect(name)
        for region in self._replicas(name):
            self._client_of(region).update_table(TableName=name, DeletionProtectionEnabled=False)
        self._until_active(name)

    def delete(self, name):
        self.unprotect(name)
        # DynamoDB removes one replica at a time, and a table with replicas cannot be deleted.
        for region in self._replicas(name):
            self._client.update_table(
                TableName=name, ReplicaUpdates=[{"Delete": {"RegionName": region}}])
            self._until_active(name)
        self._client.delete_table(TableName=name)

    def _replicas(self, name):
        table = self._client.describe_table(TableName=name)["Table"]
        return [one["RegionName"] for one in table.get("Replicas", []) if one["RegionName"] != self._region]


class Stream(RetainedResource):
    service, kind = "kinesis", "stream"

    def is_empty(self, name):
        if self._is_deleting(name):
            return True
        pages = self._client.get_paginator("list_shards").paginate(StreamName=name)
        return not any(self._has_records(name, shard["ShardId"]) for page in pages for shard in page["Shards"])

    def delete(self, name):
        if not self._is_deleting(name):
            self._client.delete_stream(StreamName=name, EnforceConsumerDeletion=True)

    def command(self, name):
        return (f"aws kinesis delete-stream --region {self._region} --stream-name {name} "
                "--enforce-consumer-deletion")

    def _is_deleting(self, name):
        summary = self._client.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        return summary["StreamStatus"] == "DELETING"

    def _has_records(self, name, shard):
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


class Bucket(RetainedResource):
    service, kind = "s3", "bucket"

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
                    raise DeletionError(f"bucket {name}: {refused[0].get('Key')}: {refused[0].get('Message')}")
        try:
            self._client.delete_bucket(Bucket=name)
        except ClientError as error:
            # Something still writes to it, such as a load balancer. It is deleted once that is gone.
            if error.response["Error"]["Code"] != "BucketNotEmpty":
                raise

    def command(self, name):
        return f"aws s3 rb s3://{name} --force --region {self._region}"


class Repository(RetainedResource):
    service, kind = "ecr", "image repository"

    def is_empty(self, name):
        return not self._client.describe_images(repositoryName=name, maxResults=1)["imageDetails"]

    def delete(self, name):
        self._client.delete_repository(repositoryName=name, force=True)

    def command(self, name):
        return f"aws ecr delete-repository --region {self._region} --repository-name {name} --force"


class Key(RetainedResource):
    service, kind = "kms", "key"
    deletion = f"deletion scheduled, in {KEY_DAYS} days"

    def delete(self, name):
        try:
            self._client.schedule_key_deletion(
                KeyId=name.rsplit("/", 1)[-1], PendingWindowInDays=KEY_DAYS)
        except ClientError as error:
            # Its deletion is scheduled already.
            if error.response["Error"]["Code"] != "KMSInvalidStateException":
                raise

    def command(self, name):
        return f"aws kms schedule-key-deletion --region {self._region} --key-id {name.rsplit('/', 1)[-1]}"


class LoadBalancer(RetainedResource):
    service, kind = "elbv2", "load balancer"

    def unprotect(self, name):
        self._client.modify_load_balancer_attributes(
            LoadBalancerArn=name, Attributes=[{"Key": "deletion_protection.enabled", "Value": "false"}])


class DeletionError(Exception):
    """A resource could not be deleted."""


# The key last: what it encrypts must be deleted first.
TYPES = {
    "AWS::ElasticLoadBalancingV2::LoadBalancer": LoadBalancer,
    "AWS::DynamoDB::Table": Table,
    "AWS::DynamoDB::GlobalTable": GlobalTable,
    "AWS::Kinesis::Stream": Stream,
    "AWS::S3::Bucket": Bucket,
    "AWS::ECR::Repository": Repository,
    "AWS::KMS::Key": Key,
}
# The types that hold data.
DATA = {name for name in TYPES if name != "AWS::ElasticLoadBalancingV2::LoadBalancer"}


class RetainedResources:
    """The retained resources of a region. A resource that is deleted already is not an error."""

    def __init__(self, aws, region):
        self._aws = aws
        self._region = region

    def of(self, resources):
        """Those of `resources` that can outlive their stack or be protected, in the order of TYPES."""
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
        """Its kind and name, for messages."""
        return f"{self._typed(resource).kind} {resource['PhysicalResourceId']}"

    def describe_deletion(self, resource):
        """What `delete` has done, for messages."""
        return self._typed(resource).deletion

    def command(self, resource):
        return self._typed(resource).command(resource["PhysicalResourceId"])

    def snapshots(self, resources):
        """Names of the snapshots that were taken when Redis was deleted."""
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

    def _typed(self, resource):
        of_type = TYPES[resource["ResourceType"]]
        return of_type(self._aws.client(of_type.service, self._region), self._region,
                       lambda region: self._aws.client(of_type.service, region))

    def _unless_gone(self, resource, action, otherwise):
        try:
            return getattr(self._typed(resource), action)(resource["PhysicalResourceId"])
        except ClientError as error:
            if error.response["Error"]["Code"] in GONE:
                return otherwise
            raise
