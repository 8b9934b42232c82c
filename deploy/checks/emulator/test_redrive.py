"""Failed records go back to their stream: once, repaired, from a folder or a bucket."""

import base64
import hashlib
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from adtrack_deploy import redrive

ROOT = Path(__file__).resolve().parents[3]
HOME = "eu-west-1"
SHARD = "kinesis-consumer/2026-01-02/shardId-000000000000"


@pytest.fixture
def stream(emulator, monkeypatch):
    for name, value in {"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "e", "AWS_DEFAULT_REGION": HOME,
                        "AWS_ENDPOINT_URL": emulator.url}.items():
        monkeypatch.setenv(name, value)
    kinesis = emulator.client("kinesis", HOME)
    kinesis.create_stream(StreamName="events", ShardCount=1)
    arn = kinesis.describe_stream_summary(StreamName="events")["StreamDescriptionSummary"]["StreamARN"]

    def records():
        iterator = kinesis.get_shard_iterator(StreamName="events", ShardId="shardId-000000000000",
                                              ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        return [(record["PartitionKey"], record["Data"])
                for record in kinesis.get_records(ShardIterator=iterator)["Records"]]
    return arn, records


def test_the_form_is_that_of_the_functions():
    """Their struct, as serde writes it."""
    source = (ROOT / "proto/src/failed_record.rs").read_text()
    assert '#[serde(rename_all = "camelCase")]\npub struct FailedRecord' in source
    struct = source.split("pub struct FailedRecord {")[1].split("\n}")[0]
    names = [re.sub(r"_(\w)", lambda found: found[1].upper(), name)
             for name in re.findall(r"pub (\w+):", struct)]
    assert list(json.loads(failed("arn", b""))) == names


def failed(arn, data, key="k"):
    """A file of proto/src/failed_record.rs."""
    return json.dumps({
        "function": "kinesis-consumer", "streamArn": arn, "shardId": "shardId-000000000000",
        "sequenceNumber": "4959", "subSequenceNumber": 0, "partitionKey": key,
        "arrivedAt": "2026-01-02T03:04:05Z", "failedAt": "2026-01-02T03:04:06Z",
        "reason": "not protobuf", "data": base64.b64encode(data).decode()})


def test_fetched_repaired_and_sent_once(emulator, stream, tmp_path, capsys):
    arn, records = stream
    s3 = emulator.client("s3", HOME)
    s3.create_bucket(Bucket="records", CreateBucketConfiguration={"LocationConstraint": HOME})
    key = f"failed-records/{SHARD}/4959-0.json"
    s3.put_object(Bucket="records", Key=key, Body=failed(arn, b"poison"))
    folder = tmp_path / "repaired"
    assert redrive.main(["--list", "s3://records/failed-records"]) == 0
    assert "1  not protobuf" in capsys.readouterr().out
    assert redrive.main(["--fetch", str(folder), "s3://records/failed-records"]) == 0
    assert records() == []
    (folder / SHARD / "4959-0.json").write_text(failed(arn, b"repaired"))
    assert redrive.main([str(folder)]) == 0
    assert redrive.main([str(folder)]) == 0
    assert records() == [("k", b"repaired")]
    assert redrive.main(["s3://records/failed-records"]) == 0
    assert s3.list_objects_v2(Bucket="records").get("KeyCount") == 0


def test_a_batch_that_lambda_gave_up(stream, tmp_path):
    arn, records = stream
    folder = tmp_path / "on-failure"
    folder.mkdir()
    batch = {"Records": [
        {"eventSourceARN": arn, "kinesis": {"partitionKey": str(number),
                                            "data": base64.b64encode(bytes([number])).decode()}}
        for number in (1, 2)]}
    (folder / "batch").write_text(json.dumps({
        "requestContext": {"condition": "RecordAgeExceeded"}, "payload": json.dumps(batch)}))
    assert redrive.main([str(folder), "--keep"]) == 0
    assert records() == [("1", b"\x01"), ("2", b"\x02")]
    assert (folder / "batch").exists()


def test_an_aggregate_that_was_kept_whole_goes_back_as_it_is(stream, tmp_path, capsys):
    """120,000 empty user records, as kinesis-consumer keeps them: one file, one record."""
    arn, records = stream
    message = b"\x0a\x03key" + b"\x1a\x04\x08\x00\x1a\x00" * 120_000
    aggregate = b"\xf3\x89\x9a\xc2" + message + hashlib.md5(message).digest()
    folder = tmp_path / "failed"
    folder.mkdir()
    (folder / "4959-0.json").write_text(failed(arn, aggregate, "key"))
    assert redrive.main(["--list", str(folder)]) == 0
    assert "1 files, 1 records" in capsys.readouterr().out
    assert redrive.main([str(folder)]) == 0
    # The key inside is the key outside, still.
    assert records() == [("key", aggregate)]
    assert not list(folder.iterdir())


@pytest.mark.parametrize(("target", "status", "said"), [
    ("closed", 0, ""), ("/dev/full", 74, "redrive-failed: standard output: No space left on device")])
def test_the_work_is_done_whether_its_output_is_read_or_not(stream, tmp_path, target, status, said):
    arn, records = stream
    folder = tmp_path / "failed"
    folder.mkdir()
    (folder / "x.json").write_text(failed(arn, b"again"))
    reader, writer = os.pipe()
    os.close(reader)
    if target != "closed":
        writer = os.open(target, os.O_WRONLY)
    done = subprocess.run([sys.executable, "-m", "adtrack_deploy.redrive", str(folder)], stdout=writer,
                          stderr=subprocess.PIPE, text=True, cwd=ROOT / "deploy", check=False)
    os.close(writer)
    assert (done.returncode, done.stderr.startswith(said), done.stderr.count("\n")) == (status, True, bool(said))
    assert records() == [("k", b"again")]


def test_a_record_that_is_not_acknowledged_stays(tmp_path, monkeypatch, capsys):
    class Liar(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(200)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in {"AWS_ACCESS_KEY_ID": "e", "AWS_SECRET_ACCESS_KEY": "e", "AWS_DEFAULT_REGION": HOME,
                            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}.items():
            monkeypatch.setenv(name, value)
        (tmp_path / "x.json").write_text(failed(f"arn:aws:kinesis:{HOME}:123456789012:stream/events", b"again"))
        assert redrive.main([str(tmp_path)]) == 69
        server.shutdown()
    assert (tmp_path / "x.json").exists() and "no sequence number" in capsys.readouterr().err


def test_what_is_no_failed_record_stays(stream, tmp_path, capsys):
    folder = tmp_path / "failed"
    folder.mkdir()
    (folder / "x.json").write_text('{"data": "!"}')
    assert redrive.main([f"file://{folder}"]) == 65
    assert (folder / "x.json").exists() and "x.json: not a failed record" in capsys.readouterr().err
    assert redrive.main(["https://example.com"]) == 64
