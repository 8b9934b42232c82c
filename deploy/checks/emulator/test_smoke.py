"""The smoke test, against a stand-in of tracker and functions on moto's streams and table."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from adtrack_deploy.smoke import PROGRAM, Smoke, SmokeError

HOME = "eu-west-1"


class StandIn:
    """Responds with what is on the core-data stream; writes a row for each response, or does not."""

    def __init__(self, emulator, writes_rows=True, reads_updates=True, marks_tests=True):
        self.kinesis = emulator.client("kinesis", HOME)
        self.tables = emulator.client("dynamodb", HOME)
        self.kinesis.create_stream(StreamName="core-data", ShardCount=1)
        self.tables.create_table(
            TableName="events", BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}])
        self.outputs = {"CoreDataStreamName": "core-data", "TableName": "events"}
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                program = stand_in.records()[-1] if reads_updates else {"programName": "old"}
                body = json.dumps({"messageId": "m1", "programName": program["programName"]}).encode()
                if writes_rows:
                    stand_in.tables.put_item(TableName="events", Item={
                        "id": {"S": "m1"}, "program_id": {"S": self.path.rsplit("/", 1)[-1]},
                        "is_test": {"BOOL": marks_tests}})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def records(self):
        iterator = self.kinesis.get_shard_iterator(
            StreamName="core-data", ShardId="shardId-000000000000",
            ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        return [json.loads(record["Data"])
                for record in self.kinesis.get_records(ShardIterator=iterator)["Records"]]

    def smoke(self):
        return Smoke(self.kinesis, self.tables, self.outputs, "", print, self.url, wait_limit_seconds=2)

    def rows(self):
        return self.tables.scan(TableName="events")["Items"]


def test_it_sees_an_event_become_a_row_and_cleans_up(emulator):
    stand_in = StandIn(emulator)
    stand_in.smoke().run()
    published = stand_in.records()
    assert published[0]["test"] is True and published[0]["programId"] == PROGRAM
    assert published[-1] == {"programId": PROGRAM, "deleted": True}
    assert stand_in.rows() == []


@pytest.mark.parametrize(("missing", "problem"), [
    ({"writes_rows": False}, "has no row"),
    ({"marks_tests": False}, "not marked as a test"),
    ({"reads_updates": False}, "no tracker responds with the program"),
])
def test_it_notices_what_does_not_arrive_and_cleans_up(emulator, missing, problem):
    stand_in = StandIn(emulator, **missing)
    with pytest.raises(SmokeError, match=problem):
        stand_in.smoke().run()
    assert stand_in.records()[-1] == {"programId": PROGRAM, "deleted": True}
