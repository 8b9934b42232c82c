"""Properties that nobody has reviewed, of each kind of place where they may stand."""

import copy

import pytest

from model import allowed, synth


@pytest.fixture(scope="module")
def templates():
    return synth.load()[0]


def found(templates, template, resource, change):
    copied = copy.deepcopy(templates)
    change(copied[template]["Resources"][resource])
    return [finding.text for finding in allowed.static_findings(copied)
            if (finding.file, finding.resource) == (template, resource)]


def test_templates_set_what_was_reviewed(templates):
    assert list(allowed.static_findings(templates)) == []


def test_table_has_no_type_that_templates_lack(templates):
    there = {resource["Type"] for body in templates.values() for resource in body["Resources"].values()}
    assert set(allowed.table()) == there


@pytest.mark.parametrize(("template", "resource", "place", "value", "text"), [
    ("lambdas", "Consumer", "Layers", ["arn"], "sets Layers, which nobody has reviewed"),
    ("lambdas", "Consumer", "Handler", "other", "sets Handler to other; reviewed is bootstrap"),
    ("lambdas", "Consumer", "Handler", {"Ref": "LogLevel"}, "sets Handler to a computed value"),
    ("data-redis", "Redis", "ClusterMode", "enabled", "sets ClusterMode"),
    ("data", "EventTable", "DeletionProtectionEnabled", 1, "sets DeletionProtectionEnabled to 1"),
    ("compute-scaling", "Scaling", "SuspendedState", {"DynamicScalingOutSuspended": True}, "sets SuspendedState.Dyn"),
    ("compute-scaling", "Scaling", "SuspendedState", {}, "sets SuspendedState"),
    ("load-balancer", "HttpsListener", "MutualAuthentication",
     {"Fn::If": ["HasTls", {"Mode": "passthrough"}, {"Ref": "AWS::NoValue"}]}, "sets MutualAuthentication.Mode"),
])
def test_finds_unreviewed_property(templates, template, resource, place, value, text):
    texts = found(templates, template, resource, lambda declared: declared["Properties"].update({place: value}))
    assert [one for one in texts if one.startswith(text)]


def test_finds_unreviewed_load_balancer_attribute(templates):
    attribute = {"Key": "routing.http.xff_header_processing.mode", "Value": "remove"}
    texts = found(templates, "load-balancer", "LoadBalancer",
                  lambda declared: declared["Properties"]["LoadBalancerAttributes"].append(attribute))
    assert ["xff_header_processing" in text for text in texts] == [True]


def test_finds_unreviewed_attribute_and_type(templates):
    assert found(templates, "data", "Key", lambda declared: declared.update(UpdatePolicy={})) == [
        "sets the attribute UpdatePolicy, which nobody has reviewed"]
    texts = found(templates, "data", "Key", lambda declared: declared.update(Type="AWS::EC2::Instance"))
    assert len(texts) == 1
    assert texts[0].startswith("has the type AWS::EC2::Instance")
