"""What each output is: other stacks, the roll-out and operators take it for what its name says."""

from . import synth
from .finding import Finding

# Output → the resource and its attribute (none: its Ref), or `resource:property`. The first resource that a
# deployment has counts.
OUTPUTS = {
    "ArtifactBucketName": ["ArtifactBucket"],
    "TrackerRepositoryUri": ["TrackerRepository.RepositoryUri"],
    "TrackerRepositoryArn": ["TrackerRepository.Arn"],
    "AgentRepositoryUri": ["AgentRepository.RepositoryUri"],
    "AgentRepositoryArn": ["AgentRepository.Arn"],
    "VpcId": ["Vpc"],
    # Trackers trust what these addresses say about a client's.
    "NetworkCidr": ["Vpc:CidrBlock"],
    "PrivateRouteTableIds": ["PrivateRoutes"],
    "TasksGroupId": ["TasksGroup.GroupId"],
    "UpdaterGroupId": ["UpdaterGroup.GroupId"],
    "RedisGroupId": ["RedisGroup.GroupId"],
    "EndpointsGroupId": ["EndpointsGroup.GroupId"],
    "LoadBalancerGroupId": ["LoadBalancerGroup.GroupId"],
    "KeyArn": ["Key.Arn"],
    "EventStreamName": ["EventStream"],
    "EventStreamArn": ["EventStream.Arn"],
    "CoreDataStreamName": ["CoreDataStream"],
    "CoreDataStreamArn": ["CoreDataStream.Arn"],
    "TableName": ["GlobalTable", "EventTable"],
    "TableArn": ["GlobalTable.Arn", "EventTable.Arn"],
    "GlobalTableName": ["GlobalTable"],
    "RecordsBucketName": ["RecordsBucket"],
    "RecordsBucketArn": ["RecordsBucket.Arn"],
    "RedisAddress": ["Redis.PrimaryEndPoint.Address"],
    "RedisId": ["Redis"],
    "TrackerRedisUrlArn": ["TrackerRedisUrl"],
    "OperatorRedisUrlArn": ["OperatorRedisUrl"],
    "OperatorPasswordArn": ["OperatorPassword"],
    "TrackerPasswordArn": ["TrackerPassword"],
    "UpdaterPasswordArn": ["UpdaterPassword"],
    "ConsumerFunctionName": ["Consumer"],
    "ConsumerMappingId": ["ConsumerMapping"],
    "UpdaterFunctionName": ["Updater"],
    "UpdaterMappingId": ["UpdaterMapping"],
    "TargetGroupArn": ["TargetGroup"],
    "TargetGroupFullName": ["TargetGroup.TargetGroupFullName"],
    "LoadBalancerDnsName": ["LoadBalancer.DNSName"],
    "LoadBalancerZoneId": ["LoadBalancer.CanonicalHostedZoneID"],
    "LoadBalancerFullName": ["LoadBalancer.LoadBalancerFullName"],
    # An existing load balancer has a rule in place of a listener; a trial by plain HTTP has one listener.
    "ForwardingArn": ["ListenerRule", "HttpsListener", "HttpListener"],
    "ClusterName": ["Cluster"],
    "ServiceName": ["Service.Name"],
    "TrackerLogGroup": ["TrackerLogs"],
    "OperatorTaskArn": ["OperatorTask"],
    "OperatorLogGroup": ["OperatorLogs"],
    "AlarmTopicArn": ["AlarmTopic"],
    "DashboardName": ["Dashboard"],
    "HealthCheckId": ["HealthCheck"],
}
# Output → the resources that it lists begin with this.
LISTS = {"PublicSubnetIds": "PublicSubnet", "PrivateSubnetIds": "PrivateSubnet"}


def static_findings(templates):
    """Outputs that this module does not know, and those that are gone."""
    there = {name: file for file, body in templates.items() for name in body.get("Outputs") or {}}
    for name in sorted(set(there) - set(OUTPUTS) - set(LISTS)):
        yield Finding(there[name], name, "is an output of which deploy/checks/model/outputs.py does not say what it is")
    for name in sorted((set(OUTPUTS) | set(LISTS)) - set(there)):
        yield Finding("-", name, "is an output that no template has any more, and others may read")


def judge(system):
    """Outputs that are something other than their names say."""
    for name, value in system.outputs.items():
        shown, expected = _expected(system, name)
        if expected is not None and value != expected:
            yield Finding(_file_of(system, name), name, f"is {value}, expected {shown}: {expected}")


def _expected(system, name):
    if name in LISTS:
        listed = [one.ref for one in system.of_type("AWS::EC2::Subnet") if one.name.startswith(LISTS[name])]
        return f"every {LISTS[name]}", ",".join(listed)
    for place in OUTPUTS.get(name, ()):
        owner, _, attribute = place.partition(".")
        owner, _, property_ = owner.partition(":")
        resource = system.named(owner)
        if resource is None:
            continue
        if property_:
            return f"{property_} of {owner}", resource.get(property_)
        if attribute:
            return f"{attribute} of {owner}", resource.identity.attributes.get(attribute)
        return owner, resource.ref
    return "", None


def _file_of(system, name):
    """The deployment's template that has the output."""
    return next((file for file in synth.roll_out_order(system.scenario.layout)
                 if name in (system.templates.get(file, {}).get("Outputs") or {})), "-")
