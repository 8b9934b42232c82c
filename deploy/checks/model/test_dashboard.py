"""Widgets that show something else than they say."""

import copy

import pytest

from model import dashboard, scenarios, synth

FILE, NAME = "observability-dashboard", "Dashboard"


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def found(templates, old="", new=""):
    copied = copy.deepcopy(templates)
    body = copied[FILE]["Resources"][NAME]["Properties"]["DashboardBody"]
    assert old in body["Fn::Sub"]
    body["Fn::Sub"] = body["Fn::Sub"].replace(old, new, 1)
    system = synth.system(copied, scenarios.PRODUCTION)
    return [str(finding) for finding in [*dashboard.static_findings(copied), *dashboard.judge(system)]]


def test_dashboard_shows_what_it_says(templates):
    assert found(templates) == []


@pytest.mark.parametrize(("old", "new", "said"), [
    ('"StreamName", "${CoreDataStreamName}"', '"StreamName", "${EventStreamName}"', "Core-data stream"),
    ('"adtrack_subscribed", "Service", "tracker", {"stat": "Minimum"}',
     '"adtrack_subscribed", "Service", "tracker", {"stat": "Maximum"}', "shows the Maximum of adtrack_subscribed"),
    ('{"stat": "p99", "label": "p99"}', '{"stat": "Average", "label": "p99"}', "shows the Average"),
    ('{"stat": "p99", "label": "p99"}', '{"stat": "p50", "label": "p99"}', "is called p99"),
    ("'Sum', 60)", "'Average', 60)", "shows the Average of adtrack_requests_total"),
    ("Service,answer}", "Service,result}", "searches for"),
    ('"region": "${AWS::Region}"', '"region": "eu-west-1"', "its region is eu-west-1"),
    ('"IncomingRecords"', '"IncomingRecord"', "which nothing publishes"),
    ('"period": 60', '"period": 300', "alarms look at minutes"),
    ('"x": 6, "y": 1,', '"x": 5, "y": 1,', "lies over"),
    ('{"widgets": [', '{"widgets": [,', "is not formed"),
])
def test_widget_that_misleads_is_found(templates, old, new, said):
    findings = found(templates, old, new)
    assert any(said in finding for finding in findings)
    assert all(finding.startswith(f"{FILE}:{NAME}: ") for finding in findings)
