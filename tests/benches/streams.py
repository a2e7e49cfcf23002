"""Times `mobile serve` beside mlx_lm.server: tokens a second of all streams together, at several widths.

    python streams.py ../../src-tauri/resources/olmoe-tiny --mobile ../../target/release/mobile

Both serve the same copy of the checkpoint, in turn and never at the same time, once in each run: greedy completions of
prompts that begin unlike one another, streamed, all sent at once. The time is from the first request sent to the last
byte received, prompts included; the tokens are those of the servers' own usage reports. The copy has no end-of-sequence
token that could occur, so that every answer has the same length.

mlx_lm.server has no option for the dtype: it computes in that of the stored scales and norms. With --dtype float32, the
default, the copy has them in float32, which is what the engine computes in on a CPU anyway; with --dtype stored they stay
as they are, for GPUs."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import mlx.core as mx
import mlx_lm

WORDS = "fox ship king moon river baker dragon clock garden train letter storm island teacher piano wolf".split()
PATIENCE = 900

Json = dict[str, Any]


def copy_checkpoint(source: Path, target: Path, dtype: str) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.suffix != ".safetensors":
            shutil.copyfile(path, target / path.name)
        elif dtype == "stored":
            shutil.copyfile(path, target / path.name)
        else:
            tensors = mx.load(str(path))
            cast = {n: t.astype(mx.float32) if mx.issubdtype(t.dtype, mx.floating) else t for n, t in tensors.items()}
            mx.save_safetensors(str(target / path.name), cast, {"format": "mlx"})
    for name in ("config.json", "generation_config.json"):
        path = target / name
        if path.exists():
            config = json.loads(path.read_text("utf-8"))
            vocabulary = json.loads((target / "config.json").read_text("utf-8"))["vocab_size"]
            config["eos_token_id"] = vocabulary - 1
            if dtype == "float32" and name == "config.json":
                config["torch_dtype"] = "float32"
            path.write_text(json.dumps(config, indent=1), "utf-8")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def connect(port: int) -> http.client.HTTPConnection:
    """mlx_lm.server lets five connections wait to be accepted and resets more, so they are made one after the other."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.connect()
    time.sleep(0.02)
    return connection


def complete(connection: http.client.HTTPConnection, model: str, prompt: str, tokens: int) -> tuple[int, float]:
    """Streams one completion; gives its tokens and the moment of its first text."""
    body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True}
    body["stream_options"] = {"include_usage": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"{response.status}: {response.read()[:500]!r}")
    counted, first = None, None
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line[6:])
        first = first or time.perf_counter()
        if chunk.get("usage"):
            counted = chunk["usage"]["completion_tokens"]
    connection.close()
    if counted is None or first is None:
        raise RuntimeError("a stream ended without its usage")
    return counted, first


@contextlib.contextmanager
def running(name: str, folder: Path, mobile: Path, work: Path) -> Iterator[tuple[int, str]]:
    """A server that answers: its port, and what it calls its model."""
    port = free_port()
    if name == "mobile":
        command = [mobile, "serve", "--port", str(port), "--policy", "full", "--model", folder]
        model = folder.name
    else:
        command = [sys.executable, "-m", "mlx_lm", "server", "--port", str(port), "--model", folder]
        model = "default_model"
    home = work / "home"
    home.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MOBILE_")} | {"MOBILE_HOME": str(home)}
    log = work / f"{name}.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                complete(connect(port), model, "Hello", 2)
                break
            except (OSError, RuntimeError, http.client.HTTPException):
                if time.monotonic() > end or server.poll() is not None:
                    raise RuntimeError(f"{name} does not answer: {log.read_text()[-2000:]}") from None
                time.sleep(0.2)
        yield port, model
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def measure(port: int, model: str, prompts: list[str], tokens: int) -> Json:
    connections = [connect(port) for _ in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        began = time.perf_counter()
        answers = list(pool.map(lambda c, prompt: complete(c, model, prompt, tokens), connections, prompts))
        seconds = time.perf_counter() - began
    counts = [count for count, _ in answers]
    return {
        "tokens": sum(counts),
        "shortest": min(counts),
        "seconds": seconds,
        "tokens_per_second": sum(counts) / seconds,
        "first_token_seconds": median(first - began for _, first in answers),
    }


def prompts(rng: random.Random, width: int, words: int) -> list[str]:
    """Prompts that no earlier one begins like: both servers reuse what they have computed of a beginning."""
    return [" ".join([str(rng.randrange(10**9)), *rng.choices(WORDS, k=words)]) for _ in range(width)]


def version(mobile: Path) -> str:
    return subprocess.check_output([mobile, "--version"], text=True).strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mobile", type=Path, default=Path(__file__).parents[2] / "target/release/mobile")
    parser.add_argument("--dtype", choices=["float32", "stored"], default="float32")
    parser.add_argument("--widths", type=lambda text: [int(n) for n in text.split(",")], default=[1, 4, 16, 32])
    parser.add_argument("--words", type=int, default=16, help="words of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    servers = ("mobile", "mlx_lm.server")
    results: dict[str, dict[int, list[Json]]] = {name: {width: [] for width in args.widths} for name in servers}
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / args.model.resolve().name
        copy_checkpoint(args.model.resolve(), folder, args.dtype)
        for run in range(args.runs):
            for name in servers if run % 2 == 0 else servers[::-1]:
                rng = random.Random(run)
                with running(name, folder, args.mobile.resolve(), Path(work)) as (port, model):
                    # What is made on first use is not counted.
                    measure(port, model, prompts(rng, max(args.widths), args.words), 4)
                    for width in args.widths:
                        result = measure(port, model, prompts(rng, width, args.words), args.tokens)
                        results[name][width].append(result)
                        print(f"run {run + 1}, {name}, {width}: {result['tokens_per_second']:.1f} tok/s", file=sys.stderr)
    rows = []
    for width in args.widths:
        ours, theirs = (median(r["tokens_per_second"] for r in results[name][width]) for name in servers)
        rows.append({"streams": width, "mobile": round(ours, 1), "mlx_lm.server": round(theirs, 1), "ratio": round(ours / theirs, 2)})
    report = {
        "model": args.model.name,
        "dtype": args.dtype,
        "words": args.words,
        "tokens": args.tokens,
        "runs": args.runs,
        "mobile": version(args.mobile),
        "mlx_lm": mlx_lm.__version__,
        "mlx": mx.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {mx.default_device()}",
        "tokens_per_second": rows,
        "all": results,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
