"""Options alone: each condition that is turned round, or asks for another parameter, is a finding."""

import copy

import pytest
from adtrack_deploy import template

from model import options

TEMPLATES = template.load_all()
CONDITIONS = [("compute", "HasRateLimit"), ("lambdas", "KeepsConsumerConcurrency"), ("data", "IsProtected"),
              ("load-balancer", "MakesCertificate"), ("load-balancer", "Blocks"), ("global-table", "HasFourth"),
              ("network", "HasThirdZone"), ("observability-core-data", "HasReplica")]


def found(templates):
    return options.static_findings(templates)


def test_every_option_does_what_is_written():
    assert list(found(TEMPLATES)) == []


@pytest.mark.parametrize(("file", "name"), CONDITIONS)
def test_a_condition_turned_round_is_a_finding(file, name):
    broken = copy.deepcopy(TEMPLATES)
    broken[file]["Conditions"][name] = {"Fn::Not": [TEMPLATES[file]["Conditions"][name]]}

    assert any(finding.file == file or "option" in finding.text for finding in found(broken))


@pytest.mark.parametrize("holds", [True, False])
def test_a_condition_that_never_changes_is_a_finding(holds):
    broken = copy.deepcopy(TEMPLATES)
    broken["compute"]["Conditions"]["HasRateLimit"] = {"Fn::Equals": ["1", "1" if holds else "2"]}

    texts = [(finding.resource, finding.text) for finding in found(broken)]
    assert ("HasRateLimit", "is a condition that no option of options.yaml changes") in texts


def test_a_parameter_that_no_option_sets_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    broken["compute"]["Parameters"]["Extra"] = {"Type": "String", "Default": ""}

    assert [finding.resource for finding in found(broken)] == ["Extra"]


def test_a_condition_in_place_of_another_is_a_finding():
    broken = copy.deepcopy(TEMPLATES)
    conditions = broken["compute"]["Conditions"]
    conditions["HasTcfVendorId"] = conditions["HasCookieDomain"]

    assert any("TcfVendorId 4711 (production) does not do" in finding.text for finding in found(broken))
