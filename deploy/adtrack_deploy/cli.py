"""deploy and destroy, as commands."""

import argparse
import signal
import sys
import threading

from botocore.exceptions import BotoCoreError, ClientError

from . import artifacts, preflight, regions, schema, stack_set, stacks, template
from .aws import Aws, AwsError, explain
from .cloudformation import PATIENCE_SECONDS, ChangeError, Stacks
from .destruction import take_down
from .holdings import HoldingError
from .prune import prune
from .rollout import Options, RegionRollout
from .smoke import SmokeError
from .zones import ZoneError

# Sysexits: usage; unavailable. And what a shell makes of ctrl-C.
USAGE, FAILED, INTERRUPTED = 64, 69, 130
PROBLEMS = (AwsError, ChangeError, HoldingError, SmokeError, ZoneError, artifacts.ArtifactError,
            preflight.PreflightError, regions.RegionsError, template.TemplateError, BotoCoreError, ClientError,
            OSError)
USAGE_PROBLEMS = (AwsError, preflight.PreflightError, regions.RegionsError)

DEPLOY = """Rolls adtrack out to the regions of a file, one after the other.

Before anything is created, everything that would fail later is looked at, and all findings are shown:
tools and a clean source, credentials, certificates, the hosted zone, zones, quotas, Lambda's concurrency,
names, parameters. In each region then: packages, network, data, Redis, functions, trackers, alarms, each by
a change set that is shown; a smoke test (a test program, an event, its row, all removed again); with a
tracking_domain in the file, the region's record in DNS.

The first failure ends it; regions before it stay as they are. Running it again goes on from there, whatever
state a stack was left in: it waits for what CloudFormation is still doing, continues a rollback, and deletes
what a failed first creation left if that holds no data. A stack that ever worked is never deleted.

Refuses to run while AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_* is set."""

DESTROY = """Takes adtrack down in the regions named: out of DNS first, data last.

Stacks that hold data (table, streams, failed records, packages) stay, unless --delete-data is given or their
first creation failed and they are empty; Redis leaves a snapshot in any case. What stays is named, with the
command that deletes it. A failure is repeated after its cause is fixed."""


def _parser(program, description):
    parser = argparse.ArgumentParser(prog=program, description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", action="append", default=[], metavar="NAME",
                        help="only this region (again for more); default: all of the file")
    parser.add_argument("--regions", default=regions.FILE, metavar="FILE",
                        help="file of regions and parameters; default: deploy/regions.json")
    parser.add_argument("--yes", action="store_true", help="do not ask before anything changes")
    parser.add_argument("--emulator", metavar="URL",
                        help="an emulator on this machine in place of AWS, such as moto_server. "
                             "It is given no credentials")
    parser.add_argument("--wait-minutes", type=float, default=PATIENCE_SECONDS / 60, metavar="N",
                        help="how long to wait for a stack; CloudFormation goes on after that, and the same "
                             "command waits again. Default: %(default)g")
    parser.add_argument("--poll-seconds", type=float, default=5, help=argparse.SUPPRESS)
    return parser


def _deploy_parser():
    parser = _parser("deploy/deploy", DEPLOY)
    parser.add_argument("action", nargs="?", default="up",
                        choices=["up", "status", "drain", "prune", "stack-set", "schema"],
                        help="up (default); status: stacks, outputs, alarms that ring; drain: takes the "
                             "regions named out of DNS; prune: deletes packages, templates and images that "
                             "no stack and no running task uses and that are not among the newest 10 of "
                             "their kind (nothing else deletes them; with --dry-run it shows them); "
                             "stack-set: builds, uploads, and prints the template of a StackSet for accounts "
                             "of an organization; schema: prints the schema of regions.json")
    parser.add_argument("name", nargs="*", help="of drain: regions")
    parser.add_argument("--dry-run", action="store_true",
                        help="show the findings and what would change; builds nothing, changes nothing")
    parser.add_argument("--skip-preflight", action="store_true",
                        help="go on in spite of findings, for one that is wrong; they are still shown")
    parser.add_argument("--stack", action="append", default=[], choices=list(stacks.BY_NAME),
                        help="only this stack (again for more), without the smoke test")
    parser.add_argument("--packages", metavar="FOLDER",
                        help="folder with kinesis-consumer.zip and redis-updater.zip; default: build them")
    parser.add_argument("--tracker-image", metavar="IMAGE", help="with --agent-image: build no image")
    parser.add_argument("--agent-image", metavar="IMAGE", help="image of the metrics agent")
    parser.add_argument("--allow-replacement", action="append", default=[], metavar="RESOURCE",
                        help="this stream, table, bucket, repository, key or Redis (its logical name; again "
                             "for more) may be replaced by an empty one, or removed")
    parser.add_argument("--skip-in-rollback", action="append", default=[], metavar="RESOURCE",
                        help="of a stack in UPDATE_ROLLBACK_FAILED: leave this resource (its logical name; "
                             "again for more) as it is. It then differs from its template")
    parser.add_argument("--no-smoke-test", action="store_true", help="leave the smoke test out")
    parser.add_argument("--smoke-url", metavar="URL",
                        help="where the smoke test asks; default: the region's load balancer")
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
    return aws, rollout, chosen


def _confirm(arguments, deployment):
    if arguments.yes or getattr(arguments, "dry_run", False):
        return
    if not sys.stdin.isatty():
        raise AwsError("nobody can be asked here: --yes goes ahead without")
    if input(f"Type {deployment} to go ahead: ") != deployment:
        raise AwsError("not confirmed; nothing was changed")


def _run(program, action):
    """Runs an action; its problems become a line and an exit status, ctrl-C and SIGTERM too."""
    def interrupt(*_):
        raise KeyboardInterrupt

    in_main_thread = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, interrupt) if in_main_thread else None
    try:
        action()
    except PROBLEMS as error:
        text = explain(error) if isinstance(error, (BotoCoreError, ClientError)) else str(error)
        print(f"{program}: {text}", file=sys.stderr)
        return USAGE if isinstance(error, USAGE_PROBLEMS) else FAILED
    except KeyboardInterrupt as error:
        text = str(error) or "nothing was left half done here; the same command again goes on from there"
        print(f"{program}: interrupted: {text}", file=sys.stderr)
        return INTERRUPTED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def deploy(argv=None, out=print):
    """The command deploy. Returns the exit status."""
    parser = _deploy_parser()
    arguments = parser.parse_args(argv)
    if arguments.action == "drain":
        arguments.region = arguments.name
        if not arguments.name:
            parser.error("drain needs the names of regions")
    elif arguments.name:
        parser.error(f"unexpected: {' '.join(arguments.name)}")
    actions = {"up": _up, "status": _status, "drain": _drain, "prune": _prune, "stack-set": _stack_set,
               "schema": _schema}
    return _run("deploy", lambda: actions[arguments.action](arguments, out))


def _options(arguments):
    return Options(
        stacks=tuple(arguments.stack), dry_run=arguments.dry_run, packages=arguments.packages,
        tracker_image=arguments.tracker_image, agent_image=arguments.agent_image,
        allow_replacement=tuple(arguments.allow_replacement),
        skip_in_rollback=tuple(arguments.skip_in_rollback), smoke_test=not arguments.no_smoke_test,
        smoke_url=arguments.smoke_url, poll_seconds=arguments.poll_seconds,
        patience_seconds=arguments.wait_minutes * 60)


def _check(aws, rollout, chosen, options, arguments, out):
    """The preflight, with a line for each finding. Raises if one has to stop it."""
    out("preflight")
    found = preflight.run(aws, rollout, chosen, options, out)
    if found and not (arguments.dry_run or arguments.skip_preflight):
        raise preflight.PreflightError("nothing was changed; --skip-preflight goes on in spite of findings")


def _up(arguments, out):
    options = _options(arguments)
    aws, rollout, chosen = _begin(arguments, out, "would deploy" if arguments.dry_run else "deploys")
    if not arguments.dry_run:
        rollout.refuse_examples()
    _check(aws, rollout, chosen, options, arguments, out)
    _confirm(arguments, rollout.deployment)
    home = RegionRollout(aws, rollout, rollout.home, options, out)
    given = {}
    if rollout.global_table:
        out(f"{rollout.home_region}, for all regions")
        given = home.once()
    for region in chosen:
        out(region.name)
        RegionRollout(aws, rollout, region, options, out).run(given)
    if rollout.global_table and not (arguments.dry_run or arguments.stack):
        home.protect_once()
    out("nothing was changed" if arguments.dry_run else "done")


def _stack_set(arguments, out):
    """What it says goes to standard error: its output is the template."""
    def say(text):
        print(text, file=sys.stderr)

    aws, rollout, chosen = _begin(arguments, say, "prepares a StackSet of")
    rollout.refuse_examples()
    _confirm(arguments, rollout.deployment)
    options = _options(arguments)
    body = stack_set.compose(chosen, lambda region: RegionRollout(aws, rollout, region, options, say))
    out(template.to_text(body))


def _status(arguments, out):
    aws, rollout, chosen = _begin(arguments, out, "status of")
    for region in chosen:
        out(region.name)
        api = Stacks(aws.client("cloudformation", region.name), out, region.name)
        for stack in stacks.of(region.layout):
            name = f"{rollout.deployment}-{stack.name}"
            found = api.find(name)
            if found is None:
                out(f"  {name}: none")
                continue
            out(f"  {name}: {found['StackStatus']}")
            if found["StackStatus"].endswith("FAILED") or found["StackStatus"] == "ROLLBACK_COMPLETE":
                out(api.failures(found["StackId"]))
            for output in found.get("Outputs", []):
                out(f"    {output['OutputKey']}={output['OutputValue']}")
        alarms = aws.client("cloudwatch", region.name).get_paginator("describe_alarms")
        pages = alarms.paginate(
            AlarmNamePrefix=f"{rollout.deployment}-observability-", StateValue="ALARM",
            AlarmTypes=["MetricAlarm", "CompositeAlarm"])
        for page in pages:
            for alarm in page.get("MetricAlarms", []) + page.get("CompositeAlarms", []):
                out(f"  rings: {alarm['AlarmName']}")


def _drain(arguments, out):
    aws, rollout, chosen = _begin(arguments, out, "takes out of DNS:")
    _confirm(arguments, rollout.deployment)
    arguments.delete_data, arguments.retain = False, []
    for region in chosen:
        out(region.name)
        take_down(aws, rollout, region, arguments, out, only="routing")


def _prune(arguments, out):
    aws, rollout, chosen = _begin(arguments, out, "would prune" if arguments.dry_run else "prunes")
    _confirm(arguments, rollout.deployment)
    for region in chosen:
        out(region.name)
        prune(aws, rollout, region, arguments.dry_run, out)


def _schema(_, out):
    out(schema.document().removesuffix("\n"))


def destroy(argv=None, out=print):
    """The command destroy. Returns the exit status."""
    parser = _parser("deploy/destroy", DESTROY)
    parser.add_argument("--delete-data", action="store_true",
                        help="also the table, streams, buckets and key, for good")
    parser.add_argument("--retain", action="append", default=[], metavar="RESOURCE",
                        help="leave this resource (its logical name; again for more) behind if it cannot be "
                             "deleted, and delete its stack")
    arguments = parser.parse_args(argv)
    if not arguments.region:
        parser.error("name the regions: --region NAME")
    return _run("destroy", lambda: _destroy(arguments, out))


def _destroy(arguments, out):
    what = "DELETES WITH ALL DATA" if arguments.delete_data else "takes down"
    aws, rollout, chosen = _begin(arguments, out, what)
    _confirm(arguments, rollout.deployment)
    for region in chosen:
        out(region.name)
        take_down(aws, rollout, region, arguments, out)
    if len(chosen) == len(rollout.regions):
        take_down(aws, rollout, rollout.home, arguments, out, once=True)
    elif rollout.global_table:
        out(f"{rollout.deployment}-global-table: stays, it belongs to all regions")
