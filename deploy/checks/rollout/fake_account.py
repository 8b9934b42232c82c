"""An AWS account in memory: what resources there are, which refuse to go, and the calls of their services."""

import copy
import itertools
import json
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

SESSION = botocore.session.get_session()

LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
TABLES = ("AWS::DynamoDB::Table", "AWS::DynamoDB::GlobalTable")
REDIS = "AWS::ElastiCache::ReplicationGroup"


def refusal(code, message, call="Call"):
    return ClientError({"Error": {"Code": code, "Message": message},
                        "ResponseMetadata": {"HTTPStatusCode": 404 if code == "404" else 400}}, call)


@dataclass
class Resource:
    """A resource that exists. `contents` are rows, records, objects or images."""

    kind: str
    name: str
    region: str
    protected: bool = False
    contents: list = field(default_factory=list)


@dataclass
class Fault:
    """Something that goes wrong: `times` times, when `action` is done to a resource of this stack."""

    action: str
    stack: str = None
    logical: str = None
    kind: str = None
    times: int = 1
    # The resource is there all the same, as a service is whose tasks do not get healthy.
    leaves_it: bool = False

    def is_for(self, action, stack, logical, kind):
        return (self.times > 0 and self.action == action and self.stack in (None, stack)
                and self.logical in (None, logical) and self.kind in (None, kind))


class Account:
    """All regions. `pace` is how many steps CloudFormation gets on with at each look at a stack."""

    def __init__(self, pace=10_000):
        self.pace = pace
        self.resources = {}
        self.snapshots = {}
        self.keys_going = set()
        self.faults = []
        self.calls = []
        self.stacks = {}
        self.objects = {}
        self._numbers = itertools.count(1)
        self._clients = {}

    def copy(self):
        """The same account once more. Templates and events are never changed, and shared."""
        stacks = [stack for some in self.stacks.values() for stack in some]
        shared = [one for stack in stacks for one in (stack.template, *stack.events,
                                                      *(part.properties for part in stack.parts.values()))]
        members = {name: value for name, value in vars(self).items() if name != "_clients"}
        other = Account()
        vars(other).update(copy.deepcopy(members, {id(one): one for one in shared}))
        return other

    def number(self):
        return next(self._numbers)

    def fails(self, action, stack, logical, kind):
        """The fault of this action, if there is one; it is used up."""
        for fault in self.faults:
            if fault.is_for(action, stack, logical, kind):
                fault.times -= 1
                return fault
        return None

    def create(self, kind, stack, logical, region):
        name = f"{stack}-{logical}-{self.number()}".lower()
        if kind == LOAD_BALANCER:
            name = f"arn:aws:elasticloadbalancing:{region}:111122223333:loadbalancer/app/{name}/1"
        self.resources[name] = Resource(kind, name, region)
        return name

    def delete(self, name):
        """What the service says to a deletion: a reason to refuse, or none."""
        found = self.resources.get(name)
        if found is None:
            return None
        if found.protected:
            return f"{found.kind} {name} cannot be deleted because deletion protection is enabled"
        if found.kind in ("AWS::S3::Bucket", "AWS::ECR::Repository") and found.contents:
            return f"{name} is not empty"
        if found.kind == "AWS::KMS::Key":
            self.keys_going.add(name)
        del self.resources[name]
        return None

    def of(self, kind, region=None):
        return [one for one in self.resources.values() if one.kind == kind and region in (None, one.region)]

    # What the roll-out sees as `Aws`.
    emulator = None

    def account(self, _region):
        return "111122223333", "arn:aws:iam::111122223333:user/tester"

    def client(self, service, region):
        if (service, region) not in self._clients:
            from fake_cloudformation import CloudFormation
            made = {"cloudformation": CloudFormation, "dynamodb": DynamoDb, "kinesis": Kinesis, "s3": S3,
                    "ecr": Ecr, "kms": Kms, "elbv2": Balancers, "elasticache": ElastiCache, "ec2": Ec2, "ecs": Ecs}
            self._clients[service, region] = Checked(service, made.get(service, Denied)(self, region))
        return self._clients[service, region]


class Checked:
    """A client that takes only what the real one takes: calls, members and paginators of botocore's models."""

    def __init__(self, service, client):
        self._service = service
        self._client = client

    def __getattr__(self, call):
        found = getattr(self._client, call)
        if call.startswith("_") or call in ("meta", "exceptions", "stacks", "there"):
            return found
        operation = _operation(self._service, call)

        def checked(**request):
            report = ParamValidator().validate(request, operation.input_shape)
            assert not report.has_errors(), f"{self._service} {call}: {report.generate_report()}"
            return found(**request)
        return checked

    def get_paginator(self, call):
        _paginators(self._service).get_paginator(_operation(self._service, call).name)
        page = getattr(self, call)

        def paginate(**request):
            assert request.pop("PaginationConfig", {}) is not None
            return [page(**request)]
        return SimpleNamespace(paginate=paginate)


@cache
def _model(service):
    return SESSION.get_service_model(service)


@cache
def _paginators(service):
    return SESSION.get_paginator_model(service)


def _operation(service, call):
    names = {xform_name(name): name for name in _model(service).operation_names}
    assert call in names, f"{service} has no call {call}"
    return _model(service).operation_model(names[call])


class Service:
    """A client."""

    def __init__(self, account, region):
        self.there = account
        self.region = region
        self.meta = SimpleNamespace(region_name=region)
        self.exceptions = Exceptions()

    def one(self, name, code="ResourceNotFoundException"):
        if name not in self.there.resources:
            raise refusal(code, f"{name} does not exist")
        return self.there.resources[name]


class Exceptions:
    """Error classes that are never raised here."""

    ClientError = ClientError

    def __getattr__(self, name):
        return type(name, (ClientError,), {})


class Denied(Service):
    """A service that may not be called: the preflight makes a note of it."""

    def __getattr__(self, call):
        if call.startswith("__"):
            raise AttributeError(call)

        def denied(**_request):
            raise refusal("AccessDeniedException", f"not authorized to perform {call}", call)
        return denied


class DynamoDb(Service):
    def describe_table(self, TableName):
        table = self.one(TableName)
        return {"Table": {"TableStatus": "ACTIVE", "DeletionProtectionEnabled": table.protected}}

    def update_table(self, TableName, DeletionProtectionEnabled):
        self.one(TableName).protected = DeletionProtectionEnabled

    def scan(self, TableName, Limit):
        return {"Items": self.one(TableName).contents[:Limit]}

    def delete_table(self, TableName):
        reason = self.there.delete(self.one(TableName).name)
        if reason:
            raise refusal("ValidationException", reason)


class Kinesis(Service):
    def describe_stream_summary(self, StreamName):
        self.one(StreamName)
        return {"StreamDescriptionSummary": {"StreamStatus": "ACTIVE"}}

    def list_shards(self, StreamName):
        self.one(StreamName)
        return {"Shards": [{"ShardId": "0"}]}

    def get_shard_iterator(self, StreamName, **_):
        return {"ShardIterator": StreamName}

    def get_records(self, ShardIterator, Limit):
        return {"Records": self.one(ShardIterator).contents[:Limit], "MillisBehindLatest": 0}

    def delete_stream(self, StreamName, **_):
        self.there.delete(self.one(StreamName).name)

    def describe_limits(self):
        return {"OnDemandStreamCountLimit": 50, "OnDemandStreamCount": 0, "ShardLimit": 500, "OpenShardCount": 0}


class S3(Service):
    def list_object_versions(self, Bucket, **_):
        contents = self.one(Bucket, "NoSuchBucket").contents
        return {"Versions": [{"Key": key, "VersionId": "1"} for key in contents]}

    def delete_objects(self, Bucket, Delete):
        bucket = self.one(Bucket, "NoSuchBucket")
        gone = {item["Key"] for item in Delete["Objects"]}
        bucket.contents = [key for key in bucket.contents if key not in gone]
        return {}

    def delete_bucket(self, Bucket):
        reason = self.there.delete(self.one(Bucket, "NoSuchBucket").name)
        if reason:
            raise refusal("BucketNotEmpty", reason)

    def head_object(self, Bucket, Key):
        if Key not in self.one(Bucket, "NoSuchBucket").contents:
            raise refusal("404", "Not Found")

    def list_objects_v2(self, Bucket, Prefix):
        keys = self.one(Bucket, "NoSuchBucket").contents
        return {"Contents": [{"Key": key, "LastModified": number} for number, key in enumerate(keys)
                             if key.startswith(Prefix)]}

    def delete_object(self, Bucket, Key):
        self.one(Bucket, "NoSuchBucket").contents.remove(Key)

    def put_object(self, Bucket, Key, Body):
        bucket = self.one(Bucket, "NoSuchBucket")
        if Key not in bucket.contents:
            bucket.contents.append(Key)
        self.there.calls.append(("put_object", Key))
        self.there.objects[Bucket, Key] = Body


class Ecr(Service):
    def describe_images(self, repositoryName, **_):
        return {"imageDetails": self.one(repositoryName, "RepositoryNotFoundException").contents}

    def batch_delete_image(self, repositoryName, imageIds):
        gone = [[one["imageTag"]] for one in imageIds]
        repository = self.one(repositoryName, "RepositoryNotFoundException")
        repository.contents = [one for one in repository.contents if one["imageTags"] not in gone]

    def delete_repository(self, repositoryName, force):
        self.one(repositoryName, "RepositoryNotFoundException").contents = []
        self.there.delete(repositoryName)


class Kms(Service):
    def schedule_key_deletion(self, KeyId, PendingWindowInDays):
        if KeyId in self.there.keys_going:
            raise refusal("KMSInvalidStateException", f"{KeyId} is pending deletion")
        self.there.delete(self.one(KeyId, "NotFoundException").name)


class Balancers(Service):
    def modify_load_balancer_attributes(self, LoadBalancerArn, Attributes):
        self.one(LoadBalancerArn, "LoadBalancerNotFound").protected = Attributes[0]["Value"] == "true"

    def describe_load_balancers(self):
        return {"LoadBalancers": []}


class ElastiCache(Service):
    def describe_snapshots(self, ReplicationGroupId, **_):
        return {"Snapshots": [{"SnapshotName": name} for name, group in self.there.snapshots.items()
                              if group == ReplicationGroupId]}

    def delete_snapshot(self, SnapshotName):
        del self.there.snapshots[SnapshotName]

    def describe_users(self, UserId):
        raise refusal("UserNotFound", f"{UserId} not found")

    def describe_user_groups(self, UserGroupId):
        raise refusal("UserGroupNotFound", f"{UserGroupId} not found")


class Ecs(Service):
    """One task runs, of the image `running`."""

    running = ""

    def list_tasks(self, cluster):
        return {"taskArns": ["arn"]}

    def describe_tasks(self, cluster, tasks):
        return {"tasks": [{"containers": [{"image": self.running}]}]}


class Ec2(Service):
    def describe_managed_prefix_lists(self, Filters):
        return {"PrefixLists": [{"PrefixListId": "pl-1234"}]}

    def describe_availability_zones(self, Filters):
        letters = "abc"
        return {"AvailabilityZones": [
            {"ZoneName": f"{self.region}{letter}", "ZoneId": f"az{number}", "State": "available"}
            for number, letter in enumerate(letters)]}

    def describe_vpc_endpoint_services(self, ServiceNames):
        return {"ServiceDetails": []}

    def describe_regions(self, **_):
        return {"Regions": [{"OptInStatus": "opt-in-not-required"}]}

    def describe_subnets(self, SubnetIds):
        return {"Subnets": [{"SubnetId": name, "AvailabilityZone": f"zone of {name.split('-')[2]}"}
                            for name in SubnetIds]}

    def describe_vpcs(self):
        return {"Vpcs": []}

    def describe_internet_gateways(self):
        return {"InternetGateways": []}


def template_of(account, url):
    """The template that was uploaded to where a URL points."""
    bucket = url.split("//")[1].split(".")[0]
    return json.loads(account.objects[bucket, url.split("/", 3)[3]])
