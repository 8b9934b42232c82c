"""From the trial to production is a change of parameters, which replaces nothing that holds data."""

import json

import pytest
from adtrack_deploy import regions, stacks, template
from adtrack_deploy.changes import IRREPLACEABLE
from cfnlint.schema import PROVIDER_SCHEMA_MANAGER as schemas
from resolved import resolve

BODY = stacks.region_body()
TRIAL = json.loads((template.FOLDER.parent / "regions.trial.json").read_text())["parameters"]
PRODUCTION = {**json.loads(regions.FILE.read_text())["parameters"], "CertificateArn": "arn:aws:acm:x"}
# Replaced, and none the worse for it.
REPLACED = {"Task"}


def never_updated(kind):
    """The properties of a type that CloudFormation changes only by replacing the resource."""
    schema = schemas.get_resource_schema("us-east-1", kind).schema
    paths = schema.get("createOnlyProperties", []) + schema.get("conditionalCreateOnlyProperties", [])
    return {path.split("/")[2] for path in paths}


def replaced(before, after):
    """Resources of both that an update would replace."""
    return {
        name for name in before.keys() & after.keys()
        if before[name]["Type"] != after[name]["Type"] or any(
            before[name]["Properties"].get(key) != after[name]["Properties"].get(key)
            for key in never_updated(before[name]["Type"]))
    }


def holding_data(resources):
    return {name for name, resource in resources.items() if resource["Type"] in IRREPLACEABLE}


def test_the_trial_has_no_unknown_parameter():
    assert TRIAL.keys() <= BODY["Parameters"].keys()


@pytest.mark.parametrize(("first", "then"), [(TRIAL, PRODUCTION), (PRODUCTION, TRIAL)],
                         ids=["to production", "and back"])
def test_nothing_that_holds_data_is_replaced_or_taken_away(first, then):
    before, after = resolve(BODY, first), resolve(BODY, then)

    assert holding_data(before) == holding_data(after)
    assert len(holding_data(before)) == 6
    assert replaced(before, after) <= REPLACED


def test_a_replacement_would_be_seen():
    before = resolve(BODY, TRIAL)

    assert replaced(before, resolve(BODY, {**TRIAL, "VpcCidr": "10.99.0.0/16"})) >= {"Vpc", "PrivateSubnet1"}


def test_the_trial_is_as_small_as_it_says():
    resources = resolve(BODY, TRIAL)
    redis = resources["Redis"]["Properties"]

    assert "HttpsListener" not in resources
    assert resources["HttpListener"]["Properties"]["DefaultActions"][0]["Type"] == "forward"
    assert (redis["NumCacheClusters"], redis["AutomaticFailoverEnabled"]) == ("1", False)
    assert len(resources["KinesisEndpoint"]["Properties"]["SubnetIds"]) == 1
    assert "ReservedConcurrentExecutions" not in resources["Consumer"]["Properties"]
