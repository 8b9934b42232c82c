"""What the model has to know of the programs, read from their source."""

import functools
import re

import source

ROOT = source.ROOT
measured = source.measured
tracker_metrics = source.tracker_metrics
function_metrics = source.function_metrics


@functools.cache
def keep_alive_seconds():
    """For how long the tracker keeps an idle connection."""
    text = (ROOT / "tracker/src/http/public/server.rs").read_text()
    return int(re.search(r"KEEP_ALIVE: Duration = Duration::from_secs\((\d+)\)", text)[1])


@functools.cache
def log_messages():
    """Messages of the tracker's log about its start and end, whole, as its source writes them."""
    text = (ROOT / "tracker/src/app.rs").read_text().split("#[cfg(test)]")[0]
    return tuple(dict.fromkeys(re.findall(r'"((?:[^"\\\n]|\\.)+)"', text)))


@functools.cache
def metrics_of_the_runbook():
    """The trackers' metrics that docs/RUNBOOK.md names and that can be read in CloudWatch."""
    named = set(re.findall(r"adtrack_\w+", (ROOT / "docs/RUNBOOK.md").read_text()))
    return frozenset(name for name, (kind, _) in tracker_metrics().items() if name in named and kind != "histogram")


def function_of(resource):
    """Which program a Lambda function runs, by what only that program is given; None if it is neither."""
    variables = resource.get("Environment.Variables", {})
    if "TABLE_NAME" in variables:
        return "kinesis-consumer"
    return "redis-updater" if "REDIS_URL" in variables else None
