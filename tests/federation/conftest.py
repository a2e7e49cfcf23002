"""Two nodes, and a LiteLLM proxy in front of them."""

import os
import pathlib
import subprocess
import sys

import pytest

from nodes import Node, free_port, wait_for

HERE = pathlib.Path(__file__).parent
KEY = "sk-the-proxys-own"


@pytest.fixture
def nodes(tmp_path):
    started = [Node(tmp_path), Node(tmp_path)]
    try:
        for node in started:
            node.ready()
        yield started
    finally:
        for node in started:
            node.stop()


@pytest.fixture
def proxy(nodes, tmp_path):
    """The proxy's URL."""
    port = free_port()
    environment = os.environ | {
        "MOBILE_NODE_1": f"{nodes[0].url}/v1",
        "MOBILE_NODE_2": f"{nodes[1].url}/v1",
        "MOBILE_KEY": "not asked of loopback",
        "LITELLM_MASTER_KEY": KEY,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "NO_PROXY": "127.0.0.1",
    }
    program = pathlib.Path(sys.executable).with_name("litellm")
    arguments = ["--config", HERE / "litellm.yaml", "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path / "proxy.log"
    with open(log, "wb") as output:
        process = subprocess.Popen([program, *arguments], env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/health/readiness", process, 90)
        yield url
    except TimeoutError as error:
        raise TimeoutError(log.read_text()[-4000:]) from error
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
