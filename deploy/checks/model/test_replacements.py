"""Changes that replace a resource of a running deployment."""

import copy

import pytest

from model import replacements, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def found(templates, change):
    copied = copy.deepcopy(templates)
    change(copied)
    return [str(finding) for finding in replacements.static_findings(copied)]


def test_table_is_that_of_the_templates_and_of_the_schemas(templates):
    assert replacements.made(templates) == replacements.table()


def put(file, name, key, value):
    return lambda templates: templates[file]["Resources"][name]["Properties"].update({key: value})


def rename(file, old, new):
    def change(templates):
        templates[file]["Resources"][new] = templates[file]["Resources"].pop(old)
    return change


@pytest.mark.parametrize(("change", "place"), [
    (put("network-groups", "TasksGroup", "GroupDescription", "of trackers"), "network-groups:TasksGroup: GroupDes"),
    (put("data", "EventTable", "TableName", "events"), "data:EventTable: TableName"),
    (put("data-redis", "Redis", "Port", 6380), "data-redis:Redis: Port"),
    (put("data", "EventTable", "KeySchema", []), "data:EventTable: KeySchema"),
    (rename("data", "EventTable", "Events"), "data:EventTable: is not there"),
    (rename("data-redis", "TrackerPassword", "PasswordOfTracker"), "data-redis:TrackerPassword: is not there"),
    (lambda templates: templates["network"]["Parameters"]["VpcCidr"].update(Default="10.30.0.0/16"),
     "network:Vpc: default of VpcCidr"),
])
def test_replacement_is_found_where_it_is(templates, change, place):
    findings = found(templates, change)
    assert findings
    assert findings[0].startswith(place)
    assert "running deployment" in findings[0]


def test_what_is_replaced_by_each_change_is_none(templates):
    assert found(templates, put("compute", "Task", "Cpu", "512")) == []
