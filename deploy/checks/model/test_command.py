"""`check-templates` on folders that nobody meant: findings in its form, never a traceback."""

import re
import shutil

import pytest

from model import command, synth
from model.finding import Finding

LINE = re.compile(r"[\w-]+:[^:]+: .+")


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(synth.FOLDER, tmp_path / "templates")
    return tmp_path / "templates"


def findings(folder, capsys):
    status = command.main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert status == (1 if lines else 0)
    assert all(LINE.match(line) for line in lines), lines
    return lines


def test_the_templates_are_without_a_finding(capsys):
    assert findings(synth.FOLDER, capsys) == []


@pytest.mark.parametrize(("count", "printed", "last"), [
    (1, 1, "data:A: wrong 0"), (20, 20, "data:A: wrong 19"), (21, 20, "data:A: and 2 more"),
    (1345, 20, "data:A: and 1326 more")])
def test_a_resource_has_at_most_20_lines(count, printed, last):
    other = Finding("data", "B", "wrong")
    lines = list(command.lines([Finding("data", "A", "wrong 0"), other,
                                *(Finding("data", "A", f"wrong {number}") for number in range(1, count))]))

    assert len(lines) == printed + 1
    assert lines[printed - 1:] == [last, str(other)]


@pytest.mark.parametrize("text", ["Resources: [", "", "[]", "Resources: 3", "a: b", "\x00", "Resources: {A: }",
                                  "Resources: {A: {Type: 3}}", "Resources: {A: {Type: T, Properties: []}}",
                                  "Resources: {A: {Type: T}}\nParameters: [a]", "Outputs: {A: 1}\nResources: {}"])
@pytest.mark.parametrize("file", ["network", "compute", "data"])
def test_a_file_that_is_no_template_is_a_finding(folder, capsys, file, text):
    (folder / f"{file}.yaml").write_text(text)

    assert any(line.startswith(f"{file}:") for line in findings(folder, capsys))


def test_a_missing_file_is_a_finding(folder, capsys):
    (folder / "lambdas.yaml").unlink()

    assert "lambdas:-: there is no such template" in findings(folder, capsys)


def test_a_reference_to_nothing_is_a_finding(folder, capsys):
    path = folder / "data.yaml"
    path.write_text(path.read_text().replace("!GetAtt Key.Arn", "!GetAtt Kee.Arn", 1))

    assert any(line.startswith("data:") and "Kee" in line for line in findings(folder, capsys))


def test_cfn_lint_is_asked_when_nothing_else_is_found(folder, capsys, monkeypatch):
    monkeypatch.setattr(command.judge, "check", lambda folder: [])
    path = folder / "compute-scaling.yaml"
    path.write_text(path.read_text().replace("PolicyType: TargetTrackingScaling", "PolicyType: TargetTracking"))

    assert any("E3030" in line for line in findings(folder, capsys))


def test_a_folder_that_is_not_there_is_said_so(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([str(tmp_path / "nowhere")])

    assert ended.value.code == 2
    assert "is not a folder" in capsys.readouterr().err
