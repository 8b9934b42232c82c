"""The roll-out: region by region, stack by stack, a smoke test in each; it stops at the first failure."""

from . import artifacts, stacks, template
from .changes import ChangeError, Stacks
from .smoke import Smoke

# Given to stacks by this program.
BUILT = {"ConsumerPackage", "UpdaterPackage", "TrackerImage", "AgentImage"}


class Options:
    """How to roll out. Each has its flag in cli.py."""

    def __init__(self, **values):
        self.stacks = values.get("stacks") or []
        self.dry_run = values.get("dry_run", False)
        self.packages = values.get("packages")
        self.tracker_image = values.get("tracker_image")
        self.agent_image = values.get("agent_image")
        self.allow_replacement = values.get("allow_replacement", False)
        self.smoke_test = values.get("smoke_test", True)
        self.smoke_url = values.get("smoke_url")
        self.poll_seconds = values.get("poll_seconds", 5)


class RegionRollout:
    """One region."""

    def __init__(self, aws, rollout, region, options, out):
        self._aws = aws
        self._rollout = rollout
        self._region = region
        self._options = options
        self._out = out
        self._stacks = Stacks(
            aws.client("cloudformation", region.name), aws.client("s3", region.name), out,
            options.poll_seconds)
        self._known = {}
        for stack in stacks.STACKS:
            if not stack.once:
                self._known.update(self._stacks.outputs(self.stack_name(stack)))

    def stack_name(self, stack):
        """Name of a stack of this deployment."""
        return f"{self._rollout.deployment}-{stack.name}"

    def once(self):
        """The stacks that there is one of, in the home region. Returns their outputs."""
        others = [one.name for one in self._rollout.regions if one.name != self._region.name]
        given = dict(zip(("SecondRegion", "ThirdRegion", "FourthRegion"), others, strict=False))
        if self._rollout.global_table and len(others) not in (1, 2, 3):
            raise ChangeError("a global table has replicas in two to four regions")
        outputs = {}
        for stack in stacks.STACKS:
            if stack.once and self._rollout.global_table:
                outputs.update(self._apply(stack, given) or {})
        return outputs

    def run(self, given):
        """All stacks of the region, or those asked for; `given` are parameters from elsewhere."""
        known = {**self._environment(), **given}
        for stack in self._wanted(after_smoke_test=False):
            if stack.name in ("lambdas", "compute") and not self._options.dry_run:
                known.update(self._build(stack.name))
            self._known.update(self._apply(stack, known) or {})
        if self._options.dry_run:
            for stack in self._wanted(after_smoke_test=True):
                self._apply(stack, known)
            return
        if self._options.smoke_test and not self._options.stacks:
            self._smoke_test()
        for stack in self._wanted(after_smoke_test=True):
            self._known.update(self._apply(stack, known) or {})

    def for_stack_set(self):
        """Builds and uploads what the region needs. Returns its parameters of the StackSet."""
        artifacts_stack = stacks.BY_NAME["artifacts"]
        self._known.update(self._apply(artifacts_stack, {}))
        known = {**self._known, **self._environment(), **self._build("lambdas"),
                 **self._build("compute"), **self._region.parameters}
        return {name: known[name] for name in stacks.region_body()["Parameters"]
                if name in known and name != "Deployment"}

    def upload_region_template(self):
        """Puts a region's template into the region's bucket. Returns its URL."""
        return self._stacks.upload(
            self._known["ArtifactBucketName"], "region", template.to_text(stacks.region_body()))

    def _wanted(self, after_smoke_test):
        for stack in stacks.STACKS:
            asked = not self._options.stacks or stack.name in self._options.stacks
            routed = bool(self._rollout.tracking_domain) or not stack.after_smoke_test
            if asked and routed and not stack.once and stack.after_smoke_test == after_smoke_test:
                yield stack

    def _environment(self):
        """What only the region itself can tell."""
        name = f"com.amazonaws.{self._region.name}.s3"
        found = self._aws.client("ec2", self._region.name).describe_managed_prefix_lists(
            Filters=[{"Name": "prefix-list-name", "Values": [name]}])["PrefixLists"]
        if not found:
            raise ChangeError(f"{self._region.name} has no prefix list {name}")
        domain = {
            "TrackingDomain": self._rollout.tracking_domain,
            "HostedZoneId": self._rollout.hosted_zone_id,
        } if self._rollout.tracking_domain else {}
        return {"S3PrefixListId": found[0]["PrefixListId"], **domain}

    def _build(self, name):
        if name == "lambdas":
            architecture = self._region.parameters.get("Architecture", "arm64")
            files = artifacts.build_packages(architecture, self._options.packages)
            s3 = self._aws.client("s3", self._region.name)
            return artifacts.upload_packages(s3, self._known["ArtifactBucketName"], files)
        if self._options.tracker_image and self._options.agent_image:
            return {"TrackerImage": self._options.tracker_image,
                    "AgentImage": self._options.agent_image}
        architecture = self._region.parameters.get("TrackerArchitecture", "ARM64")
        return artifacts.push_images(
            self._aws.client("ecr", self._region.name), self._known, architecture)

    def _apply(self, stack, known):
        body = stacks.body(stack)
        name = self.stack_name(stack)
        running = self._stacks.parameters(name)
        values = {**self._region.parameters, **self._known, **known,
                  "Deployment": self._rollout.deployment}
        parameters, missing = {}, []
        for parameter, declared in body["Parameters"].items():
            if parameter in values:
                parameters[parameter] = values[parameter]
            elif self._options.dry_run and parameter in BUILT and parameter in running:
                parameters[parameter] = running[parameter]
            elif "Default" not in declared:
                missing.append(parameter)
        tags = {"application": "adtrack", "deployment": self._rollout.deployment}
        # The bucket of templates is in the first stack, which is small enough to go without.
        bucket = None if stack.name in ("artifacts", "global-table") else self._known.get("ArtifactBucketName")
        if self._options.dry_run:
            if missing and running:
                self._out(f"  {name}: cannot be compared, {', '.join(missing)} is not known")
            else:
                self._stacks.preview(name, body, parameters, tags, bucket)
            return {}
        if missing:
            raise ChangeError(
                f"{name} needs {', '.join(missing)}: deploy the stacks before it, or set it in regions.json")
        outputs = self._stacks.apply(
            name, body, parameters, tags, bucket, self._options.allow_replacement)
        if stack.holds_data:
            self._stacks.protect(name, True)
        return outputs

    def _smoke_test(self):
        Smoke(
            self._aws.client("kinesis", self._region.name),
            self._aws.client("dynamodb", self._region.name),
            self._known, self._rollout.tracking_domain, self._out, self._options.smoke_url,
        ).run()
