"""What a resource is called once it exists: its `Ref` and its attributes, by type, as AWS defines them.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-template-resource-type-ref.html
("Return values" of each type). Names are made of the stack's and the logical id, so that they are the
same in every run and different for every resource.
"""

import hashlib
from dataclasses import dataclass, field

from .intrinsics import EvaluationError


@dataclass(frozen=True)
class Place:
    """Where a stack is."""

    stack: str
    account: str
    partition: str
    region: str
    # What generated names are made of: the same in every deployment, so that two can be compared.
    seed: str


@dataclass(frozen=True)
class Identity:
    """A resource's names."""

    type: str
    ref: str
    attributes: dict = field(default_factory=dict)

    def get_att(self, attribute):
        if attribute not in self.attributes:
            raise EvaluationError(f"{self.type} has no attribute {attribute}")
        return self.attributes[attribute]

    @property
    def arn(self):
        return self.attributes.get("Arn", self.ref)


# The property that names a resource, if its template sets it. A bucket policy is called as its bucket.
NAMED_BY = {
    "AWS::CloudWatch::Alarm": "AlarmName",
    "AWS::DynamoDB::GlobalTable": "TableName",
    "AWS::DynamoDB::Table": "TableName",
    "AWS::ECR::Repository": "RepositoryName",
    "AWS::ECS::Cluster": "ClusterName",
    "AWS::ECS::Service": "ServiceName",
    "AWS::ElastiCache::ReplicationGroup": "ReplicationGroupId",
    "AWS::ElastiCache::User": "UserId",
    "AWS::ElastiCache::UserGroup": "UserGroupId",
    "AWS::IAM::Role": "RoleName",
    "AWS::Kinesis::Stream": "Name",
    "AWS::Lambda::Function": "FunctionName",
    "AWS::Logs::LogGroup": "LogGroupName",
    "AWS::S3::Bucket": "BucketName",
    "AWS::S3::BucketPolicy": "Bucket",
    "AWS::SNS::Topic": "TopicName",
    "AWS::SSM::Parameter": "Name",
    "AWS::SecretsManager::Secret": "Name",
}


def identity(type_, logical_id, place, named=None):
    """The names of a resource; `named` is the name that its template gives it, if any."""
    make = _TYPES.get(type_, _other)
    return make(type_, _Names(logical_id, place, named))


class _Names:
    def __init__(self, logical_id, place, named):
        self.place = place
        self.name = named or f"{place.stack}-{logical_id}-{self.digest(logical_id)[:8]}"
        self.hex = self.digest(logical_id)

    def digest(self, logical_id):
        return hashlib.sha256(f"{self.place.seed}/{logical_id}".encode()).hexdigest()[:17]

    def arn(self, service, rest, region=True, account=True):
        place = self.place
        return ":".join(("arn", place.partition, service, place.region if region else "",
                         place.account if account else "", rest))


def _id(prefix, **attributes):
    """A type whose Ref is an id such as vpc-0123; each attribute is `ID` (the same) or text made from it."""
    def make(type_, names):
        value = f"{prefix}-{names.hex}"
        return Identity(type_, value, {name.replace("_", "."): text.format(id=value)
                                       for name, text in attributes.items()})
    return make


def _named_with_arn(service, rest):
    """A type whose Ref is its name, with the attribute Arn."""
    def make(type_, names):
        return Identity(type_, names.name, {"Arn": names.arn(service, rest.format(name=names.name))})
    return make


def _arn(service, rest, **attributes):
    """A type whose Ref is its ARN."""
    def make(type_, names):
        value = names.arn(service, rest.format(name=names.name, hex=names.hex))
        return Identity(type_, value, {
            key: text.format(arn=value, name=names.name, hex=names.hex) for key, text in attributes.items()})
    return make


def _vpc(type_, names):
    value = f"vpc-{names.hex}"
    return Identity(type_, value, {"VpcId": value, "Ipv6CidrBlocks": ["2a05:d018:1234:5600::/56"]})


def _bucket(type_, names):
    name = names.name.lower()
    domain = f"{name}.s3.amazonaws.com"
    return Identity(type_, name, {"Arn": names.arn("s3", name, region=False, account=False), "DomainName": domain,
                                  "RegionalDomainName": f"{name}.s3.{names.place.region}.amazonaws.com"})


def _log_group(type_, names):
    return Identity(type_, names.name, {"Arn": names.arn("logs", f"log-group:{names.name}:*")})


def _role(type_, names):
    return Identity(type_, names.name, {"Arn": names.arn("iam", f"role/{names.name}", region=False),
                                        "RoleId": f"AROA{names.hex.upper()}"})


def _managed_policy(type_, names):
    arn = names.arn("iam", f"policy/{names.name}", region=False)
    return Identity(type_, arn, {"PolicyArn": arn})


def _key(type_, names):
    key = f"{names.hex[:8]}-{names.hex[8:12]}-4000-8000-{names.hex[5:17]}"
    return Identity(type_, key, {"Arn": names.arn("kms", f"key/{key}"), "KeyId": key})


def _repository(type_, names):
    name = names.name.lower()
    place = names.place
    return Identity(type_, name, {
        "Arn": names.arn("ecr", f"repository/{name}"),
        "RepositoryUri": f"{place.account}.dkr.ecr.{place.region}.amazonaws.com/{name}"})


def _load_balancer(type_, names):
    full = f"app/{names.name}/{names.hex}"
    arn = names.arn("elasticloadbalancing", f"loadbalancer/{full}")
    return Identity(type_, arn, {
        "LoadBalancerArn": arn, "LoadBalancerFullName": full, "LoadBalancerName": names.name,
        "DNSName": f"{names.name}-1.{names.place.region}.elb.amazonaws.com".lower(),
        "CanonicalHostedZoneID": "Z32O12XQLNTSW2"})


def _target_group(type_, names):
    full = f"targetgroup/{names.name}/{names.hex}"
    arn = names.arn("elasticloadbalancing", full)
    return Identity(type_, arn, {"TargetGroupArn": arn, "TargetGroupFullName": full,
                                 "TargetGroupName": names.name})


def _replication_group(type_, names):
    name = names.name.lower()
    address = f"{name}.abcdef.ng.0001.euw1.cache.amazonaws.com"
    return Identity(type_, name, {
        "PrimaryEndPoint.Address": f"master.{address}", "PrimaryEndPoint.Port": "6379",
        "ReaderEndPoint.Address": f"replica.{address}", "ReaderEndPoint.Port": "6379"})


def _table(type_, names):
    return Identity(type_, names.name, {"Arn": names.arn("dynamodb", f"table/{names.name}")})


def _topic(type_, names):
    arn = names.arn("sns", names.name)
    return Identity(type_, arn, {"TopicArn": arn, "TopicName": names.name})


def _service(type_, names):
    arn = names.arn("ecs", f"service/{names.name}")
    return Identity(type_, arn, {"Name": names.name, "ServiceArn": arn})


def _other(type_, names):
    return Identity(type_, names.name, {})


_TYPES = {
    "AWS::CloudWatch::Alarm": lambda type_, names: Identity(
        type_, names.name, {"Arn": names.arn("cloudwatch", f"alarm:{names.name}")}),
    "AWS::CloudWatch::CompositeAlarm": lambda type_, names: Identity(
        type_, names.name, {"Arn": names.arn("cloudwatch", f"alarm:{names.name}")}),
    "AWS::CertificateManager::Certificate": _arn("acm", "certificate/{hex}"),
    "AWS::DynamoDB::GlobalTable": _table,
    "AWS::DynamoDB::Table": _table,
    "AWS::EC2::EIP": _id("eipalloc", AllocationId="{id}"),
    "AWS::EC2::EgressOnlyInternetGateway": _id("eigw", Id="{id}"),
    "AWS::EC2::InternetGateway": _id("igw", InternetGatewayId="{id}"),
    "AWS::EC2::NatGateway": _id("nat", NatGatewayId="{id}"),
    "AWS::EC2::RouteTable": _id("rtb", RouteTableId="{id}"),
    "AWS::EC2::SecurityGroup": _id("sg", GroupId="{id}", Id="{id}"),
    "AWS::EC2::SecurityGroupIngress": _id("sgr", Id="{id}"),
    "AWS::EC2::SecurityGroupEgress": _id("sgr", Id="{id}"),
    "AWS::EC2::Subnet": _id("subnet", SubnetId="{id}"),
    "AWS::EC2::SubnetRouteTableAssociation": _id("rtbassoc", Id="{id}"),
    "AWS::EC2::SubnetCidrBlock": _id("subnet-cidr-assoc", Id="{id}"),
    "AWS::EC2::VPC": _vpc,
    "AWS::EC2::VPCCidrBlock": _id("vpc-cidr-assoc", Id="{id}"),
    "AWS::EC2::VPCEndpoint": _id("vpce", Id="{id}"),
    "AWS::ECR::Repository": _repository,
    "AWS::ECS::Cluster": _named_with_arn("ecs", "cluster/{name}"),
    "AWS::ECS::Service": _service,
    "AWS::ECS::TaskDefinition": _arn("ecs", "task-definition/{name}:1", TaskDefinitionArn="{arn}"),
    "AWS::ElastiCache::ReplicationGroup": _replication_group,
    "AWS::ElastiCache::User": _named_with_arn("elasticache", "user:{name}"),
    "AWS::ElastiCache::UserGroup": _named_with_arn("elasticache", "usergroup:{name}"),
    "AWS::ElasticLoadBalancingV2::Listener": _arn(
        "elasticloadbalancing", "listener/app/{name}/{hex}", ListenerArn="{arn}"),
    "AWS::ElasticLoadBalancingV2::ListenerRule": _arn(
        "elasticloadbalancing", "listener-rule/app/{name}/{hex}", RuleArn="{arn}"),
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _load_balancer,
    "AWS::ElasticLoadBalancingV2::TargetGroup": _target_group,
    "AWS::IAM::ManagedPolicy": _managed_policy,
    "AWS::IAM::Role": _role,
    "AWS::KMS::Key": _key,
    "AWS::Kinesis::Stream": _named_with_arn("kinesis", "stream/{name}"),
    "AWS::Lambda::EventSourceMapping": lambda type_, names: Identity(
        type_, names.hex, {"Id": names.hex,
                           "EventSourceMappingArn": names.arn("lambda", f"event-source-mapping:{names.hex}")}),
    "AWS::Lambda::Function": _named_with_arn("lambda", "function:{name}"),
    "AWS::Logs::LogGroup": _log_group,
    "AWS::Route53::HealthCheck": lambda type_, names: Identity(type_, names.hex, {"HealthCheckId": names.hex}),
    "AWS::S3::Bucket": _bucket,
    "AWS::SNS::Topic": _topic,
    "AWS::SSM::Parameter": lambda type_, names: Identity(type_, names.name, {"Type": "String", "Value": ""}),
    "AWS::SecretsManager::Secret": _arn("secretsmanager", "secret:{name}-AbCdEf", Id="{arn}"),
    "AWS::WAFv2::WebACL": lambda type_, names: Identity(
        type_, f"{names.name}|{names.hex}|REGIONAL",
        {"Arn": names.arn("wafv2", f"regional/webacl/{names.name}/{names.hex}"), "Id": names.hex}),
}
