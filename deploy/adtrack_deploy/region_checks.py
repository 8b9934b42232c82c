"""What a region and the hosted zone must have before a deployment.

Each check yields a text per finding, which says what to do. A text that begins with `note:` does not stop the
deployment.
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


def titled(title):
    """Sets a check's title, for the note that is printed if it cannot run."""
    def set_title(check):
        check.title = title
        return check
    return set_title


def covers(names, domain):
    """Whether a certificate for these names is valid for the domain. A wildcard stands for one label."""
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
            for name, one in parameters.declarations(region.layout).items()}

    def all(self):
        """The checks, in the order in which they are reported."""
        return [self.stacks_can_be_changed, self.certificates, self.zones, self.concurrency, self.streams,
                self.network_quotas, self.balancer_quota, self.fargate_quota, self.names, self.leftovers]

    @titled("whether the region is enabled for the account")
    def is_enabled(self):
        found = self._client("ec2").describe_regions(
            RegionNames=[self._region.name], AllRegions=True)["Regions"]
        if found and found[0].get("OptInStatus") == "not-opted-in":
            yield (f"this region is not enabled for the account: `aws account enable-region --region-name "
                   f"{self._region.name}`, and wait until it is")

    @titled("existing stacks")
    def stacks_can_be_changed(self):
        for stack in stacks.of(self._region.layout):
            found = self._find(stack.name)
            step = step_of(found)
            if found is None or step is Step.UPDATE:
                continue
            if found.get("Tags") and {"Key": "application", "Value": "adtrack"} not in found["Tags"]:
                yield (f"a stack {found['StackName']} exists that does not belong to adtrack: choose another "
                       '"deployment" in regions.json')
            elif step is Step.STUCK:
                yield (f"{found['StackName']} is {found['StackStatus']}, from which CloudFormation cannot recover: "
                       "ask AWS Support, or delete it with deploy/destroy")
            else:
                yield f"note: {found['StackName']} is {found['StackStatus']}; deploy will {step.value}"

    @titled("the certificates")
    def certificates(self):
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
            yield f"{parameter}: {arn} is in another region: request a certificate in this one, in ACM"
            return
        try:
            found = self._client("acm").describe_certificate(CertificateArn=arn)["Certificate"]
        except self._client("acm").exceptions.ResourceNotFoundException:
            yield f"{parameter}: there is no certificate {arn}: request one in ACM, in this region and account"
            return
        names = [found["DomainName"], *found.get("SubjectAlternativeNames", [])]
        if found["Status"] != "ISSUED":
            yield (f"{parameter}: the certificate for {names[0]} is {found['Status']}, not ISSUED: its "
                   "validation records must be in DNS (`aws acm describe-certificate` shows them)")
        if domain and not covers(names, domain):
            yield (f"{parameter}: the certificate is for {', '.join(dict.fromkeys(names))}, not for {domain}: "
                   "request one that names it")

    @titled("the availability zones")
    def zones(self):
        declared = parameters.declarations(self._region.layout)
        if "Zone1" not in declared or self._exists("network"):
            return
        services = zones.endpoint_services(self._region.layout, self._region.name)
        try:
            zones.assign(declared, self._region.parameters, {},
                         lambda: zones.of_region(self._client("ec2"), self._region.name, services))
        except zones.ZoneError as error:
            yield str(error)

    @titled("Lambda's concurrency")
    def concurrency(self):
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
            yield (f"{' + '.join(names)} reserve {wanted} concurrent executions, but only {max(free, 0)} of "
                   f"{limits['ConcurrentExecutions']} can be reserved here ({UNRESERVED} stay unreserved): lower "
                   "them, or request more (Service Quotas, lambda, L-B99A9384)")

    @titled("Kinesis's limits")
    def streams(self):
        if self._exists("data"):
            return
        limits = self._client("kinesis").describe_limits()
        if self._is("StreamMode", "ON_DEMAND"):
            free = limits.get("OnDemandStreamCountLimit", 2) - limits.get("OnDemandStreamCount", 0)
            if free < 2:
                yield (f"2 on-demand streams are needed, but only {max(free, 0)} more are allowed here: request "
                       "more (Service Quotas, kinesis), or set StreamMode to PROVISIONED")
            return
        wanted = int(self._values["EventShards"] or 0) + int(self._values["CoreDataShards"] or 0)
        free = limits["ShardLimit"] - limits["OpenShardCount"]
        if wanted > free:
            yield (f"EventShards and CoreDataShards are {wanted} together, but only {free} more shards are allowed "
                   "here: request more (Service Quotas, kinesis)")

    @titled("the quotas of VPCs and endpoints")
    def network_quotas(self):
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

    @titled("the quota of load balancers")
    def balancer_quota(self):
        if self._exists("compute") or self._region.layout.load_balancer != "own":
            return
        pages = self._client("elbv2").get_paginator("describe_load_balancers").paginate()
        there = sum(one.get("Type") == "application" for page in pages for one in page["LoadBalancers"])
        yield from self._quota("application load balancers", there, 1)

    @titled("Fargate's quota")
    def fargate_quota(self):
        cores = int(self._values.get("TaskCpu") or 0) / 1024
        fewest, most = (math.ceil(int(self._values.get(name) or 0) * cores) for name in ("MinTasks", "MaxTasks"))
        quota = self._quota_of("Fargate's vCPUs")
        if quota is not None and fewest > quota:
            yield (f"MinTasks x TaskCpu take {fewest} vCPUs, and the quota is {quota:.0f}: lower them, or request "
                   "more (Service Quotas, fargate, L-3032A538)")
        elif quota is not None and most > quota:
            yield (f"note: MaxTasks x TaskCpu take {most} vCPUs, and the quota is {quota:.0f}: request more "
                   "before the traffic needs it (Service Quotas, fargate, L-3032A538)")

    @titled("whether names are free")
    def names(self):
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
            yield (f"the ElastiCache {what} {name} already exists, from another deployment or a deleted one: choose "
                   f'another "deployment", or `aws elasticache delete-{what} --region {self._region.name} '
                   f"--{what}-id {name}`")

    @titled("leftovers of earlier deployments")
    def leftovers(self):
        if any(self._find(stack.name) for stack in stacks.of(self._region.layout)):
            return
        pages = self._client("resourcegroupstaggingapi").get_paginator("get_resources").paginate(
            TagFilters=[{"Key": "application", "Values": ["adtrack"]},
                        {"Key": "deployment", "Values": [self._rollout.deployment]}],
            ResourceTypeFilters=sorted(RETAINED))
        for page in pages:
            for one in page["ResourceTagMappingList"]:
                yield (f"note: {one['ResourceARN']} is left over from an earlier deployment of this name, and this "
                       "one does not use it. Delete it if nobody needs its data")

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
            yield (f"{what}: {used} exist, {needed} more are needed, and the quota is {quota:.0f}: request more "
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

    @titled("the hosted zone")
    def holds_the_domain(self):
        route53 = self._route53()
        try:
            zone = route53.get_hosted_zone(Id=self._rollout.hosted_zone_id)["HostedZone"]
        except route53.exceptions.NoSuchHostedZone:
            yield ("there is no such hosted zone in this account: `aws route53 list-hosted-zones` lists them; for a "
                   "zone in another account, set hosted_zone_role_arn")
            return
        name = zone["Name"].rstrip(".")
        if zone.get("Config", {}).get("PrivateZone"):
            yield "this zone is private, so ad clients cannot see it: use a public one"
        domain = self._rollout.tracking_domain
        if domain != name and not domain.endswith(f".{name}"):
            yield f"this zone is {name}, which does not contain {domain}: change tracking_domain or hosted_zone_id"

    @titled("the records of the tracking domain")
    def record_is_free(self):
        wanted = f"{self._rollout.tracking_domain}."
        found = self._route53().list_resource_record_sets(
            HostedZoneId=self._rollout.hosted_zone_id, StartRecordName=wanted, MaxItems="20")["ResourceRecordSets"]
        for record in found:
            ours = record.get("SetIdentifier", "").startswith(f"{self._rollout.deployment}-")
            if record["Name"] == wanted and record["Type"] in ("A", "AAAA", "CNAME") and not ours:
                yield (f"{self._rollout.tracking_domain} already has a record {record['Type']} that does not belong "
                       "to this deployment: delete it first, or use another tracking_domain")

    def _route53(self):
        home = self._rollout.home_region
        if self._rollout.hosted_zone_role_arn:
            return self._aws.as_role(self._rollout.hosted_zone_role_arn, "route53", home)
        return self._aws.client("route53", home)
