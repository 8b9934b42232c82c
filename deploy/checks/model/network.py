"""The network against the connections: each has a way, and there is no other.

Security groups are compared exactly: the set of (peer, protocol, ports) that a node's groups allow, in
and out, has to be the set that its connections need. Then subnets, routes and endpoints: each node is
where it belongs, and each AWS service that it calls is reached by an endpoint or, in a network of the
operator's, by what the operator says.
"""

import ipaddress
import itertools

from . import connections
from .connections import BALANCER, ENDPOINTS, REDIS, TRACKER, UPDATER
from .finding import Finding
from .parts import of as parts_of
from .policy import listed
from .synth import number, truth

ANY = ("-1", 0, 65535)
# Length of the subnets' prefix: 1,024 addresses.
SUBNET = 22
# Types of EC2 that this model understands; another one may open a way that it does not see.
KNOWN = {f"AWS::EC2::{name}" for name in (
    "VPC", "VPCCidrBlock", "Subnet", "SubnetCidrBlock", "RouteTable", "Route", "SubnetRouteTableAssociation",
    "InternetGateway", "VPCGatewayAttachment", "SecurityGroup", "SecurityGroupIngress", "SecurityGroupEgress",
    "VPCEndpoint")}
PEERS = {
    "in": ("SourceSecurityGroupId", "CidrIp", "CidrIpv6", "SourcePrefixListId"),
    "out": ("DestinationSecurityGroupId", "CidrIp", "CidrIpv6", "DestinationPrefixListId"),
}


def judge(system):
    """Findings of a system's network."""
    parts = parts_of(system)
    if parts.missing:
        return []
    topology = connections.of(parts)
    found = [*_known_types(system), *_groups(parts, topology)]
    if system.of_type("AWS::EC2::VPC"):
        found += _own_network(parts, topology)
    else:
        found += _existing_network(parts, topology)
    return found + list(_endpoints(parts, topology))


def _known_types(system):
    for resource in system.resources:
        if resource.type.startswith("AWS::EC2::") and resource.type not in KNOWN:
            yield resource.finding(f"{resource.type} is not part of the network that the flows need")


# Security groups.


class _Rule:
    """A rule of a security group, wherever it stands."""

    def __init__(self, resource, direction, group, properties):
        self.resource = resource
        self.direction = direction
        self.group = group
        given = [(key, properties[key]) for key in PEERS[direction] if properties.get(key) is not None]
        self.peer = given[0][1] if len(given) == 1 and isinstance(given[0][1], str) else None
        self.is_group = len(given) == 1 and given[0][0].endswith("SecurityGroupId")
        protocol = str(properties.get("IpProtocol"))
        first, last = number(properties.get("FromPort")), number(properties.get("ToPort"))
        if protocol == "6":
            protocol = "tcp"
        if protocol == "-1":
            self.ports = ANY
        else:
            # Without ports a rule is for all of them.
            self.ports = (protocol, 0 if first in (None, -1) else first, 65535 if last in (None, -1) else last)
        self.problem = None if self.peer else "names no peer, or several"
        if protocol not in ("tcp", "udp", "icmp", "icmpv6", "-1"):
            self.problem = f"is for the protocol {protocol}"


def _rules(system):
    for group in system.of_type("AWS::EC2::SecurityGroup"):
        own = group.identity.attributes["GroupId"]
        for key, direction in (("SecurityGroupIngress", "in"), ("SecurityGroupEgress", "out")):
            for properties in listed(group.get(key)):
                if isinstance(properties, dict):
                    yield _Rule(group, direction, own, properties)
    for kind, direction in (("Ingress", "in"), ("Egress", "out")):
        for resource in system.of_type(f"AWS::EC2::SecurityGroup{kind}"):
            yield _Rule(resource, direction, resource.get("GroupId"), resource.properties)


def _groups(parts, topology):
    """Compares what the groups allow with what the connections need."""
    system = parts.system
    groups = {group.identity.attributes["GroupId"]: group for group in system.of_type("AWS::EC2::SecurityGroup")}
    members = {}
    for node in topology.nodes.values():
        if len(node.groups) != 1:
            yield node.resource.finding(f"{node.name} has {len(node.groups)} security groups in place of one")
        for group in node.groups:
            members.setdefault(group, []).append(node)
    for nodes in members.values():
        if len(nodes) > 1:
            names = " and ".join(node.name for node in nodes)
            yield nodes[1].resource.finding(f"{names} share a security group: each may do what the other may")
    yield from _right_groups(parts, topology, groups)
    if not groups:
        # The operator's own groups, which nothing here can see.
        return
    rules = list(_rules(system))
    for rule in rules:
        if rule.problem:
            yield rule.resource.finding(f"a rule {rule.problem}")
        elif rule.is_group and rule.peer not in groups and rule.peer not in members:
            yield rule.resource.finding(f"a rule names the group {rule.peer}, which is not there")
        if rule.group not in groups and rule.group not in members:
            yield rule.resource.finding(f"is a rule of {rule.group}, which is not there")
    for identifier, group in groups.items():
        if group.get("VpcId") != _vpc(parts):
            yield group.finding("is in another VPC")
        mine = [rule for rule in rules if rule.group == identifier and not rule.problem]
        nodes = members.get(identifier, [])
        if not nodes and identifier == parts.parameter("EndpointsGroupId"):
            # Made also if there are no endpoints that it could be for.
            continue
        if nodes:
            yield from _compare(parts, topology, nodes[0], group, mine, members)
        else:
            yield from _without_members(parts, group, mine)


def _right_groups(parts, topology, groups):
    """Each node has the group that its template or the operator means for it."""
    for name, parameter in ((BALANCER, "LoadBalancerGroupId"), (TRACKER, "TasksGroupId"), (UPDATER, "UpdaterGroupId"),
                            (REDIS, "RedisGroupId"), (ENDPOINTS, "EndpointsGroupId")):
        node = topology.nodes.get(name)
        if node and node.groups != (parts.parameter(parameter),):
            yield node.resource.finding(f"{name} does not have the security group {parameter}")


def _compare(parts, topology, node, group, rules, members):
    for direction in ("in", "out"):
        needed = {}
        for one in topology.connections:
            here, there = (one.target, one.source) if direction == "in" else (one.source, one.target)
            if here == node.name:
                needed[there, ("tcp", one.port, one.port)] = one.why
        mine = [rule for rule in rules if rule.direction == direction]
        if direction == "out" and not mine:
            yield group.finding("has no outbound rule, which allows everything")
        allowed = {}
        for rule in mine:
            peers = [rule.peer] if not rule.is_group else [peer.name for peer in members.get(rule.peer, [])]
            if not peers and (direction == "in" or len(mine) > 1 or rule.ports != ("tcp", 443, 443)):
                yield rule.resource.finding(f"a rule of {group.name} ({_ports(rule.ports)}) leads nowhere")
            for peer in peers:
                allowed[peer, rule.ports] = rule
        word = "from" if direction == "in" else "to"
        for (peer, ports), why in needed.items():
            if not any(peer == other and _contains(wider, ports) for other, wider in allowed):
                yield group.finding(f"{node.name} has no way {word} {peer}, {_ports(ports)}: {why}")
        for (peer, ports), rule in allowed.items():
            if (peer, ports) not in needed:
                yield rule.resource.finding(f"opens {node.name} {word} {peer}, {_ports(ports)}, which no flow needs")


def _without_members(parts, group, rules):
    """A group without members names nobody; it must not allow what nobody has."""
    if not any(rule.direction == "out" for rule in rules):
        yield group.finding("has no outbound rule, which allows everything")
    for rule in rules:
        if rule.direction == "in" or rule.peer != parts.parameter("S3PrefixListId") \
                or rule.ports != ("tcp", 443, 443):
            yield rule.resource.finding(f"opens a group without members, {_ports(rule.ports)}")


def _contains(wider, ports):
    return wider[0] in (ports[0], "-1") and wider[1] <= ports[1] and ports[2] <= wider[2]


def _ports(ports):
    protocol, first, last = ports
    if ports == ANY:
        return "everything"
    return f"{protocol} {first}" if first == last else f"{protocol} {first}-{last}"


# Subnets and routes.


def _vpc(parts):
    own = parts.system.of_type("AWS::EC2::VPC")
    return own[0].ref if own else parts.parameter("VpcId")


def _own_network(parts, topology):
    system = parts.system
    vpcs = system.of_type("AWS::EC2::VPC")
    for vpc in vpcs[1:]:
        yield vpc.finding("is a second VPC")
    vpc = vpcs[0]
    for property_ in ("EnableDnsSupport", "EnableDnsHostnames"):
        if not truth(vpc.get(property_)):
            yield vpc.finding(f"{property_} is off: endpoints' private names do not resolve")
    if vpc.get("InstanceTenancy") not in (None, "default"):
        yield vpc.finding("has dedicated tenancy")
    yield from _addresses(parts, vpc)
    tables = yield from _associations(system, vpc)
    yield from _routes(parts, vpc, tables)
    public = {subnet for subnet, table in tables.items() if _destinations(system, table)}
    private = set(tables) - public
    for subnet in public:
        resource = system.called(subnet)
        if _destinations(system, tables[subnet]) != set(connections.client_ranges(parts)):
            yield resource.finding(f"does not lead to {' and '.join(connections.client_ranges(parts))}")
    yield from _ipv6(parts, vpc, public)
    yield from _plan(system, vpc, public, private)
    yield from _placement(topology, public, private)
    yield from _zones(system, public, "public")
    yield from _zones(system, private, "private")


def _addresses(parts, vpc):
    """Subnets are inside the VPC and do not overlap."""
    try:
        whole = ipaddress.ip_network(vpc.get("CidrBlock"))
    except ValueError as error:
        yield vpc.finding(f"CidrBlock: {error}")
        return
    if vpc.get("CidrBlock") != parts.parameter("VpcCidr") and parts.parameter("VpcCidr"):
        yield vpc.finding("does not have the addresses that an operator sets by VpcCidr")
    if whole.prefixlen > 19 or not whole.is_private:
        yield vpc.finding(f"{whole} is too small, or not private")
    seen = {}
    for subnet in parts.system.of_type("AWS::EC2::Subnet"):
        try:
            block = ipaddress.ip_network(subnet.get("CidrBlock"))
        except ValueError as error:
            yield subnet.finding(f"CidrBlock: {error}")
            continue
        if not block.subnet_of(whole):
            yield subnet.finding(f"{block} is outside the VPC's {whole}")
        # A task, a Lambda interface and an endpoint each take addresses.
        if block.prefixlen > 24:
            yield subnet.finding(f"{block} has too few addresses for the tasks")
        for other, taken in seen.items():
            if block.overlaps(taken):
                yield subnet.finding(f"{block} overlaps {other}")
        seen[subnet.name] = block


def _associations(system, vpc):
    """Finds each subnet's route table; subnets without exactly one are findings."""
    tables = {}
    for association in system.of_type("AWS::EC2::SubnetRouteTableAssociation"):
        subnet, table = (system.called(association.get(key)) for key in ("SubnetId", "RouteTableId"))
        if not subnet or subnet.type != "AWS::EC2::Subnet" or not table or table.type != "AWS::EC2::RouteTable":
            yield association.finding("ties no subnet to a route table")
        elif subnet.ref in tables:
            yield association.finding(f"is a second route table for {subnet.name}")
        else:
            tables[subnet.ref] = table.ref
    for subnet in system.of_type("AWS::EC2::Subnet"):
        if subnet.get("VpcId") != vpc.ref:
            yield subnet.finding("is in another VPC")
        if subnet.ref not in tables:
            yield subnet.finding("has no route table of its own")
    for table in system.of_type("AWS::EC2::RouteTable"):
        if table.get("VpcId") != vpc.ref:
            yield table.finding("is in another VPC")
        if table.ref not in tables.values():
            yield table.finding("is a route table of no subnet")
    return tables


def _routes(parts, vpc, tables):
    """The only routes are those of the public subnets to the internet gateway."""
    system = parts.system
    gateways = {one.ref for one in system.of_type("AWS::EC2::InternetGateway")}
    attached = set()
    for attachment in system.of_type("AWS::EC2::VPCGatewayAttachment"):
        gateway = attachment.get("InternetGatewayId")
        if attachment.get("VpcId") != vpc.ref or gateway not in gateways:
            yield attachment.finding("attaches no internet gateway to the VPC")
        attached.add(gateway)
    for gateway in system.of_type("AWS::EC2::InternetGateway"):
        if gateway.ref not in attached:
            yield gateway.finding("is attached to no VPC")
    for route in system.of_type("AWS::EC2::Route"):
        targets = {key: value for key, value in route.properties.items()
                   if key not in ("RouteTableId", "DestinationCidrBlock", "DestinationIpv6CidrBlock")}
        destination = [route.get(key) for key in ("DestinationCidrBlock", "DestinationIpv6CidrBlock") if route.get(key)]
        if route.get("RouteTableId") not in tables.values():
            yield route.finding("is a route of no subnet's table")
        if destination not in (["0.0.0.0/0"], ["::/0"]):
            yield route.finding(f"leads to {', '.join(map(str, destination)) or 'nowhere'}, which no flow needs")
        if set(targets) != {"GatewayId"} or targets["GatewayId"] not in gateways:
            yield route.finding("leads elsewhere than to the internet gateway")
        attachments = {one.name for one in system.of_type("AWS::EC2::VPCGatewayAttachment")}
        if not attachments & set(route.depends_on):
            yield route.finding("does not wait until the internet gateway is attached")


def _destinations(system, table):
    """The addresses that a route table leads to."""
    return {route.get("DestinationCidrBlock") or route.get("DestinationIpv6CidrBlock")
            for route in system.of_type("AWS::EC2::Route") if route.get("RouteTableId") == table}


def _ipv6(parts, vpc, public):
    """With dualstack the public subnets have IPv6 addresses, and nothing else has."""
    system = parts.system
    blocks = system.of_type("AWS::EC2::VPCCidrBlock")
    given = [one.get("SubnetId") for one in system.of_type("AWS::EC2::SubnetCidrBlock")]
    expected = public if len(connections.client_ranges(parts)) > 1 else set()
    for block in blocks:
        if block.get("VpcId") != vpc.ref or not truth(block.get("AmazonProvidedIpv6CidrBlock")):
            yield block.finding("does not give the VPC IPv6 addresses")
    if sorted(map(str, given)) != sorted(expected) or bool(blocks) != bool(expected):
        yield vpc.finding("does not have IPv6 addresses in the public subnets, and only there, if it is dualstack")
    zones = system.scenario.zones
    whole = ipaddress.ip_network(vpc.identity.get_att("Ipv6CidrBlocks")[0])
    plan = [str(block) for block in itertools.islice(whole.subnets(new_prefix=64), len(zones))]
    for one in system.of_type("AWS::EC2::SubnetCidrBlock"):
        if not {block.name for block in blocks} & set(one.depends_on):
            yield one.finding("does not wait until the VPC has IPv6 addresses")
        subnet = system.called(one.get("SubnetId"))
        zone = subnet.get("AvailabilityZone") if subnet else None
        if zone in zones and one.get("Ipv6CidrBlock") != plan[zones.index(zone)]:
            yield one.finding(f"is not {plan[zones.index(zone)]} but {one.get('Ipv6CidrBlock')}")


def _plan(system, vpc, public, private):
    """Subnets have the addresses that they always had: other ones replace a subnet, with all that is in it."""
    try:
        blocks = [str(block) for block in ipaddress.ip_network(vpc.get("CidrBlock")).subnets(new_prefix=SUBNET)]
    except ValueError:
        return
    for subnets, first in ((public, 0), (private, 3)):
        for subnet in (system.called(one) for one in sorted(subnets)):
            if subnet.get("MapPublicIpOnLaunch") is not False:
                yield subnet.finding("does not say that interfaces get no public address")
            zone = subnet.get("AvailabilityZone")
            if zone in system.scenario.zones:
                expected = blocks[first + system.scenario.zones.index(zone)]
                if subnet.get("CidrBlock") != expected:
                    yield subnet.finding(f"is not {expected} but {subnet.get('CidrBlock')}")


def _placement(topology, public, private):
    for node in topology.nodes.values():
        expected = public if node.public else private
        kind = "public" if node.public else "private"
        if node.name == ENDPOINTS:
            continue
        if set(node.subnets) != expected or not expected or len(set(node.subnets)) != len(node.subnets):
            yield node.resource.finding(f"{node.name} is not in the {kind} subnets, one of each zone")


def _zones(system, subnets, kind):
    """Subnets of a kind are in different zones, as many as the deployment has."""
    resources = [system.called(subnet) for subnet in sorted(subnets)]
    zones = [resource.get("AvailabilityZone") for resource in resources]
    for resource, zone in zip(resources, zones, strict=True):
        if not isinstance(zone, str) or zone not in system.scenario.zones:
            yield resource.finding(f"is in {zone}, which is no zone of the deployment")
        elif zones.count(zone) > 1:
            yield resource.finding(f"is one of two {kind} subnets in {zone}")
    expected = system.scenario.zones
    if {zone for zone in zones if isinstance(zone, str)} != set(expected):
        yield Finding("network", "-", f"{kind} subnets are in {len(set(map(str, zones)))} zones, not {len(expected)}")


def _existing_network(parts, topology):
    """In a network of the operator's, each node is in the subnets that the operator says."""
    for node in topology.nodes.values():
        parameter = "PublicSubnetIds" if node.public else "PrivateSubnetIds"
        given = tuple(parts.parameter(parameter).split(","))
        if node.subnets != given and node.subnets and node.name != ENDPOINTS:
            yield node.resource.finding(f"{node.name} is not in {parameter}")


# Endpoints.


def _endpoints(parts, topology):
    """Each AWS service that a node calls has its endpoint, in the right place; no other has one."""
    system = parts.system
    mode = connections.mode(parts)
    needed = {} if mode == "none" else {
        service: why for services in connections.SERVICES.values() for service, why in services.items()}
    if needed:
        needed |= dict.fromkeys(connections.ALSO_GATEWAYS, "readers of the table inside the VPC")
    seen = {}
    for endpoint in system.of_type("AWS::EC2::VPCEndpoint"):
        service = str(endpoint.get("ServiceName")).removeprefix(f"com.amazonaws.{parts.region}.")
        if service in seen:
            yield endpoint.finding(f"is a second endpoint of {service}")
        seen[service] = endpoint
        if service not in needed:
            yield endpoint.finding(f"is an endpoint of {service}, which no flow needs")
            continue
        if endpoint.get("VpcId") != _vpc(parts):
            yield endpoint.finding("is in another VPC")
        if endpoint.get("PolicyDocument") is not None:
            yield endpoint.finding("has a policy, which the flows do not count on")
        check = _gateway if service in connections.GATEWAYS else _interface
        yield from check(parts, topology, endpoint, mode)
    for service, why in needed.items():
        if service not in seen:
            yield Finding("network-endpoints", "-", f"nothing reaches {service} from inside the VPC: {why}")


def _gateway(parts, topology, endpoint, mode):
    if endpoint.get("VpcEndpointType") != "Gateway":
        yield endpoint.finding("is not a gateway, which costs nothing and is what the prefix list is of")
    system = parts.system
    given = set(listed(endpoint.get("RouteTableIds")))
    if system.of_type("AWS::EC2::VPC"):
        private = {subnet for name in (TRACKER, UPDATER) for subnet in topology.nodes[name].subnets}
        expected = {association.get("RouteTableId")
                    for association in system.of_type("AWS::EC2::SubnetRouteTableAssociation")
                    if association.get("SubnetId") in private}
    else:
        expected = set(parts.parameter("PrivateRouteTableIds").split(","))
    if given != expected:
        yield endpoint.finding("does not have the route tables of the private subnets")


def _interface(parts, topology, endpoint, mode):
    if endpoint.get("VpcEndpointType") != "Interface":
        yield endpoint.finding("is not an interface, which this service needs")
    if not truth(endpoint.get("PrivateDnsEnabled")):
        yield endpoint.finding("does not answer to the service's own name")
    private = topology.nodes[TRACKER].subnets
    expected = private if mode == "all-zones" else private[:1]
    if tuple(listed(endpoint.get("SubnetIds"))) != expected:
        yield endpoint.finding(f"is not in the private subnets ({mode})")
    if tuple(listed(endpoint.get("SecurityGroupIds"))) != topology.nodes[ENDPOINTS].groups:
        yield endpoint.finding("does not have the security group of the endpoints")
    kind = endpoint.get("IpAddressType")
    if kind not in (None, "ipv4"):
        yield endpoint.finding(f"has addresses of the type {kind}, which the tasks do not use")
