"""What `deploy/checks/cost` multiplies is what the templates make."""

import importlib.machinery
import importlib.util
import json

import pytest
import source
from adtrack_deploy import template
from rules import metrics_of

TEMPLATES = template.load_all()


def load_cost():
    path = str(source.ROOT / "deploy/checks/cost")
    loader = importlib.machinery.SourceFileLoader("cost", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("cost", loader))
    loader.exec_module(module)
    return module


cost = load_cost()
PRICES = json.loads((cost.HERE / "prices.json").read_text())


def resources(kind):
    return [resource for body in TEMPLATES.values() for resource in body["Resources"].values()
            if resource["Type"] == kind]


@pytest.mark.parametrize("name", cost.PRODUCTION)
def test_production_is_the_templates_defaults(name):
    declared = [body["Parameters"][name]["Default"] for body in TEMPLATES.values()
                if name in body["Parameters"]]

    assert declared and all(default == cost.PRODUCTION[name] for default in declared)


def test_what_is_counted_is_there_as_often():
    alarms = resources("AWS::CloudWatch::Alarm")
    endpoints = [one["Properties"]["VpcEndpointType"] for one in resources("AWS::EC2::VPCEndpoint")]

    assert sum(len(metrics_of(alarm)) for alarm in alarms) == cost.ALARM_METRICS
    assert len(resources("AWS::CloudWatch::CompositeAlarm")) == cost.COMPOSITE_ALARMS
    assert endpoints.count("Interface") == cost.INTERFACE_ENDPOINTS
    assert len(resources("AWS::SecretsManager::Secret")) == cost.SECRETS
    assert len(resources("AWS::KMS::Key")) == 1


def test_a_trial_costs_about_a_fifth_of_production():
    trial = sum(cost.floor(PRICES, json.loads(cost.TRIAL.read_text())["parameters"]).values())
    production = sum(cost.floor(PRICES, {}).values())

    assert trial < 0.22 * production
