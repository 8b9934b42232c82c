"""The synthesizer, by the examples of CloudFormation's reference; and what it refuses."""

import copy

import pytest
from adtrack_deploy import stacks, template

from model import judge, scenarios, synth
from model.intrinsics import EvaluationError, Scope, references
from model.parameters import ParameterError, checked

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::AccountId": "111122223333"}
ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")


def scope(**body):
    return Scope({"Resources": {}, **body}, {"Name": "n", "List": ["a", "b"], "Empty": ""}, PSEUDO, ZONES, None)


@pytest.mark.parametrize(("node", "expected"), [
    ({"Ref": "Name"}, "n"),
    ({"Ref": "AWS::Region"}, "eu-west-1"),
    ({"Fn::Sub": "${Name}-${AWS::Region}-${!Literal}"}, "n-eu-west-1-${Literal}"),
    ({"Fn::Sub": ["${Domain}.${Name}", {"Domain": {"Ref": "AWS::AccountId"}}]}, "111122223333.n"),
    ({"Fn::Join": [":", ["a", {"Ref": "Name"}, 1]]}, "a:n:1"),
    ({"Fn::Select": [1, {"Ref": "List"}]}, "b"),
    ({"Fn::Select": ["1", {"Fn::GetAZs": ""}]}, "eu-west-1b"),
    ({"Fn::Split": ["|", "a|b|c"]}, ["a", "b", "c"]),
    ({"Fn::Cidr": ["192.168.0.0/24", 3, 5]}, ["192.168.0.0/27", "192.168.0.32/27", "192.168.0.64/27"]),
    ({"Fn::Cidr": ["2001:db8::/56", 2, 64]}, ["2001:db8::/64", "2001:db8:0:1::/64"]),
    ({"Fn::Base64": "AWS"}, "QVdT"),
    ({"Fn::If": ["Yes", "a", "b"]}, "a"),
    ({"Fn::If": ["No", "a", "b"]}, "b"),
    ([1, {"Fn::If": ["No", 2, {"Ref": "AWS::NoValue"}]}], [1]),
    ({"k": {"Ref": "AWS::NoValue"}, "l": 1}, {"l": 1}),
    ({"Fn::FindInMap": ["Map", {"Ref": "AWS::Region"}, "Ami"]}, "ami-1"),
    ({"Fn::Sub": "{{resolve:secretsmanager:${Name}:SecretString:password}}"},
     "{{resolve:secretsmanager:n:SecretString:password}}"),
])
def test_functions_evaluate_as_documented(node, expected):
    given = scope(Conditions={"Yes": {"Fn::Equals": [{"Ref": "Empty"}, ""]}, "No": {"Fn::Not": [{"Condition": "Yes"}]}},
                  Mappings={"Map": {"eu-west-1": {"Ami": "ami-1"}}})

    assert given.evaluate(node) == expected


@pytest.mark.parametrize("node", [
    {"Ref": "Nothing"}, {"Fn::Sub": "${Nothing}"}, {"Fn::Select": [5, {"Ref": "List"}]}, {"Fn::Nothing": 1},
    {"Fn::GetAtt": ["Nothing", "Arn"]}, {"Fn::If": ["Nothing", 1, 2]}, {"Fn::Join": [","]}, {"Fn::Sub": {"a": 1}},
    {"Fn::Sub": ["${Name}", {"Unused": "x"}]}, {"Fn::Cidr": ["10.0.0.0/24", 9, 5]}, {"Fn::Sub": "${List}"},
    {"Fn::ImportValue": "x"}, {"Fn::FindInMap": ["Map", "a", "b"]},
])
def test_refuses_what_cannot_be_evaluated(node):
    with pytest.raises(EvaluationError):
        scope().evaluate(node)


def test_a_condition_that_depends_on_itself_is_refused():
    given = scope(Conditions={"A": {"Fn::Not": [{"Condition": "B"}]}, "B": {"Fn::Not": [{"Condition": "A"}]}})

    with pytest.raises(EvaluationError, match="itself"):
        given.holds("A")


def test_references_are_found_in_every_form():
    node = [{"Ref": "A"}, {"Fn::GetAtt": ["B", "Arn"]}, {"Fn::GetAtt": "C.Arn"},
            {"Fn::Sub": ["${D} ${E.Arn} ${F} ${!G}", {"F": {"Ref": "H"}}]}]

    assert {name for name, _ in references(node)} == {"A", "B", "C", "D", "E", "H"}


@pytest.mark.parametrize(("declared", "given", "expected"), [
    ({"Type": "String", "Default": "a"}, None, "a"),
    ({"Type": "Number", "Default": 3}, None, "3"),
    ({"Type": "List<AWS::EC2::Subnet::Id>"}, "subnet-1,subnet-2", ["subnet-1", "subnet-2"]),
    ({"Type": "CommaDelimitedList"}, "a, b", ["a", "b"]),
    ({"Type": "String", "AllowedValues": [True, 2]}, "true", "true"),
])
def test_parameters_take_valid_values(declared, given, expected):
    assert checked("P", declared, given) == expected


@pytest.mark.parametrize(("declared", "given"), [
    ({"Type": "String"}, None), ({"Type": "Number"}, "x"), ({"Type": "Number", "MinValue": 2}, "1"),
    ({"Type": "String", "AllowedPattern": "[a-z]+"}, "A"), ({"Type": "String", "AllowedValues": ["a"]}, "b"),
    ({"Type": "AWS::EC2::VPC::Id"}, "sg-1"), ({"Type": "Text"}, "a"), ({"Type": "String", "MaxLength": 1}, "ab"),
])
def test_parameters_refuse_invalid_values(declared, given):
    with pytest.raises(ParameterError):
        checked("P", declared, given)


def one_template(body):
    """The system of a deployment whose every template is `body` under the name network-endpoints."""
    layout = stacks.Layout(stacks.EXISTING, stacks.EXISTING, stacks.EXISTING)
    scenario = synth.Scenario("one", {"Deployment": "d"}, layout)
    found = synth.system({"network-endpoints": body}, scenario)
    return found, [one for one in found.findings if one.text != "there is no such template"]


def test_resources_under_a_condition_that_does_not_hold_are_not_there():
    system, findings = one_template({
        "Conditions": {"No": {"Fn::Equals": [1, 2]}},
        "Resources": {"A": {"Type": "AWS::SNS::Topic", "Condition": "No"}, "B": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {"Topic": {"Value": {"Ref": "B"}}}})

    assert [resource.name for resource in system.resources] == ["B"]
    assert not findings
    assert system.called(system.outputs["Topic"]) is system.named("B")


@pytest.mark.parametrize(("body", "words"), [
    ({"Resources": {"A": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": {"Ref": "B"}}}}}, "no B"),
    ({"Resources": {"A": {"Type": "AWS::SNS::Topic"}}, "Outputs": {"O": {"Value": {"Fn::GetAtt": ["A", "Url"]}}}},
     "no attribute Url"),
    ({"Resources": {"A": {"Properties": {}}}}, "no Type"),
    ({"Resources": {"A": {"Type": "AWS::SNS::Topic", "Condition": "C"}}}, "no condition C"),
    ({"Parameters": {"P": {"Type": "String"}}, "Resources": {}}, "without a value"),
    ({"Resources": {}, "Rules": {"R": {"Assertions": [{"Assert": {"Fn::Equals": [1, 2]},
                                                       "AssertDescription": "one is two"}]}}}, "one is two"),
])
def test_what_cloudformation_refuses_is_a_finding(body, words):
    _, findings = one_template(body)

    assert any(words in finding.text for finding in findings)


@pytest.mark.parametrize(("body", "words"), [
    ({"Parameters": {"P": {"Type": "String"}}, "Resources": {}}, "nothing reads"),
    ({"Conditions": {"C": {"Fn::Equals": [1, 1]}}, "Resources": {}}, "nothing reads"),
    ({"Resources": {"A": {"Type": "T", "DependsOn": "B"}}}, "depends on B"),
    ({"Resources": {"A": {"Type": "T", "Properties": {"P": {"Ref": "A"}}}}}, "waits for itself"),
    ({"Resources": {"A": {"Type": "T", "DeletePolicy": "Retain"}}}, "not an attribute"),
    ({"Resources": {}, "Resorces": {}}, "not a member"),
    ({"Resources": {"A": None}}, "not formed"),
])
def test_what_no_scenario_needs_to_find_is_a_static_finding(body, words):
    assert any(words in finding.text for finding in synth.static_findings({"t": body}))


def test_identities_are_the_same_in_every_run():
    body = {"Resources": {name: {"Type": "AWS::EC2::Subnet"} for name in "AB"}}
    first, second = ([one.ref for one in one_template(body)[0].resources] for _ in range(2))

    assert first == second
    assert len(set(first)) == 2


def test_a_template_that_is_changed_is_evaluated_again():
    body = {"Resources": {"A": {"Type": "T", "Properties": {"P": 1}}}}
    first = one_template(body)[0].named("A")
    same = one_template(copy.deepcopy(body))[0].named("A")
    body["Resources"]["A"]["Properties"]["P"] = True
    other = one_template(body)[0].named("A")

    assert same is first
    assert (first.get("P"), other.get("P")) == (1, True)


def test_judges_leave_what_systems_share_as_it_is():
    templates = synth.Templates(template.load_all())
    systems = [templates.system(scenario) for scenario in scenarios.ALL]
    before = repr([system.resources for system in systems])

    assert list(judge.findings(templates)) == []
    assert repr([system.resources for system in systems]) == before
