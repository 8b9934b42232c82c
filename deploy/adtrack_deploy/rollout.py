"""The roll-out: region by region, stack by stack, a smoke test in each; it stops at the first failure.

Every stack is first got out of whatever state an earlier run has left it in (recovery.py), then changed
by a change set (changes.py). What refuses to be deleted, the load balancer and the table, would also
refuse to be rolled back: on a first creation DeletionProtection is 'false', and after the smoke test a
second update turns it on.
"""

from dataclasses import dataclass

from . import artifacts, stacks, template, zones
from .changes import Changes
from .cloudformation import PATIENCE_SECONDS, ChangeError, Stacks
from .holdings import Holdings
from .records import Records
from .recovery import Recovery
from .smoke import Smoke

# Given to stacks by this program.
BUILT = {"ConsumerPackage", "UpdaterPackage", "TrackerImage", "AgentImage"}
PROTECTION = "DeletionProtection"
REPLICAS = ("SecondRegion", "ThirdRegion", "FourthRegion")
# Stands for the name of a table that a dry run does not create.
NOT_YET = "not-created-yet"


@dataclass(frozen=True)
class Options:
    """How to roll out. Each has its flag in cli.py."""

    stacks: tuple = ()
    dry_run: bool = False
    packages: str = None
    tracker_image: str = None
    agent_image: str = None
    allow_replacement: tuple = ()
    skip_in_rollback: tuple = ()
    smoke_test: bool = True
    smoke_url: str = None
    poll_seconds: float = 5
    patience_seconds: float = PATIENCE_SECONDS


class RegionRollout:
    """One region."""

    def __init__(self, aws, rollout, region, options, out):
        self._aws = aws
        self._rollout = rollout
        self._region = region
        self._options = options
        self._out = out
        self._stacks = Stacks(aws.client("cloudformation", region.name), out, region.name,
                              options.poll_seconds, options.patience_seconds)
        self._changes = Changes(self._stacks, aws.client("s3", region.name), options.poll_seconds,
                                rollout.service_role_arn)
        self._recovery = Recovery(self._stacks, Holdings(aws, region.name))
        self._outputs = {}
        for stack in stacks.of(region.layout):
            if not stack.once:
                self._outputs.update(self._stacks.outputs(self.stack_name(stack)))

    def stack_name(self, stack):
        """Name of a stack of this deployment."""
        return f"{self._rollout.deployment}-{stack.name}"

    def once(self):
        """The stacks that there is one of, in the home region. Returns their outputs.

        With --stack they are only read, unless they are named.
        """
        given = self._replicas()
        found = {}
        for stack in stacks.of(self._region.layout):
            if not stack.once:
                continue
            if self._is_asked_for(stack):
                found.update(self._apply(stack, given))
            found.update(self._stacks.outputs(self.stack_name(stack)))
            if self._options.dry_run:
                for name in stacks.body(stack)["Outputs"]:
                    found.setdefault(name, NOT_YET)
        return found

    def run(self, given):
        """All stacks of the region, or those asked for; `given` are parameters from elsewhere."""
        known = {**self._environment(), **given}
        for stack in self._wanted(after_smoke_test=False):
            if stack.name in ("lambdas", "compute") and not self._options.dry_run:
                known.update(self._build(stack.name))
            self._outputs.update(self._apply(stack, known))
        if not self._options.dry_run and not self._options.stacks:
            if self._options.smoke_test:
                self._smoke_test()
            self._turn_protection_on(known)
        for stack in self._wanted(after_smoke_test=True):
            self._outputs.update(self._apply(stack, known))
            if self._rollout.hosted_zone_role_arn and not self._options.dry_run:
                Records(self._aws, self._rollout, self._region).put(self._region.parameters | self._outputs)
                self._out(f"  {self._rollout.tracking_domain}: has the records of {self._region.name}")

    def for_stack_set(self):
        """Builds and uploads what the region needs. Returns its parameters of the StackSet."""
        self._outputs.update(self._apply(stacks.BY_NAME["artifacts"], {}))
        known = {**self._outputs, **self._environment(), **self._build("lambdas"), **self._build("compute")}
        declared = stacks.region_body(self._region.layout)["Parameters"]
        # Whether a first creation succeeds shows in other accounts: protection is asked for afterwards.
        known |= self._zones(declared) | {PROTECTION: "false"}
        return {name: value for name in declared if name != "Deployment"
                and (value := self._value(name, known)) is not None}

    def upload_region_template(self):
        """Puts a region's template into the region's bucket. Returns its URL."""
        return self._changes.upload(self._outputs["ArtifactBucketName"], "region",
                                    template.to_text(stacks.region_body(self._region.layout)))

    def _wanted(self, after_smoke_test):
        for stack in stacks.of(self._region.layout):
            if (self._is_asked_for(stack) and not stack.once
                    and stack.after_smoke_test == after_smoke_test):
                yield stack

    def _is_asked_for(self, stack):
        return not self._options.stacks or stack.name in self._options.stacks

    def _environment(self):
        """What only the region itself can tell, and what the file has outside of parameters."""
        name = f"com.amazonaws.{self._region.name}.s3"
        found = self._aws.client("ec2", self._region.name).describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [name]}])["PrefixLists"]
        if not found:
            raise ChangeError(f"{self._region.name} has no prefix list {name}")
        domain = {
            "TrackingDomain": self._rollout.tracking_domain,
            # Of a zone in another account this tool makes the records.
            "HostedZoneId": "" if self._rollout.hosted_zone_role_arn else self._rollout.hosted_zone_id,
        } if self._rollout.tracking_domain else {}
        return {"S3PrefixListId": found[0]["PrefixListId"], **domain}

    def _zones(self, declared):
        """Zone1, Zone2, …, if these are declared."""
        if "Zone1" not in declared:
            return {}
        ec2 = self._aws.client("ec2", self._region.name)
        services = zones.endpoint_services(self._region.layout, self._region.name)
        return zones.assign(declared, self._region.parameters, self._running_zones(ec2),
                            lambda: zones.of_region(ec2, self._region.name, services))

    def _running_zones(self, ec2):
        """The zones of the network that runs: its parameters, or else where its subnets are."""
        name = f"{self._rollout.deployment}-network"
        running = self._stacks.parameters(name)
        if not running or "Zone1" in running:
            return running
        subnets = {one["LogicalResourceId"]: one["PhysicalResourceId"]
                   for one in self._stacks.resources(name) if one["ResourceType"] == "AWS::EC2::Subnet"}
        found = {one["SubnetId"]: one["AvailabilityZone"] for one in
                 ec2.describe_subnets(SubnetIds=sorted(subnets.values()))["Subnets"]} if subnets else {}
        return {zone: found[subnets[f"PrivateSubnet{number}"]] for number, zone in enumerate(zones.NAMES, 1)
                if f"PrivateSubnet{number}" in subnets}

    def _build(self, name):
        if name == "lambdas":
            architecture = self._region.parameters.get("Architecture", "arm64")
            files = artifacts.build_packages(architecture, self._options.packages)
            s3 = self._aws.client("s3", self._region.name)
            return artifacts.upload_packages(s3, self._outputs["ArtifactBucketName"], files)
        if self._options.tracker_image and self._options.agent_image:
            return {"TrackerImage": self._options.tracker_image,
                    "AgentImage": self._options.agent_image}
        architecture = self._region.parameters.get("TrackerArchitecture", "ARM64")
        return artifacts.push_images(
            self._aws.client("ecr", self._region.name), self._outputs, architecture)

    def _apply(self, stack, known, protected=False):
        name = self.stack_name(stack)
        body = stacks.body(stack)
        if not self._options.dry_run:
            self._recovery.settle(name, self._options.skip_in_rollback)
        running = self._stacks.parameters(name)
        known = known | self._zones(body["Parameters"])
        values, missing = {}, []
        for parameter, declared in body["Parameters"].items():
            value = self._value(parameter, known)
            if parameter == PROTECTION:
                values[parameter] = self._protection(value, running, protected)
            elif value is not None:
                values[parameter] = value
            elif self._options.dry_run and parameter in BUILT and parameter in running:
                values[parameter] = running[parameter]
            elif "Default" not in declared:
                missing.append(parameter)
        tags = {**self._rollout.tags, "application": "adtrack", "deployment": self._rollout.deployment}
        # The bucket of templates is in the first stack, which is small enough to go without.
        bucket = None if stack.name in ("artifacts", "global-table") else self._outputs.get("ArtifactBucketName")
        if self._options.dry_run:
            if missing and running:
                self._out(f"  {name}: cannot be compared, {', '.join(missing)} is not known")
            else:
                self._changes.preview(name, body, values, tags, bucket)
            return {}
        if missing:
            raise ChangeError(
                f"{name} needs {', '.join(missing)}: deploy the stacks before it, or set it in regions.json")
        outputs = self._changes.apply(name, body, values, tags, bucket, self._options.allow_replacement)
        if stack.holds_data:
            self._stacks.protect(name, True)
        return outputs

    def _value(self, name, known):
        """A parameter's value, none if nothing gives one.

        What this deployment makes or is told elsewhere cannot be set in regions.json (parameters.py);
        of what is found out, an operator's value takes precedence.
        """
        operator = self._region.parameters.get(name)
        own = known.get(name, self._outputs.get(name))
        if name in zones.NAMES:
            return own
        return own if operator is None else operator

    def _protection(self, wanted, running, protected):
        """Off on a first creation, until the smoke test has succeeded once; then as it is asked for."""
        wanted = wanted or "true"
        if protected or running.get(PROTECTION, "true" if running else "false") == "true":
            return wanted
        return "false"

    def protect_once(self):
        """Turns the protection of what there is once on, after all regions."""
        self._turn_protection_on(self._replicas(), once=True)

    def _replicas(self):
        others = [one.name for one in self._rollout.regions if one.name != self._region.name]
        return dict(zip(REPLICAS, others, strict=False))

    def _turn_protection_on(self, known, once=False):
        for stack in stacks.of(self._region.layout):
            if stack.once != once or stack.after_smoke_test:
                continue
            running = self._stacks.parameters(self.stack_name(stack))
            wanted = self._value(PROTECTION, known) or "true"
            if PROTECTION in stacks.body(stack)["Parameters"] and running.get(PROTECTION) != wanted:
                self._out(f"  {self.stack_name(stack)}: from now on what it holds refuses to be deleted")
                self._apply(stack, known, protected=True)

    def _smoke_test(self):
        # Of a load balancer that was there before, regions.json has the name.
        outputs = self._region.parameters | self._outputs
        plain = self._region.parameters.get("InsecurePlainHttp") == "true"
        url = f"{'http' if plain else 'https'}://{outputs['LoadBalancerDnsName']}"
        Smoke(
            self._aws.client("kinesis", self._region.name),
            self._aws.client("dynamodb", self._region.name),
            outputs, self._rollout.tracking_domain, self._out, self._options.smoke_url or url,
        ).run()
