"""Grafana's dashboard and Prometheus' rules read metrics, labels and values that the tracker exports."""

import json
import re

import pytest
import source
import yaml

ROOT = source.ROOT
EXPORTED = source.tracker_metrics()
# Of the process collector, which the tracker registers too.
PROCESS = {"process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}
RUST = "\n".join(text for path, text in source.sources() if path.startswith("tracker/"))
# The codes of refusals are the names of the enum's variants in snake case.
REFUSALS = {
    re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    for name in re.findall(r"^    ([A-Z]\w+)[(,]", dict(source.sources())["tracker/src/domain/refusal.rs"], re.M)
}


def panels():
    dashboard = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions():
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def metric_of(name):
    """The metric of a series: a histogram has three of them."""
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    return base if EXPORTED.get(base, ("",))[0] == "histogram" else name


def test_the_source_was_understood():
    assert len(EXPORTED) >= 25
    assert EXPORTED["adtrack_requests_total"] == ("counter", "answer")
    assert EXPORTED["adtrack_journal_oldest_seconds"] == ("gauge", None)


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_it_reads_what_is_exported(where, expression):
    series = re.findall(r"\b((?:adtrack|process)_\w+)(?:\{([^}]*)\})?", expression)
    assert series, where
    labels = {"job", "instance", "le"}
    for name, selector in series:
        metric = metric_of(name)
        assert metric in EXPORTED or name in PROCESS, f"{where}: the tracker exports no {name}"
        kind, label = EXPORTED.get(metric, ("gauge", None))
        labels |= {label} if label else set()
        if kind == "histogram":
            assert metric != name, f"{where}: {name} is a histogram"
        if kind == "counter":
            assert re.search(rf"(rate|increase|absent)\({name}", expression), f"{where}: {name} only grows"
        for key, value in re.findall(r'(\w+)=~?"([^"]*)"', selector):
            assert key in ("job", label), f"{where}: {name} has no label {key}"
            for one in value.split("|"):
                # Error codes of Kinesis are Kinesis'.
                known = key == "job" or one.endswith("Exception") or f'"{one}"' in RUST or one in REFUSALS
                assert known, f"{where}: {key} is never {one}"
    for grouping in re.findall(r"\bby \(([^)]*)\)", expression):
        for key in re.split(r",\s*", grouping):
            assert key in labels, f"{where}: nothing has the label {key}"


def test_every_metric_is_on_the_dashboard():
    shown = {metric_of(name) for _, text in expressions() for name in re.findall(r"\badtrack_\w+", text)}
    assert set(EXPORTED) <= shown, sorted(set(EXPORTED) - shown)


def test_panels_do_not_lie_on_each_other():
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels()]
    assert len(set(places)) == len(places)
    assert all(x + 6 <= 24 for x, _ in places)


def test_rules_lead_to_the_runbook():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in (ROOT / "docs/RUNBOOK.md").read_text().splitlines() if line.startswith("#")
    }
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            page, anchor = rule["annotations"]["runbook"].split("#")
            assert page == "docs/RUNBOOK.md" and anchor in headings, rule["alert"]
