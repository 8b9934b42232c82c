"""The roll-out: region by region, stack by stack, with a smoke test in each region. Stops at the first failure.

Every stack is first recovered from the state in which an earlier run left it (recovery.py), then changed through
a change set (changes.py). CloudFormation cannot roll back the creation of a load balancer or a table that is
protected from deletion. So DeletionProtection is 'false' at first, and a second update turns it on after the
smoke test.
"""

from dataclasses import dataclass

from . import artifacts, stacks, template, zones
from .changes import Changes
from .cloudformation import WAIT_LIMIT_SECONDS, ChangeError, Stacks
from .records import Records
from .recovery import Recovery
from .retained import RetainedResources
from .smoke import Smoke

# Parameters with the names of what deploy builds.
BUILT = {"ConsumerPackage", "UpdaterPackage", "TrackerImage", "AgentImage"}
PROTECTION = "DeletionProtection"
REPLICAS = ("SecondRegion", "ThirdRegion", "FourthRegion")
# In a dry run, the name of a table that does not exist yet.
NOT_YET = "not-created-yet"


@dataclass(frozen=True)
class Options:
    """The options of a roll-out. Each has its flag in cli.py."""

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
    wait_limit_seconds: float = WAIT_LIMIT_SECONDS


class RegionRollout:
    """Deploys one region."""

    def __init__(self, aws, rollout, region, options, out):
        self._aws = aws
        self._rollout = rollout
        self._region = region
        self._options = options
        self._out = out
        self._stacks = Stacks(aws.client("cloudformation", region.name), out, region.name,
                              options.poll_seconds, options.wait_limit_seconds)
        self._changes = Changes(self._stacks, aws.client("s3", region.name), options.poll_seconds,
                                rollout.service_role_arn)
        self._recovery = Recovery(self._stacks, RetainedResources(aws, region.name))
        self._outputs = {}
        for stack in stacks.of(region.layout):
            if not stack.shared:
                self._outputs.update(self._stacks.outputs(self.stack_name(stack)))

    def stack_name(self, stack):
        """The full name of a stack of this deployment."""
        return f"{self._rollout.deployment}-{stack.name}"

    def deploy_shared(self):
        """Deploys the shared stacks, in the home region. Returns their outputs.

        With --stack it only reads those that are not named.
        """
        given = self._replicas()
        found = {}
        for stack in stacks.of(self._region.layout):
            if not stack.shared:
                continue
            if self._is_selected(stack):
                found.update(self._apply(stack, given))
            found.update(self._stacks.outputs(self.stack_name(stack)))
            if self._options.dry_run:
                for name in stacks.body(stack)["Outputs"]:
                    found.setdefault(name, NOT_YET)
        return found

    def run(self, given):
        """Deploys all stacks of the region, or the selected ones. `given` are outputs of shared stacks."""
        known = {**self._environment(), **given}
        for stack in self._stacks_to_deploy(after_smoke_test=False):
            if stack.name in ("lambdas", "compute") and not self._options.dry_run:
                known.update(self._build(stack.name))
            self._outputs.update(self._apply(stack, known))
        if not self._options.dry_run and not self._options.stacks:
            if self._options.smoke_test:
                self._smoke_test()
            self._turn_protection_on(known)
        for stack in self._stacks_to_deploy(after_smoke_test=True):
            self._outputs.update(self._apply(stack, known))
            if self._rollout.hosted_zone_role_arn and not self._options.dry_run:
                Records(self._aws, self._rollout, self._region).put(self._region.parameters | self._outputs)
                self._out(f"  {self._rollout.tracking_domain}: set the records of {self._region.name}")

    def for_stack_set(self):
        """Builds and uploads what the region needs. Returns its parameters for the StackSet."""
        self._outputs.update(self._apply(stacks.BY_NAME["artifacts"], {}))
        known = {**self._outputs, **self._environment(), **self._build("lambdas"), **self._build("compute")}
        declared = stacks.region_body(self._region.layout)["Parameters"]
        # The stacks are created in other accounts, where deploy cannot see whether they succeed. The operator
        # turns protection on afterwards.
        known |= self._zones(declared) | {PROTECTION: "false"}
        return {name: value for name in declared if name != "Deployment"
                and (value := self._value(name, known)) is not None}

    def upload_region_template(self):
        """Uploads the region's template to the region's bucket. Returns its URL."""
        return self._changes.upload(self._outputs["ArtifactBucketName"], "region",
                                    template.to_text(stacks.region_body(self._region.layout)))

    def _stacks_to_deploy(self, after_smoke_test):
        for stack in stacks.of(self._region.layout):
            if (self._is_selected(stack) and not stack.shared
                    and stack.after_smoke_test == after_smoke_test):
                yield stack

    def _is_selected(self, stack):
        return not self._options.stacks or stack.name in self._options.stacks

    def _environment(self):
        """Values that are looked up in the region, and those that the file has outside of `parameters`."""
        name = f"com.amazonaws.{self._region.name}.s3"
        found = self._aws.client("ec2", self._region.name).describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [name]}])["PrefixLists"]
        if not found:
            raise ChangeError(f"{self._region.name} has no prefix list {name}")
        domain = {
            "TrackingDomain": self._rollout.tracking_domain,
            # In a zone of another account, deploy itself creates the records.
            "HostedZoneId": "" if self._rollout.hosted_zone_role_arn else self._rollout.hosted_zone_id,
        } if self._rollout.tracking_domain else {}
        return {"S3PrefixListId": found[0]["PrefixListId"], **domain}

    def _zones(self, declared):
        """The values of Zone1, Zone2, …, if these are declared."""
        if "Zone1" not in declared:
            return {}
        ec2 = self._aws.client("ec2", self._region.name)
        services = zones.endpoint_services(self._region.layout, self._region.name)
        return zones.assign(declared, self._region.parameters, self._running_zones(ec2),
                            lambda: zones.of_region(ec2, self._region.name, services))

    def _running_zones(self, ec2):
        """The zones of the deployed network: from its parameters, else from its subnets."""
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

    def _apply(self, stack, known, *, protected=False):
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
        # The bucket for templates is in the first stack, whose own template fits into the request.
        bucket = None if stack.name in ("artifacts", "global-table") else self._outputs.get("ArtifactBucketName")
        if self._options.dry_run:
            if missing and running:
                self._out(f"  {name}: cannot be compared, because {', '.join(missing)} is not known")
            else:
                self._changes.preview(name, body, values, tags, bucket)
            return {}
        if missing:
            raise ChangeError(
                f"{name} needs {', '.join(missing)}: deploy the stacks before it first, or set it in regions.json")
        outputs = self._changes.apply(name, body, values, tags, bucket, self._options.allow_replacement)
        if stack.holds_data:
            self._stacks.protect(name, True)
        return outputs

    def _value(self, name, known):
        """A parameter's value, None if nothing sets it.

        `parameters` in regions.json cannot set what deploy makes or what other members of the file set
        (parameters.py). For what deploy looks up, the file's value takes precedence.
        """
        operator = self._region.parameters.get(name)
        own = known.get(name, self._outputs.get(name))
        if name in zones.NAMES:
            return own
        return own if operator is None else operator

    def _protection(self, wanted, running, protected):
        """The value of DeletionProtection: 'false' until the smoke test has succeeded once, then as set."""
        wanted = wanted or "true"
        if protected or running.get(PROTECTION, "true" if running else "false") == "true":
            return wanted
        return "false"

    def protect_shared(self):
        """Protects the shared stacks from deletion, after all regions are deployed."""
        self._turn_protection_on(self._replicas(), shared=True)

    def _replicas(self):
        others = [one.name for one in self._rollout.regions if one.name != self._region.name]
        return dict(zip(REPLICAS, others, strict=False))

    def _turn_protection_on(self, known, *, shared=False):
        for stack in stacks.of(self._region.layout):
            if stack.shared != shared or stack.after_smoke_test:
                continue
            running = self._stacks.parameters(self.stack_name(stack))
            wanted = self._value(PROTECTION, known) or "true"
            if PROTECTION in stacks.body(stack)["Parameters"] and running.get(PROTECTION) != wanted:
                self._out(f"  {self.stack_name(stack)}: deletion protection: {wanted}")
                self._apply(stack, known, protected=True)

    def _smoke_test(self):
        # For an existing load balancer, regions.json has the name.
        outputs = self._region.parameters | self._outputs
        plain = self._region.parameters.get("InsecurePlainHttp") == "true"
        url = f"{'http' if plain else 'https'}://{outputs['LoadBalancerDnsName']}"
        Smoke(
            self._aws.client("kinesis", self._region.name),
            self._aws.client("dynamodb", self._region.name),
            outputs, self._rollout.tracking_domain, self._out, self._options.smoke_url or url,
        ).run()
