"""Nodes that a test can start, kill and start again."""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "target/debug/mobile"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(url, process, seconds=60):
    """Until there is an answer with status 200."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return response.read()
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > end or process.poll() is not None:
                raise TimeoutError(f"{url}: {error}") from error
            time.sleep(0.1)


class Node:
    """`mobile serve` with the embedded model. It keeps its port from one life to the next."""

    def __init__(self, home):
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MOBILE_")}
        with open(self.home / f"{self.port}.log", "ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "serve", "--port", str(self.port), "--policy", "full"],
                env=environment | {"MOBILE_HOME": str(self.home)},
                stderr=log,
            )

    def ready(self):
        wait_for(f"{self.url}/v1/models/olmoe-tiny", self.process)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
