"""What a region, and the zone of DNS, have to have before a roll-out.

Each check yields a text for each finding, with what to do; one that begins with `note:` stops nothing.
A check's first line names it, in case that it cannot be carried out.
"""

import math

from . import parameters, stacks, template, zones
from .aws import code_of
from .cloudformation import Stacks
from .states import Step, step_of

# Lambda keeps these for functions without a reservation.
UNRESERVED = 100
# Service Quotas' codes: https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html
QUOTAS = {
    "VPCs": ("vpc", "L-F678F1CE"),
    "internet gateways": ("vpc", "L-A4707A72"),
    "application load balancers": ("elasticloadbalancing", "L-53DA6B97"),
    "interface endpoints of a VPC": ("vpc", "L-29B6F2EB"),
    "Fargate's vCPUs": ("fargate", "L-3032A538"),
}
RETAINED = {"dynamodb:table", "kinesis:stream", "s3", "kms:key", "ecr:repository"}


def covers(names, domain):
    """Whether a certificate of these names is one of the domain. A wildcard stands for one label."""
    parent = domain.split(".", 1)[-1]
    return any(name.lower() in (domain.lower(), f"*.{parent.lower()}") for name in names)


class RegionChecks:
    """The checks of one region."""

    def __init__(self, aws, rollout, region):
        self._aws = aws
        self._rollout = rollout
        self._region = region
        self._stacks = Stacks(aws.client("cloudformation", region.name), print, region.name)
        self._states = {}
        self._values = {
            name: region.parameters.get(name, parameters.text(one["Default"]) if "Default" in one else "")
            for name, one in parameters.declared(region.layout).items()}

    def all(self):
        """The checks, in the order in which they are reported."""
        return [self.stacks_can_go_on, self.certificates, self.zones, self.concurrency, self.streams,
                self.network_quotas, self.balancer_quota, self.fargate_quota, self.names, self.leftovers]

    def is_enabled(self):
        """whether the region is enabled for the account"""
        found = self._client("ec2").describe_regions(
            RegionNames=[self._region.name], AllRegions=True)["Regions"]
        if found and found[0].get("OptInStatus") == "not-opted-in":
            yield (f"this region is not enabled for the account: `aws account enable-region --region-name "
                   f"{self._region.name}`, and wait until it is")

    def stacks_can_go_on(self):
        """stacks of these names"""
        for stack in stacks.of(self._region.layout):
            found = self._find(stack.name)
            step = step_of(found)
            if found is None or step is Step.UPDATE:
                continue
            if found.get("Tags") and {"Key": "application", "Value": "adtrack"} not in found["Tags"]:
                yield (f"a stack {found['StackName']} is there that is not adtrack's: choose another "
                       '"deployment" in regions.json')
            elif step is Step.STUCK:
                yield (f"{found['StackName']} is {found['StackStatus']}, from which there is no way on: ask "
                       "AWS Support, or delete it with deploy/destroy")
            else:
                yield f"note: {found['StackName']} is {found['StackStatus']}; deploy will {step.value}"

    def certificates(self):
        """the certificates"""
        if self._is("InsecurePlainHttp", "true") or self._region.layout.load_balancer == "existing":
            return
        own = self._values.get("CertificateArn", "")
        if own and not self._is("CreateCertificate", "true"):
            yield from self._certificate("CertificateArn", own, self._rollout.tracking_domain)
        for arn in filter(None, self._values.get("CustomerCertificateArns", "").split(",")):
            yield from self._certificate("CustomerCertificateArns", arn.strip(), "")

    def _certificate(self, parameter, arn, domain):
        parts = arn.split(":")
        if len(parts) < 6 or parts[3] != self._region.name:
            yield f"{parameter}: {arn} is not of this region: request a certificate here, in ACM"
            return
        try:
            found = self._client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
        except self._client("acm").exceptions.ResourceNotFoundException:
            yield f"{parameter}: there is no certificate {arn}: request one in ACM, in this region and account"
            return
        names = [found["DomainName"], *found.get("SubjectAlternativeNames", [])]
        if found["Status"] != "ISSUED":
            yield (f"{parameter}: the certificate of {names[0]} is {found['Status']}, not ISSUED: its records "
                   "for validation have to be in DNS (`aws acm describe-certificate` shows them)")
        if domain and not covers(names, domain):
            yield (f"{parameter}: the certificate is for {', '.join(dict.fromkeys(names))}, not for {domain}: "
                   "request one that names it")

    def zones(self):
        """availability zones"""
        declared = parameters.declared(self._region.layout)
        if "Zone1" not in declared or self._exists("network"):
            return
        services = zones.endpoint_services(self._region.layout, self._region.name)
        try:
            zones.assign(declared, self._region.parameters, {},
                         lambda: zones.of_region(self._client("ec2"), self._region.name, services))
        except zones.ZoneError as error:
            yield str(error)

    def concurrency(self):
        """Lambda's concurrency"""
        reservations = [resource["Properties"].get("ReservedConcurrentExecutions")
                        for stack in stacks.of(self._region.layout)
                        for resource in parameters.body(stack)["Resources"].values()
                        if resource["Type"] == "AWS::Lambda::Function"]
        names = [node["Ref"] for _, node in template.walk(reservations)
                 if isinstance(node, dict) and node.get("Ref") in self._values]
        wanted = sum(int(self._values[name] or 0) for name in names)
        running = self._stacks.parameters(f"{self._rollout.deployment}-lambdas")
        reserved = sum(int(running.get(name, 0)) for name in names)
        limits = self._client("lambda").get_account_settings()["AccountLimit"]
        free = limits["UnreservedConcurrentExecutions"] + reserved - UNRESERVED
        if wanted > free:
            yield (f"{' + '.join(names)} reserve {wanted} concurrent executions, and Lambda lets {max(free, 0)} "
                   f"of {limits['ConcurrentExecutions']} be reserved here ({UNRESERVED} stay free): lower them, "
                   "or ask for more (Service Quotas, lambda, L-B99A9384)")

    def streams(self):
        """Kinesis' limits"""
        if self._exists("data"):
            return
        limits = self._client("kinesis").describe_limits()
        if self._is("StreamMode", "ON_DEMAND"):
            free = limits.get("OnDemandStreamCountLimit", 2) - limits.get("OnDemandStreamCount", 0)
            if free < 2:
                yield (f"2 on-demand streams are needed, and {max(free, 0)} more are allowed here: ask for more "
                       "(Service Quotas, kinesis), or set StreamMode to PROVISIONED")
            return
        wanted = int(self._values["EventShards"] or 0) + int(self._values["CoreDataShards"] or 0)
        free = limits["ShardLimit"] - limits["OpenShardCount"]
        if wanted > free:
            yield (f"EventShards and CoreDataShards are {wanted}, and {free} more shards are allowed here: ask "
                   "for more (Service Quotas, kinesis)")

    def network_quotas(self):
        """quotas of VPCs and endpoints"""
        if self._exists("network") or self._region.layout.network != "own":
            return
        ec2 = self._client("ec2")
        vpcs = sum(len(page["Vpcs"]) for page in ec2.get_paginator("describe_vpcs").paginate())
        yield from self._quota("VPCs", vpcs, 1)
        gateways = sum(len(page["InternetGateways"])
                       for page in ec2.get_paginator("describe_internet_gateways").paginate())
        yield from self._quota("internet gateways", gateways, 1)
        if not self._is("VpcEndpoints", "none"):
            endpoints = zones.endpoint_services(self._region.layout, self._region.name)
            yield from self._quota("interface endpoints of a VPC", 0, len(endpoints))

    def balancer_quota(self):
        """the quota of load balancers"""
        if self._exists("compute") or self._region.layout.load_balancer != "own":
            return
        pages = self._client("elbv2").get_paginator("describe_load_balancers").paginate()
        there = sum(one.get("Type") == "application" for page in pages for one in page["LoadBalancers"])
        yield from self._quota("application load balancers", there, 1)

    def fargate_quota(self):
        """Fargate's quota"""
        cores = int(self._values.get("TaskCpu") or 0) / 1024
        fewest, most = (math.ceil(int(self._values.get(name) or 0) * cores) for name in ("MinTasks", "MaxTasks"))
        quota = self._quota_of("Fargate's vCPUs")
        if quota is not None and fewest > quota:
            yield (f"MinTasks x TaskCpu take {fewest} vCPUs, and the quota is {quota:.0f}: lower them, or ask for "
                   "more (Service Quotas, fargate, L-3032A538)")
        elif quota is not None and most > quota:
            yield (f"note: MaxTasks x TaskCpu take {most} vCPUs, and the quota is {quota:.0f}: ask for more "
                   "before the traffic needs it (Service Quotas, fargate, L-3032A538)")

    def names(self):
        """names that have to be free"""
        for stack in stacks.of(self._region.layout):
            if self._exists(stack.name):
                continue
            for resource in parameters.body(stack)["Resources"].values():
                yield from self._name(resource)

    def _name(self, resource):
        calls = {"AWS::ElastiCache::User": ("UserId", "describe_users", "Users", "UserNotFoundFault", "user"),
                 "AWS::ElastiCache::UserGroup": ("UserGroupId", "describe_user_groups", "UserGroups",
                                                 "UserGroupNotFoundFault", "user-group")}
        if resource["Type"] not in calls:
            return
        member, call, key, absent, what = calls[resource["Type"]]
        name = resource["Properties"][member]
        name = name.get("Fn::Sub", "") if isinstance(name, dict) else name
        name = name.replace("${Deployment}", self._rollout.deployment)
        client = self._client("elasticache")
        try:
            there = getattr(client, call)(**{member: name})[key]
        except client.exceptions.ClientError as error:
            if code_of(error) in (absent, absent.removesuffix("Fault")):
                return
            raise
        if there:
            yield (f"the ElastiCache {what} {name} is there already, another deployment's or left by one: choose "
                   f'another "deployment", or `aws elasticache delete-{what} --region {self._region.name} '
                   f"--{what}-id {name}`")

    def leftovers(self):
        """what earlier deployments left"""
        if any(self._find(stack.name) for stack in stacks.of(self._region.layout)):
            return
        pages = self._client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(
            TagFilters=[{"Key": "application", "Values": ["adtrack"]},
                        {"Key": "deployment", "Values": [self._rollout.deployment]}],
            ResourceTypeFilters=sorted(RETAINED))
        for page in pages:
            for one in page["ResourceTagMappingList"]:
                yield (f"note: {one['ResourceARN']} is left of an earlier deployment of this name; this one does "
                       "not use it. Delete it if nobody needs what it holds")

    def _client(self, service):
        return self._aws.client(service, self._region.name)

    def _is(self, name, value):
        return self._values.get(name) == value

    def _find(self, stack):
        if stack not in self._states:
            self._states[stack] = self._stacks.find(f"{self._rollout.deployment}-{stack}")
        return self._states[stack]

    def _exists(self, stack):
        return step_of(self._find(stack)) not in (Step.CREATE, Step.DISCARD)

    def _quota(self, what, used, needed):
        quota = self._quota_of(what)
        if quota is not None and used + needed > quota:
            service, code = QUOTAS[what]
            yield (f"{what}: {used} are there, {needed} more are needed, and the quota is {quota:.0f}: ask for more "
                   f"(Service Quotas, {service}, {code})")

    def _quota_of(self, what):
        service, code = QUOTAS[what]
        client = self._client("service-quotas")
        try:
            return client.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except client.exceptions.NoSuchResourceException:
            return client.get_aws_default_service_quota(
                ServiceCode=service, QuotaCode=code)["Quota"]["Value"]


class ZoneChecks:
    """The checks of the hosted zone."""

    def __init__(self, aws, rollout):
        self._aws = aws
        self._rollout = rollout

    def all(self):
        """The checks, in the order in which they are reported."""
        return [self.holds_the_domain, self.record_is_free]

    def holds_the_domain(self):
        """the hosted zone"""
        route53 = self._route53()
        try:
            zone = route53.get_hosted_zone(Id=self._rollout.hosted_zone_id)["HostedZone"]
        except route53.exceptions.NoSuchHostedZone:
            yield ("there is no such hosted zone in this account: `aws route53 list-hosted-zones` shows them; for one "
                   "in another account set hosted_zone_role_arn")
            return
        name = zone["Name"].rstrip(".")
        if zone.get("Config", {}).get("PrivateZone"):
            yield "this zone is private, and ad clients cannot see it: use the public one"
        domain = self._rollout.tracking_domain
        if domain != name and not domain.endswith(f".{name}"):
            yield f"this zone is {name}, which does not hold {domain}: change tracking_domain or hosted_zone_id"

    def record_is_free(self):
        """records of the tracking domain"""
        wanted = f"{self._rollout.tracking_domain}."
        found = self._route53().list_resource_record_sets(
            HostedZoneId=self._rollout.hosted_zone_id, StartRecordName=wanted, MaxItems="20")["ResourceRecordSets"]
        for record in found:
            ours = record.get("SetIdentifier", "").startswith(f"{self._rollout.deployment}-")
            if record["Name"] == wanted and record["Type"] in ("A", "AAAA", "CNAME") and not ours:
                yield (f"{self._rollout.tracking_domain} has a record {record['Type']} already that is not this "
                       "deployment's: delete it first, or use another tracking_domain")

    def _route53(self):
        home = self._rollout.home_region
        if self._rollout.hosted_zone_role_arn:
            return self._aws.as_role(self._rollout.hosted_zone_role_arn, "route53", home)
        return self._aws.client("route53", home)
