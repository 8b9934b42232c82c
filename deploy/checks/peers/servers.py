"""The servers that the benchmarks put side by side: each on one core, its load on another."""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve()
RELEASE = TARGET / "release"
FASTIFY = TARGET / "tools" / "fastify"
SERVER_CORE, CLIENT_CORE = "0", "1"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def read_requests():
    """The requests that the benchmarks send, by name: their path and their headers."""
    requests = {}
    for request in (HERE / "requests.http").read_text().split("### ")[1:]:
        name, line, *headers = request.strip().split("\n")
        requests[name] = (line.split(" ")[1], headers)
    return requests


REQUESTS = read_requests()


def install(*tools):
    subprocess.run([HERE.parent / "install", *tools], check=True)


class Server:
    """A server under load; `process` and its children are what is measured."""

    def __init__(self, name, command, port, folder, environment=None):
        self.name, self.port = name, port
        self.path, self.headers = REQUESTS["browser"]
        command = ["taskset", "-c", SERVER_CORE, *map(str, command)]
        log = open(pathlib.Path(folder) / f"{port}.log", "w")
        self.process = subprocess.Popen(command, env={**os.environ, **(environment or {})},
                                        stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"{name} does not start: {pathlib.Path(log.name).read_text()}")
                time.sleep(0.05)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def pids(self):
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True,
                                  text=True).stdout.split()
        return [str(self.process.pid), *children]

    def cpu_seconds(self):
        total = 0
        for pid in self.pids():
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
                try:
                    total += int((task / "schedstat").read_text().split()[0])
                except OSError:
                    pass
        return total / 1e9

    def anonymous_mb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"RssAnon:\s+(\d+) kB", status).group(1)) / 1e3

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def load(self, seconds, script=None):
        """Puts it under load with wrk. Returns the number of responses."""
        command = ["taskset", "-c", CLIENT_CORE, "wrk", "-t1", "-c64", f"-d{seconds}s"]
        for header in self.headers:
            command += ["-H", header]
        if script:
            command += ["-s", str(script)]
        output = subprocess.run([*command, self.url + self.path], capture_output=True, text=True,
                                check=True).stdout
        if "Non-2xx" in output:
            sys.exit(f"{self.name}: {output}")
        return int(re.search(r"(\d+) requests in", output).group(1))

    def cpu_microseconds(self, seconds, script=None):
        """CPU time of a request under load."""
        before = self.cpu_seconds()
        requests = self.load(seconds, script)
        return (self.cpu_seconds() - before) / requests * 1e6


class LocalStack:
    """Kinesis and Redis for the tracker, on the client's core."""

    def __init__(self, folder):
        folder = pathlib.Path(folder) / "stack"
        env_file = folder / "env"
        # Nice: where Kinesis and the client share a core, the client is what is waited for.
        self.process = subprocess.Popen(
            ["taskset", "-c", CLIENT_CORE, "nice", "-n", "10", RELEASE / "local-stack",
             "--no-tracker", "--no-functions", "--folder", folder, "--env-file", env_file],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        deadline = time.monotonic() + 30
        while not env_file.exists():
            if time.monotonic() > deadline:
                sys.exit("the local stack does not start")
            time.sleep(0.1)
        time.sleep(0.2)
        self.environment = dict(re.findall(r"export (\w+)='?([^'\n]*)'?", env_file.read_text()))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def tracker(stack, folder, name="tracker, journaled and delivered", **settings):
    """The real binary, delivering to the stand-in, with one worker and the sample programs."""
    port, management = free_port(), f"127.0.0.1:{free_port()}"
    settings = {"LISTEN_ADDR": f"127.0.0.1:{port}", "MANAGEMENT_ADDR": management, "WORKERS": "1",
                "JOURNAL_DIR": f"{folder}/journal-{port}", "JOURNAL_MAX_BYTES": str(256 << 20),
                "SAMPLE_PROGRAMS": "true", "RUST_LOG": "warn", **settings}
    server = Server(name, [RELEASE / "tracker"], port, folder,
                    environment={**stack.environment, **settings})
    fill = ["curl", "-sf", "-X", "POST", f"http://{management}/cache/fill", "--retry", "20",
            "--retry-all-errors", "--retry-delay", "1", "-o", "/dev/null"]
    subprocess.run(fill, check=True)
    return server


def nginx(folder):
    """What many use as an ad tracker."""
    port = free_port()
    config = (HERE / "nginx.conf").read_text().replace("FOLDER", folder).replace("PORT", str(port))
    path = pathlib.Path(folder) / "nginx.conf"
    path.write_text(config)
    return Server("nginx empty_gif, access log", ["nginx", "-c", path], port, folder)


def fastify(folder):
    if not (FASTIFY / "node_modules").exists():
        FASTIFY.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", FASTIFY,
                        "fastify@5"], check=True)
    shutil.copy(HERE / "fastify.mjs", FASTIFY / "server.mjs")
    port = free_port()
    return Server("fastify (Node.js)", ["node", FASTIFY / "server.mjs", port], port, folder)


def peer(mode, name, stack, folder):
    """A mode of the example `peers`."""
    port = free_port()
    command = [RELEASE / "examples" / "peers", mode, f"127.0.0.1:{port}"]
    return Server(name, command, port, folder, environment=stack.environment)
