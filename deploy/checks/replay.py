"""See replay."""

import base64
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3
from adtrack_deploy import redrive
from adtrack_deploy.smoke import Smoke

MESSAGE_ID = "01a1fd87-81ac-7202-b10a-070d1de87f87"


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def tracking_event():
    """A tracking event as the contract numbers its fields."""
    now = int(time.time() * 1000)
    texts = {1: "212313", 2: "124", 4: "replay", 5: "program2", 6: "Customer2", 8: MESSAGE_ID}
    numbers = {3: 9124, 7: 1, 9: 1, 10: now, 21: now}
    event = b"".join(varint(field << 3 | 2) + varint(len(text)) + text.encode() for field, text in texts.items())
    return event + b"".join(varint(field << 3) + varint(number) for field, number in numbers.items())


def until(attempt, what, patience=60):
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        found = attempt()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"not within {patience} s: {what}")


def check(holds, what):
    if not holds:
        sys.exit(f"not so: {what}")
    print(f"  {what}")


def replay(stack):
    kinesis, tables = boto3.client("kinesis"), boto3.client("dynamodb")
    table = stack["TABLE_NAME"]
    failed = Path(stack["FAILED_RECORDS_URL"].removeprefix("file://"))

    def files():
        return [path for path in failed.rglob("*.json")]

    def rows():
        pages = tables.get_paginator("scan").paginate(TableName=table)
        return [row for page in pages for row in page["Items"] if row["id"]["S"] == MESSAGE_ID]

    print("the smoke test of a roll-out")
    outputs = {"CoreDataStreamName": stack["CORE_DATA_STREAM"], "TableName": table}
    Smoke(kinesis, tables, outputs, "", print, stack["TRACKER_URL"]).run()

    print("a poison record")
    kinesis.put_record(StreamName=stack["EVENT_STREAM"], PartitionKey="poison", Data=b"\xff\xff no protobuf")
    until(files, "the poison record is in the failure store")
    check(redrive.main(["--list", stack["FAILED_RECORDS_URL"]]) == 0, "it is listed, with its reason")
    check(redrive.main([stack["FAILED_RECORDS_URL"]]) == 0, "it is redriven as it is")
    until(files, "it is poison still, and back in the failure store")
    [file] = files()
    record = json.loads(file.read_text())
    record["data"] = base64.b64encode(tracking_event()).decode()
    file.write_text(json.dumps(record))
    check(redrive.main([stack["FAILED_RECORDS_URL"]]) == 0, "repaired, it is redriven")
    until(rows, "it is a row")
    check(redrive.main([stack["FAILED_RECORDS_URL"]]) == 0 and not files(), "nothing is left to redrive")
    kinesis.put_record(StreamName=stack["EVENT_STREAM"], PartitionKey="again",
                       Data=base64.b64decode(record["data"]))
    time.sleep(3)
    check(len(rows()) == 1 and not files(), "it is one row, also when it comes twice")


def main():
    with tempfile.TemporaryDirectory() as folder:
        env_file = Path(folder, "stack.env")
        command = [Path(os.environ["BIN"], "local-stack"), "--folder", folder, "--env-file", str(env_file),
                   "--stop-with-parent"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            until(env_file.exists, "the local stack is ready")
            stack = dict(line.removeprefix("export ").split("=", 1)
                         for line in env_file.read_text().splitlines() if line.startswith("export "))
            stack = {name: value.strip("'\"") for name, value in stack.items()}
            os.environ.update(stack)
            replay(stack)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=40)


if __name__ == "__main__":
    main()
