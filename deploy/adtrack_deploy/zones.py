"""Availability zones: chosen once, by which services they offer, and kept from then on.

The order in which AWS lists zones is not fixed, and not every zone has Fargate and every VPC endpoint. A deployed
region keeps its zones, because another zone would replace subnets.
"""

from . import parameters

# Regions in which only some zones have Fargate. By zone id, which unlike a zone's name means the same in every
# account: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/AWS_Fargate-Regions.html
FARGATE_ZONES = {
    "ap-northeast-1": {"apne1-az1", "apne1-az2", "apne1-az4"},
    "cn-north-1": {"cnn1-az1", "cnn1-az2"},
    "us-west-1": {"usw1-az1", "usw1-az3"},
}
NAMES = ("Zone1", "Zone2", "Zone3")
MIN_ZONES = 2


class ZoneError(Exception):
    """A region does not have enough zones."""


def choose(region, zones, served):
    """The names of the usable zones, in the same order at every call.

    `zones` are those of DescribeAvailabilityZones; `served` the zones of each VPC endpoint service.
    """
    fargate = FARGATE_ZONES.get(region)
    usable = [
        zone for zone in zones
        if zone.get("State", "available") == "available"
        and zone.get("ZoneType", "availability-zone") == "availability-zone"
        and (fargate is None or zone.get("ZoneId") in fargate)
        and all(zone["ZoneName"] in names for names in served.values() if names)
    ]
    return [zone["ZoneName"] for zone in sorted(usable, key=lambda zone: zone.get("ZoneId", zone["ZoneName"]))]


def of_region(ec2, region, services):
    """The names of a region's usable zones."""
    zones = ec2.describe_availability_zones(
        Filters=[{"Name": "opt-in-status", "Values": ["opt-in-not-required"]}])["AvailabilityZones"]
    served = {}
    if services:
        details = ec2.describe_vpc_endpoint_services(ServiceNames=services)["ServiceDetails"]
        served = {one["ServiceName"]: one.get("AvailabilityZones", []) for one in details}
    return choose(region, zones, served)


def assign(declared, operator, running, usable):
    """The values of Zone1, Zone2, …: the deployed ones, else the operator's, else the first usable ones.

    Calls `usable` only if needed. Raises ZoneError if there are not enough zones.
    """
    wanted = [name for name in NAMES if name in declared]
    if all(running.get(name, declared[name].get("Default")) is not None for name in wanted) and any(
            running.get(name) for name in wanted):
        return {name: running[name] for name in wanted if name in running}
    given = {name: operator[name] for name in wanted if name in operator}
    missing = [name for name in wanted if name not in given]
    if not missing:
        return given
    free = [zone for zone in usable() if zone not in given.values()]
    required = [name for name in missing if declared[name].get("Default") is None]
    if len(free) + len(given) < MIN_ZONES or len(free) < len(required):
        raise ZoneError(
            f"{len(wanted)} zones are needed, and {len(free)} are usable here ({', '.join(free) or 'none'}): "
            "set Zone1, Zone2, … in regions.json, or use another region")
    return given | dict(zip(missing, free, strict=False))


def endpoint_services(layout, region):
    """The names of the services whose interface endpoints the templates may create."""
    found = set()
    for stack in parameters.stacks.of(layout):
        for resource in parameters.body(stack)["Resources"].values():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::EC2::VPCEndpoint" and properties.get("VpcEndpointType") == "Interface":
                name = properties["ServiceName"]
                name = name.get("Fn::Sub", "") if isinstance(name, dict) else name
                found.add(name.replace("${AWS::Region}", region))
    return sorted(found)
