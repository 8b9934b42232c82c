"""The smoke test: publishes a program, sends an event, waits for its row, and cleans up.

Its program is marked `test`, so that its event is not billed.
"""

import http.client
import json
import socket
import ssl
import time
from urllib.parse import urlsplit

PROGRAM = "adtrack-smoke-test"
WAIT_LIMIT_SECONDS = 180


class SmokeError(Exception):
    """The smoke test failed."""


class Smoke:
    """The smoke test of one region."""

    def __init__(self, kinesis, dynamodb, outputs, host, out, url, wait_limit_seconds=WAIT_LIMIT_SECONDS):
        self._kinesis = kinesis
        self._dynamodb = dynamodb
        self._stream = outputs["CoreDataStreamName"]
        self._table = outputs["TableName"]
        self._url = urlsplit(url)
        self._host = host
        self._out = out
        self._wait_limit_seconds = wait_limit_seconds

    def run(self):
        """Runs the test. Raises `SmokeError` if it fails, and cleans up in any case."""
        mark = f"smoke {int(time.time() * 1000)}"
        started = time.monotonic()
        message_id = None
        self._publish({
            "programId": PROGRAM, "programName": mark, "checksum": "smoke", "customerId": 0,
            "customerName": "adtrack", "valid": True, "test": True,
        })
        try:
            # A response with this run's name shows that the program was pushed to a tracker.
            response = self._until(lambda: self._send_event(mark), "no tracker responds with the program "
                                   f"{PROGRAM} as it was published")
            message_id = response["messageId"]
            self._out(f"  smoke test: core data to response {time.monotonic() - started:.1f} s")
            started = time.monotonic()
            row = self._until(lambda: self._row(message_id), f"the event {message_id} has no row")
            if row["program_id"]["S"] != PROGRAM:
                raise SmokeError(f"the row of {message_id} belongs to another program")
            if not row.get("is_test", {}).get("BOOL"):
                raise SmokeError(f"the row of {message_id} is not marked as a test: it would be billed")
            self._out(f"  smoke test: response to row {time.monotonic() - started:.1f} s")
        finally:
            self._publish({"programId": PROGRAM, "deleted": True})
            if message_id:
                self._dynamodb.delete_item(TableName=self._table, Key={"id": {"S": message_id}})

    def _publish(self, record):
        self._kinesis.put_record(
            StreamName=self._stream, PartitionKey=PROGRAM, Data=json.dumps(record).encode())

    def _until(self, attempt, problem):
        give_up = time.monotonic() + self._wait_limit_seconds
        last = "nothing yet"
        while time.monotonic() < give_up:
            found, last = attempt()
            if found:
                return found
            time.sleep(1)
        raise SmokeError(f"{problem} within {self._wait_limit_seconds} s; the last response: {last}")

    def _send_event(self, mark):
        try:
            status, body = self._get(f"/event/{PROGRAM}")
        except (OSError, http.client.HTTPException) as error:
            return None, f"{self._url.netloc}: {error}"
        if status != 200:
            return None, f"{status} {body[:200]!r}"
        event = json.loads(body)
        return (event if event.get("programName") == mark else None), body[:200]

    def _row(self, message_id):
        found = self._dynamodb.get_item(
            TableName=self._table, Key={"id": {"S": message_id}}, ConsistentRead=True)
        return found.get("Item"), "no item"

    def _get(self, path):
        """Sends a request to this region's load balancer, whatever DNS says about the tracking domain."""
        address = self._url.hostname
        host = self._host or address
        if self._url.scheme == "http":
            connection = http.client.HTTPConnection(address, self._url.port or 80, timeout=10)
        else:
            connection = _Tls(address, self._url.port or 443, self._host)
        connection.request("GET", path, headers={"Host": host, "User-Agent": "adtrack-smoke-test"})
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
        connection.close()
        return response.status, body


class _Tls(http.client.HTTPSConnection):
    """Connects to an address and expects a certificate for another name."""

    def __init__(self, address, port, host):
        context = ssl.create_default_context()
        if not host:
            # The certificate's name is unknown.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        super().__init__(address, port, timeout=10, context=context)
        self._expected = host or address
        self._tls = context

    def connect(self):
        plain = socket.create_connection((self.host, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._expected)
