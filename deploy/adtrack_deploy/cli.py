"""The commands deploy and destroy."""

import argparse
import signal
import sys
import threading

from botocore.exceptions import BotoCoreError, ClientError

from . import artifacts, preflight, regions, schema, stack_set, stacks, template
from .aws import Aws, AwsError, explain
from .cloudformation import WAIT_LIMIT_SECONDS, ChangeError, Stacks
from .destruction import delete_region, delete_shared, drain
from .prune import prune
from .retained import DeletionError
from .rollout import Options, RegionRollout
from .smoke import SmokeError
from .zones import ZoneError

# Exit statuses: EX_USAGE and EX_UNAVAILABLE of sysexits.h; 130 after Ctrl-C, as in a shell.
USAGE, FAILED, INTERRUPTED = 64, 69, 130
PROBLEMS = (AwsError, ChangeError, DeletionError, SmokeError, ZoneError, artifacts.ArtifactError,
            preflight.PreflightError, regions.RegionsError, template.TemplateError, BotoCoreError, ClientError,
            OSError)
USAGE_PROBLEMS = (AwsError, preflight.PreflightError, regions.RegionsError)

DEPLOY = """Deploys adtrack to the regions of a file, one after the other.

First, a preflight checks what would otherwise fail later, and lists all problems: tools and uncommitted
changes, credentials, certificates, the hosted zone, availability zones, quotas, Lambda's concurrency, names,
parameters. Then, in each region, it creates or updates the stacks of packages, network, data, Redis,
functions, trackers and alarms. It shows the change set of each. It runs a smoke test, which publishes a test
program, sends an event, waits for its row and cleans up. If the file has a tracking_domain, it then adds the
region's record to DNS.

Deploy stops at the first failure, and leaves the regions before it as they are. Run it again to resume, from
any state of a stack: it waits for what CloudFormation is still doing, continues a rollback, and deletes what a
failed first creation left if that holds no data. It never deletes a stack that was created successfully.

Refuses to run while AWS_ENDPOINT_URL or AWS_ENDPOINT_URL_* is set."""

DESTROY = """Deletes adtrack in the given regions: from DNS first, data last.

Stacks that hold data (table, streams, failed records, packages) are kept, unless --delete-data is given, or
their first creation failed and they are empty. Redis leaves a snapshot in any case. Destroy lists what it keeps,
with the commands that delete it. If it fails, fix the cause and run it again."""


def _parser(program, description):
    parser = argparse.ArgumentParser(prog=program, description=description,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", action="append", default=[], metavar="NAME",
                        help="only this region; repeatable. Default: all regions of the file")
    parser.add_argument("--regions", default=regions.FILE, metavar="FILE",
                        help="file with regions and parameters. Default: deploy/regions.json")
    parser.add_argument("--yes", action="store_true", help="do not ask before anything changes")
    parser.add_argument("--emulator", metavar="URL",
                        help="an emulator on this machine in place of AWS, such as moto_server. "
                             "It is given no credentials")
    parser.add_argument("--wait-minutes", type=float, default=WAIT_LIMIT_SECONDS / 60, metavar="N",
                        help="how long to wait for a stack. After that, CloudFormation continues; run the same "
                             "command again to keep waiting. Default: %(default)g")
    parser.add_argument("--poll-seconds", type=float, default=5, help=argparse.SUPPRESS)
    return parser


def _deploy_parser():
    parser = _parser("deploy/deploy", DEPLOY)
    parser.add_argument("action", nargs="?", default="up",
                        choices=["up", "status", "drain", "prune", "stack-set", "schema"],
                        help="up (default): deploy; status: show stacks, outputs and active alarms; drain: "
                             "remove the given regions from DNS; prune: delete packages, templates and images "
                             "that no stack and no running task uses and that are not among the newest 10 of "
                             "their kind (nothing else deletes them; with --dry-run, only list them); "
                             "stack-set: build, upload, and print the template of a StackSet for accounts of "
                             "an organization; schema: print the schema of regions.json")
    parser.add_argument("name", nargs="*", help="for drain: regions")
    parser.add_argument("--dry-run", action="store_true",
                        help="show problems and what would change; build nothing, change nothing")
    parser.add_argument("--skip-preflight", action="store_true",
                        help="continue despite problems, in case a check is wrong; they are still shown")
    parser.add_argument("--stack", action="append", default=[], choices=list(stacks.BY_NAME),
                        help="only this stack, without the smoke test; repeatable")
    parser.add_argument("--packages", metavar="FOLDER",
                        help="folder with kinesis-consumer.zip and redis-updater.zip; default: build them")
    parser.add_argument("--tracker-image", metavar="IMAGE", help="with --agent-image: build no image")
    parser.add_argument("--agent-image", metavar="IMAGE", help="image of the metrics agent")
    parser.add_argument("--allow-replacement", action="append", default=[], metavar="RESOURCE",
                        help="allow this stream, table, bucket, repository, key or Redis (its logical name) to "
                             "be replaced by an empty one, or removed; repeatable")
    parser.add_argument("--skip-in-rollback", action="append", default=[], metavar="RESOURCE",
                        help="if a stack is in UPDATE_ROLLBACK_FAILED, leave this resource (its logical name) as "
                             "it is, so that it differs from its template; repeatable")
    parser.add_argument("--no-smoke-test", action="store_true", help="skip the smoke test")
    parser.add_argument("--smoke-url", metavar="URL",
                        help="where the smoke test sends its requests. Default: the region's load balancer")
    return parser


def _begin(arguments, out, verb):
    """Shows what is about to happen, in which account and regions. Returns clients, roll-out and regions."""
    aws = Aws(arguments.emulator)
    rollout = regions.load(arguments.regions)
    chosen = rollout.only(arguments.region)
    account, who = aws.account(rollout.home_region)
    where = f"emulator {arguments.emulator}" if arguments.emulator else f"account {account}"
    out(f"{verb} {rollout.deployment}: {where}, as {who}")
    out(f"regions: {', '.join(region.name for region in chosen)}")
    return aws, rollout, chosen


def _confirm(arguments, deployment):
    if arguments.yes or getattr(arguments, "dry_run", False):
        return
    if not sys.stdin.isatty():
        raise AwsError("standard input is not a terminal: pass --yes to continue without confirmation")
    if input(f"Type {deployment} to go ahead: ") != deployment:
        raise AwsError("not confirmed; nothing was changed")


def _run(program, action):
    """Runs an action. Turns its errors, Ctrl-C and SIGTERM into a line and an exit status."""
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
        text = str(error) or "run the same command again to resume"
        print(f"{program}: interrupted: {text}", file=sys.stderr)
        return INTERRUPTED
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
    return 0


def deploy(argv=None, out=print):
    """Runs the command deploy. Returns its exit status."""
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
        wait_limit_seconds=arguments.wait_minutes * 60)


def _check(aws, rollout, chosen, options, arguments, out):
    """Runs the preflight. Raises if it finds a problem, unless that is to be ignored."""
    out("preflight")
    found = preflight.run(aws, rollout, chosen, options, out)
    if found and not (arguments.dry_run or arguments.skip_preflight):
        raise preflight.PreflightError("nothing was changed; to continue despite problems, pass --skip-preflight")


def _up(arguments, out):
    options = _options(arguments)
    aws, rollout, chosen = _begin(arguments, out, "dry run of" if arguments.dry_run else "deploying")
    if not arguments.dry_run:
        rollout.refuse_examples()
    _check(aws, rollout, chosen, options, arguments, out)
    _confirm(arguments, rollout.deployment)
    home = RegionRollout(aws, rollout, rollout.home, options, out)
    given = {}
    if rollout.global_table:
        out(f"{rollout.home_region}, for all regions")
        given = home.deploy_shared()
    for region in chosen:
        out(region.name)
        RegionRollout(aws, rollout, region, options, out).run(given)
    if rollout.global_table and not (arguments.dry_run or arguments.stack):
        home.protect_shared()
    out("nothing was changed" if arguments.dry_run else "done")


def _stack_set(arguments, out):
    """Progress goes to standard error: the output is the template."""
    def say(text):
        print(text, file=sys.stderr)

    aws, rollout, chosen = _begin(arguments, say, "preparing a StackSet of")
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
                out(f"  ALARM: {alarm['AlarmName']}")


def _drain(arguments, out):
    aws, rollout, chosen = _begin(arguments, out, "removing from DNS:")
    _confirm(arguments, rollout.deployment)
    arguments.delete_data, arguments.retain = False, []
    for region in chosen:
        out(region.name)
        drain(aws, rollout, region, arguments, out)


def _prune(arguments, out):
    aws, rollout, chosen = _begin(arguments, out, "dry run of pruning" if arguments.dry_run else "pruning")
    _confirm(arguments, rollout.deployment)
    for region in chosen:
        out(region.name)
        prune(aws, rollout, region, arguments.dry_run, out)


def _schema(_, out):
    out(schema.document().removesuffix("\n"))


def destroy(argv=None, out=print):
    """Runs the command destroy. Returns its exit status."""
    parser = _parser("deploy/destroy", DESTROY)
    parser.add_argument("--delete-data", action="store_true",
                        help="also delete the table, streams, buckets and key, permanently")
    parser.add_argument("--retain", action="append", default=[], metavar="RESOURCE",
                        help="if this resource (its logical name) cannot be deleted, leave it behind and delete "
                             "its stack; repeatable")
    arguments = parser.parse_args(argv)
    if not arguments.region:
        parser.error("--region NAME is required")
    return _run("destroy", lambda: _destroy(arguments, out))


def _destroy(arguments, out):
    what = "DELETING WITH ALL DATA" if arguments.delete_data else "deleting"
    aws, rollout, chosen = _begin(arguments, out, what)
    _confirm(arguments, rollout.deployment)
    for region in chosen:
        out(region.name)
        delete_region(aws, rollout, region, arguments, out)
    if len(chosen) == len(rollout.regions):
        delete_shared(aws, rollout, arguments, out)
    elif rollout.global_table:
        out(f"{rollout.deployment}-global-table: kept, all regions share it")
