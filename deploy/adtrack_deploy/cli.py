"""deploy and destroy, as commands."""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from . import artifacts, regions, stacks, template
from .aws import Aws, AwsError
from .changes import ChangeError, Stacks
from .destruction import take_down
from .rollout import Options, RegionRollout
from .smoke import SmokeError

# Sysexits: usage; unavailable.
USAGE, FAILED = 64, 69
PROBLEMS = (AwsError, ChangeError, SmokeError, artifacts.ArtifactError, regions.RegionsError,
            template.TemplateError, BotoCoreError, ClientError)


def _parser(program, description):
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--region", action="append", default=[], metavar="NAME",
                        help="only this region (again for more); default: all of the file")
    parser.add_argument("--regions", default=regions.FILE, metavar="FILE",
                        help="file of regions and parameters; default: deploy/regions.json")
    parser.add_argument("--yes", action="store_true", help="do not ask before anything changes")
    parser.add_argument("--emulator", metavar="URL",
                        help="an emulator on this machine in place of AWS, such as moto_server. "
                             "It is given no credentials")
    return parser


def _begin(arguments, out, verb):
    """Shows account and regions; asks. Returns clients, roll-out and regions."""
    aws = Aws(arguments.emulator)
    rollout = regions.load(arguments.regions)
    chosen = rollout.only(arguments.region)
    account, who = aws.account(rollout.home_region)
    where = f"emulator {arguments.emulator}" if arguments.emulator else f"account {account}"
    out(f"{verb} {rollout.deployment} in {where}, as {who}")
    out(f"regions: {', '.join(region.name for region in chosen)}")
    quiet = arguments.yes or getattr(arguments, "dry_run", False)
    if not quiet:
        if not sys.stdin.isatty():
            raise AwsError("nobody can be asked here: --yes goes ahead without")
        if input(f"Type {rollout.deployment} to go ahead: ") != rollout.deployment:
            raise AwsError("not confirmed; nothing was changed")
    return aws, rollout, chosen


def deploy(argv=None, out=print):
    """The command deploy. Returns the exit status."""
    parser = _parser("deploy/deploy", __doc_deploy__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("action", nargs="?", default="up", choices=["up", "status", "drain", "stack-set"],
                        help="up (default); status: stacks, outputs, alarms that ring; drain: takes the "
                             "regions named out of DNS; stack-set: builds, uploads, and prints the "
                             "template of a StackSet for accounts of an organization")
    parser.add_argument("name", nargs="*", help="of drain: regions")
    parser.add_argument("--dry-run", action="store_true",
                        help="show what would change; builds nothing, changes nothing")
    parser.add_argument("--stack", action="append", default=[], choices=list(stacks.BY_NAME),
                        help="only this stack (again for more), without the smoke test")
    parser.add_argument("--packages", metavar="FOLDER",
                        help="folder with kinesis-consumer.zip and redis-updater.zip; default: build them")
    parser.add_argument("--tracker-image", metavar="IMAGE", help="with --agent-image: build no image")
    parser.add_argument("--agent-image", metavar="IMAGE", help="image of the metrics agent")
    parser.add_argument("--allow-replacement", action="store_true",
                        help="also where a stream, table, bucket, key or Redis would be made anew, empty")
    parser.add_argument("--no-smoke-test", action="store_true", help="leave the smoke test out")
    parser.add_argument("--smoke-url", metavar="URL",
                        help="where the smoke test asks; default: the region's load balancer")
    parser.add_argument("--poll-seconds", type=float, default=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.action == "drain":
        arguments.region = arguments.name
        if not arguments.name:
            parser.error("drain needs the names of regions")
    elif arguments.name:
        parser.error(f"unexpected: {' '.join(arguments.name)}")
    try:
        if arguments.action == "status":
            arguments.yes = True
            _status(*_begin(arguments, out, "status of"), out)
        elif arguments.action == "drain":
            _drain(*_begin(arguments, out, "takes out of DNS:"), out)
        elif arguments.action == "stack-set":
            _stack_set(arguments, out)
        else:
            _up(arguments, out)
    except PROBLEMS as error:
        print(f"deploy: {error}", file=sys.stderr)
        return USAGE if isinstance(error, (AwsError, regions.RegionsError)) else FAILED
    return 0


__doc_deploy__ = """Rolls adtrack out to the regions of a file, one after the other.

In each region: packages, network, data, Redis, functions, trackers, alarms, each by a change set
that is shown; then a smoke test (a test program, an event, its row, all removed again); then, with a
tracking_domain in the file, the region's record in DNS. The first failure ends it; regions before it
stay as they are, and running it again goes on from there.

Refuses to run while AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_* is set."""


def _options(arguments):
    return Options(
        stacks=arguments.stack, dry_run=arguments.dry_run, packages=arguments.packages,
        tracker_image=arguments.tracker_image, agent_image=arguments.agent_image,
        allow_replacement=arguments.allow_replacement, smoke_test=not arguments.no_smoke_test,
        smoke_url=arguments.smoke_url, poll_seconds=arguments.poll_seconds)


def _up(arguments, out):
    options = _options(arguments)
    verb = "would deploy" if arguments.dry_run else "deploys"
    aws, rollout, chosen = _begin(arguments, out, verb)
    if not arguments.dry_run:
        rollout.refuse_examples()
    given = {}
    if rollout.global_table:
        home = next(one for one in rollout.regions if one.name == rollout.home_region)
        out(f"{home.name}, for all regions")
        given = RegionRollout(aws, rollout, home, options, out).once()
    for region in chosen:
        out(region.name)
        RegionRollout(aws, rollout, region, options, out).run(given)
    out("nothing was changed" if arguments.dry_run else "done")


def _stack_set(arguments, out):
    """What it says goes to standard error: its output is the template."""
    def say(text):
        print(text, file=sys.stderr)

    aws, rollout, chosen = _begin(arguments, say, "prepares a StackSet of")
    rollout.refuse_examples()
    folder = template.FOLDER.parent / "organizations"
    body = template.load("stack-set", folder)
    properties = body["Resources"]["Regions"]["Properties"]
    [group] = properties.pop("StackInstancesGroup")
    properties["StackInstancesGroup"] = []
    properties["OperationPreferences"]["RegionOrder"] = [region.name for region in chosen]
    for region in chosen:
        one = RegionRollout(aws, rollout, region, _options(arguments), say)
        overrides = one.for_stack_set()
        if region.name == chosen[0].name:
            properties["TemplateURL"] = one.upload_region_template()
        properties["StackInstancesGroup"].append({
            **group, "Regions": [region.name],
            "ParameterOverrides": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in sorted(overrides.items())
            ],
        })
    # A parameter has to have a value before a region's own goes over it.
    properties["Parameters"] += properties["StackInstancesGroup"][0]["ParameterOverrides"]
    out(template.to_text(body))


def _status(aws, rollout, chosen, out):
    for region in chosen:
        out(region.name)
        api = Stacks(aws.client("cloudformation", region.name), None, out)
        for stack in stacks.STACKS:
            name = f"{rollout.deployment}-{stack.name}"
            found = api.describe(name)
            if found is None:
                out(f"  {name}: none")
                continue
            out(f"  {name}: {found['StackStatus']}")
            for output in found.get("Outputs", []):
                out(f"    {output['OutputKey']}={output['OutputValue']}")
        alarms = aws.client("cloudwatch", region.name).get_paginator("describe_alarms")
        pages = alarms.paginate(
            AlarmNamePrefix=f"{rollout.deployment}-observability-", StateValue="ALARM",
            AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        for page in pages:
            for alarm in page.get("MetricAlarms", []) + page.get("CompositeAlarms", []):
                out(f"  rings: {alarm['AlarmName']}")


def _drain(aws, rollout, chosen, out):
    for region in chosen:
        out(region.name)
        api = Stacks(aws.client("cloudformation", region.name), None, out)
        api.delete(f"{rollout.deployment}-routing")


def destroy(argv=None, out=print):
    """The command destroy. Returns the exit status."""
    parser = _parser("deploy/destroy", (
        "Takes adtrack down in the regions named: out of DNS first, data last. Stacks that hold data "
        "(table, streams, failed records, packages) stay, unless --delete-data is given; Redis leaves "
        "a snapshot in any case."))
    parser.add_argument("--delete-data", action="store_true",
                        help="also the table, streams, buckets and key, for good")
    parser.add_argument("--poll-seconds", type=float, default=5, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if not arguments.region:
        parser.error("name the regions: --region NAME")
    try:
        what = "DELETES WITH ALL DATA" if arguments.delete_data else "takes down"
        aws, rollout, chosen = _begin(arguments, out, what)
        for region in chosen:
            out(region.name)
            take_down(aws, rollout, region, arguments, out)
    except PROBLEMS as error:
        print(f"destroy: {error}", file=sys.stderr)
        return USAGE if isinstance(error, (AwsError, regions.RegionsError)) else FAILED
    return 0
