"""What the binaries do, read from their source: AWS calls, environment variables, metrics."""

import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FUNCTIONS = ("kinesis-consumer", "redis-updater")
CRATES = ("tracker", "kinesis-consumer", "redis-updater", "redis-updater/core-data", "deploy/runtime")
SERVICES = ("kinesis", "dynamodb", "s3", "sqs", "sns", "secretsmanager", "ssm", "sts", "ecs", "kms",
            "cloudwatch")
OBJECT_STORE_CALLS = ("put", "put_opts", "put_multipart", "get", "get_opts", "get_range", "head",
                      "list", "list_with_delimiter", "delete", "copy", "rename")


def sources():
    """Path and text of every source file of what runs on AWS, without its tests."""
    for crate in CRATES:
        for path in sorted((ROOT / crate / "src").rglob("*.rs")):
            if path.stem != "tests":
                text = path.read_text().split("#[cfg(test)]")[0]
                yield str(path.relative_to(ROOT)), text


@functools.cache
def aws_calls():
    """Every AWS call, as (file, service, call): SDK operations, and what is asked of object_store."""
    from botocore import xform_name
    from botocore.session import Session

    session = Session()
    operations = {
        service: {xform_name(name) for name in session.get_service_model(service).operation_names}
        for service in SERVICES
    }
    found = set()
    for path, text in sources():
        for service in re.findall(r"aws_sdk_(\w+)", text):
            if service not in operations:
                found.add((path, service, "unknown service"))
                continue
            for call in re.findall(r"\.\s*(\w+)\(\)", text):
                if call in operations[service]:
                    found.add((path, service, call))
        if "object_store::" in text:
            # The builder of storage.rs asks for nothing.
            for call in re.findall(r"\bstore\s*\.\s*(\w+)\(", text):
                if call in OBJECT_STORE_CALLS:
                    found.add((path, "object_store", call))
        if "task-protection/v1/state" in text:
            found.add((path, "ecs agent", "task-protection"))
    return found


@functools.cache
def measured():
    """What deploy/checks/packages wrote of functions with their share of a core: function → its memory
    in MB, the longest time in ms from start to first response and of a batch, the most memory in MB.
    """
    page = (ROOT / "docs/DEPLOY.md").read_text()
    text = page.split("<!-- deploy/checks/packages begins -->")[1].split("<!-- deploy/checks/packages ends")[0]
    found = {}
    for memory, table in re.findall(r"^\w+, (\d+) MB: [^\n]*\n(.*?)\n(?:\n|```)", text, re.M | re.S):
        head, *rows = table.splitlines()
        numbers = [[float(number) for number in row.split()[-8:]] for row in rows]
        longest = max(max(row[3], row[5]) for row in numbers)
        found[head.split()[0]] = int(memory), longest, max(row[7] for row in numbers)
    return found


@functools.cache
def variables():
    """Environment variables by the file whose settings they are."""
    found = {}
    for path, text in sources():
        attributes = re.finditer(
            r"#\[arg\(((?:[^()\[\]]|\([^()]*(?:\([^()]*\)[^()]*)*\))*)\)\]\s*"
            r"(?:#\[[^\]]*\]\s*)*(?:pub\s+)?(\w+)\s*:", text)
        for attribute in attributes:
            arguments = re.sub(r'"[^"]*"', lambda quoted: quoted[0].replace(",", ";"), attribute[1])
            for argument in arguments.split(","):
                named = re.fullmatch(r'\s*env\s*(?:=\s*"(\w+)")?\s*', argument)
                if named:
                    found.setdefault(path, set()).add(named[1] or attribute[2].upper())
    return found


@functools.cache
def tracker_metrics():
    """The tracker's metrics: name → (type, label or none)."""
    text = "".join(text for path, text in sources() if path.startswith("tracker/src/metrics/"))
    found = {}
    pattern = r"\.\s*(counter|counters|gauge|gauges|float_gauge|histogram)\(\s*\"(adtrack_\w+)\",(.*?)\)\?"
    for kind, name, rest in re.findall(pattern, text, re.S):
        label = re.search(r'"(\w+)",\s*$', rest.strip()) if kind.endswith("s") else None
        found[name] = (kind.removeprefix("float_").removesuffix("s"), label and label[1])
    return found


@functools.cache
def function_metrics():
    """Members of the functions' metric line."""
    text = dict(sources())["deploy/runtime/src/lambda/emf.rs"]
    return set(re.findall(r'"Name": "(\w+)"', text))
