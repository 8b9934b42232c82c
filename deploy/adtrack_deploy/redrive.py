"""Lists failed records, copies them for repair, and puts them back on the stream that they came from.

Reads two formats: the functions' own (one record per file, its `data` in base64), and what an event-source
mapping writes on failure (a whole batch, as Lambda got it). A record that kinesis-consumer kept whole, because
very many of its user records are invalid, is an aggregate. It is put back as it is.
"""

import argparse
import base64
import collections
import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from .output import run

USAGE, DATA, FAILED = 64, 65, 69


class NotAcknowledged(Exception):
    """A response that does not say that the stream has a record."""


class Folder:
    """Files of a folder."""

    def __init__(self, path):
        self._path = Path(path)

    def names(self):
        return sorted(str(file.relative_to(self._path)) for file in self._path.rglob("*") if file.is_file())

    def read(self, name):
        return (self._path / name).read_bytes()

    def remove(self, name):
        (self._path / name).unlink()


class Bucket:
    """Objects of a bucket below a prefix."""

    def __init__(self, bucket, prefix):
        self._s3 = boto3.client("s3")
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""

    def names(self):
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        return [item["Key"].removeprefix(self._prefix) for page in pages for item in page.get("Contents", [])]

    def read(self, name):
        return self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()

    def remove(self, name):
        self._s3.delete_object(Bucket=self._bucket, Key=self._prefix + name)


def open_store(where):
    """The store at a folder, a file:// URL or an s3:// URL."""
    url = urlsplit(where)
    if url.scheme == "s3":
        return Bucket(url.netloc, url.path.strip("/"))
    path = Path(url.path if url.scheme == "file" else where)
    if not path.is_dir():
        raise ValueError(f"{where}: expected a folder, file:///FOLDER or s3://BUCKET/PREFIX")
    return Folder(path)


def records_of(content):
    """The failed records in a file: dicts with stream, key, data and reason. Raises ValueError if it has none."""
    try:
        document = json.loads(content)
        if "payload" in document:
            payload = document["payload"]
            event = json.loads(payload) if isinstance(payload, str) else payload
            reason = document.get("requestContext", {}).get("condition", "given up")
            return [
                {"stream": record["eventSourceARN"], "key": record["kinesis"]["partitionKey"],
                 "data": base64.b64decode(record["kinesis"]["data"], validate=True), "reason": reason}
                for record in event["Records"]
            ]
        return [{"stream": document["streamArn"], "key": document["partitionKey"],
                 "data": base64.b64decode(document["data"], validate=True),
                 "reason": document["reason"]}]
    except KeyError as error:
        raise ValueError(f"not a failed record: missing member {error}") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"not a failed record: {type(error).__name__} {error}") from error


def put(kinesis, record, stream):
    """Puts a record on the stream that it came from, or on `stream`. Raises NotAcknowledged if the response does
    not say that the stream has it."""
    where = {"StreamName": stream} if stream else {"StreamARN": record["stream"]}
    response = kinesis.put_record(**where, PartitionKey=record["key"] or "redriven", Data=record["data"])
    if not response.get("SequenceNumber"):
        raise NotAcknowledged("PutRecord: the response has no sequence number; the file stays")


def main(argv=None, out=print):
    parser = argparse.ArgumentParser(prog="deploy/redrive-failed", description=(
        "Puts failed records back on the stream that they came from, and removes each file once its records "
        "are on the stream. An event keeps its id, so it becomes one row however often it is sent. Region, "
        "endpoints and credentials come from the AWS SDK's own chain."), epilog=(
        "Exit status: 0 success; 64 usage error; 65 some files are not failed records, and stay; 69 AWS or a file "
        "failed; 74 success, but standard output could not be written. A closed standard output ends the report, not "
        "the work."))
    parser.add_argument("where", help="a folder, file:///FOLDER or s3://BUCKET/PREFIX")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--list", action="store_true", help="count the records by reason; change nothing")
    group.add_argument("--fetch", metavar="FOLDER", help="copy them into a folder, to repair them there")
    parser.add_argument("--stream", metavar="NAME", help="put them on this stream instead")
    parser.add_argument("--keep", action="store_true", help="leave the files where they are")
    arguments = parser.parse_args(argv)
    try:
        store = open_store(arguments.where)
        names = store.names()
        if arguments.fetch:
            for name in names:
                target = Path(arguments.fetch) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(store.read(name))
            out(f"copied {len(names)} files to {arguments.fetch}; the originals at {arguments.where} are unchanged")
            return 0
        return _each(store, names, arguments, out)
    except ValueError as error:
        print(f"redrive-failed: {error}", file=sys.stderr)
        return USAGE
    except (BotoCoreError, ClientError, OSError, NotAcknowledged) as error:
        print(f"redrive-failed: {error}", file=sys.stderr)
        return FAILED


def _each(store, names, arguments, out):
    kinesis = None if arguments.list else boto3.client("kinesis")
    reasons, unreadable, sent = collections.Counter(), 0, 0
    for name in names:
        try:
            records = records_of(store.read(name))
        except ValueError as error:
            unreadable += 1
            print(f"redrive-failed: {name}: {error}; the file is kept", file=sys.stderr)
            continue
        for record in records:
            reasons[record["reason"]] += 1
            if not arguments.list:
                put(kinesis, record, arguments.stream)
                sent += 1
        if not arguments.list and not arguments.keep:
            store.remove(name)
    if arguments.list:
        for reason, count in reasons.most_common():
            out(f"{count:>8}  {reason}")
    out(f"{len(names)} files, {sum(reasons.values())} records, {sent} put on a stream")
    return DATA if unreadable else 0


if __name__ == "__main__":
    sys.exit(run("redrive-failed", main))
