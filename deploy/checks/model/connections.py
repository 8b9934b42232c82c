"""The connections that the system really makes, and who makes them.

A node is whatever has network interfaces: it has subnets and security groups. A connection says who
connects to what on which port, and which AWS service it is if it is one. `network` demands that each
has a way, and that there is no other.
"""

from dataclasses import dataclass, field

from .policy import listed

CLIENTS, CLIENTS_V6 = "0.0.0.0/0", "::/0"
BALANCER, TRACKER, UPDATER, REDIS, ENDPOINTS = (
    "load balancer", "trackers", "redis-updater", "Redis", "VPC endpoints")
HTTPS, HTTP, TRACKER_PORT, REDIS_PORT = 443, 80, 8080, 6379
# Services that a node calls, by the name of their endpoint, and why.
SERVICES = {
    TRACKER: {
        "kinesis-streams": "delivers events",
        "ecr.api": "ECS pulls images",
        "ecr.dkr": "ECS pulls images",
        "logs": "logs and metrics",
        "secretsmanager": "ECS reads the secrets",
        "s3": "image layers, spilled events",
    },
    UPDATER: {"s3": "failed records"},
}
# Reached by routes of a gateway endpoint, which costs nothing.
GATEWAYS = ("s3", "dynamodb")
# For programs of the operator that read the table from inside the VPC.
ALSO_GATEWAYS = ("dynamodb",)


@dataclass(frozen=True)
class Node:
    """Something with network interfaces. `resource` is what a finding is about."""

    name: str
    resource: object
    subnets: tuple
    groups: tuple
    public: bool = False


@dataclass(frozen=True)
class Connection:
    """`source` connects to `target` by TCP; either may be a range of addresses or a prefix list."""

    source: str
    target: str
    port: int
    why: str


@dataclass
class Topology:
    """Nodes by name, and the connections between them."""

    nodes: dict = field(default_factory=dict)
    connections: list = field(default_factory=list)


def of(parts):
    """The nodes of a system and their connections."""
    topology = Topology()
    for node in _nodes(parts):
        topology.nodes[node.name] = node
    topology.connections += _connections(parts, topology.nodes)
    return topology


def _nodes(parts):
    system = parts.system
    for balancer in system.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        yield Node(BALANCER, balancer, _texts(balancer, "Subnets"), _texts(balancer, "SecurityGroups"), True)
    if not system.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        yield Node(BALANCER, parts.service, (), (parts.parameter("LoadBalancerGroupId"),), True)
    vpc = "NetworkConfiguration.AwsvpcConfiguration"
    yield Node(TRACKER, parts.service, _texts(parts.service, f"{vpc}.Subnets"),
               _texts(parts.service, f"{vpc}.SecurityGroups"))
    yield Node(UPDATER, parts.updater, _texts(parts.updater, "VpcConfig.SubnetIds"),
               _texts(parts.updater, "VpcConfig.SecurityGroupIds"))
    group = next((one for one in system.of_type("AWS::ElastiCache::SubnetGroup")
                  if one.ref == parts.redis.get("CacheSubnetGroupName")), None)
    yield Node(REDIS, parts.redis, _texts(group, "SubnetIds") if group else (),
               _texts(parts.redis, "SecurityGroupIds"))
    endpoints = interface_endpoints(system)
    if endpoints:
        groups = {_texts(one, "SecurityGroupIds") for one in endpoints}
        yield Node(ENDPOINTS, endpoints[0], _texts(endpoints[0], "SubnetIds"),
                   groups.pop() if len(groups) == 1 else ())


def interface_endpoints(system):
    """The endpoints that are network interfaces in the subnets."""
    return [one for one in system.of_type("AWS::EC2::VPCEndpoint") if one.get("VpcEndpointType") == "Interface"]


def _connections(parts, nodes):
    plain = "redirected to HTTPS"
    if parts.parameter("InsecurePlainHttp") == "true":
        plain = "ad clients of a trial"
    if parts.system.of_type("AWS::ElasticLoadBalancingV2::LoadBalancer"):
        for clients in client_ranges(parts):
            if parts.parameter("InsecurePlainHttp") != "true":
                yield Connection(clients, BALANCER, HTTPS, "ad clients")
            yield Connection(clients, BALANCER, HTTP, plain)
    yield Connection(BALANCER, TRACKER, TRACKER_PORT, "requests and health checks")
    yield Connection(TRACKER, REDIS, REDIS_PORT, "reads core data, hears of changes")
    yield Connection(UPDATER, REDIS, REDIS_PORT, "stores core data, publishes changes")
    for node, services in SERVICES.items():
        if "s3" in services:
            yield Connection(node, parts.parameter("S3PrefixListId"), HTTPS, services["s3"])
        if set(services) - set(GATEWAYS):
            # Without endpoints of ours an operator says where AWS services are.
            target = parts.parameter("AwsServicesCidr") if mode(parts) == "none" else ENDPOINTS
            yield Connection(node, target, HTTPS, "calls AWS services")


def mode(parts):
    """Where the interface endpoints are: all-zones, one-zone, none."""
    return parts.parameter("VpcEndpoints") or "all-zones"


def client_ranges(parts):
    """The addresses that ad clients come from."""
    return (CLIENTS, CLIENTS_V6) if parts.parameter("IpAddressType") == "dualstack" else (CLIENTS,)


def _texts(resource, path):
    return tuple(one for one in listed(resource.get(path)) if isinstance(one, str))
