"""Templates that cannot be read, or are not all there: that is said first, and nothing that follows from it."""

import copy
import shutil

import pytest
from adtrack_deploy import template

from model import command, judge, lint, synth
from model.finding import Failure, failure

TEMPLATES = template.load_all()


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(synth.FOLDER, tmp_path / "templates")
    return tmp_path / "templates"


def change(folder, file, old, new):
    path = folder / f"{file}.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def lines(folder):
    return list(map(str, judge.check(folder)))


@pytest.mark.parametrize(("old", "key"), [
    ("    Type: AWS::KMS::Key\n", "Type"),
    ("Resources:\n", "Resources"),
    ("      EnableKeyRotation: true\n", "EnableKeyRotation"),
])
def test_a_key_that_appears_twice_is_the_only_finding(folder, old, key):
    change(folder, "data", old, old + old)

    [line] = lines(folder)
    assert line.startswith("data:line ")
    assert line.endswith(f": key {key} appears twice")


def test_tools_refuse_a_key_that_appears_twice():
    with pytest.raises(template.TemplateError, match="line 2: key A appears twice"):
        template.parse("A: 1\nA: 2\n")


def test_a_key_that_appears_in_two_mappings_is_valid():
    assert template.parse("A: {B: 1}\nC: {B: 2}\n") == {"A": {"B": 1}, "C": {"B": 2}}


def test_a_missing_template_is_the_only_finding(folder):
    (folder / "lambdas.yaml").unlink()

    assert lines(folder) == ["lambdas:-: there is no such template"]


def test_a_template_that_is_not_yaml_is_the_only_finding(folder):
    (folder / "data.yaml").write_text("Resources: [")

    [line] = lines(folder)
    assert line.startswith("data:-: is not YAML: ")


def test_a_property_without_a_value_is_a_finding(folder):
    change(folder, "data", "EnableKeyRotation: true", "EnableKeyRotation:")

    assert "data:Key: Properties.EnableKeyRotation has no value" in lines(folder)


def test_a_match_of_cfn_lint_without_a_path_is_a_finding(tmp_path):
    shutil.copy(synth.FOLDER / "data.yaml", tmp_path)
    change(tmp_path, "data", "Resources:\n", "Resources:\nResources:\n")

    assert any(finding.file == "data" for finding in lint.findings(tmp_path))


def test_a_crash_of_cfn_lint_is_a_finding(folder, monkeypatch, capsys):
    def crash(_):
        raise KeyError("Ref")
    monkeypatch.setattr(lint, "findings", crash)
    monkeypatch.setattr(judge, "check", lambda _: [])

    assert command.main([str(folder)]) == 1
    assert capsys.readouterr().out == "-:cfn-lint: fails on these templates: KeyError: 'Ref'\n"


def crashing(subject):
    for file in subject:
        raise KeyError(file)


def test_a_judge_that_fails_names_the_file_it_was_at():
    try:
        crashing({"network": {}})
    except KeyError as error:
        found = failure(error, "templates", {"network": {}})

    assert str(found) == "network:templates: cannot be judged (test_unreadable, crashing): KeyError: 'network'"


def test_a_judge_that_fails_is_a_finding_if_there_is_no_other(monkeypatch):
    monkeypatch.setattr(judge, "TEMPLATE_JUDGES", [crashing])
    monkeypatch.setattr(judge, "JUDGES", [])
    monkeypatch.setattr(judge, "LAST_JUDGES", [])
    [found] = judge.findings(TEMPLATES)
    assert isinstance(found, Failure)

    monkeypatch.setattr(judge, "LAST_JUDGES", [synth.static_findings])
    broken = copy.deepcopy(TEMPLATES)
    broken["data"]["Resources"]["Key"]["Color"] = "red"
    assert [str(one) for one in judge.findings(broken)] == ["data:Key: Color is not an attribute of a resource"]
